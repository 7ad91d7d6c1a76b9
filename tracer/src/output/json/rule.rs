//! The rules that did something.

use serde::Serialize;

use crate::{
    node::rules::path::{Place, Step},
    report::{Candidate, RuleReport},
};

/// `rule`, and beside it how sure it is and of what it is part.
#[derive(Serialize)]
pub(super) struct RuleMembers<'a> {
    rule: Option<Vec<StepObject<'a>>>,
    rule_info: Option<InfoObject<'a>>,
}

#[derive(Serialize)]
struct InfoObject<'a> {
    inferred: bool,
    certain: bool,
    service: Option<String>,
    endpoint: Option<EndpointObject>,
    candidates: Vec<CandidateObject<'a>>,
    more: usize,
}

#[derive(Serialize)]
struct StepObject<'a> {
    source: &'static str,
    table: &'a str,
    chain: &'a str,
    kind: &'static str,
    number: Option<u32>,
    handle: Option<u64>,
    text: &'a str,
    comment: Option<&'a str>,
}

#[derive(Serialize)]
struct CandidateObject<'a> {
    rule: Vec<StepObject<'a>>,
    undecided: &'a [String],
}

#[derive(Serialize)]
struct EndpointObject {
    index: u32,
    of: u32,
}

impl<'a> RuleMembers<'a> {
    pub(super) fn new(report: Option<&'a RuleReport>) -> Self {
        let path = report.map(|report| &report.path);
        Self {
            rule: path.filter(|path| !path.is_empty()).map(|path| steps(path)),
            rule_info: report.map(InfoObject::new),
        }
    }
}

impl<'a> InfoObject<'a> {
    fn new(report: &'a RuleReport) -> Self {
        let choice = report.service.as_ref();
        let endpoint = choice.and_then(|choice| choice.endpoint);
        Self {
            // Rules are read, not watched at work.
            inferred: true,
            certain: report.certain,
            service: choice.map(|choice| choice.service.to_string()),
            endpoint: endpoint.map(|(index, of)| EndpointObject { index, of }),
            candidates: report.candidates.iter().map(CandidateObject::new).collect(),
            more: report.more,
        }
    }
}

impl<'a> CandidateObject<'a> {
    fn new(candidate: &'a Candidate) -> Self {
        Self {
            rule: steps(&candidate.path),
            undecided: &candidate.undecided,
        }
    }
}

fn steps(path: &[Step]) -> Vec<StepObject<'_>> {
    path.iter().map(StepObject::new).collect()
}

impl<'a> StepObject<'a> {
    fn new(step: &'a Step) -> Self {
        let (kind, number, handle) = match step.place {
            Place::Rule { number, handle } => ("rule", Some(number), handle),
            Place::Element => ("element", None, None),
            Place::Policy => ("policy", None, None),
            Place::Entry => ("entry", None, None),
        };
        Self {
            source: step.source.as_str(),
            table: &step.table,
            chain: &step.chain,
            kind,
            number,
            handle,
            text: &step.text,
            comment: step.comment.as_deref(),
        }
    }
}
