//! A packet as rules see it at one hook, with what is not known of it.
//!
//! Rules also change what later rules see (marks, translated addresses), so a subject is a value that
//! an evaluation keeps and changes. Where two ways through the rules meet again, [`Subject::merge`]
//! keeps what is known on both.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use super::bits::Bits;
use super::decision::Decision;

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address. An IPv4 address mapped into IPv6 is IPv6 here.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// One of the five places of IP at which rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hook {
    /// A packet that was received, before it is routed.
    Prerouting,
    /// A packet for this namespace itself.
    Input,
    /// A packet that passes through.
    Forward,
    /// A packet from this namespace itself.
    Output,
    /// A packet that is about to leave.
    Postrouting,
}

impl Hook {
    /// All, in the kernel's order.
    pub const ALL: [Self; 5] = [
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
    ];

    /// The name, as nftables and our stages have it; iptables' chains have it in capitals.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

/// Which of conntrack's states a packet may be in. One bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct States(u8);

impl States {
    /// Conntrack cannot make sense of it.
    pub const INVALID: Self = Self(1);
    /// The first packet of a connection.
    pub const NEW: Self = Self(2);
    /// Of a connection that has seen packets both ways.
    pub const ESTABLISHED: Self = Self(4);
    /// Of a connection that another one brought forth, or an ICMP error about one.
    pub const RELATED: Self = Self(8);
    /// Conntrack does not look at it.
    pub const UNTRACKED: Self = Self(16);
    /// None: as the states that a rule names.
    pub const NONE: Self = Self(0);
    /// Nothing is known.
    pub const ANY: Self = Self(31);

    /// Those of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of these states is possible.
    #[must_use]
    pub const fn may_be(self, states: Self) -> bool {
        self.0 & states.0 != 0
    }

    /// Whether no other state is possible.
    #[must_use]
    pub const fn only(self, states: Self) -> bool {
        self.0 & !states.0 == 0
    }

    /// Whether the state is one of `wanted`.
    #[must_use]
    pub fn is_in(self, wanted: Self) -> Decision {
        if !self.may_be(wanted) {
            Decision::No
        } else if self.only(wanted) {
            Decision::Yes
        } else {
            Decision::unknown("the connection's state is not known")
        }
    }
}

impl Default for States {
    fn default() -> Self {
        Self::ANY
    }
}

/// Bits of a connection's status, as the kernel's `enum ip_conntrack_status`.
pub mod status {
    /// The connection is expected by another one.
    pub const EXPECTED: u32 = 1 << 0;
    /// Packets were seen both ways.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// It is not dropped early when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// Its first packet left.
    pub const CONFIRMED: u32 = 1 << 3;
    /// Its source is rewritten.
    pub const SRC_NAT: u32 = 1 << 4;
    /// Its destination is rewritten.
    pub const DST_NAT: u32 = 1 << 5;
}

/// What is known of the connection that a packet belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The packet's possible states.
    pub states: States,
    /// The status, bits of [`status`].
    pub status: Bits,
    /// The connection's mark.
    pub mark: Bits,
    /// Whether the packet goes as the connection's first one.
    pub original: Option<bool>,
    /// The connection's source before translations, as its first packet had it.
    pub original_source: Option<(IpAddr, u16)>,
    /// The connection's destination before translations.
    pub original_destination: Option<(IpAddr, u16)>,
}

/// A device at a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// There is one, or may be one, that is not known.
    #[default]
    Unknown,
    /// There is none here: a packet from a local socket came in by no device.
    Absent,
    /// Its name.
    Is(String),
}

impl DeviceName {
    /// What `test` says of the name; of a device that is absent it says it of the empty name, as
    /// the kernel does.
    #[must_use]
    pub fn decide(&self, unknown: &'static str, test: impl FnOnce(&str) -> bool) -> Decision {
        match self {
            Self::Unknown => Decision::unknown(unknown),
            Self::Absent => test("").into(),
            Self::Is(name) => test(name).into(),
        }
    }

    fn merge(&mut self, other: &Self) {
        if self != other {
            *self = Self::Unknown;
        }
    }
}

