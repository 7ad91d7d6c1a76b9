//! Conditions out of words.
//!
//! Options that are not understood are kept as they are and cannot be decided; only what every rule
//! has (addresses, devices, protocols) is refused when it makes no sense.

use std::str::FromStr;

use super::{
    condition::{
        ADDRESS_TYPES, Address, IcmpName, PROBABILITY, PortEnd, STATES, STATUSES, StateName,
        TCP_FLAGS, Test, Words,
    },
    lexer::Word,
    value::{Masked, Network, Range, decimal, span},
};

/// Modules that by themselves ask nothing: their options do, and are all understood or marked.
const PLAIN: [&str; 22] = [
    "addrtype",
    "comment",
    "connmark",
    "conntrack",
    "icmp",
    "icmp6",
    "iprange",
    "length",
    "mark",
    "multiport",
    "nfacct",
    "physdev",
    "recent",
    "sctp",
    "set",
    "standard",
    "state",
    "statistic",
    "tcp",
    "udp",
    "udplite",
    "dccp",
];

/// Whether a module by itself asks nothing.
pub(super) fn is_plain(module: &str) -> bool {
    PLAIN.contains(&module)
}

/// Options of plain modules that hold for every packet.
const PARAMETERS: [(&str, &str); 10] = [
    ("statistic", "--mode"),
    ("statistic", "--packet"),
    ("recent", "--set"),
    ("recent", "--name"),
    ("recent", "--mask"),
    ("recent", "--rsource"),
    ("recent", "--rdest"),
    ("recent", "--seconds"),
    ("recent", "--reap"),
    ("recent", "--hitcount"),
];

