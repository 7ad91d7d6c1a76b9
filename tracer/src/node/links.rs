//! The devices and addresses of one network namespace, over rtnetlink.
//!
//! Decodes only the attributes that are kept. A request changes nothing, with one exception that
//! is the kernel's own: to answer, it numbers the namespaces that hold the other ends of this
//! one's devices, as it does for every `ip link`.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_packet_core::NlaBuffer;

use super::{
    link::{Link, LinkKind, Prefix, Tunnel},
    netlink::{Message, Netlink, attributes, put_attribute, u16_at, u32_at},
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_GETNSID: u16 = 90;

/// Lengths of `struct ifinfomsg`, `struct ifaddrmsg` and `struct rtgenmsg` (padded).
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTGENMSG: usize = 4;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_TUNNEL_ID: u16 = 1;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_GENEVE_PORT: u16 = 5;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// A link, and what it names in terms of its own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RawLink {
    /// The link without its peer.
    pub(super) link: Link,
    /// `IFLA_LINK`: a veth's other end, the device that a VLAN is on, ...
    pub(super) other: Option<Other>,
}

/// A device that a link refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Other {
    /// Its index in its namespace.
    pub(super) index: u32,
    /// This namespace's id for that namespace; `None` for this one.
    pub(super) netnsid: Option<i32>,
}

/// An rtnetlink socket in the namespace of the thread that opened it.
pub(super) struct Route(Netlink);

impl Route {
    pub(super) fn open() -> io::Result<Self> {
        Netlink::open(libc::NETLINK_ROUTE as isize).map(Self)
    }

    /// All devices with their addresses.
    pub(super) fn links(&self) -> io::Result<BTreeMap<u32, RawLink>> {
        let mut request = vec![0; IFINFOMSG];
        let mask = RTEXT_FILTER_SKIP_STATS.to_ne_bytes();
        put_attribute(&mut request, IFLA_EXT_MASK, &mask);
        let links = self.0.dump(RTM_GETLINK, &request)?;
        let addresses = self.0.dump(RTM_GETADDR, &[0; IFADDRMSG])?;
        Ok(joined(&links, &addresses))
    }

    /// This namespace's id for another, if it has one.
    pub(super) fn id_of(&self, netns: BorrowedFd<'_>) -> io::Result<Option<i32>> {
        let mut request = vec![0; RTGENMSG];
        put_attribute(&mut request, NETNSA_FD, &netns.as_raw_fd().to_ne_bytes());
        let answer = self.0.ask(RTM_GETNSID, &request)?;
        let id = attributes(answer.body.get(RTGENMSG..).unwrap_or_default())
            .find(|attribute| attribute.kind() == NETNSA_NSID)
            .and_then(|attribute| signed(&attribute));
        Ok(id.filter(|&id| id >= 0))
    }
}

fn joined(links: &[Message], addresses: &[Message]) -> BTreeMap<u32, RawLink> {
    let links = links.iter().filter(|message| message.kind == RTM_NEWLINK);
    let mut found: BTreeMap<u32, RawLink> = links
        .filter_map(|message| decode_link(&message.body))
        .map(|raw| (raw.link.index, raw))
        .collect();
    let addresses = addresses
        .iter()
        .filter(|message| message.kind == RTM_NEWADDR);
    for (index, prefix) in addresses.filter_map(|message| decode_address(&message.body)) {
        if let Some(raw) = found.get_mut(&index) {
            raw.link.addresses.push(prefix);
        }
    }
    found
}

fn decode_link(body: &[u8]) -> Option<RawLink> {
    let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
    let mut raw = RawLink::default();
    raw.link.index = index;
    raw.link.up = flags & IFF_UP != 0;
    if flags & IFF_LOOPBACK != 0 {
        raw.link.kind = LinkKind::Loopback;
    }
    let (mut other, mut netnsid) = (None, None);
    for attribute in attributes(body.get(IFINFOMSG..)?) {
        match attribute.kind() {
            IFLA_IFNAME => raw.link.name = text(&attribute),
            IFLA_MTU => raw.link.mtu = unsigned(&attribute).unwrap_or_default(),
            IFLA_LINK => other = unsigned(&attribute).filter(|&index| index != 0),
            IFLA_MASTER => raw.link.master = unsigned(&attribute).filter(|&index| index != 0),
            IFLA_LINK_NETNSID => netnsid = signed(&attribute),
            IFLA_LINKINFO => decode_kind(attribute.value(), &mut raw.link),
            _ => {}
        }
    }
    raw.other = other.map(|index| Other { index, netnsid });
    Some(raw)
}

fn decode_kind(info: &[u8], link: &mut Link) {
    for attribute in attributes(info) {
        match attribute.kind() {
            IFLA_INFO_KIND => link.kind = LinkKind::from(text(&attribute)),
            IFLA_INFO_DATA => match link.kind.as_str() {
                "vxlan" => link.tunnel = decode_tunnel(attribute.value(), IFLA_VXLAN_PORT),
                "geneve" => link.tunnel = decode_tunnel(attribute.value(), IFLA_GENEVE_PORT),
                _ => {}
            },
            _ => {}
        }
    }
}

