//! What a rule asks of a packet: each option that stands before its target.
//!
//! A rule holds when all of its conditions do. `-m NAME` is one of them, which is how options keep
//! the module that they are printed after, and how modules that cannot be decided here say so.
//! Displays as `iptables-save` prints it, with a blank before it.

use std::{fmt, net::IpAddr};

use super::{
    lexer::{put_quoted, put_string},
    protocol::Protocol,
    value::{Masked, Network, Range, put_span},
};

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// It has a `!` before it.
    pub inverted: bool,
    /// What is asked.
    pub test: Test,
}

/// What is asked of a packet. Options of modules are named as in `iptables-extensions(8)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// `-s`
    Source(Network),
    /// `-d`
    Destination(Network),
    /// `-i`: a name, or the beginning of one with a `+` behind it.
    Input(Box<str>),
    /// `-o`
    Output(Box<str>),
    /// `-p`
    Protocol(Protocol),
    /// `-f`: fragments after the first.
    Fragment,
    /// `-m`
    Module(Box<str>),
    /// tcp, udp, sctp: `--sport`
    SourcePort(Range<u16>),
    /// tcp, udp, sctp: `--dport`
    DestinationPort(Range<u16>),
    /// multiport: `--sports`, `--dports`, `--ports`
    Multiport(PortEnd, Box<[Range<u16>]>),
    /// tcp: `--tcp-flags`: of the first, exactly the second are set.
    TcpFlags(u8, u8),
    /// icmp, icmp6: type and code; `None` is `any`, or any code.
    Icmp(Option<(u8, Option<u8>)>, IcmpName),
    /// comment
    Comment(Box<str>),
    /// mark
    Mark(Masked),
    /// connmark
    ConnectionMark(Masked),
    /// conntrack `--ctstate`, state `--state`: bits of [`STATES`].
    State(StateName, u8),
    /// conntrack: `--ctstatus`: bits of [`STATUSES`]; none is `NONE`.
    Status(u8),
    /// conntrack: `--ctdir`: whether it is the original one.
    Direction(bool),
    /// conntrack: `--ctorigsrc`
    OriginalSource(Address),
    /// conntrack: `--ctorigdst`
    OriginalDestination(Address),
    /// conntrack: `--ctorigsrcport`
    OriginalSourcePort(Range<u16>),
    /// conntrack: `--ctorigdstport`
    OriginalDestinationPort(Range<u16>),
    /// addrtype: `--src-type`: bits of [`ADDRESS_TYPES`].
    SourceType(u16),
    /// addrtype: `--dst-type`
    DestinationType(u16),
    /// set: the name and the dimensions, `src,dst`.
    Set(Box<str>, Box<str>),
    /// statistic: how many of 2^31 packets.
    Probability(u32),
    /// nfacct: the counter's name.
    Account(Box<str>),
    /// physdev: `--physdev-in`
    PortInput(Box<str>),
    /// physdev: `--physdev-out`
    PortOutput(Box<str>),
    /// physdev: `--physdev-is-in`
    PortInputIs,
    /// physdev: `--physdev-is-out`
    PortOutputIs,
    /// physdev: `--physdev-is-bridged`
    PortBridged,
    /// length
    Length(Range<u16>),
    /// iprange: `--src-range`
    SourceRange(IpAddr, IpAddr),
    /// iprange: `--dst-range`
    DestinationRange(IpAddr, IpAddr),
    /// An option that changes nothing of what can be said of its module: `--name`, `--limit`.
    Parameter(Words),
    /// An option that is not understood, or that cannot be decided here.
    Undecided(Words),
}

/// Which ports multiport looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortEnd {
    /// `--sports`
    Source,
    /// `--dports`
    Destination,
    /// `--ports`
    Either,
}

/// The option's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpName {
    /// `--icmp-type`
    Icmp,
    /// `--icmpv6-type`
    Icmp6,
}

/// The option's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    /// conntrack's `--ctstate`
    Conntrack,
    /// state's `--state`
    State,
}

/// An address that conntrack's options print without `/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub Network);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.host() {
            Some(address) => write!(f, "{address}"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The names of conntrack's states, as their order in lists is.
pub const STATES: [&str; 7] = [
    "INVALID",
    "NEW",
    "RELATED",
    "ESTABLISHED",
    "UNTRACKED",
    "SNAT",
    "DNAT",
];

/// The names of the bits of a connection's status, from the lowest.
pub const STATUSES: [&str; 4] = ["EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED"];

/// The names of addrtype's kinds, in the order of the kernel's `RTN_` numbers.
pub const ADDRESS_TYPES: [&str; 12] = [
    "UNSPEC",
    "UNICAST",
    "LOCAL",
    "BROADCAST",
    "ANYCAST",
    "MULTICAST",
    "BLACKHOLE",
    "UNREACHABLE",
    "PROHIBIT",
    "THROW",
    "NAT",
    "XRESOLVE",
];

/// The names of TCP's flags, from the lowest bit.
pub const TCP_FLAGS: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];

