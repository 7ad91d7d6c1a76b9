//! A flow's object.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{
    Kind, Stage, State, present,
    rule::{RuleInfo, Step},
};

/// A flow.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Flow {
    pub schema: u32,
    pub id: u64,
    pub proto: String,
    pub client: Client,
    pub destination: Destination,
    #[serde(deserialize_with = "present")]
    pub backend: Option<Backend>,
    pub translations: Vec<FlowTranslation>,
    pub state: State,
    pub packets: BothWays,
    pub drops: u64,
    pub holes: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    #[serde(deserialize_with = "present")]
    pub diagnosis: Option<String>,
    pub protocol: u8,
    pub bytes: BothWays,
    pub affected_by_loss: bool,
    pub answers: Vec<Answer>,
    #[serde(deserialize_with = "present")]
    pub diagnosis_info: Option<DiagnosisInfo>,
    pub unanswered: u64,
    pub ongoing: bool,
    pub sampled: bool,
}

/// What is wrong with it, in parts.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct DiagnosisInfo {
    pub layer: String,
    pub cause: String,
    #[serde(deserialize_with = "present")]
    pub culprit: Option<String>,
    pub evidence: Vec<String>,
    #[serde(deserialize_with = "present")]
    pub look: Option<String>,
}

/// Who began.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Client {
    pub addr: SocketAddr,
    #[serde(deserialize_with = "present")]
    pub netns: Option<String>,
    #[serde(deserialize_with = "present")]
    pub pod: Option<String>,
    #[serde(deserialize_with = "present")]
    pub process: Option<Process>,
}

/// A process.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Process {
    pub pid: u32,
    pub comm: String,
}

/// Whom the client called.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Destination {
    pub addr: SocketAddr,
    #[serde(deserialize_with = "present")]
    pub service: Option<String>,
    #[serde(deserialize_with = "present")]
    pub asked: Option<String>,
    #[serde(deserialize_with = "present")]
    pub lookup: Option<Lookup>,
}

/// How a name was found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Lookup {
    pub server: SocketAddr,
    pub tried: Vec<String>,
    #[serde(deserialize_with = "present")]
    pub took_ns: Option<u64>,
}

/// What a name server answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Answer {
    pub name: String,
    pub r#type: String,
    pub code: String,
    pub addresses: Vec<IpAddr>,
    pub truncated: bool,
    #[serde(deserialize_with = "present")]
    pub took_ns: Option<u64>,
    pub sent: u32,
}

/// Who got the packets.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Backend {
    pub addr: SocketAddr,
    #[serde(deserialize_with = "present")]
    pub netns: Option<String>,
    #[serde(deserialize_with = "present")]
    pub pod: Option<String>,
    #[serde(deserialize_with = "present")]
    pub process: Option<Process>,
}

/// How the original direction is rewritten.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct FlowTranslation {
    pub kind: Kind,
    #[serde(deserialize_with = "present")]
    pub stage: Option<Stage>,
    #[serde(deserialize_with = "present")]
    pub netns: Option<String>,
    pub from: SocketAddr,
    pub to: SocketAddr,
    #[serde(deserialize_with = "present")]
    pub rule: Option<Vec<Step>>,
    #[serde(deserialize_with = "present")]
    pub rule_info: Option<RuleInfo>,
    pub kind_inferred: bool,
}

/// A number for each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct BothWays {
    pub original: u64,
    pub reply: u64,
}
