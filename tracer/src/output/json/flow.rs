//! A flow's object.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{SCHEMA, rule::RuleMembers, shown};
use crate::{
    event::Endpoint,
    journey::model::Stage,
    report::{
        Asked, Diagnosis, FlowReport, Lookup, Party, PlacedTranslation, ProcessReport,
        TranslationReport, protocol_name,
    },
};

#[derive(Serialize)]
pub(super) struct FlowObject<'a> {
    r#type: &'static str,
    schema: u32,
    id: u64,
    proto: String,
    client: PartyObject<'a>,
    destination: DestinationObject<'a>,
    backend: Option<PartyObject<'a>>,
    translations: Vec<FlowTranslationObject<'a>>,
    state: &'static str,
    packets: BothWays,
    drops: u64,
    holes: u64,
    first_ns: u64,
    last_ns: u64,
    diagnosis: Option<String>,
    protocol: u8,
    bytes: BothWays,
    affected_by_loss: bool,
    answers: Vec<AnswerObject<'a>>,
    diagnosis_info: Option<DiagnosisObject<'a>>,
    unanswered: usize,
    ongoing: bool,
    sampled: bool,
}

#[derive(Serialize)]
struct PartyObject<'a> {
    #[serde(serialize_with = "shown")]
    addr: Endpoint,
    netns: Option<&'a str>,
    pod: Option<&'a str>,
    process: Option<ProcessObject<'a>>,
}

#[derive(Serialize)]
struct ProcessObject<'a> {
    pid: u32,
    comm: &'a str,
}

#[derive(Serialize)]
struct DestinationObject<'a> {
    #[serde(serialize_with = "shown")]
    addr: Endpoint,
    service: Option<String>,
    asked: Option<&'a str>,
    lookup: Option<LookupObject<'a>>,
}

#[derive(Serialize)]
struct LookupObject<'a> {
    #[serde(serialize_with = "shown")]
    server: SocketAddr,
    tried: &'a [String],
    took_ns: Option<u64>,
}

#[derive(Serialize)]
struct AnswerObject<'a> {
    name: &'a str,
    r#type: String,
    code: String,
    addresses: &'a [IpAddr],
    truncated: bool,
    took_ns: Option<u64>,
    sent: u32,
}

#[derive(Serialize)]
struct FlowTranslationObject<'a> {
    kind: &'static str,
    stage: Option<&'static str>,
    netns: Option<&'a str>,
    #[serde(serialize_with = "shown")]
    from: Endpoint,
    #[serde(serialize_with = "shown")]
    to: Endpoint,
    #[serde(flatten)]
    rule: RuleMembers<'a>,
    kind_inferred: bool,
}

#[derive(Serialize)]
struct DiagnosisObject<'a> {
    layer: &'static str,
    cause: &'static str,
    culprit: Option<&'a str>,
    evidence: &'a [String],
    look: Option<&'a str>,
}

#[derive(Serialize)]
struct BothWays {
    original: u64,
    reply: u64,
}

impl From<[u64; 2]> for BothWays {
    fn from([original, reply]: [u64; 2]) -> Self {
        Self { original, reply }
    }
}

impl<'a> FlowObject<'a> {
    pub(super) fn new(flow: &'a FlowReport) -> Self {
        Self {
            r#type: "flow",
            schema: SCHEMA,
            id: flow.id.0,
            proto: protocol_name(flow.protocol).into_owned(),
            client: PartyObject::new(&flow.client),
            destination: DestinationObject {
                addr: flow.destination,
                service: flow.service.as_ref().map(ToString::to_string),
                asked: flow.asked.as_ref().map(|asked| asked.name.as_str()),
                lookup: flow.asked.as_ref().map(LookupObject::new),
            },
            backend: flow.backend.as_ref().map(PartyObject::new),
            translations: flow
                .translations
                .iter()
                .map(FlowTranslationObject::new)
                .collect(),
            state: flow.state.as_str(),
            packets: flow.packets.into(),
            drops: flow.drops,
            holes: flow.holes,
            first_ns: flow.first,
            last_ns: flow.last,
            diagnosis: flow.diagnosis.as_ref().map(Diagnosis::sentence),
            protocol: flow.protocol,
            bytes: flow.bytes.into(),
            affected_by_loss: flow.affected_by_loss,
            answers: flow.lookups.iter().filter_map(AnswerObject::new).collect(),
            diagnosis_info: flow.diagnosis.as_ref().map(DiagnosisObject::new),
            unanswered: flow.unanswered,
            ongoing: flow.ongoing,
            sampled: flow.sampled,
        }
    }
}

impl<'a> AnswerObject<'a> {
    fn new(lookup: &'a Lookup) -> Option<Self> {
        let answer = lookup.answer.as_ref()?;
        Some(Self {
            name: &answer.name,
            r#type: answer.kind_name(),
            code: answer.code_name(),
            addresses: &answer.addresses,
            truncated: answer.truncated,
            took_ns: lookup.took(),
            sent: lookup.sent,
        })
    }
}

impl<'a> LookupObject<'a> {
    fn new(asked: &'a Asked) -> Self {
        Self {
            server: asked.server,
            tried: &asked.tried,
            took_ns: asked.took,
        }
    }
}

impl<'a> DiagnosisObject<'a> {
    fn new(diagnosis: &'a Diagnosis) -> Self {
        Self {
            layer: diagnosis.layer.as_str(),
            cause: diagnosis.cause,
            culprit: diagnosis.culprit.as_deref(),
            evidence: &diagnosis.evidence,
            look: diagnosis.look.as_deref(),
        }
    }
}

impl<'a> ProcessObject<'a> {
    fn new(process: &'a ProcessReport) -> Self {
        Self {
            pid: process.pid,
            comm: &process.comm,
        }
    }
}

impl<'a> PartyObject<'a> {
    fn new(party: &'a Party) -> Self {
        Self {
            addr: party.endpoint,
            netns: party.netns.as_deref(),
            pod: party.pod.as_deref(),
            process: party.process.as_ref().map(ProcessObject::new),
        }
    }
}

impl<'a> FlowTranslationObject<'a> {
    fn new(placed: &'a PlacedTranslation) -> Self {
        let &TranslationReport {
            kind,
            from,
            to,
            ref rule,
        } = &placed.translation;
        Self {
            kind: kind.as_str(),
            stage: placed.stage.map(Stage::as_str),
            netns: placed.netns.as_deref(),
            from,
            to,
            rule: RuleMembers::new(rule.as_ref()),
            kind_inferred: kind.inferred(),
        }
    }
}
