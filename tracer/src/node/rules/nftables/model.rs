//! What a rule set of nftables is: the objects that `nft -j list ruleset` lists.
//!
//! A value of its own for each construct that is evaluated; anything else is kept as the JSON that
//! it was. Nothing is left out: printed, a rule set is the JSON that it was read from. Names are as
//! the system has them.

mod expression;

pub use expression::{BinaryOperator, Element, Elements, Expression, Verdict};

use super::json::{Json, Members};

/// All objects, in the order of the listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Tables, each followed by its sets, chains and rules.
    pub objects: Vec<Object>,
}

impl Ruleset {
    /// Adds the objects of another listing of the same namespace.
    pub fn append(&mut self, other: Self) {
        let known = !self.objects.is_empty();
        let objects = other.objects.into_iter();
        let about_nft =
            |object: &Object| matches!(object, Object::Other { kind, .. } if &**kind == "metainfo");
        self.objects
            .extend(objects.filter(|object| !(known && about_nft(object))));
    }
}

/// One object of the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A table.
    Table(Table),
    /// A chain.
    Chain(Chain),
    /// A set or a map.
    Set(Set),
    /// A rule.
    Rule(Rule),
    /// Anything else: the version, counters, limits, flow tables, ...
    Other {
        /// Its name in the listing: `metainfo`, `counter`, ...
        kind: Box<str>,
        /// What it says.
        body: Json,
    },
}

/// The protocol family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
    /// ARP.
    Arp,
    /// Frames in a bridge.
    Bridge,
    /// Frames of one device.
    Netdev,
}

impl Family {
    /// All, with their names.
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("ip", Self::Ip),
        ("ip6", Self::Ip6),
        ("inet", Self::Inet),
        ("arp", Self::Arp),
        ("bridge", Self::Bridge),
        ("netdev", Self::Netdev),
    ];

    /// The name in nft.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Arp => "arp",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        }
    }

    /// Whether its chains see IP packets at the five IP hooks.
    #[must_use]
    pub const fn is_ip(self) -> bool {
        matches!(self, Self::Ip | Self::Ip6 | Self::Inet)
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which packets it is for.
    pub family: Family,
    /// Its name.
    pub name: Box<str>,
    /// Its handle, comment, flags.
    pub rest: Members,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its table's family.
    pub family: Family,
    /// Its table's name.
    pub table: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Where it begins, when it is a base chain.
    pub base: Option<Base>,
    /// Its handle, comment, device.
    pub rest: Members,
}

/// Where a base chain is called from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// `filter`, `nat` or `route`.
    pub kind: Box<str>,
    /// `prerouting`, `input`, ...
    pub hook: Box<str>,
    /// Chains of lower priority go first.
    pub priority: i32,
    /// What becomes of packets that come to its end.
    pub policy: Option<Policy>,
}

/// What becomes of packets at the end of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They go on.
    Accept,
    /// They are dropped.
    Drop,
}

/// A set, or a map from keys to data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its table's family.
    pub family: Family,
    /// Its table's name.
    pub table: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// The type of its keys: a name, a list of names for a concatenation, or an expression.
    pub kind: Json,
    /// The type of its data, when it is a map.
    pub map: Option<Json>,
    /// `interval`, `timeout`, `dynamic`, ...
    pub flags: Option<Json>,
    /// Its elements; `None` where the listing has none.
    pub elements: Option<Elements>,
    /// Its handle, comment, size, timeout.
    pub rest: Members,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its table's family.
    pub family: Family,
    /// Its table's name.
    pub table: Box<str>,
    /// Its chain's name.
    pub chain: Box<str>,
    /// Its number in the table; 0 where the listing has none.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// What it does, in order: a match that does not hold ends it.
    pub statements: Vec<Statement>,
    /// Anything else.
    pub rest: Members,
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Goes on only when it holds.
    Match {
        /// How the two are compared.
        operator: Operator,
        /// Of the packet.
        left: Expression,
        /// What it must be.
        right: Expression,
    },
    /// What becomes of the packet.
    Verdict(Verdict),
    /// A verdict looked up by a key of the packet.
    VerdictMap {
        /// Of the packet.
        key: Expression,
        /// A set of pairs, or a map's name.
        data: Expression,
    },
    /// Drops the packet and tells the sender.
    Reject {
        /// `tcp reset`, `icmp`, `icmpx`, `icmpv6`; `None` for the usual.
        kind: Option<Box<str>>,
        /// The ICMP code.
        code: Option<Expression>,
        /// The JSON had no object, but `null`.
        bare: bool,
    },
    /// Translates an address.
    Nat(Nat),
    /// Sets a member of the packet, its mark or its connection.
    Mangle {
        /// What is set.
        key: Expression,
        /// To what.
        value: Expression,
    },
    /// Hands the packet to a program.
    Queue(Json),
    /// A statement that lets every packet go on: `counter`, `log`, ...
    Passing {
        /// Its name.
        name: Box<str>,
        /// What it says.
        body: Json,
    },
    /// A statement of which it is not known whether the packet goes on: `limit`, `quota`, `xt`, and
    /// what is not known at all.
    Opaque {
        /// Its name.
        name: Box<str>,
        /// What it says.
        body: Json,
    },
    /// What is no statement of the usual form.
    Unknown(Json),
}

/// How a match compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `==`; with a set, prefix or range: lies in it.
    Equal,
    /// `!=`; with a set, prefix or range: lies outside of it.
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `in`: has one of these bits.
    HasBits,
    /// `!`: has none of these bits.
    HasNoBits,
}

impl Operator {
    pub(super) const NAMES: [(&'static str, Self); 8] = [
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<", Self::Less),
        ("<=", Self::LessOrEqual),
        (">", Self::Greater),
        (">=", Self::GreaterOrEqual),
        ("in", Self::HasBits),
        ("!", Self::HasNoBits),
    ];
}

/// A translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// Which.
    pub kind: NatKind,
    /// The family of the address, in tables of several.
    pub family: Option<Box<str>>,
    /// The new address, or address and port.
    pub address: Option<Expression>,
    /// The new port.
    pub port: Option<Expression>,
    /// `random`, ...
    pub flags: Option<Json>,
    /// `prefix`, ...
    pub type_flags: Option<Json>,
    /// The JSON had no object, but `null`.
    pub bare: bool,
}

/// What is translated, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// The destination.
    Dnat,
    /// The source.
    Snat,
    /// The source, to the address of the outgoing device.
    Masquerade,
    /// The destination, to this host.
    Redirect,
}

impl NatKind {
    pub(super) const NAMES: [(&'static str, Self); 4] = [
        ("dnat", Self::Dnat),
        ("snat", Self::Snat),
        ("masquerade", Self::Masquerade),
        ("redirect", Self::Redirect),
    ];

    /// The name in nft.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dnat => "dnat",
            Self::Snat => "snat",
            Self::Masquerade => "masquerade",
            Self::Redirect => "redirect",
        }
    }
}

/// The name of a value in a list of all.
pub(super) fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    let found = names.iter().find(|(_, known)| known == value);
    found.map_or("", |(name, _)| name)
}

/// The value that a list has for a name.
pub(super) fn by_name<T: Copy>(names: &[(&'static str, T)], name: &str) -> Option<T> {
    let found = names.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value)
}
