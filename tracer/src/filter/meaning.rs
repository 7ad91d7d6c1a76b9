//! Judging a flow by its hops: the filter's meaning, as the module `filter` describes it.

use tracer_common::filter::{Subject, Term};

use super::{
    expression::Direction,
    normal::{FlowNode, FlowTest, Node},
    resolve::ResolvedFilter,
    service::CalledService,
};

/// A hop of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What the hop's packet has there.
    pub subject: Subject,
    /// Whether the packet goes as the answer.
    pub reply: bool,
}

/// A flow, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowView<'a> {
    /// The hops of both directions, in any order; repeats do no harm. A packet in a tunnel is a hop
    /// with its own, inner tuple; the outer one is one more hop, as the kernel judges both.
    pub hops: &'a [Sighting],
    /// The pod that is the client, as `NAMESPACE/NAME`.
    pub client_pod: Option<&'a str>,
    /// The pod that is the backend.
    pub backend_pod: Option<&'a str>,
    /// The Service that the client called.
    pub service: Option<&'a CalledService>,
    /// Whether a packet was dropped.
    pub dropped: bool,
}

/// What filters judge a flow by, kept beyond the time in which it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFacts {
    /// As [`FlowView::hops`].
    pub hops: Vec<Sighting>,
    /// The pods that are the client and the backend.
    pub pods: [Option<String>; 2],
    /// The Service that the client called.
    pub service: Option<CalledService>,
    /// Whether a packet was dropped.
    pub dropped: bool,
}

impl FlowFacts {
    /// To be judged.
    #[must_use]
    pub fn view(&self) -> FlowView<'_> {
        let [client_pod, backend_pod] = &self.pods;
        FlowView {
            hops: &self.hops,
            client_pod: client_pod.as_deref(),
            backend_pod: backend_pod.as_deref(),
            service: self.service.as_ref(),
            dropped: self.dropped,
        }
    }
}

impl ResolvedFilter {
    /// Whether the flow matches. Where [`Self::needs_all_hops`], the answer is final only when the
    /// flow is.
    #[must_use]
    pub fn matches(&self, flow: &FlowView<'_>) -> bool {
        if self.filter().is_everything() {
            return true;
        }
        let found = |term: &Term| flow.hops.iter().any(|hop| term.holds(&hop.subject));
        let somewhere: Vec<bool> = self.nowhere.iter().map(found).collect();
        let judge = Judge {
            somewhere: &|slot, _| somewhere.get(slot).copied().unwrap_or(false),
            flow: Some(flow),
        };
        flow.hops.iter().any(|hop| judge.holds(&self.root, hop))
    }

    /// As [`Self::matches`], of a flow of which only the hops are known, all of one direction.
    #[must_use]
    pub fn matches_flow<'a>(&self, hops: impl IntoIterator<Item = &'a Subject>) -> bool {
        let hops: Vec<Sighting> = hops.into_iter().copied().map(sighting).collect();
        self.matches(&FlowView {
            hops: &hops,
            ..FlowView::default()
        })
    }

    /// Whether the expression holds at this hop by itself, as the kernel sees it, to which every
    /// test of the flow holds: of every flow that matches it holds at some hop.
    #[must_use]
    pub fn matches_hop(&self, hop: &Subject) -> bool {
        let judge = Judge {
            somewhere: &|_, term| term.holds(hop),
            flow: None,
        };
        judge.holds(&self.root, &sighting(*hop))
    }
}

const fn sighting(subject: Subject) -> Sighting {
    Sighting {
        subject,
        reply: false,
    }
}

struct Judge<'a> {
    /// Whether a slot's term holds at any hop of the flow.
    somewhere: &'a dyn Fn(usize, &Term) -> bool,
    flow: Option<&'a FlowView<'a>>,
}

impl Judge<'_> {
    fn holds(&self, node: &Node, hop: &Sighting) -> bool {
        match node {
            Node::All(parts) => parts.iter().all(|part| self.holds(part, hop)),
            Node::Any(parts) => parts.iter().any(|part| self.holds(part, hop)),
            Node::Here(term) => term.holds(&hop.subject),
            Node::Unlike(term) => !term.holds(&hop.subject),
            Node::Nowhere { term, slot } => !(self.somewhere)(*slot, term),
            Node::Flow(FlowNode { test, negated }) => self.flow.is_none_or(|flow| {
                if *negated {
                    !flow.hops.iter().any(|hop| test.holds(flow, hop))
                } else {
                    test.holds(flow, hop)
                }
            }),
        }
    }
}

impl FlowTest {
    fn holds(&self, flow: &FlowView<'_>, hop: &Sighting) -> bool {
        let (direction, name) = match self {
            Self::Pod {
                direction, name, ..
            } => (direction, name),
            Self::Service { service, .. } => {
                return flow.service.is_some_and(|called| service.holds(called));
            }
            Self::Dropped => return flow.dropped,
        };
        let (from, to) = if hop.reply {
            (flow.backend_pod, flow.client_pod)
        } else {
            (flow.client_pod, flow.backend_pod)
        };
        let is = |pod: Option<&str>| pod == Some(name.as_str());
        match direction {
            Direction::Either => is(from) || is(to),
            Direction::Source => is(from),
            Direction::Destination => is(to),
        }
    }
}