/// A packet at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Where.
    pub hook: Hook,
    /// The source address as it is here. Both addresses are of the packet's own family.
    pub source: IpAddr,
    /// The destination address as it is here.
    pub destination: IpAddr,
    /// The IP protocol number of the transport.
    pub protocol: u8,
    /// The source port; `None` where the protocol has none, or it is not known (a later fragment).
    pub source_port: Option<u16>,
    /// The destination port, likewise.
    pub destination_port: Option<u16>,
    /// ICMP or ICMPv6: type and code.
    pub icmp: Option<(u8, u8)>,
    /// TCP: the flags byte, FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32.
    pub tcp_flags: Option<u8>,
    /// Whether it is a fragment after the first.
    pub fragment: Option<bool>,
    /// Bytes of the IP packet.
    pub length: Option<u32>,
    /// The device it came in by, as the hook's rules see it: a bridge rather than its port.
    pub input: DeviceName,
    /// The device it goes out by.
    pub output: DeviceName,
    /// The bridge port it came in by; absent where it is known not to have come through one.
    pub bridge_input: DeviceName,
    /// The bridge port it goes out by.
    pub bridge_output: DeviceName,
    /// Its mark.
    pub mark: Bits,
    /// Its connection.
    pub connection: Connection,
}

impl Subject {
    /// A packet of which nothing but this is known.
    #[must_use]
    pub fn new(hook: Hook, source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        let absent_at = |hooks: &[Hook]| {
            if hooks.contains(&hook) {
                DeviceName::Absent
            } else {
                DeviceName::Unknown
            }
        };
        Self {
            hook,
            source,
            destination,
            protocol,
            source_port: None,
            destination_port: None,
            icmp: None,
            tcp_flags: None,
            fragment: None,
            length: None,
            input: absent_at(&[Hook::Output]),
            output: absent_at(&[Hook::Prerouting, Hook::Input]),
            bridge_input: absent_at(&[Hook::Output]),
            bridge_output: absent_at(&[Hook::Prerouting, Hook::Input]),
            mark: Bits::UNKNOWN,
            connection: Connection::default(),
        }
    }

    /// Its version of IP.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.destination)
    }

    /// Keeps what is known both of this and of `other`, which is the same packet on another way
    /// through the same rules.
    ///
    /// Addresses and ports are those of `self`: what rewrites them ends a walk.
    pub fn merge(&mut self, other: &Self) {
        self.mark = self.mark.merge(other.mark);
        let (ours, theirs) = (&mut self.connection, &other.connection);
        ours.states = ours.states.or(theirs.states);
        ours.status = ours.status.merge(theirs.status);
        ours.mark = ours.mark.merge(theirs.mark);
        if ours.original != theirs.original {
            ours.original = None;
        }
        self.input.merge(&other.input);
        self.output.merge(&other.output);
    }
}

/// What kind an address is to a namespace, as the kernel's routing table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressKind {
    /// One of its own.
    Local,
    /// The broadcast address of one of its networks.
    Broadcast,
    /// Multicast.
    Multicast,
    /// Any other that a route leads to.
    Unicast,
    /// None at all: 0.0.0.0.
    Unspecified,
}

/// What rules ask that is no part of the packet: answers about the namespace they are in.
pub trait Surroundings {
    /// What kind an address is here; `None` where that is not known.
    fn address_kind(&self, address: IpAddr) -> Option<AddressKind> {
        let _ = address;
        None
    }

    /// Whether the named ipset has the packet, by the given dimensions (`src`, `dst`).
    fn in_set(&self, set: &str, dimensions: &[&str], subject: &Subject) -> Decision {
        let _ = (dimensions, subject);
        super::ipset::unknown(set)
    }
}

/// Nothing is known of the namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elsewhere;

impl Surroundings for Elsewhere {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_decided_where_all_possible_ones_agree() {
        let early = States::NEW.or(States::RELATED);
        assert_eq!(early.is_in(States::ESTABLISHED), Decision::No);
        assert_eq!(early.is_in(early.or(States::INVALID)), Decision::Yes);
        assert!(matches!(early.is_in(States::NEW), Decision::Unknown(_)));
    }

    #[test]
    fn ways_that_meet_keep_what_both_know() {
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let mut one = Subject::new(Hook::Output, address, address, 6);
        one.mark = Bits::exactly(0);
        let mut other = one.clone();
        other.mark = one.mark.cleared_and_flipped(0x4000, 0x4000);
        one.merge(&other);
        assert_eq!(one.mark.equals(0, 0x8000, ""), Decision::Yes);
        assert!(matches!(
            one.mark.equals(0, 0x4000, ""),
            Decision::Unknown(_)
        ));
        assert_eq!(one.input, DeviceName::Absent);
    }
}
