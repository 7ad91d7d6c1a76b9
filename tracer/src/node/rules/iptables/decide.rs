//! Whether a packet is what a rule asks for.

use std::net::IpAddr;

use super::{
    Rule,
    condition::{Condition, PortEnd, Test, Words},
    read::is_plain,
    value::Range,
};
use crate::node::rules::{
    decision::{Decision, Undecided},
    subject::{AddressKind, States, Subject, Surroundings, status},
};

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

impl Rule {
    /// Whether all of its conditions hold.
    #[must_use]
    pub fn decide(&self, subject: &Subject, around: &dyn Surroundings) -> Decision {
        let mut decision = Decision::Yes;
        for condition in &self.conditions {
            decision = decision.and(|| condition.decide(subject, around));
            if decision == Decision::No {
                break;
            }
        }
        decision
    }
}

impl Condition {
    /// Whether it holds.
    #[must_use]
    pub fn decide(&self, subject: &Subject, around: &dyn Surroundings) -> Decision {
        self.test.decide(subject, around).inverted(self.inverted)
    }
}

impl Test {
    fn decide(&self, subject: &Subject, around: &dyn Surroundings) -> Decision {
        match self {
            Self::Source(network) => network.contains(subject.source).into(),
            Self::Destination(network) => network.contains(subject.destination).into(),
            Self::Input(name) => subject
                .input
                .decide("the incoming device is not known", |d| is_device(name, d)),
            Self::Output(name) => subject
                .output
                .decide("the outgoing device is not known", |d| is_device(name, d)),
            Self::Protocol(protocol) => {
                Decision::of(protocol.number(), "the protocol's name is not known", |n| {
                    n == 0 || n == subject.protocol
                })
            }
            Self::Fragment => fragment(subject),
            Self::Module(name) => module(name),
            Self::SourcePort(range) => port(subject, subject.source_port, range),
            Self::DestinationPort(range) => port(subject, subject.destination_port, range),
            Self::Multiport(end, ranges) => multiport(subject, *end, ranges),
            Self::TcpFlags(mask, set) => whole(subject).and(|| {
                let flags = subject.tcp_flags.filter(|_| subject.protocol == TCP);
                Decision::of(flags, "the TCP flags are not known", |f| f & mask == *set)
            }),
            Self::Icmp(kind, _) => icmp(subject, *kind),
            Self::Length(range) => Decision::of(subject.length, "the length is not known", |n| {
                u32::from(range.first) <= n && n <= u32::from(range.last)
            }),
            Self::SourceRange(first, last) => in_range(subject.source, *first, *last),
            Self::DestinationRange(first, last) => in_range(subject.destination, *first, *last),
            Self::Comment(_) | Self::Account(_) | Self::Parameter(_) => Decision::Yes,
            Self::Undecided(words) => undecided(words),
            other => other.decide_state(subject, around),
        }
    }

    /// Options that ask for what surrounds the packet: its connection, marks, bridge ports, where
    /// addresses are, sets, chance.
    fn decide_state(&self, subject: &Subject, around: &dyn Surroundings) -> Decision {
        let connection = &subject.connection;
        match self {
            Self::Mark(mark) => {
                subject
                    .mark
                    .equals(mark.value, mark.mask, "the packet's mark is not known")
            }
            Self::ConnectionMark(mark) => {
                connection
                    .mark
                    .equals(mark.value, mark.mask, "the connection's mark is not known")
            }
            Self::State(_, states) => state(subject, *states),
            Self::Status(0) => !connection.status.any_of(u32::MAX, STATUS_UNKNOWN),
            Self::Status(wanted) => connection.status.any_of(u32::from(*wanted), STATUS_UNKNOWN),
            Self::Direction(original) => {
                let why = "the connection's direction is not known";
                Decision::of(connection.original, why, |is| is == *original)
            }
            Self::OriginalSource(address) => {
                original(connection.original_source, |(ip, _)| address.0.contains(ip))
            }
            Self::OriginalDestination(address) => {
                original(connection.original_destination, |(ip, _)| {
                    address.0.contains(ip)
                })
            }
            Self::OriginalSourcePort(range) => {
                original(connection.original_source, |(_, port)| range.contains(port))
            }
            Self::OriginalDestinationPort(range) => {
                original(connection.original_destination, |(_, port)| {
                    range.contains(port)
                })
            }
            Self::SourceType(types) => address_type(around, subject.source, *types),
            Self::DestinationType(types) => address_type(around, subject.destination, *types),
            Self::Set(name, dimensions) => {
                let dimensions: Vec<&str> = dimensions.split(',').collect();
                around.in_set(name, &dimensions, subject)
            }
            Self::Probability(share) => match share {
                0 => Decision::No,
                share if *share >= 1 << 31 => Decision::Yes,
                _ => Decision::unknown("it is chosen at random"),
            },
            other => other.decide_port(subject),
        }
    }

    /// Options that ask for a bridge's ports.
    fn decide_port(&self, subject: &Subject) -> Decision {
        const WHY: &str = "the bridge port is not known";
        let (input, output) = (&subject.bridge_input, &subject.bridge_output);
        match self {
            Self::PortInput(name) => input.decide(WHY, |port| is_device(name, port)),
            Self::PortOutput(name) => output.decide(WHY, |port| is_device(name, port)),
            Self::PortInputIs => input.decide(WHY, |port| !port.is_empty()),
            Self::PortOutputIs => output.decide(WHY, |port| !port.is_empty()),
            Self::PortBridged => {
                let input = input.decide(WHY, |port| !port.is_empty());
                input.and(|| output.decide(WHY, |port| !port.is_empty()))
            }
            // All others are decided above.
            _ => Decision::unknown("it is not understood"),
        }
    }
}

