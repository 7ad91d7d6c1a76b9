//! What a network namespace does with packets besides its rules: its routes, the settings that decide
//! over them, and how full conntrack is.
//!
//! Read from `/proc` of a thread that is in the namespace, together with its devices and as often.
//! Bounded: of long lists the beginning is kept, and that they were cut. The main table is read from there too; where
//! rules choose between tables (`ip rule`), these rules ([`policy`]) and all tables (`tables`) are asked for over
//! rtnetlink.
//!
//! What is read is what held then, not at some packet's time. Routes over several next hops are not told apart: none
//! is told.

pub mod policy;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::net::{AddressFamily, SocketType};
use serde::{Deserialize, Serialize};

use self::{
    policy::{Asked, RULE_HEADER, RULES, Rule},
    tables::{ROUTE_HEADER, Raw},
};
use super::{
    link::{Prefix, masked},
    netlink::Netlink,
};

/// Routes that are kept.
const ENTRIES: usize = 1024;
/// Bytes that are read of a file.
const FILE: u64 = 256 * 1024;
/// Conntrack's count matters from that part of its limit on: nine tenths.
const NEARLY_FULL: (u64, u64) = (9, 10);

/// The settings that a diagnosis asks for, as `sysctl` names them.
pub const SETTINGS: [&str; 5] = [
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.rp_filter",
];

/// What a namespace does with packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Routes, of IPv4's main table and of IPv6's.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The rules that choose between tables, of IPv4 and of IPv6, where there are others than every namespace has.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub rules: [Vec<Rule>; 2],
    /// The tables that such rules choose between, without the local one: of the routes that lead to an address the
    /// first is taken.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub tables: [BTreeMap<u32, Vec<Route>>; 2],
    /// Those of [`SETTINGS`] that could be read.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Rules choose between routing tables: of IPv4, of IPv6.
    #[serde(default)]
    pub policy: [bool; 2],
    /// How many connections conntrack keeps and may keep, while it is nearly full.
    #[serde(default)]
    pub conntrack: Option<(u64, u64)>,
    /// Something was too long to be kept whole.
    #[serde(default)]
    pub cut: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The network's address.
    pub to: IpAddr,
    /// Bits of the network part; 0 is the default route.
    pub length: u8,
    /// The gateway.
    #[serde(default)]
    pub via: Option<IpAddr>,
    /// The device, as the kernel has it; empty where it leads to none, or to several.
    pub device: String,
}

impl Route {
    fn leads_to(&self, address: IpAddr) -> bool {
        let (address, to) = (masked(address, self.length), masked(self.to, self.length));
        address == to
    }
}

fn is_nothing<T: Default + PartialEq>(both: &[T; 2]) -> bool {
    both.iter().all(|one| *one == T::default())
}

impl Network {
    /// The namespace that the calling thread is in.
    #[must_use]
    pub fn read() -> Self {
        let mut network = Self::default();
        for (path, parse) in [
            ("/proc/thread-self/net/route", route as fn(&str) -> _),
            ("/proc/thread-self/net/ipv6_route", route6),
        ] {
            let (text, cut) = text(path).unwrap_or_default();
            network.take_routes(&text, parse);
            network.cut |= cut;
        }
        network.read_policy();
        let setting = |name: &str| {
            let (value, _) = text(&format!("/proc/sys/{}", name.replace('.', "/")))?;
            Some(value.trim().to_owned())
        };
        for name in SETTINGS {
            if let Some(value) = setting(name) {
                network.settings.insert(name.to_owned(), value);
            }
        }
        let number = |name| setting(name)?.parse().ok();
        let count = number("net.netfilter.nf_conntrack_count");
        network.conntrack = count
            .zip(number("net.netfilter.nf_conntrack_max"))
            .filter(|&(count, max)| is_nearly_full(count, max));
        network
    }

    /// The route that a packet has; `None` also where that is not known.
    #[must_use]
    pub fn route_of(&self, asked: &Asked) -> Option<&Route> {
        let family = usize::from(asked.destination.is_ipv6());
        if self.cut {
            return None;
        }
        if self.policy[family] {
            return policy::route(&self.rules[family], &self.tables[family], asked);
        }
        let routes = self.routes.iter();
        routes
            .filter(|route| route.leads_to(asked.destination))
            .max_by_key(|route| route.length)
    }