/// An option with its arguments, kept as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// `--limit`
    pub name: Box<str>,
    /// The arguments, and whether they had quotes.
    pub arguments: Box<[(Box<str>, bool)]>,
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (argument, quoted) in &self.arguments {
            f.write_str(" ")?;
            if *quoted || argument.is_empty() {
                put_quoted(f, argument)?;
            } else {
                f.write_str(argument)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.inverted { " ! " } else { " " })?;
        write!(f, "{}", self.test)
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(network) => write!(f, "-s {network}"),
            Self::Destination(network) => write!(f, "-d {network}"),
            Self::Input(name) => write!(f, "-i {name}"),
            Self::Output(name) => write!(f, "-o {name}"),
            Self::Protocol(protocol) => write!(f, "-p {protocol}"),
            Self::Fragment => f.write_str("-f"),
            Self::Module(name) => write!(f, "-m {name}"),
            Self::SourcePort(ports) => write!(f, "--sport {ports}"),
            Self::DestinationPort(ports) => write!(f, "--dport {ports}"),
            Self::Multiport(end, ports) => multiport(f, *end, ports),
            Self::TcpFlags(mask, set) => {
                write!(f, "--tcp-flags {} {}", List(*mask), List(*set))
            }
            Self::Icmp(kind, name) => icmp(f, *kind, *name),
            Self::Comment(text) => {
                f.write_str("--comment")?;
                put_string(f, text)
            }
            Self::Mark(mark) | Self::ConnectionMark(mark) => write!(f, "--mark {mark}"),
            Self::SourceRange(first, last) => range(f, "--src-range", *first, *last),
            Self::DestinationRange(first, last) => range(f, "--dst-range", *first, *last),
            Self::Set(name, dimensions) => write!(f, "--match-set {name} {dimensions}"),
            Self::Probability(share) => {
                write!(f, "--probability {:.11}", f64::from(*share) / PROBABILITY)
            }
            // Two blanks are what the tool prints.
            Self::Account(name) => write!(f, "--nfacct-name  {name}"),
            Self::Length(length) => write!(f, "--length {length}"),
            Self::Parameter(words) | Self::Undecided(words) => write!(f, "{words}"),
            other => other.fmt_state(f),
        }
    }
}

/// What a probability is of.
pub(super) const PROBABILITY: f64 = 2_147_483_648.0;

impl Test {
    /// Options that ask for where an address is, a connection's state or a bridge's port.
    fn fmt_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(StateName::Conntrack, states) => names(f, "--ctstate", *states, &STATES),
            Self::State(StateName::State, states) => names(f, "--state", *states, &STATES),
            Self::Status(0) => f.write_str("--ctstatus NONE"),
            Self::Status(statuses) => names(f, "--ctstatus", *statuses, &STATUSES),
            Self::Direction(true) => f.write_str("--ctdir ORIGINAL"),
            Self::Direction(false) => f.write_str("--ctdir REPLY"),
            Self::OriginalSource(address) => write!(f, "--ctorigsrc {address}"),
            Self::OriginalDestination(address) => write!(f, "--ctorigdst {address}"),
            Self::OriginalSourcePort(ports) => write!(f, "--ctorigsrcport {ports}"),
            Self::OriginalDestinationPort(ports) => write!(f, "--ctorigdstport {ports}"),
            Self::SourceType(types) => names(f, "--src-type", *types, &ADDRESS_TYPES),
            Self::DestinationType(types) => names(f, "--dst-type", *types, &ADDRESS_TYPES),
            Self::PortInput(name) => write!(f, "--physdev-in {name}"),
            Self::PortOutput(name) => write!(f, "--physdev-out {name}"),
            Self::PortInputIs => f.write_str("--physdev-is-in"),
            Self::PortOutputIs => f.write_str("--physdev-is-out"),
            Self::PortBridged => f.write_str("--physdev-is-bridged"),
            // All others are written above.
            _ => Ok(()),
        }
    }
}

fn multiport(f: &mut fmt::Formatter<'_>, end: PortEnd, ports: &[Range<u16>]) -> fmt::Result {
    f.write_str(match end {
        PortEnd::Source => "--sports",
        PortEnd::Destination => "--dports",
        PortEnd::Either => "--ports",
    })?;
    for (n, ports) in ports.iter().enumerate() {
        write!(f, "{}{ports}", if n == 0 { " " } else { "," })?;
    }
    Ok(())
}

fn icmp(f: &mut fmt::Formatter<'_>, kind: Option<(u8, Option<u8>)>, name: IcmpName) -> fmt::Result {
    f.write_str(match name {
        IcmpName::Icmp => "--icmp-type ",
        IcmpName::Icmp6 => "--icmpv6-type ",
    })?;
    match kind {
        None => f.write_str("any"),
        Some((kind, None)) => write!(f, "{kind}"),
        Some((kind, Some(code))) => write!(f, "{kind}/{code}"),
    }
}

fn range(f: &mut fmt::Formatter<'_>, name: &str, first: IpAddr, last: IpAddr) -> fmt::Result {
    write!(f, "{name} ")?;
    put_span(f, first, last)
}

/// Writes the names of the bits that are set.
fn names(
    f: &mut fmt::Formatter<'_>,
    option: &str,
    bits: impl Into<u32>,
    names: &[&str],
) -> fmt::Result {
    let bits = bits.into();
    f.write_str(option)?;
    let set = names
        .iter()
        .enumerate()
        .filter(|(n, _)| bits & (1 << n) != 0);
    for (n, (_, name)) in set.enumerate() {
        write!(f, "{}{name}", if n == 0 { " " } else { "," })?;
    }
    Ok(())
}

/// TCP flags.
struct List(u8);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = TCP_FLAGS.iter().enumerate();
        let set = set.filter(|(n, _)| self.0 & (1 << n) != 0);
        let mut any = false;
        for (_, name) in set {
            write!(f, "{}{name}", if any { "," } else { "" })?;
            any = true;
        }
        if any { Ok(()) } else { f.write_str("NONE") }
    }
}
