//! The negation normal form, in which a filter is judged and compiled.

use tracer_common::filter::Term;

use super::{
    expression::Direction,
    service::{Front, ServiceTest},
};

/// An expression in negation normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// All hold; none: always.
    All(Vec<Node>),
    /// One holds; none: never.
    Any(Vec<Node>),
    /// The term holds at the hop.
    Here(Term),
    /// The term, of what is the same at all hops, does not hold.
    Unlike(Term),
    /// The term, of what can change from hop to hop, holds at no hop of the flow.
    Nowhere { term: Term, slot: usize },
    /// A test of the flow, which the kernel cannot judge: to it, it always holds.
    Flow(FlowNode),
}

/// A test of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FlowNode {
    pub(super) test: FlowTest,
    /// It holds at no hop.
    pub(super) negated: bool,
}

/// What is tested of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FlowTest {
    Pod {
        direction: Direction,
        /// `NAMESPACE/NAME`
        name: String,
        /// The namespaces in one of which the flow has a hop; none: it is not known.
        inodes: Vec<u32>,
    },
    Service {
        service: ServiceTest,
        /// Where it is called, at one of which the flow has a hop; none: it is not known.
        fronts: Vec<Front>,
    },
    Dropped,
}

impl Node {
    /// Whether there is such a test of the flow.
    pub(super) fn has_flow(&self, is: &impl Fn(&FlowNode) -> bool) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.has_flow(is)),
            Self::Flow(flow) => is(flow),
            Self::Here(_) | Self::Unlike(_) | Self::Nowhere { .. } => false,
        }
    }

    /// A test of what is the same at all hops of a flow.
    pub(super) fn constant(kind: u8, low: u16, negated: bool) -> Self {
        let term = Term {
            kind,
            low,
            ..Term::default()
        };
        if negated {
            Self::Unlike(term)
        } else {
            Self::Here(term)
        }
    }
}