const STATUS_UNKNOWN: &str = "the connection's status is not known";

/// Whether a device is the named one: the name, or what stands before its `+`.
fn is_device(name: &str, device: &str) -> bool {
    match name.strip_suffix('+') {
        Some(beginning) => device.starts_with(beginning),
        None => device == name,
    }
}

/// Whether it is a fragment after the first.
fn fragment(subject: &Subject) -> Decision {
    Decision::of(
        subject.fragment,
        "whether it is a fragment is not known",
        |is| is,
    )
}

/// Whether it has a transport header that can be asked about.
fn whole(subject: &Subject) -> Decision {
    (subject.fragment != Some(true)).into()
}

fn module(name: &str) -> Decision {
    if is_plain(name) {
        return Decision::Yes;
    }
    Decision::Unknown(match name {
        "limit" => Undecided::because("limit depends on the packets before"),
        "hashlimit" => Undecided::because("hashlimit depends on the packets before"),
        "connlimit" => Undecided::because("connlimit depends on other connections"),
        "owner" => Undecided::because("owner depends on the sending process"),
        "rpfilter" => Undecided::because("rpfilter depends on the routes"),
        name => Undecided(format!("what -m {name} asks cannot be decided here").into()),
    })
}

fn undecided(words: &Words) -> Decision {
    Decision::Unknown(match &*words.name {
        "--rcheck" | "--update" | "--remove" => {
            Undecided::because("recent depends on the packets before")
        }
        "--every" => Undecided::because("statistic counts packets"),
        _ => Undecided(format!("{words} cannot be decided here").into()),
    })
}

fn port(subject: &Subject, port: Option<u16>, range: &Range<u16>) -> Decision {
    whole(subject).and(|| Decision::of(port, "the port is not known", |port| range.contains(port)))
}

fn multiport(subject: &Subject, end: PortEnd, ranges: &[Range<u16>]) -> Decision {
    let among = |port: Option<u16>| {
        Decision::of(port, "the port is not known", |port| {
            ranges.iter().any(|range| range.contains(port))
        })
    };
    whole(subject).and(|| match end {
        PortEnd::Source => among(subject.source_port),
        PortEnd::Destination => among(subject.destination_port),
        PortEnd::Either => among(subject.source_port).or(|| among(subject.destination_port)),
    })
}

fn icmp(subject: &Subject, wanted: Option<(u8, Option<u8>)>) -> Decision {
    whole(subject).and(|| {
        let is = subject
            .icmp
            .filter(|_| matches!(subject.protocol, ICMP | ICMP6));
        Decision::of(is, "the ICMP type is not known", |(kind, code)| {
            wanted.is_none_or(|(wanted_kind, wanted_code)| {
                kind == wanted_kind && wanted_code.is_none_or(|wanted| wanted == code)
            })
        })
    })
}

fn in_range(address: IpAddr, first: IpAddr, last: IpAddr) -> Decision {
    let same_family = address.is_ipv4() == first.is_ipv4();
    (same_family && first <= address && address <= last).into()
}

/// Whether the connection is in one of the states, bits of [`super::condition::STATES`].
fn state(subject: &Subject, wanted: u8) -> Decision {
    const EACH: [States; 5] = [
        States::INVALID,
        States::NEW,
        States::RELATED,
        States::ESTABLISHED,
        States::UNTRACKED,
    ];
    const SNAT: u8 = 1 << 5;
    const DNAT: u8 = 1 << 6;
    let states = EACH.iter().enumerate();
    let states = states
        .filter(|(bit, _)| wanted & (1 << bit) != 0)
        .fold(States::NONE, |all, (_, state)| all.or(*state));
    let connection = &subject.connection;
    let translated = [(SNAT, status::SRC_NAT), (DNAT, status::DST_NAT)]
        .into_iter()
        .filter(|(name, _)| wanted & name != 0)
        .fold(0, |all, (_, status)| all | status);
    let decision = connection.states.is_in(states);
    if translated == 0 {
        return decision;
    }
    // A packet without connection has no status.
    let tracked = !connection
        .states
        .is_in(States::INVALID.or(States::UNTRACKED));
    decision.or(|| tracked.and(|| connection.status.any_of(translated, STATUS_UNKNOWN)))
}

fn original(end: Option<(IpAddr, u16)>, test: impl FnOnce((IpAddr, u16)) -> bool) -> Decision {
    Decision::of(end, "the connection's original tuple is not known", test)
}

/// Whether the address is of one of the types, bits of [`super::condition::ADDRESS_TYPES`].
fn address_type(around: &dyn Surroundings, address: IpAddr, types: u16) -> Decision {
    let kind = around.address_kind(address);
    Decision::of(kind, "what kind the address is here is not known", |kind| {
        let bit = match kind {
            AddressKind::Unspecified => 0,
            AddressKind::Unicast => 1,
            AddressKind::Local => 2,
            AddressKind::Broadcast => 3,
            AddressKind::Multicast => 5,
        };
        types & (1 << bit) != 0
    })
}
