//! ipset's sets: what `-m set --match-set` of a rule asks.
//!
//! Calico and kube-router keep in sets whom a NetworkPolicy lets in, kube-proxy in IPVS mode where
//! Services are. The kernel is asked for the sets that a namespace's rules refer to ([`live`]); here they
//! have the text that `ipset save` prints, which is also how they stand in recordings. An element's text
//! is kept as it is; what it means is taken from it by the set's type.
//!
//! Limits: whether a packet has a hardware address is never known. An element that has expired, or that a
//! packet has added, is noticed when the set is read again.

mod evaluate;
pub mod live;
mod parse;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

pub use parse::{LONGEST, ParseError, Refusal};

use super::decision::{Decision, Undecided};

/// The sets that a namespace's rules refer to. `Display` writes what `ipset save` prints.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sets {
    sets: Vec<Set>,
    by_name: HashMap<Box<str>, usize>,
}

/// A set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    name: Box<str>,
    /// As `hash:ip,port`.
    kind: Box<str>,
    dimensions: Vec<Dimension>,
    /// The words behind the type.
    options: Vec<Box<str>>,
    elements: Vec<Element>,
    index: Index,
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Element {
    /// As it is printed: `10.0.0.1,tcp:80`.
    text: Box<str>,
    /// One for each dimension of its set; none where it is not understood.
    parts: Box<[Part]>,
    /// The words behind it.
    options: Box<[Box<str>]>,
    /// What it has is not in the set.
    nomatch: bool,
}

/// What a dimension of a set is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dimension {
    Address,
    Port,
    Mac,
    Mark,
    Device,
    Set,
}

/// One dimension of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Net(IpAddr, u8),
    /// The protocol, where it has one; ICMP's type and code as one number.
    Port(Option<u8>, u16),
    Mac,
    Mark(u32),
    Device {
        name: Box<str>,
        /// Of a bridge's port.
        port: bool,
    },
    Set(Box<str>),
}

/// The elements by their first address, for those that have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Index {
    by_net: HashMap<(IpAddr, u8), Vec<u32>>,
    /// The lengths of prefixes there are.
    lengths: Vec<u8>,
    /// The others.
    rest: Vec<u32>,
}

impl Sets {
    /// Takes what `ipset save` prints.
    ///
    /// # Errors
    /// The line that is not understood.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::sets(text).map(Self::from)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Set] {
        &self.sets
    }

    /// How many elements they have together.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.sets.iter().map(Set::elements).sum()
    }

    fn named(&self, name: &str) -> Option<&Set> {
        self.sets.get(*self.by_name.get(name)?)
    }

    /// The names of the sets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().map(|set| &*set.name)
    }
}

impl From<Vec<Set>> for Sets {
    fn from(sets: Vec<Set>) -> Self {
        let names = sets.iter().enumerate();
        let by_name = names.map(|(at, set)| (set.name.clone(), at)).collect();
        Self { sets, by_name }
    }
}

impl PartialEq for Sets {
    fn eq(&self, other: &Self) -> bool {
        self.sets == other.sets
    }
}

impl Eq for Sets {}

impl TryFrom<String> for Sets {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::parse(&text)
    }
}

impl From<Sets> for String {
    fn from(sets: Sets) -> Self {
        sets.to_string()
    }
}

impl fmt::Display for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for set in &self.sets {
            write!(f, "create {} {}", Word(&set.name), Word(&set.kind))?;
            words(&set.options, false, f)?;
            for element in &set.elements {
                write!(f, "add {} {}", Word(&set.name), Word(&element.text))?;
                words(&element.options, true, f)?;
            }
        }
        Ok(())
    }
}

/// The words behind a set or an element, whose comment stands in quotes whatever it is.
fn words(words: &[Box<str>], comments: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut quoted = false;
    for word in words {
        if quoted {
            write!(f, " \"{word}\"")?;
        } else {
            write!(f, " {}", Word(word))?;
        }
        quoted = comments && &**word == "comment" && !quoted;
    }
    f.write_str("\n")
}

/// A word, in quotes where it could not be read otherwise.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() || self.0.contains(parse::is_blank) {
            write!(f, "\"{}\"", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

impl Index {
    fn of(elements: &[Element]) -> Self {
        let mut index = Self::default();
        for (at, element) in elements.iter().enumerate() {
            let Ok(at) = u32::try_from(at) else { break };
            match element.parts.first() {
                Some(&Part::Net(address, length)) => {
                    index.by_net.entry((address, length)).or_default().push(at);
                    if !index.lengths.contains(&length) {
                        index.lengths.push(length);
                    }
                }
                _ => index.rest.push(at),
            }
        }
        index.lengths.sort_unstable_by(|a, b| b.cmp(a));
        index
    }
}

impl Set {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type, as `hash:ip,port`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// How many elements it has.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.elements.len()
    }
}

/// What is said of a set of which nothing is known.
pub(super) fn unknown(name: &str) -> Decision {
    let why = format!("what the set {name} has is not known");
    Decision::Unknown(Undecided(why.into()))
}
