//! Rules as people know them, and the way of a packet through them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::decision::Undecided;
pub use super::source::Source;
use crate::node::services::ServiceName;

/// A rule, or what stands in a rule's place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// The set of rules it is of.
    pub source: Source,
    /// Its table, as the source's tool calls it: `nat`, `ip kube-proxy`; empty for IPVS.
    pub table: String,
    /// Its chain, or the map or set whose element it is, or IPVS's virtual service.
    pub chain: String,
    /// What it is there.
    pub place: Place,
    /// Its text, as the source's tool prints it: `-A KUBE-SERVICES -d 10.96.0.80/32 ...`,
    /// `tcp dport 80 drop`, `10.96.0.80 . tcp . 80 : goto service-...`, `policy drop`.
    pub text: String,
    /// Its comment, without quotes.
    pub comment: Option<String>,
}

/// Where in its chain a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A rule.
    Rule {
        /// The number in its chain, from 1, as `iptables -L --line-numbers` and
        /// `iptables -D CHAIN NUMBER` count.
        number: u32,
        /// The handle that nftables knows it by.
        handle: Option<u64>,
    },
    /// An element of a map or set.
    Element,
    /// The policy of a base chain.
    Policy,
    /// An entry of IPVS: a virtual service and one of its servers.
    Entry,
}

impl fmt::Display for Step {
    /// `nat KUBE-SERVICES rule 4`, `ip kube-proxy services rule 2 (handle 117)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.table.is_empty() {
            write!(f, "{} ", self.table)?;
        }
        f.write_str(&self.chain)?;
        match self.place {
            Place::Rule { number, handle } => {
                write!(f, " rule {number}")?;
                handle.map_or(Ok(()), |handle| write!(f, " (handle {handle})"))
            }
            Place::Element => write!(f, " element {}", self.text),
            Place::Policy => f.write_str(" policy"),
            Place::Entry => write!(f, " {}", self.text),
        }
    }
}

/// How sure a path is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// By these rules nothing else can have happened.
    Certain,
    /// One of several ways that were possible; what could not be decided on this one.
    Candidate(Vec<Undecided>),
}

/// The Service of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChoice {
    /// The Service and its port.
    pub service: ServiceName,
    /// The endpoint chosen: which, from 1, in the order of the rules, of how many.
    pub endpoint: Option<(u32, u32)>,
}

/// A way through the rules: the rules that matched one after the other, each in the chain that the
/// one before it led to, up to the one that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulePath {
    /// The rules, the one that decided last.
    pub steps: Vec<Step>,
    /// How sure it is.
    pub certainty: Certainty,
    /// The Service that it belongs to.
    pub service: Option<ServiceChoice>,
}

impl RulePath {
    /// The rule that decided.
    #[must_use]
    pub fn last(&self) -> Option<&Step> {
        self.steps.last()
    }

    /// The chains, in order: `PREROUTING`, `KUBE-SERVICES`, ...
    pub fn chains(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.chain.as_str())
    }
}
