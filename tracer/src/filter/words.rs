//! The words of the language, those that it knows only to refuse, and what was probably meant.

use super::error::shown;

/// What a word of the language introduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `tcp`, `udp`, ..: the IP protocol number.
    Protocol(u8),
    Ip,
    Ip6,
    Source,
    Destination,
    Host,
    Net,
    Port,
    PortRange,
    Proto,
    Netns,
    Device,
    Pod,
    Service,
    Dropped,
}

const WORDS: [(&str, Word); 19] = [
    ("tcp", Word::Protocol(6)),
    ("udp", Word::Protocol(17)),
    ("sctp", Word::Protocol(132)),
    ("icmp", Word::Protocol(ICMP)),
    ("icmp6", Word::Protocol(ICMP6)),
    ("ip", Word::Ip),
    ("ip6", Word::Ip6),
    ("src", Word::Source),
    ("dst", Word::Destination),
    ("host", Word::Host),
    ("net", Word::Net),
    ("port", Word::Port),
    ("portrange", Word::PortRange),
    ("proto", Word::Proto),
    ("netns", Word::Netns),
    ("dev", Word::Device),
    ("pod", Word::Pod),
    ("service", Word::Service),
    ("dropped", Word::Dropped),
];

/// All words that a filter can have, besides names, addresses and numbers.
pub(super) fn vocabulary() -> impl Iterator<Item = &'static str> {
    let words = WORDS.into_iter().map(|(word, _)| word);
    words.chain(OPERATORS)
}

/// ICMP's protocol number.
pub(super) const ICMP: u8 = 1;
/// ICMPv6's protocol number.
pub(super) const ICMP6: u8 = 58;

/// Operators that are written as words.
pub(super) const OPERATORS: [&str; 3] = ["and", "or", "not"];

/// Protocols that only `proto` knows by name.
const MORE_PROTOCOLS: [(&str, u8); 6] = [
    ("igmp", 2),
    ("ipip", 4),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", ICMP6),
];

/// Ports by the names of the IANA registry: what a node's operator is likely to type.
const SERVICES: [(&str, u16); 17] = [
    ("bootpc", 68),
    ("bootps", 67),
    ("domain", 53),
    ("dns", 53),
    ("etcd-client", 2379),
    ("ftp", 21),
    ("http", 80),
    ("https", 443),
    ("imap", 143),
    ("ldap", 389),
    ("mysql", 3306),
    ("ntp", 123),
    ("postgresql", 5432),
    ("redis", 6379),
    ("smtp", 25),
    ("snmp", 161),
    ("ssh", 22),
];

/// Words of pcap-filter that this language does not have.
const PCAP_ONLY: [&str; 20] = [
    "arp",
    "broadcast",
    "decnet",
    "ether",
    "gateway",
    "geneve",
    "greater",
    "ifname",
    "inbound",
    "len",
    "less",
    "link",
    "mask",
    "mpls",
    "multicast",
    "on",
    "outbound",
    "protochain",
    "rarp",
    "vlan",
];

fn find<T: Copy>(table: &[(&str, T)], text: &str) -> Option<T> {
    table
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
}

/// The word of the language that the text is.
pub(super) fn word(text: &str) -> Option<Word> {
    find(&WORDS, text)
}

/// The word that stands for the protocol alone.
pub(super) fn protocol_word(number: u8) -> Option<&'static str> {
    WORDS
        .iter()
        .find(|(_, word)| *word == Word::Protocol(number))
        .map(|(text, _)| *text)
}

/// The protocol that `proto` knows by this name.
pub(super) fn protocol(name: &str) -> Option<u8> {
    match word(name) {
        Some(Word::Protocol(number)) => Some(number),
        _ => find(&MORE_PROTOCOLS, name),
    }
}

/// The port of that service.
pub(super) fn service(name: &str) -> Option<u16> {
    find(&SERVICES, name)
}

/// Whether the character can be part of a word.
pub(super) fn is_word_character(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, '(' | ')' | '!' | '&' | '|' | '"')
}

/// Whether the name can be written without quotes.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !OPERATORS.contains(&name) && name.chars().all(is_word_character)
}

/// What to say of `=`, `<` and their like.
pub(super) const NO_COMPARISONS: &str =
    "there are no comparisons; write the value after the word, as in `port 80`";

/// What to say of an operator that compares; `None` when the text is none.
pub(super) fn comparison(text: &str) -> Option<String> {
    matches!(text, "=" | "==" | "<" | ">" | "<=" | ">=").then(|| NO_COMPARISONS.to_owned())
}

/// What to say of a word that cannot stand where it does because it is of another language, needs
/// another word before it, or is misspelt; `None` when nothing is known of it.
pub(super) fn instead_of(text: &str) -> Option<String> {
    comparison(text)
        .or_else(|| pcap_only(text))
        .or_else(|| needs_a_word(text))
        .or_else(|| {
            let meant = probably_meant(text)?;
            Some(format!(
                "{} is not known; did you mean {meant}?",
                shown(text)
            ))
        })
}

/// Words and expressions of pcap-filter: `vlan`, `tcp[13]`, `len>100`.
fn pcap_only(text: &str) -> Option<String> {
    let base = text.split(['[', '=', '<', '>']).next()?;
    let known = PCAP_ONLY.contains(&base) || (base.len() < text.len() && word(base).is_some());
    known.then(|| {
        format!(
            "{} is of pcap-filter; this language has only host, net, port, portrange, proto, \
             netns, dev, pod, service and dropped",
            shown(text)
        )
    })
}

/// Values whose word is missing.
fn needs_a_word(text: &str) -> Option<String> {
    let before = if protocol(text).is_some() {
        "proto"
    } else if service(text).is_some() {
        "port"
    } else {
        return None;
    };
    Some(format!(
        "`{text}` needs `{before}` before it: `{before} {text}`"
    ))
}

/// The words of the language that are nearly this one, for a sentence: "`port` or `proto`".
fn probably_meant(text: &str) -> Option<String> {
    let all = WORDS.iter().map(|(word, _)| *word).chain(OPERATORS);
    let quoted: Vec<_> = similar(text, all)
        .iter()
        .map(|word| format!("`{word}`"))
        .collect();
    (!quoted.is_empty()).then(|| quoted.join(" or "))
}

/// Up to three of the candidates that differ little from the text, the nearest first.
pub(super) fn similar<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Vec<&'a str> {
    /// Longer ones are no typing errors, and comparing takes the product of the lengths.
    const LONGEST: usize = 64;
    if text.len() > LONGEST {
        return Vec::new();
    }
    let lower = text.to_lowercase();
    let allowed = match lower.chars().count() {
        0 | 1 => 0,
        2..=5 => 1,
        6..=11 => 2,
        _ => 3,
    };
    let mut found: Vec<_> = candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| {
            let distance = strsim::osa_distance(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= allowed && *candidate != text)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}
