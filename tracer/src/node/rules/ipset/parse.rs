//! What `ipset save` prints, taken apart.
//!
//! A line makes a set or adds an element to one that was made before. Words are separated by blanks; one
//! may stand in quotes, within which there are no others. A type that is not known is kept as it is.

use std::{collections::HashMap, net::IpAddr};

use super::{Dimension, Element, Index, Part, Set};
use crate::node::link::masked;

/// The longest text that is taken, in bytes: a million elements.
pub const LONGEST: usize = 64 << 20;
/// How much of a line an error repeats, in characters.
const SHOWN: usize = 80;

/// A text that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {refusal}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub refusal: Refusal,
}

/// What is wrong with a line. Words are as they came, not safe to print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a line that such a text has.
    #[error("`{0}` is no line of ipset save")]
    Line(String),
    /// A quote within a word, or that is not closed.
    #[error("a quote is not where one can be")]
    Quote,
    /// A set of a name that there is already.
    #[error("the set `{0}` is made for the second time")]
    Twice(String),
    /// An element of a set that was not made.
    #[error("there is no set `{0}` here")]
    NoSet(String),
    /// The text is longer than [`LONGEST`].
    #[error("there is too much of it")]
    TooLong,
}

/// What separates words.
pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

pub(super) fn sets(text: &str) -> Result<Vec<Set>, ParseError> {
    let at = |line: usize| move |refusal| ParseError { line, refusal };
    if text.len() > LONGEST {
        return Err(at(1)(Refusal::TooLong));
    }
    let mut sets: Vec<Set> = Vec::new();
    let mut by_name: HashMap<Box<str>, usize> = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let error = at(number + 1);
        let words = words(line).map_err(error)?;
        match &words[..] {
            [] => {}
            ["create", name, kind, options @ ..] => {
                if by_name.insert((*name).into(), sets.len()).is_some() {
                    return Err(error(Refusal::Twice(shown(name))));
                }
                sets.push(Set {
                    name: (*name).into(),
                    kind: (*kind).into(),
                    dimensions: dimensions(kind),
                    options: options.iter().copied().map(Into::into).collect(),
                    elements: Vec::new(),
                    index: Index::default(),
                });
            }
            ["add", name, element, options @ ..] => {
                let set = by_name.get(*name).and_then(|at| sets.get_mut(*at));
                let set = set.ok_or_else(|| error(Refusal::NoSet(shown(name))))?;
                set.elements.push(self::element(set, element, options));
            }
            _ => return Err(error(Refusal::Line(shown(line)))),
        }
    }
    for set in &mut sets {
        set.elements.shrink_to_fit();
        set.index = Index::of(&set.elements);
    }
    Ok(sets)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn words(line: &str) -> Result<Vec<&str>, Refusal> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(Refusal::Quote)?,
            None => rest.split_at(rest.find(is_blank).unwrap_or(rest.len())),
        };
        let ends = after.is_empty() || after.starts_with(is_blank);
        if !ends || word.contains('"') {
            return Err(Refusal::Quote);
        }
        words.push(word);
        rest = after.trim_start_matches(is_blank);
    }
    Ok(words)
}

/// The dimensions of a type; none where it is not known.
fn dimensions(kind: &str) -> Vec<Dimension> {
    let Some(("hash" | "bitmap" | "list", names)) = kind.split_once(':') else {
        return Vec::new();
    };
    let dimension = |name| {
        Some(match name {
            "ip" | "net" => Dimension::Address,
            "port" => Dimension::Port,
            "mac" => Dimension::Mac,
            "mark" => Dimension::Mark,
            "iface" => Dimension::Device,
            "set" => Dimension::Set,
            _ => return None,
        })
    };
    let dimensions: Option<Vec<_>> = names.split(',').map(dimension).collect();
    dimensions.unwrap_or_default()
}

fn element(set: &Set, text: &str, options: &[&str]) -> Element {
    let parts: Option<Vec<Part>> = if matches!(set.dimensions[..], [Dimension::Set]) {
        Some(vec![Part::Set(text.into())])
    } else {
        let texts: Vec<&str> = text.split(',').collect();
        let complete = texts.len() == set.dimensions.len();
        let parts = || texts.iter().zip(&set.dimensions).map(part).collect();
        complete.then(parts).flatten()
    };
    // A comment may say anything.
    let mut words = options.iter().scan(false, |comment, word| {
        let said = std::mem::replace(comment, *word == "comment");
        Some((!said).then_some(*word))
    });
    Element {
        text: text.into(),
        parts: parts.unwrap_or_default().into_boxed_slice(),
        nomatch: words.any(|word| word == Some("nomatch")),
        options: options.iter().copied().map(Into::into).collect(),
    }
}

fn part((text, dimension): (&&str, &Dimension)) -> Option<Part> {
    Some(match dimension {
        Dimension::Address => {
            let (address, length) = match text.split_once('/') {
                Some((address, length)) => (address, Some(length.parse().ok()?)),
                None => (*text, None),
            };
            let address: IpAddr = address.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let length = length.unwrap_or(bits);
            (length <= bits).then(|| Part::Net(masked(address, length), length))?
        }
        Dimension::Port => match text.split_once(':') {
            Some((protocol, port)) => {
                let protocol = self::protocol(protocol)?;
                Part::Port(Some(protocol), self::port(protocol, port)?)
            }
            None => Part::Port(None, text.parse().ok()?),
        },
        Dimension::Mac => Part::Mac,
        Dimension::Mark => Part::Mark(match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => text.parse().ok()?,
        }),
        Dimension::Device => {
            let name = text.strip_prefix("physdev:");
            Part::Device {
                name: name.unwrap_or(text).into(),
                port: name.is_some(),
            }
        }
        Dimension::Set => Part::Set((*text).into()),
    })
}

const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// As `ipset` names them.
fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => ICMP,
        "tcp" => 6,
        "udp" => 17,
        "icmpv6" | "ipv6-icmp" => ICMP6,
        "sctp" => 132,
        "udplite" => 136,
        number => number.parse().ok()?,
    })
}

fn port(protocol: u8, text: &str) -> Option<u16> {
    if ![ICMP, ICMP6].contains(&protocol) {
        return text.parse().ok();
    }
    if let Some((kind, code)) = text.split_once('/') {
        let (kind, code): (u8, u8) = (kind.parse().ok()?, code.parse().ok()?);
        return Some(u16::from_be_bytes([kind, code]));
    }
    Some(match (protocol, text) {
        (ICMP, "echo-reply" | "pong") => 0,
        (ICMP, "echo-request" | "ping") => 8 << 8,
        (ICMP6, "echo-request" | "ping") => 128 << 8,
        (ICMP6, "echo-reply" | "pong") => 129 << 8,
        // Other names are left to who reads them.
        _ => text.parse().ok()?,
    })
}