/// The condition that an option of a module is.
pub(super) fn option(module: &str, name: &str, arguments: &[Word<'_>]) -> Test {
    understood(module, name, arguments).unwrap_or_else(|| {
        let words = kept(name, arguments);
        // Where the module cannot be decided anyway, one reason is enough.
        if !is_plain(module) || PARAMETERS.contains(&(module, name)) {
            Test::Parameter(words)
        } else {
            Test::Undecided(words)
        }
    })
}

/// An option as it is.
pub(super) fn kept(name: &str, arguments: &[Word<'_>]) -> Words {
    let arguments = arguments.iter();
    Words {
        name: name.into(),
        arguments: arguments
            .map(|word| (Box::from(&*word.text), word.quoted))
            .collect(),
    }
}

fn understood(module: &str, name: &str, arguments: &[Word<'_>]) -> Option<Test> {
    // Of what is understood, only comments are printed with quotes.
    if name != "--comment" && arguments.iter().any(|word| word.quoted) {
        return None;
    }
    match arguments {
        [] => flag(module, name),
        [one] => with_one(module, name, &one.text),
        [one, two] => with_two(module, name, &one.text, &two.text),
        _ => None,
    }
}

fn flag(module: &str, name: &str) -> Option<Test> {
    Some(match (module, name) {
        ("physdev", "--physdev-is-in") => Test::PortInputIs,
        ("physdev", "--physdev-is-out") => Test::PortOutputIs,
        ("physdev", "--physdev-is-bridged") => Test::PortBridged,
        ("tcp", "--syn") => Test::TcpFlags(SYN | RST | ACK | FIN, SYN),
        _ => return None,
    })
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

fn with_one(module: &str, name: &str, argument: &str) -> Option<Test> {
    let ports = || Range::parse(argument, 0, u16::MAX);
    Some(match (module, name) {
        ("tcp" | "udp" | "sctp" | "udplite" | "dccp", "--sport" | "--source-port") => {
            Test::SourcePort(ports()?)
        }
        ("tcp" | "udp" | "sctp" | "udplite" | "dccp", "--dport" | "--destination-port") => {
            Test::DestinationPort(ports()?)
        }
        ("multiport", "--sports" | "--source-ports") => multiport(PortEnd::Source, argument)?,
        ("multiport", "--dports" | "--destination-ports") => {
            multiport(PortEnd::Destination, argument)?
        }
        ("multiport", "--ports" | "--port") => multiport(PortEnd::Either, argument)?,
        ("icmp", "--icmp-type") => Test::Icmp(icmp(argument)?, IcmpName::Icmp),
        ("icmp6", "--icmpv6-type") => Test::Icmp(icmp(argument)?, IcmpName::Icmp6),
        ("comment", "--comment") => Test::Comment(argument.into()),
        ("mark", "--mark") => Test::Mark(Masked::parse(argument)?),
        ("connmark", "--mark") => Test::ConnectionMark(Masked::parse(argument)?),
        ("statistic", "--probability") => probability(argument)?,
        ("nfacct", "--nfacct-name") => Test::Account(argument.into()),
        ("length", "--length") => Test::Length(ports()?),
        ("iprange", "--src-range") => {
            let (first, last) = span(argument, |text| text.parse().ok())?;
            Test::SourceRange(first, last)
        }
        ("iprange", "--dst-range") => {
            let (first, last) = span(argument, |text| text.parse().ok())?;
            Test::DestinationRange(first, last)
        }
        ("physdev", "--physdev-in") => Test::PortInput(argument.into()),
        ("physdev", "--physdev-out") => Test::PortOutput(argument.into()),
        ("addrtype", "--src-type") => Test::SourceType(bits(argument, &ADDRESS_TYPES)?),
        ("addrtype", "--dst-type") => Test::DestinationType(bits(argument, &ADDRESS_TYPES)?),
        ("state", "--state") => Test::State(StateName::State, bits(argument, &STATES)?),
        ("conntrack", option) => conntrack(option, argument)?,
        _ => return None,
    })
}

fn with_two(module: &str, name: &str, first: &str, second: &str) -> Option<Test> {
    Some(match (module, name) {
        ("set", "--match-set") => Test::Set(first.into(), second.into()),
        ("tcp", "--tcp-flags") => Test::TcpFlags(tcp_flags(first)?, tcp_flags(second)?),
        _ => return None,
    })
}

fn conntrack(name: &str, argument: &str) -> Option<Test> {
    let address = || Network::parse(argument).map(Address);
    let ports = || Range::parse(argument, 0, u16::MAX);
    Some(match name {
        "--ctstate" => Test::State(StateName::Conntrack, bits(argument, &STATES)?),
        "--ctstatus" if argument == "NONE" => Test::Status(0),
        "--ctstatus" => Test::Status(bits(argument, &STATUSES)?),
        "--ctdir" if argument == "ORIGINAL" => Test::Direction(true),
        "--ctdir" if argument == "REPLY" => Test::Direction(false),
        "--ctorigsrc" => Test::OriginalSource(address()?),
        "--ctorigdst" => Test::OriginalDestination(address()?),
        "--ctorigsrcport" => Test::OriginalSourcePort(ports()?),
        "--ctorigdstport" => Test::OriginalDestinationPort(ports()?),
        _ => return None,
    })
}

fn multiport(end: PortEnd, argument: &str) -> Option<Test> {
    let ports = argument.split(',');
    let ports: Option<Box<[_]>> = ports
        .map(|range| Range::parse(range, 0, u16::MAX))
        .collect();
    Some(Test::Multiport(end, ports?))
}

/// `any`, a type, or a type and a code.
fn icmp(argument: &str) -> Option<Option<(u8, Option<u8>)>> {
    if argument == "any" {
        return Some(None);
    }
    let (kind, code) = match argument.split_once('/') {
        Some((kind, code)) => (kind, Some(decimal(code)?)),
        None => (argument, None),
    };
    Some(Some((decimal(kind)?, code)))
}

/// A share from 0 to 1, kept in the kernel's unit: the tool prints eleven digits of it.
fn probability(argument: &str) -> Option<Test> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let share = argument
        .chars()
        .all(digits)
        .then(|| f64::from_str(argument));
    let share = share?.ok().filter(|share| (0.0..=1.0).contains(share))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is at least 0 and at most 2^31"
    )]
    let share = (share * PROBABILITY).round() as u32;
    Some(Test::Probability(share))
}

/// The bits that a list of names stands for.
fn bits<T: TryFrom<u32>>(list: &str, names: &[&str]) -> Option<T> {
    let mut bits = 0u32;
    for name in list.split(',') {
        bits |= 1 << names.iter().position(|known| *known == name)?;
    }
    T::try_from(bits).ok()
}

fn tcp_flags(list: &str) -> Option<u8> {
    match list {
        "NONE" => Some(0),
        "ALL" => Some(0x3f),
        list => bits(list, &TCP_FLAGS),
    }
}
