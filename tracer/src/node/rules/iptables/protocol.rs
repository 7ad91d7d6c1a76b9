//! Transport protocols by name and number.

use std::fmt;

use super::value::decimal;

/// Names of protocols with their numbers, as `iptables-save` and `/etc/protocols` have them.
const PROTOCOLS: [(&str, u8); 24] = [
    ("all", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("ospf", 89),
    ("ipip", 94),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("mh", 135),
    ("udplite", 136),
];

/// A transport protocol, with the name that it was given by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A number; 0 means all.
    Number(u8),
    /// A name: its number, where that is known here. The system that it was printed on knows more
    /// names.
    Name(Box<str>, Option<u8>),
}

impl Protocol {
    /// The number, where it is known; 0 means all.
    #[must_use]
    pub const fn number(&self) -> Option<u8> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(_, number) => *number,
        }
    }

    /// Reads a number or a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return decimal(text).map(Self::Number);
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "+-./_".contains(c);
        let known = PROTOCOLS
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name));
        (!text.is_empty() && text.chars().all(fits))
            .then(|| Self::Name(text.into(), known.map(|(_, number)| *number)))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, _) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_a_number_or_a_name() {
        assert_eq!(Protocol::parse("47"), Some(Protocol::Number(47)));
        assert_eq!(Protocol::parse("TCP").unwrap().number(), Some(6));
        assert_eq!(Protocol::parse("xtp").unwrap().number(), None);
        for text in ["ipv6-icmp", "all", "200", "xtp"] {
            assert_eq!(Protocol::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "300", "6x", "a b"] {
            assert_eq!(Protocol::parse(text), None, "{text}");
        }
    }
}
