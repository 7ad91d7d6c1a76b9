//! Reading the sets of the calling thread's namespace, from the kernel itself.
//!
//! Asked over nfnetlink, so no program is needed, and only for the sets that rules refer to: then ipset is
//! loaded, and asking loads nothing. The kernel has no number that tells of a change, so what it lists is
//! compared with what it listed before; without counters and the time that elements have left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::parse::LONGEST;
use crate::node::netlink::{Message, Netlink, attributes, put_attribute};

/// `NFNL_SUBSYS_IPSET` and `IPSET_CMD_SAVE`.
const SAVE: u16 = 6 << 8 | 8;
/// `struct nfgenmsg`: no family, version 0.
const NFGENMSG: [u8; 4] = [0; 4];
/// `IPSET_PROTOCOL`: of Linux 4.20 and later.
const PROTOCOL_VERSION: u8 = 7;

/// Attributes of a message (`IPSET_ATTR_*`).
mod message {
    pub(super) const PROTOCOL: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const TYPE: u16 = 3;
    pub(super) const FAMILY: u16 = 5;
    pub(super) const DATA: u16 = 7;
    pub(super) const ELEMENTS: u16 = 8;
}

/// Attributes of a set's head and of an element.
mod data {
    pub(super) const IP: u16 = 1;
    pub(super) const CIDR: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const PROTOCOL: u16 = 7;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const MARK: u16 = 10;
    pub(super) const MARKMASK: u16 = 11;
    pub(super) const BITMASK: u16 = 12;
    pub(super) const ETHER: u16 = 17;
    pub(super) const NAME: u16 = 18;
    pub(super) const NETMASK: u16 = 20;
    pub(super) const IP2: u16 = 20;
    pub(super) const CIDR2: u16 = 21;
    pub(super) const DEVICE: u16 = 23;
}

/// `enum ipset_cadt_flags`.
const PHYSDEV: u32 = 1 << 1;
const NOMATCH: u32 = 1 << 2;
const WILDCARD: u32 = 1 << 7;

const AF_INET6: u8 = 10;

/// What the kernel lists of the named sets and of those that they are lists of, in the form of `ipset save`:
/// what a set is made with that does not decide what it has, and what changes by itself, is left out.
///
/// # Errors
/// When the kernel refuses, as without `CAP_NET_ADMIN`, or lists more than is read.
pub fn read(names: &BTreeSet<&str>) -> io::Result<String> {
    let mut request = NFGENMSG.to_vec();
    put_attribute(&mut request, message::PROTOCOL, &[PROTOCOL_VERSION]);
    let socket = Netlink::open(libc::NETLINK_NETFILTER as isize)?;
    let listed = socket.dump(SAVE, &request)?;
    text(&listed, names)
}

/// A set as it is listed.
#[derive(Default)]
struct Listed {
    head: String,
    dimensions: Vec<String>,
    elements: Vec<String>,
    /// For a list of sets.
    members: Vec<String>,
}

pub(super) fn text(messages: &[Message], names: &BTreeSet<&str>) -> io::Result<String> {
    let mut sets: BTreeMap<String, Listed> = BTreeMap::new();
    let named = messages.iter().filter_map(|message| {
        let body = message.body.get(NFGENMSG.len()..)?;
        Some((string(&find(body, message::NAME)?), body))
    });
    let named: Vec<(String, &[u8])> = named.collect();
    for (name, body) in &named {
        if let Some(kind) = find(body, message::TYPE) {
            let set = sets.entry(name.clone()).or_default();
            set.begin(name, &string(&kind), body);
        }
    }
    // Of lists first, which say whom else they ask.
    let mut wanted: BTreeSet<String> = names.iter().copied().map(str::to_owned).collect();
    let mut length = 0;
    for lists in [true, false] {
        for (name, body) in &named {
            let set = sets.get_mut(name);
            let set = set.filter(|set| set.is_list() == lists && wanted.contains(name));
            let Some((set, elements)) = set.zip(find(body, message::ELEMENTS)) else {
                continue;
            };
            for element in attributes(&elements) {
                length += set.add(name, element.value());
            }
            wanted.extend(set.members.drain(..));
            if length > LONGEST {
                return Err(io::Error::other(
                    "the sets have more elements than are read",
                ));
            }
        }
    }
    let mut text = String::with_capacity(length);
    for (_, mut set) in sets.into_iter().filter(|(name, _)| wanted.contains(name)) {
        text += &set.head;
        if !set.is_list() {
            set.elements.sort_unstable();
        }
        text.extend(set.elements);
    }
    Ok(text)
}

impl Listed {
    fn is_list(&self) -> bool {
        self.dimensions.iter().any(|dimension| dimension == "set")
    }

