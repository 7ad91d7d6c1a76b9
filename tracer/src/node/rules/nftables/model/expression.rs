//! Values in rules, where they come from, and the elements of sets.

use super::super::json::{Json, Members};

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has passed this base chain.
    Accept,
    /// It is dropped.
    Drop,
    /// The next rule.
    Continue,
    /// Back to where the chain was jumped to from.
    Return,
    /// A chain, and back.
    Jump(Box<str>),
    /// A chain, and back to where this chain would return to.
    Goto(Box<str>),
}

/// A value, or where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// A number.
    Number(u64),
    /// An address, a name, ...
    Text(Box<str>),
    /// Whether something is there.
    Bool(bool),
    /// `@name`: a set or map of the table.
    Reference(Box<str>),
    /// Flags, any of them.
    List(Vec<Expression>),
    /// Values one after the other.
    Concat(Vec<Expression>),
    /// A set, or the pairs of a map, without a name.
    Set(Box<Elements>),
    /// A value looked up by a key of the packet.
    Map(Box<(Expression, Expression)>),
    /// A network.
    Prefix(Box<Expression>, u8),
    /// From the first to the second.
    Range(Box<(Expression, Expression)>),
    /// A field of the packet.
    Payload {
        /// `ip`, `tcp`, `th`, ...
        protocol: Box<str>,
        /// `saddr`, `dport`, ...
        field: Box<str>,
    },
    /// What the kernel knows of the packet.
    Meta(Box<str>),
    /// What the kernel knows of the connection.
    Ct {
        /// `state`, `mark`, `ip daddr`, ...
        key: Box<str>,
        /// `original` or `reply`.
        direction: Option<Box<str>>,
        /// `ip` or `ip6`.
        family: Option<Box<str>>,
    },
    /// What the routing tables say.
    Fib {
        /// `type`, `oif`, `oifname`
        result: Box<str>,
        /// `saddr`, `daddr`, `iif`, ...: a list or one name.
        flags: Option<Json>,
    },
    /// A number from a generator.
    Numgen {
        /// `random` or `inc`.
        mode: Box<str>,
        /// How many numbers.
        modulus: u64,
        /// The first; `None` where the listing has none.
        offset: Option<u64>,
    },
    /// `&`, `|`, `^`, `<<`, `>>` of two numbers, or of more from left to right.
    Binary(BinaryOperator, Vec<Expression>),
    /// A verdict, in a map.
    Verdict(Verdict),
    /// Any other.
    Unknown(Box<Json>),
}

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOperator {
    /// `&`
    And,
    /// `|`
    Or,
    /// `^`
    Xor,
    /// `<<`
    ShiftLeft,
    /// `>>`
    ShiftRight,
}

impl BinaryOperator {
    pub(in super::super) const NAMES: [(&'static str, Self); 5] = [
        ("&", Self::And),
        ("|", Self::Or),
        ("^", Self::Xor),
        ("<<", Self::ShiftLeft),
        (">>", Self::ShiftRight),
    ];
}

/// The elements of a set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements {
    /// In the order of the listing.
    pub list: Vec<Element>,
    /// The JSON had the one element itself, not a list of one.
    pub single: bool,
}

/// An element of a set, or a pair of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The key: a value, or a network, range or concatenation of such; `*` for any other.
    pub key: Expression,
    /// What the map has for it.
    pub data: Option<Expression>,
    /// Its comment, timeout, counter, ...; `None` where the listing has the bare key.
    pub attributes: Option<Box<Members>>,
}

impl Element {
    /// What an attribute says.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Json> {
        self.attributes.as_deref()?.get(name)
    }

    /// Its comment.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.attribute("comment")?.as_text()
    }
}
