//! What is wrong with a flow that failed or was slow: one sentence, its evidence, and where to look.
//!
//! First it is decided whether anything is wrong at all ([`symptom`]), from the flow alone. Without a
//! symptom there is no diagnosis, whatever was dropped: kernels drop packets of healthy flows. Then
//! the rules are asked one after the other, the surest first; each looks for one cause and says
//! nothing unless it was seen. Pure: what was seen ([`Evidence`]) and what the node knew at that time.
//!
//! Limits: a client that gave up within a second has no diagnosis unless something definite
//! happened to its packets; that nobody answers a datagram means nothing, except to DNS and ICMP
//! echo. Where events were lost, or what was kept of a flow had to make room, that is said instead.

mod answer;
mod causes;
mod conntrack;
mod dns;
mod drops;
mod evidence;
mod filter;
mod refusal;
mod routing;
mod service;
mod silence;
mod stall;
mod symptom;
#[cfg(test)]
mod tests;
mod words;

pub use evidence::{Evidence, Loss, Resent, Row};

use super::{FlowReport, Knowledge, listening::Listening, lookups::Lookups};
use crate::journey::model::Flow;
use symptom::Symptom;

/// Which layer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// The client's own loopback.
    Loopback,
    /// The pod's network on its node: veth, bridge, neighbours.
    PodNetwork,
    /// Routes and forwarding.
    Routing,
    /// The Service and kube-proxy's rules for it.
    Service,
    /// A `NetworkPolicy` or another filter.
    Filter,
    /// Name resolution.
    Dns,
    /// The server itself.
    Server,
    /// Packets too large for the path.
    Mtu,
    /// The kernel's connection tracking.
    Conntrack,
    /// What lies beyond what is traced.
    Network,
    /// Nothing is known to be wrong but the tracing: events were lost.
    Tracing,
}

impl Layer {
    /// The name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::PodNetwork => "pod-network",
            Self::Routing => "routing",
            Self::Service => "service",
            Self::Filter => "filter",
            Self::Dns => "dns",
            Self::Server => "server",
            Self::Mtu => "mtu",
            Self::Conntrack => "conntrack",
            Self::Network => "network",
            Self::Tracing => "tracing",
        }
    }

    /// What it is called in a sentence.
    const fn called(self) -> &'static str {
        match self {
            Self::Loopback => "own loopback",
            Self::PodNetwork => "pod network",
            Self::Routing => "routing",
            Self::Service => "Service",
            Self::Filter => "filter",
            Self::Dns => "DNS",
            Self::Server => "server",
            Self::Mtu => "MTU",
            Self::Conntrack => "conntrack",
            Self::Network => "network",
            Self::Tracing => "not diagnosed",
        }
    }
}

/// What is wrong with a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Which layer failed.
    pub layer: Layer,
    /// What is wrong, in words that do not change: `no-endpoints`, `dropped-by-rule`, ...
    pub cause: &'static str,
    /// What happened, for people: the sentence's beginning.
    pub what: String,
    /// Who did it: a rule, a Service, a device, a process's address; `None` where that is not known.
    pub culprit: Option<String>,
    /// What was seen that says so.
    pub evidence: Vec<String>,
    /// A command that shows more.
    pub look: Option<String>,
}

impl Diagnosis {
    fn new(layer: Layer, cause: &'static str, what: impl Into<String>) -> Self {
        debug_assert!(causes::is_known(cause, layer), "{cause} of {layer:?}");
        Self {
            layer,
            cause,
            what: what.into(),
            culprit: None,
            evidence: Vec::new(),
            look: None,
        }
    }

    fn culprit(mut self, culprit: impl Into<String>) -> Self {
        self.culprit = Some(culprit.into());
        self
    }

    fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    fn look(mut self, command: impl Into<String>) -> Self {
        self.look = Some(command.into());
        self
    }

    /// The whole of it: `Service: default/ghost:http has no endpoints (1 packet was ...); see ...`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = format!("{}: {}", self.layer.called(), self.what);
        if !self.evidence.is_empty() {
            text.push_str(&format!(" ({})", self.evidence.join("; ")));
        }
        if let Some(command) = &self.look {
            text.push_str(&format!("; see `{command}`"));
        }
        text
    }
}

/// What was seen of a flow, up to when.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its packets.
    pub evidence: &'a Evidence,
    /// The time up to which everything was seen, nanoseconds of `CLOCK_MONOTONIC`.
    pub until: u64,
    /// Who listens at ports that refused somebody.
    pub listening: &'a Listening,
    /// What was looked up.
    pub lookups: &'a Lookups,
}

/// What a rule of the diagnosis is asked about.
struct Case<'a> {
    known: Knowledge<'a>,
    flow: &'a Flow,
    report: &'a FlowReport,
    seen: Seen<'a>,
    symptom: Symptom,
}

/// A rule looks for one cause.
type Rule = fn(&Case<'_>) -> Option<Diagnosis>;

/// The surest first: what was seen to happen to a packet, then who said no, then silence.
const RULES: &[Rule] = &[
    service::no_endpoints,
    service::hairpin,
    filter::dropped_by_rule,
    conntrack::refused,
    routing::default_only,
    drops::dropped,
    stall::too_large,
    stall::not_acknowledged,
    refusal::nothing_listens,
    refusal::refused_by_error,
    refusal::refused_elsewhere,
    answer::lost,
    dns::unanswered,
    dns::slow,
    silence::not_answered,
    dns::failed,
    dns::not_found,
];

/// Of a name server that answered, and in time: whatever was dropped.
const OF_ANSWERS: &[Rule] = &[dns::failed, dns::not_found];

impl Knowledge<'_> {
    /// The flow with names, and what is wrong with it.
    #[must_use]
    pub fn flow_seen(&self, flow: &Flow, seen: Seen<'_>) -> FlowReport {
        let mut report = self.flow(flow);
        report.affected_by_loss |= seen.evidence.is_let_go();
        report.diagnosis = self.diagnose(flow, &report, seen);
        report
    }

    /// What is wrong with a flow; `None` where nothing is known to be. Rules and names count also
    /// where names are not shown.
    fn diagnose(&self, flow: &Flow, report: &FlowReport, seen: Seen<'_>) -> Option<Diagnosis> {
        let symptom = Symptom::of(flow, seen)?;
        if flow.affected_by_loss {
            return Some(lost_events());
        }
        if flow.let_go || seen.evidence.is_let_go() {
            return Some(packets_let_go());
        }
        // What is missing was let go. What was dropped was seen.
        if flow.sampled && flow.drops == 0 {
            return None;
        }
        let known = Knowledge {
            names: true,
            ..*self
        };
        let named;
        let report = if self.names {
            report
        } else {
            named = known.flow(flow);
            &named
        };
        let case = Case {
            known,
            flow,
            report,
            seen,
            symptom,
        };
        let rules = match symptom {
            Symptom::LookupFailed => OF_ANSWERS,
            _ => RULES,
        };
        rules.iter().find_map(|rule| rule(&case))
    }
}

fn packets_let_go() -> Diagnosis {
    let what = "this flow looks as if it failed, but what was kept of it had to make room for others, so \
                that what is missing may have been there: trace again with a narrower filter or a \
                larger --memory";
    Diagnosis::new(Layer::Tracing, "packets-let-go", what)
}

fn lost_events() -> Diagnosis {
    let what = "this flow looks as if it failed, but events were lost while it was under way, so \
                that what is missing may have been there: trace again with a narrower filter or a \
                larger --ring-size";
    Diagnosis::new(Layer::Tracing, "events-lost", what)
}
