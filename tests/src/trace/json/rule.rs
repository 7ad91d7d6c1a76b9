//! Rules that did something.

use serde::Deserialize;

use super::present;

/// A step of the way through a rule set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Step {
    pub source: String,
    pub table: String,
    pub chain: String,
    pub kind: String,
    #[serde(deserialize_with = "present")]
    pub number: Option<u32>,
    #[serde(deserialize_with = "present")]
    pub handle: Option<u64>,
    pub text: String,
    #[serde(deserialize_with = "present")]
    pub comment: Option<String>,
}

/// How sure a rule is, and what it is part of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct RuleInfo {
    pub inferred: bool,
    pub certain: bool,
    #[serde(deserialize_with = "present")]
    pub service: Option<String>,
    #[serde(deserialize_with = "present")]
    pub endpoint: Option<EndpointOf>,
    pub candidates: Vec<Candidate>,
    pub more: u64,
}

/// A possible way through the rules.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Candidate {
    pub rule: Vec<Step>,
    pub undecided: Vec<String>,
}

/// Which of a Service's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct EndpointOf {
    pub index: u32,
    pub of: u32,
}
