//! What values mean: addresses, ports, names of devices, flags, all as numbers.
//!
//! Every value that rules compare is a number of up to 128 bits to the kernel; so it is here, which
//! makes one comparison, one interval and one index serve for all. The names are those that nft
//! prints.

mod names;

use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) use names::{ADDRESS_KINDS, STATES, VERSION_4, VERSION_6};
use names::{
    ETHER_TYPES, ICMP_CODES, ICMP_TYPES, ICMPV6_CODES, ICMPV6_TYPES, PROTOCOLS, STATUSES,
    TCP_FLAGS, TYPES, VERSIONS,
};

use super::{
    json::Json,
    model::{BinaryOperator, Expression, by_name},
};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Ipv4,
    Ipv6,
    /// An IP protocol.
    Protocol,
    Port,
    /// A device's name, padded with zeros to the kernel's 16 bytes.
    Device,
    /// Conntrack's state of a packet, one bit.
    State,
    /// Conntrack's status of a connection, bits.
    Status,
    /// 0: as the connection's first packet; 1: as its answer.
    Direction,
    /// What kind an address is to the routing table (`RTN_LOCAL`, ...).
    RouteType,
    /// IPv4 or IPv6, as `enum nfproto`.
    Version,
    EtherType,
    TcpFlags,
    IcmpType,
    Icmpv6Type,
    IcmpCode,
    Icmpv6Code,
    /// Marks, lengths, and what has no names.
    Number,
}

impl Kind {
    /// The kinds of a set's keys, one for each part of a concatenation; `None` where not known.
    pub(super) fn of_set(kind: &Json) -> Option<Vec<Self>> {
        match kind {
            Json::Text(names) => names.split(" . ").map(|n| by_name(&TYPES, n)).collect(),
            Json::Array(names) => {
                let names = names.iter().map(|name| by_name(&TYPES, name.as_text()?));
                names.collect()
            }
            _ => {
                let like = super::read::value(kind.get("typeof")?);
                Self::of_key(&like)
            }
        }
    }

    /// The kinds of what is looked up.
    pub(super) fn of_key(key: &Expression) -> Option<Vec<Self>> {
        match key {
            Expression::Concat(parts) => parts.iter().map(Self::of).collect(),
            key => Some(vec![Self::of(key)?]),
        }
    }

    /// The kind of what an expression takes from a packet.
    pub(super) fn of(expression: &Expression) -> Option<Self> {
        Some(match expression {
            Expression::Payload { protocol, field } => match (&**protocol, &**field) {
                ("ip", "saddr" | "daddr") => Self::Ipv4,
                ("ip6", "saddr" | "daddr") => Self::Ipv6,
                ("ip", "protocol") | ("ip6", "nexthdr") => Self::Protocol,
                (_, "sport" | "dport") => Self::Port,
                ("tcp", "flags") => Self::TcpFlags,
                ("icmp", "type") => Self::IcmpType,
                ("icmpv6", "type") => Self::Icmpv6Type,
                ("icmp", "code") => Self::IcmpCode,
                ("icmpv6", "code") => Self::Icmpv6Code,
                ("ether", "type") => Self::EtherType,
                ("ether" | "arp" | "vlan", _) => return None,
                _ => Self::Number,
            },
            Expression::Meta(key) => match &**key {
                "l4proto" => Self::Protocol,
                "nfproto" => Self::Version,
                "protocol" => Self::EtherType,
                "iif" | "oif" | "iifname" | "oifname" | "ibrname" | "obrname" | "sdif"
                | "sdifname" => Self::Device,
                "mark" | "length" | "skuid" | "skgid" | "cpu" | "cgroup" | "random" => Self::Number,
                _ => return None,
            },
            Expression::Ct { key, .. } => match &**key {
                "state" => Self::State,
                "status" => Self::Status,
                "direction" => Self::Direction,
                "protocol" => Self::Protocol,
                "l3proto" => Self::Version,
                "proto-src" | "proto-dst" => Self::Port,
                "ip saddr" | "ip daddr" => Self::Ipv4,
                "ip6 saddr" | "ip6 daddr" => Self::Ipv6,
                "mark" | "zone" | "id" | "bytes" | "packets" => Self::Number,
                _ => return None,
            },
            Expression::Fib { result, .. } => match &**result {
                "type" => Self::RouteType,
                "oif" | "oifname" => Self::Device,
                _ => return None,
            },
            Expression::Binary(_, operands) => Self::of(operands.first()?)?,
            Expression::Numgen { .. } | Expression::Unknown(_) => Self::Number,
            _ => return None,
        })
    }

    /// The number that a constant stands for.
    pub(super) fn value(self, constant: &Expression) -> Option<u128> {
        let all = |items: &[Expression]| -> Option<Vec<u128>> {
            items.iter().map(|item| self.value(item)).collect()
        };
        Some(match constant {
            Expression::Number(number) => u128::from(*number),
            Expression::Bool(value) => u128::from(*value),
            Expression::Text(text) => self.named(text)?,
            Expression::List(flags) => all(flags)?.into_iter().fold(0, |all, flag| all | flag),
            Expression::Binary(operator, operands) => {
                let operands = all(operands)?.into_iter();
                operands.reduce(|left, right| operate(*operator, left, right))?
            }
            _ => return None,
        })
    }

