//! The filter language: which flows the operator asks for.
//!
//! A text in the habits of pcap-filter becomes an expression ([`Filter`]), its namespace names
//! become inode numbers ([`ResolvedFilter`]), and that becomes the small program that the kernel
//! evaluates per packet ([`Compiled`]). Everything here is pure: no I/O, no clock.
//!
//! # The meaning is the flow's
//!
//! pcap-filter judges packets one by one. On a node that does not help: of a connection to the
//! ClusterIP `10.96.0.10` only the hops before the DNAT carry that address. So a filter judges a
//! **flow** by all its hops, in both directions, each hop with the tuple, namespace and device that
//! it has at that place:
//!
//! - a flow matches when at **some hop** the expression holds;
//! - a negated test of what a translation or the next hop can change (`host`, `net`, `port`,
//!   `netns`, `dev`) holds only when it holds at **every hop** of the flow: its positive form holds
//!   at no hop. Protocol and IP version are the same at all hops, so there `not` means just that.
//!
//! - `pod`, `service` and `dropped` ask something of the flow: that a pod is its client or its backend
//!   (with `src` and `dst`, at which end of the hop's packet), that a Service was called, that a packet
//!   of it was dropped.
//!
//! A negation over `and`/`or` is first moved to the tests (De Morgan). `src` and `dst` are those of
//! the hop, so replies count with their own.
//!
//! With the client 10.244.0.2, DNAT `10.96.0.10:80 -> 10.244.0.3:8080`:
//!
//! | filter | matches | because |
//! |---|---|---|
//! | `host 10.96.0.10` | yes | the hops before the DNAT |
//! | `host 10.244.0.3 and port 8080` | yes | the hops after it |
//! | `dst host 10.244.0.2` | yes | the replies |
//! | `port 80 and port 8080` | no | no single hop has both |
//! | `not host 10.96.0.10` | no | some hop has that address |
//! | `host 10.244.0.3 and not port 80` | no | some hop has that port |
//!
//! # What the kernel decides
//!
//! The kernel sees one packet at one hop and follows the flow from there on. Its program holds at
//! some hop of every flow that matches, so nothing that matches is missed from that hop on;
//! [`Compiled`] says when it also holds at hops of flows that do not match.

mod anchor;
mod compile;
mod error;
mod expression;
mod fronts;
mod lexer;
mod meaning;
mod meanings;
mod normal;
mod operand;
mod parser;
mod relax;
mod resolve;
mod service;
mod simplify;
mod term;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

pub use compile::{Compiled, cgroup_program};
pub use error::{ParseError, ResolveError};
pub use meaning::{FlowFacts, FlowView, Sighting};
pub use meanings::{Meanings, Remembered};
pub use resolve::{Namespaces, ResolvedFilter};
pub use service::{CalledService, Front, ServicePort, ServiceTest};
pub use tracer_common::filter::Subject;

use expression::{Expression, Test};

/// The longest filter text, in bytes; also of a filter written out in full ([`Filter`]'s
/// `Display`).
pub const MAX_LENGTH: usize = 4096;

/// How deep parentheses, negations and alternations of `and` and `or` may nest.
pub const MAX_DEPTH: usize = 64;

/// All words of the language, besides names, addresses and numbers: for completing what is typed.
pub fn vocabulary() -> impl Iterator<Item = &'static str> {
    words::vocabulary()
}

/// A filter as it was written: a well-formed expression, its names not yet looked up.
///
/// `Display` writes it out in full, every test with its qualifiers and with parentheses wherever
/// `and` meets `or`; that text parses to the same filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `None`: everything.
    expression: Option<Expression>,
}

impl Filter {
    /// Parses the text; an empty one is the filter that every flow matches.
    ///
    /// # Errors
    /// Text that is not a filter, with the place in it and what to write instead. Also text longer
    /// than [`MAX_LENGTH`] or nested deeper than [`MAX_DEPTH`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text)
            .map(|expression| Self { expression })
            .map_err(|problem| ParseError::new(text, problem))
    }

    /// Whether it is the empty filter, which every flow matches.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.expression.is_none()
    }

    /// The filter of what both let through.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let expression = match (self.expression, other.expression.clone()) {
            (Some(one), Some(other)) => Some(one.and(other)),
            (one, other) => one.or(other),
        };
        Self { expression }
    }

    /// Whether it names a Service: the node's rules must be read before that can be looked up.
    #[must_use]
    pub fn names_services(&self) -> bool {
        let expression = self.expression.as_ref();
        expression.is_some_and(|it| it.has(&|test| matches!(test, Test::Service(_))))
    }

    /// Whether it names a pod.
    #[must_use]
    pub fn names_pods(&self) -> bool {
        let expression = self.expression.as_ref();
        expression.is_some_and(|it| it.has(&|test| matches!(test, Test::Pod(..))))
    }

    fn each_test(&self, look: &mut impl FnMut(&Test)) {
        if let Some(expression) = &self.expression {
            expression.each(look);
        }
    }

    /// Looks up the names of namespaces, pods and Services.
    ///
    /// # Errors
    /// A namespace, pod or Service that `namespaces` does not know, with the similar names that it does.
    pub fn resolve(&self, namespaces: &impl Namespaces) -> Result<ResolvedFilter, ResolveError> {
        ResolvedFilter::new(self, namespaces)
    }
}

impl std::str::FromStr for Filter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expression {
            Some(expression) => expression.fmt(f),
            None => Ok(()),
        }
    }
}
