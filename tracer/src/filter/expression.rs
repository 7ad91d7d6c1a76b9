//! The expression tree, and how it is written out.
//!
//! Chains of one operator are one node, so the depth of a tree is the depth of its nesting, which
//! the parser caps: the recursive walks over it are bounded. A qualified test such as
//! `tcp port 80` is the two tests `tcp and port 80`.

use std::{
    fmt::{self, Display, Formatter},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{service::ServiceTest, words};

/// An expression: tests joined by and, or, not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// All of them hold; at least two, none of them an `All`.
    All(Vec<Expression>),
    /// At least one of them holds; at least two, none of them an `Any`.
    Any(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    Test(Test),
}

/// One test of a packet at a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Address(Direction, Network),
    /// The port lies in `low..=high`.
    Port {
        direction: Direction,
        low: u16,
        high: u16,
    },
    /// The IP protocol number.
    Protocol(u8),
    Version(Version),
    Netns(String),
    /// The device's name, at most 15 bytes.
    Device(String),
    /// The pod, as `NAMESPACE/NAME`, is an end of the flow; with a direction, that end of the packet.
    Pod(Direction, String),
    /// The flow's client called the Service.
    Service(ServiceTest),
    /// A packet of the flow was dropped.
    Dropped,
}

/// Which end of the packet is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Either,
    Source,
    Destination,
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

impl Version {
    pub(super) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub(super) const fn number(self) -> u16 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A network: an address and how many of its bits count; the others are zero. A host is one with
/// all of them. An IPv4-mapped IPv6 network is held as the IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// The network of one address.
    pub(super) fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self {
            address,
            length: Version::of(address).bits(),
        }
    }

    /// The network that the address lies in; `None` when the prefix is longer than the address.
    pub(super) fn containing(address: IpAddr, length: u8) -> Option<Self> {
        if length > Version::of(address).bits() {
            return None;
        }
        // Mapped, and the prefix says so: the IPv4 network of the same addresses.
        if let (IpAddr::V6(v6), 96..) = (address, length)
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            return Self::containing(v4.into(), length - 96);
        }
        let address = match address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask))
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask))
            }
        };
        Some(Self { address, length })
    }

    pub(super) const fn address(self) -> IpAddr {
        self.address
    }

    pub(super) const fn length(self) -> u8 {
        self.length
    }

    pub(super) const fn version(self) -> Version {
        Version::of(self.address)
    }
}

impl Display for Network {
    /// `host A` or `net A/LENGTH`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.length == self.version().bits() {
            write!(f, "host {}", self.address)
        } else {
            write!(f, "net {}/{}", self.address, self.length)
        }
    }
}

impl Expression {
    /// Both hold; chains of `and` stay one node.
    pub(super) fn and(self, other: Self) -> Self {
        let mut parts = match self {
            Self::All(parts) => parts,
            one => vec![one],
        };
        match other {
            Self::All(more) => parts.extend(more),
            one => parts.push(one),
        }
        Self::All(parts)
    }

    /// One of both holds; chains of `or` stay one node.
    pub(super) fn or(self, other: Self) -> Self {
        let mut parts = match self {
            Self::Any(parts) => parts,
            one => vec![one],
        };
        match other {
            Self::Any(more) => parts.extend(more),
            one => parts.push(one),
        }
        Self::Any(parts)
    }

    /// Whether there is such a test.
    pub(super) fn has(&self, is: &impl Fn(&Test) -> bool) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.has(is)),
            Self::Not(inner) => inner.has(is),
            Self::Test(test) => is(test),
        }
    }

    /// Goes through all tests.
    pub(super) fn each(&self, look: &mut impl FnMut(&Test)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each(look)),
            Self::Not(inner) => inner.each(look),
            Self::Test(test) => look(test),
        }
    }

    pub(super) fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => joined(parts, " and ", f),
            Self::Any(parts) => joined(parts, " or ", f),
            Self::Not(inner) => {
                f.write_str("not ")?;
                grouped(inner, f)
            }
            Self::Test(test) => test.fmt(f),
        }
    }
}

fn joined(parts: &[Expression], operator: &str, f: &mut Formatter<'_>) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        grouped(part, f)?;
    }
    Ok(())
}

/// In parentheses wherever two operators meet, although `and` and `or` bind equally: so that
/// nobody has to know that.
fn grouped(expression: &Expression, f: &mut Formatter<'_>) -> fmt::Result {
    match expression {
        Expression::All(_) | Expression::Any(_) => write!(f, "({expression})"),
        Expression::Not(_) | Expression::Test(_) => expression.fmt(f),
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(direction, network) => write!(f, "{direction}{network}"),
            Self::Port {
                direction,
                low,
                high,
            } if low == high => {
                write!(f, "{direction}port {low}")
            }
            Self::Port {
                direction,
                low,
                high,
            } => {
                write!(f, "{direction}portrange {low}-{high}")
            }
            Self::Protocol(number) => match words::protocol_word(*number) {
                Some(word) => f.write_str(word),
                None => write!(f, "proto {number}"),
            },
            Self::Version(Version::V4) => f.write_str("ip"),
            Self::Version(Version::V6) => f.write_str("ip6"),
            Self::Netns(name) => write!(f, "netns {}", Name(name)),
            Self::Device(name) => write!(f, "dev {}", Name(name)),
            Self::Pod(direction, name) => write!(f, "{direction}pod {}", Name(name)),
            Self::Service(service) => write!(f, "service {}", Name(&service.to_string())),
            Self::Dropped => f.write_str("dropped"),
        }
    }
}

impl Display for Direction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Either => "",
            Self::Source => "src ",
            Self::Destination => "dst ",
        })
    }
}

/// A name, in quotes where it would otherwise be read as something else.
struct Name<'a>(&'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if words::is_plain_name(self.0) {
            return f.write_str(self.0);
        }
        let escaped = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"")
    }
}