    fn named(self, text: &str) -> Option<u128> {
        let names: &[(&str, u128)] = match self {
            Self::Ipv4 => return text.parse::<Ipv4Addr>().ok().map(v4),
            Self::Ipv6 => return text.parse::<Ipv6Addr>().ok().map(u128::from),
            Self::Device => return device(text),
            Self::Protocol => &PROTOCOLS,
            Self::State => &STATES,
            Self::Status => &STATUSES,
            Self::Direction => &[("original", 0), ("reply", 1)],
            Self::RouteType => &ADDRESS_KINDS,
            Self::Version => &VERSIONS,
            Self::EtherType => &ETHER_TYPES,
            Self::TcpFlags => &TCP_FLAGS,
            Self::IcmpType => &ICMP_TYPES,
            Self::Icmpv6Type => &ICMPV6_TYPES,
            Self::IcmpCode => &ICMP_CODES,
            Self::Icmpv6Code => &ICMPV6_CODES,
            Self::Port | Self::Number => &[],
        };
        by_name(names, text).or_else(|| text.parse().ok())
    }

    /// First and last number of what a constant covers: a value, network, range or name with `*`.
    pub(super) fn interval(self, constant: &Expression) -> Option<(u128, u128)> {
        match constant {
            Expression::Range(ends) => {
                let ends = (self.value(&ends.0)?, self.value(&ends.1)?);
                (ends.0 <= ends.1).then_some(ends)
            }
            Expression::Prefix(address, length) => {
                let bits: u8 = match self {
                    Self::Ipv4 => 32,
                    Self::Ipv6 => 128,
                    _ => return None,
                };
                let host = bits.checked_sub(*length)?;
                let hosts = 1u128.checked_shl(host.into()).map_or(u128::MAX, |n| n - 1);
                let first = self.value(address)? & !hosts;
                Some((first, first | hosts))
            }
            Expression::Text(text) if self == Self::Device && text.ends_with('*') => {
                let start = text.trim_end_matches('*');
                let first = device(start)?;
                let rest = u128::MAX.checked_shr(8 * u32::try_from(start.len()).ok()?);
                Some((first, first | rest.unwrap_or(0)))
            }
            one => self.value(one).map(|value| (value, value)),
        }
    }
}

/// An IPv4 address as a number.
pub(super) fn v4(address: Ipv4Addr) -> u128 {
    u32::from(address).into()
}

/// A device's name as the kernel compares it; `None` where it is too long to be one.
pub(super) fn device(name: &str) -> Option<u128> {
    let mut bytes = [0; 16];
    bytes
        .get_mut(..name.len())?
        .copy_from_slice(name.as_bytes());
    Some(u128::from_be_bytes(bytes))
}

/// What two numbers make.
pub(super) fn operate(operator: BinaryOperator, left: u128, right: u128) -> u128 {
    let bits = u32::try_from(right).ok();
    match operator {
        BinaryOperator::And => left & right,
        BinaryOperator::Or => left | right,
        BinaryOperator::Xor => left ^ right,
        BinaryOperator::ShiftLeft => bits.and_then(|bits| left.checked_shl(bits)).unwrap_or(0),
        BinaryOperator::ShiftRight => bits.and_then(|bits| left.checked_shr(bits)).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Expression {
        Expression::Text(text.into())
    }

    #[test]
    fn constants_are_numbers() {
        assert_eq!(Kind::Ipv4.value(&text("10.0.0.1")), Some(0x0a00_0001));
        assert_eq!(Kind::Ipv6.value(&text("fd00::1")), Some(0xfd00 << 112 | 1));
        assert_eq!(Kind::Protocol.value(&text("tcp")), Some(6));
        assert_eq!(Kind::Protocol.value(&Expression::Number(99)), Some(99));
        let states = Expression::List(vec![text("established"), text("related")]);
        assert_eq!(Kind::State.value(&states), Some(6));
        let flags = Expression::Binary(BinaryOperator::Or, vec![text("syn"), text("ack")]);
        assert_eq!(Kind::TcpFlags.value(&flags), Some(18));
        assert_eq!(Kind::Ipv4.value(&text("host.example")), None);
        assert_eq!(Kind::Device.value(&text("a-name-too-long-for-it")), None);
    }

    #[test]
    fn intervals_cover_networks_ranges_and_names() {
        let prefix = |address, length| Expression::Prefix(Box::new(text(address)), length);
        assert_eq!(
            Kind::Ipv4.interval(&prefix("10.1.2.0", 24)),
            Some((0x0a01_0200, 0x0a01_02ff))
        );
        assert_eq!(
            Kind::Ipv4.interval(&prefix("0.0.0.0", 0)),
            Some((0, u32::MAX.into()))
        );
        assert_eq!(Kind::Ipv6.interval(&prefix("::", 0)), Some((0, u128::MAX)));
        assert_eq!(Kind::Ipv4.interval(&prefix("10.0.0.0", 33)), None);
        let (first, last) = Kind::Device.interval(&text("eth*")).unwrap();
        let inside = |name| (first..=last).contains(&device(name).unwrap());
        assert!(inside("eth0") && inside("eth") && !inside("et") && !inside("cni0"));
        assert_eq!(Kind::Device.interval(&text("*")), Some((0, u128::MAX)));
        let range = Expression::Range(Box::new((Expression::Number(9), Expression::Number(8))));
        assert_eq!(Kind::Port.interval(&range), None);
    }

    #[test]
    fn sets_name_the_kinds_of_their_keys() {
        let kinds = |json: Json| Kind::of_set(&json);
        assert_eq!(kinds(Json::text("ipv4_addr")), Some(vec![Kind::Ipv4]));
        let list = ["ipv6_addr", "inet_proto"].map(Json::text).to_vec();
        assert_eq!(
            kinds(Json::Array(list)),
            Some(vec![Kind::Ipv6, Kind::Protocol])
        );
        assert_eq!(
            kinds(Json::text("ifname . mark")),
            Some(vec![Kind::Device, Kind::Number])
        );
        assert_eq!(kinds(Json::text("time")), None);
        let like = Json::named("meta", Json::named("key", Json::text("iifname")));
        assert_eq!(kinds(Json::named("typeof", like)), Some(vec![Kind::Device]));
    }
}