/// A tunnel's identifier and port; `None` without an identifier (it is set packet by packet).
fn decode_tunnel(data: &[u8], port: u16) -> Option<Tunnel> {
    let find = |kind| attributes(data).find(|attribute| attribute.kind() == kind);
    let port = find(port)
        .and_then(|port| u16_at(port.value(), 0))
        .map(u16::from_be);
    Some(Tunnel {
        vni: unsigned(&find(IFLA_TUNNEL_ID)?)?,
        port: port.unwrap_or_default(),
    })
}

fn decode_address(body: &[u8]) -> Option<(u32, Prefix)> {
    let (index, length) = (u32_at(body, 4)?, *body.get(1)?);
    let (mut local, mut address) = (None, None);
    for attribute in attributes(body.get(IFADDRMSG..)?) {
        match attribute.kind() {
            IFA_LOCAL => local = ip(attribute.value()),
            // Of a point-to-point link this is the other end's.
            IFA_ADDRESS => address = ip(attribute.value()),
            _ => {}
        }
    }
    let address = local.or(address)?;
    Some((index, Prefix { address, length }))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn text(attribute: &NlaBuffer<&[u8]>) -> String {
    let bytes = attribute.value();
    let end = bytes.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn unsigned(attribute: &NlaBuffer<&[u8]>) -> Option<u32> {
    u32_at(attribute.value(), 0)
}

fn signed(attribute: &NlaBuffer<&[u8]>) -> Option<i32> {
    unsigned(attribute).map(u32::cast_signed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_attribute(&mut bytes, kind, value);
        bytes
    }

    fn message(kind: u16, header: &[u8], parts: &[Vec<u8>]) -> Message {
        let body = [header, &parts.concat()].concat();
        Message { kind, body }
    }

    fn ifinfomsg(index: u32, flags: u32) -> Vec<u8> {
        [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), [0; 4]].concat()
    }

    #[test]
    fn a_tunnel_is_decoded_with_its_addresses() {
        let data = [
            attribute(IFLA_TUNNEL_ID, &1u32.to_ne_bytes()),
            attribute(IFLA_VXLAN_PORT, &8472u16.to_be_bytes()),
        ];
        let info = [
            attribute(IFLA_INFO_KIND, b"vxlan\0"),
            attribute(IFLA_INFO_DATA, &data.concat()),
        ];
        let parts = [
            attribute(IFLA_IFNAME, b"flannel.1\0"),
            attribute(IFLA_MTU, &1450u32.to_ne_bytes()),
            attribute(IFLA_MASTER, &3u32.to_ne_bytes()),
            attribute(IFLA_LINKINFO, &info.concat()),
        ];
        let link = message(RTM_NEWLINK, &ifinfomsg(7, IFF_UP), &parts);
        let header = [&[2u8, 32, 0, 0][..], &7u32.to_ne_bytes()].concat();
        let parts = [attribute(IFA_LOCAL, &[10, 244, 1, 0])];
        let address = message(RTM_NEWADDR, &header, &parts);
        let stray = message(RTM_NEWADDR, &[2, 32, 0, 0, 9, 0, 0, 0], &parts);
        let found = joined(&[link], &[address, stray]);
        let expected = Link {
            index: 7,
            name: "flannel.1".to_owned(),
            kind: LinkKind::Vxlan,
            up: true,
            mtu: 1450,
            master: Some(3),
            peer: None,
            tunnel: Some(Tunnel { vni: 1, port: 8472 }),
            addresses: vec![Prefix {
                address: "10.244.1.0".parse().unwrap(),
                length: 32,
            }],
        };
        assert_eq!(found.len(), 1);
        assert_eq!(found[&7].link, expected);
    }

    #[test]
    fn a_device_without_a_kind_is_physical_or_loopback() {
        let decode = |flags| decode_link(&ifinfomsg(1, flags)).unwrap().link.kind;
        assert_eq!(decode(IFF_LOOPBACK), LinkKind::Loopback);
        assert_eq!(decode(0), LinkKind::Physical);
    }

    #[test]
    fn a_veth_names_its_other_end() {
        let parts = [
            attribute(IFLA_LINK, &2u32.to_ne_bytes()),
            attribute(IFLA_LINK_NETNSID, &0u32.to_ne_bytes()),
        ];
        let raw = decode_link(&message(RTM_NEWLINK, &ifinfomsg(5, 0), &parts).body).unwrap();
        let other = Other {
            index: 2,
            netnsid: Some(0),
        };
        assert_eq!(raw.other, Some(other));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_skipped(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let (kind, body) = (RTM_NEWLINK, body);
            let link = Message { kind, body: body.clone() };
            let address = Message { kind: RTM_NEWADDR, body };
            let _ = joined(&[link], &[address]);
        }
    }
}
