//! The names that nft prints for numbers.

use super::Kind;

/// `enum nfproto`.
pub(in super::super) const VERSION_4: u8 = 2;
pub(in super::super) const VERSION_6: u8 = 10;
/// `enum ip_conntrack_info` as bits (`NF_CT_STATE_BIT`).
pub(in super::super) const STATES: [(&str, u128); 5] = [
    ("invalid", 1),
    ("established", 2),
    ("related", 4),
    ("new", 8),
    ("untracked", 64),
];
/// `RTN_*` of rtnetlink.
pub(in super::super) const ADDRESS_KINDS: [(&str, u128); 11] = [
    ("unspec", 0),
    ("unicast", 1),
    ("local", 2),
    ("broadcast", 3),
    ("anycast", 4),
    ("multicast", 5),
    ("blackhole", 6),
    ("unreachable", 7),
    ("prohibit", 8),
    ("throw", 9),
    ("nat", 10),
];
pub(super) const STATUSES: [(&str, u128); 7] = [
    ("expected", 1),
    ("seen-reply", 2),
    ("assured", 4),
    ("confirmed", 8),
    ("snat", 16),
    ("dnat", 32),
    ("dying", 512),
];
pub(super) const TCP_FLAGS: [(&str, u128); 8] = [
    ("fin", 1),
    ("syn", 2),
    ("rst", 4),
    ("psh", 8),
    ("ack", 16),
    ("urg", 32),
    ("ecn", 64),
    ("cwr", 128),
];
pub(super) const PROTOCOLS: [(&str, u128); 22] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("comp", 108),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("sctp", 132),
    ("udplite", 136),
];
pub(super) const VERSIONS: [(&str, u128); 2] =
    [("ipv4", VERSION_4 as u128), ("ipv6", VERSION_6 as u128)];
pub(super) const ETHER_TYPES: [(&str, u128); 5] = [
    ("ip", 0x0800),
    ("arp", 0x0806),
    ("8021q", 0x8100),
    ("ip6", 0x86dd),
    ("vlan", 0x8100),
];
pub(super) const ICMP_TYPES: [(&str, u128); 13] = [
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
];
pub(super) const ICMPV6_TYPES: [(&str, u128); 19] = [
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("mld-listener-reduction", 132),
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
    ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141),
    ("ind-neighbor-advert", 142),
    ("mld2-listener-report", 143),
];
pub(super) const ICMP_CODES: [(&str, u128); 8] = [
    ("net-unreachable", 0),
    ("host-unreachable", 1),
    ("prot-unreachable", 2),
    ("port-unreachable", 3),
    ("frag-needed", 4),
    ("net-prohibited", 9),
    ("host-prohibited", 10),
    ("admin-prohibited", 13),
];
pub(super) const ICMPV6_CODES: [(&str, u128); 6] = [
    ("no-route", 0),
    ("admin-prohibited", 1),
    ("addr-unreachable", 3),
    ("port-unreachable", 4),
    ("policy-fail", 5),
    ("reject-route", 6),
];
/// The types of sets, as `nft describe` names them.
pub(super) const TYPES: [(&str, Kind); 20] = [
    ("ipv4_addr", Kind::Ipv4),
    ("ipv6_addr", Kind::Ipv6),
    ("inet_proto", Kind::Protocol),
    ("inet_service", Kind::Port),
    ("ifname", Kind::Device),
    ("iface_index", Kind::Device),
    ("ct_state", Kind::State),
    ("ct_status", Kind::Status),
    ("ct_dir", Kind::Direction),
    ("fib_addrtype", Kind::RouteType),
    ("nf_proto", Kind::Version),
    ("ether_type", Kind::EtherType),
    ("tcp_flag", Kind::TcpFlags),
    ("icmp_type", Kind::IcmpType),
    ("icmpv6_type", Kind::Icmpv6Type),
    ("icmp_code", Kind::IcmpCode),
    ("icmpv6_code", Kind::Icmpv6Code),
    ("mark", Kind::Number),
    ("integer", Kind::Number),
    ("boolean", Kind::Number),
];
