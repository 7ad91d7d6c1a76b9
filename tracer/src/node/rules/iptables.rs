//! The rules of iptables, as `iptables-save` prints them: legacy and nft, IPv4 and IPv6.
//!
//! The text is what is read and what is kept (a recording carries it), because `iptables-save` is the
//! only interface that both back ends share and the only one that shows comments, which nft's own
//! listing hides. It is parsed into typed conditions, printed back from them, and evaluated.
//!
//! A text is accepted whole or refused with the line. What a rule asks by a module or option that is
//! not known here is kept as it is and cannot be decided; a rule never matches or fails by not being
//! understood. Time and memory are linear in the text.

pub mod condition;
mod decide;
mod effect;
mod error;
mod kube;
pub mod legacy;
mod lexer;
pub mod live;
mod parse;
mod print;
pub mod protocol;
mod read;
mod ruleset;
pub mod target;
#[cfg(test)]
mod tests;
pub mod value;

use serde::{Deserialize, Serialize};

pub use error::{ParseError, Refusal};
pub use ruleset::RuleSet;

use self::{
    condition::{Condition, Test},
    target::Target,
};
pub use super::subject::Family;

/// A rule, or the policy of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    table: usize,
    chain: usize,
    /// `None`: the policy.
    rule: Option<usize>,
}

/// The rules of one family and back end in one namespace.
///
/// Saved as the text of `iptables-save`, and read back by parsing that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tables {
    /// The tables, in the text's order.
    pub tables: Vec<Table>,
    /// Comment lines after the last table.
    pub ending: Vec<Box<str>>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Comment lines before it.
    pub heading: Vec<Box<str>>,
    /// Its name.
    pub name: Box<str>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: Box<str>,
    /// What happens at its end, for the chains that hooks call.
    pub policy: Option<Policy>,
    /// How much came to the policy; always 0 for other chains.
    pub counters: Option<Counters>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// What happens at the end of a chain that a hook calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Packets go on.
    Accept,
    /// They do not.
    Drop,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it matched, with `iptables-save -c`.
    pub counters: Option<Counters>,
    /// What it asks.
    pub conditions: Box<[Condition]>,
    /// What it does; `None`: it only counts.
    pub target: Option<Target>,
}

impl Rule {
    /// Its comment.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.conditions.iter().find_map(|condition| {
            if let Test::Comment(text) = &condition.test {
                Some(&**text)
            } else {
                None
            }
        })
    }
}

impl Table {
    /// The number of the chain with a name.
    #[must_use]
    pub fn chain(&self, name: &str) -> Option<usize> {
        self.chains.iter().position(|chain| &*chain.name == name)
    }
}

impl Tables {
    /// The table with a name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| &*table.name == name)
    }

    /// How many rules there are.
    #[must_use]
    pub fn rules(&self) -> usize {
        let chains = self.tables.iter().flat_map(|table| &table.chains);
        chains.map(|chain| chain.rules.len()).sum()
    }

    /// The names of the ipsets that rules ask for, each as often.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        let chains = self.tables.iter().flat_map(|table| &table.chains);
        let rules = chains.flat_map(|chain| &chain.rules);
        let conditions = rules.flat_map(|rule| &rule.conditions);
        conditions.filter_map(|condition| match &condition.test {
            Test::Set(name, _) => Some(&**name),
            _ => None,
        })
    }
}

impl TryFrom<String> for Tables {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::parse(&text)
    }
}

impl From<Tables> for String {
    fn from(tables: Tables) -> Self {
        tables.to_string()
    }
}