    fn begin(&mut self, name: &str, kind: &str, body: &[u8]) {
        let names = kind.split_once(':').map_or("", |(_, names)| names);
        self.dimensions = names.split(',').map(str::to_owned).collect();
        self.head = format!("create {} {kind}", word(name));
        let head = find(body, message::DATA).unwrap_or_default();
        let has = |dimension: &str| self.dimensions.iter().any(|it| it == dimension);
        if kind.starts_with("hash:") && (has("ip") || has("net")) {
            let family = find(body, message::FAMILY);
            let is6 = family.is_some_and(|family| family.first() == Some(&AF_INET6));
            self.head += if is6 { " family inet6" } else { " family inet" };
        }
        if let Some(&[netmask]) = find(&head, data::NETMASK).as_deref() {
            let _ = write!(self.head, " netmask {netmask}");
        }
        if let Some(mask) = find(&head, data::MARKMASK).and_then(|mask| number(&mask)) {
            let _ = write!(self.head, " markmask {mask:#010x}");
        }
        if find(&head, data::BITMASK).is_some() {
            self.head += " bitmask";
        }
        self.head += "\n";
    }

    /// Adds an element; returns how long its text is.
    fn add(&mut self, set: &str, element: &[u8]) -> usize {
        let Some(text) = self.element(element) else {
            return 0;
        };
        if self.is_list() {
            self.members.push(text.clone());
        }
        let flags = flags(element);
        let nomatch = if flags & NOMATCH == 0 { "" } else { " nomatch" };
        let wildcard = if flags & WILDCARD == 0 {
            ""
        } else {
            " wildcard"
        };
        let line = format!("add {} {}{nomatch}{wildcard}\n", word(set), word(&text));
        let length = line.len();
        self.elements.push(line);
        length
    }

    fn element(&self, element: &[u8]) -> Option<String> {
        let mut addresses = [(data::IP, data::CIDR), (data::IP2, data::CIDR2)].into_iter();
        let parts = self
            .dimensions
            .iter()
            .map(|dimension| match dimension.as_str() {
                "ip" | "net" => {
                    let (ip, length) = addresses.next()?;
                    address(element, ip, length)
                }
                "port" => port(element),
                "mac" => {
                    let bytes = find(element, data::ETHER)?;
                    let digits: Vec<String> =
                        bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    Some(digits.join(":"))
                }
                "mark" => Some(format!("{:#010x}", number(&find(element, data::MARK)?)?)),
                "iface" => {
                    let name = string(&find(element, data::DEVICE)?);
                    let port = flags(element) & PHYSDEV != 0;
                    Some(if port {
                        format!("physdev:{name}")
                    } else {
                        name
                    })
                }
                "set" => Some(string(&find(element, data::NAME)?)),
                _ => None,
            });
        let parts: Option<Vec<String>> = parts.collect();
        parts.map(|parts| parts.join(","))
    }
}

fn address(element: &[u8], ip: u16, length: u16) -> Option<String> {
    let nested = find(element, ip)?;
    let address = attributes(&nested).find_map(|address| match *address.value() {
        [a, b, c, d] => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
        ref bytes => {
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
    })?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    Some(match find(element, length).as_deref() {
        Some(&[length]) if length != bits => format!("{address}/{length}"),
        _ => address.to_string(),
    })
}

fn port(element: &[u8]) -> Option<String> {
    let port = find(element, data::PORT)?;
    let &[high, low] = &port[..] else { return None };
    let number = u16::from_be_bytes([high, low]);
    let Some(&[protocol]) = find(element, data::PROTOCOL).as_deref() else {
        return Some(number.to_string());
    };
    Some(match protocol {
        1 => format!("icmp:{high}/{low}"),
        58 => format!("icmpv6:{high}/{low}"),
        6 => format!("tcp:{number}"),
        17 => format!("udp:{number}"),
        132 => format!("sctp:{number}"),
        136 => format!("udplite:{number}"),
        other => format!("{other}:{number}"),
    })
}

fn flags(element: &[u8]) -> u32 {
    let flags = find(element, data::FLAGS);
    flags.and_then(|flags| number(&flags)).unwrap_or(0)
}

fn find(bytes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let found = attributes(bytes).find(|attribute| attribute.kind() == kind);
    found.map(|attribute| attribute.value().to_vec())
}

/// Numbers are in network order.
fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

fn string(value: &[u8]) -> String {
    let text = value.split(|&byte| byte == 0).next().unwrap_or_default();
    // A quote cannot be written; no set of Kubernetes' has one.
    String::from_utf8_lossy(text).replace('"', "?")
}

fn word(text: &str) -> String {
    super::Word(text).to_string()
}