    /// A setting's value.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Asks which rules there are, and for all tables where they are others than usual.
    fn read_policy(&mut self) {
        let Ok(netlink) = Netlink::open(NETLINK_ROUTE) else {
            return;
        };
        for (at, family) in [AF_INET, AF_INET6].into_iter().enumerate() {
            // A kernel that has no such rules refuses.
            let rules = rules(&netlink, family).unwrap_or_default();
            if rules.iter().flatten().all(Rule::is_usual) && rules.iter().all(Option::is_some) {
                continue;
            }
            self.policy[at] = true;
            let tables = all_tables(&netlink, family);
            match (rules.into_iter().collect(), tables) {
                (Some(rules), Some(tables)) => (self.rules[at], self.tables[at]) = (rules, tables),
                // Too many, or not understood: then no route is told.
                _ => self.cut = true,
            }
        }
    }

    fn take_routes(&mut self, text: &str, parse: fn(&str) -> Option<Route>) {
        for route in text.lines().filter_map(parse) {
            if self.routes.len() == ENTRIES {
                self.cut = true;
                return;
            }
            self.routes.push(route);
        }
    }
}

fn is_nearly_full(count: u64, max: u64) -> bool {
    let (part, of) = NEARLY_FULL;
    max > 0 && count.saturating_mul(of) >= max.saturating_mul(part)
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A file's text, and whether there is more of it: then it ends with a whole line.
fn text(path: &str) -> Option<(String, bool)> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(FILE + 1).read_to_end(&mut bytes).ok()?;
    let cut = u64::try_from(bytes.len()).is_ok_and(|length| length > FILE);
    if cut {
        let end = bytes.iter().rposition(|&byte| byte == b'\n');
        bytes.truncate(end.map_or(0, |end| end + 1));
    }
    Some((String::from_utf8(bytes).ok()?, cut))
}

/// The rules that choose between tables; `None` for one that is not understood.
fn rules(netlink: &Netlink, family: u8) -> Option<Vec<Option<Rule>>> {
    const GETRULE: u16 = 34;
    const NEWRULE: u16 = 32;
    let mut header = [0; RULE_HEADER];
    header[0] = family;
    let messages = netlink.dump(GETRULE, &header).ok()?;
    let rules = messages.iter().filter(|message| message.kind == NEWRULE);
    let rules: Vec<_> = rules
        .take(RULES + 1)
        .map(|rule| Rule::parse(&rule.body))
        .collect();
    // One too many says that they are not all.
    Some(if rules.len() > RULES {
        vec![None]
    } else {
        rules
    })
}

/// The routes of all tables; `None` where they are too many or cannot be read.
fn all_tables(netlink: &Netlink, family: u8) -> Option<BTreeMap<u32, Vec<Route>>> {
    const GETROUTE: u16 = 26;
    let mut header = [0; ROUTE_HEADER];
    header[0] = family;
    let messages = netlink.dump(GETROUTE, &header).ok()?;
    let routes: Vec<Raw> = messages
        .iter()
        .filter_map(Raw::parse)
        .take(ENTRIES + 1)
        .collect();
    if routes.len() > ENTRIES {
        return None;
    }
    let any = match family {
        AF_INET => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    let name = |index| rustix::net::netdevice::index_to_name(&socket, index).ok();
    Some(tables::by_table(routes, any, name))
}

/// `eth0 0002F40A 00000000 0003 0 0 0 00FFFFFF 0 0 0`: device, network, gateway, flags, .., mask.
fn route(line: &str) -> Option<Route> {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    const REJECT: u32 = 0x200;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |at: usize| {
        let number = u32::from_str_radix(words.get(at)?, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    let flags = u32::from_str_radix(words.get(3)?, 16).ok()?;
    let length = address(7)?.to_bits().leading_ones();
    (flags & UP != 0 && flags & REJECT == 0).then_some(())?;
    Some(Route {
        to: address(1)?.into(),
        length: u8::try_from(length).ok()?,
        via: address(2)
            .filter(|_| flags & GATEWAY != 0)
            .map(IpAddr::from),
        device: (*words.first()?).to_owned(),
    })
}

/// Of `/proc/net/ipv6_route`: network, length, source, its length, gateway, metric, two counts, flags, device.
/// That lists all tables; addresses of the host itself are left out.
fn route6(line: &str) -> Option<Route> {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    const REJECT: u32 = 0x200;
    const CACHE: u32 = 0x0100_0000;
    const LOCAL: u32 = 0x8000_0000;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |at: usize| {
        let word = words.get(at).filter(|word| word.len() == 32)?;
        Some(Ipv6Addr::from(u128::from_str_radix(word, 16).ok()?))
    };
    let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
    let length = u8::from_str_radix(words.get(1)?, 16).ok()?;
    let usable = flags & UP != 0 && flags & (REJECT | CACHE | LOCAL) == 0 && length <= 128;
    usable.then_some(())?;
    Some(Route {
        to: address(0)?.into(),
        length,
        via: address(4)
            .filter(|_| flags & GATEWAY != 0)
            .map(IpAddr::from),
        device: (*words.get(9)?).to_owned(),
    })
}
