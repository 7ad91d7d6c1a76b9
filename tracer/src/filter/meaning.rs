//! Judging a flow by its hops: the filter's meaning, as the module `filter` describes it.

use tracer_common::filter::{Subject, Term};

use super::resolve::{Node, ResolvedFilter};

impl ResolvedFilter {
    /// Whether the flow matches whose hops these are, of both directions, in any order.
    ///
    /// What repeats does no harm. A packet in a tunnel is a hop with its own, inner tuple; give the
    /// outer one as one more hop, as the kernel judges both. Where [`Self::needs_all_hops`], the answer is final only
    /// when the flow is.
    #[must_use]
    pub fn matches_flow<'a, I>(&self, hops: I) -> bool
    where
        I: IntoIterator<Item = &'a Subject>,
        I::IntoIter: Clone,
    {
        if self.filter().is_everything() {
            return true;
        }
        let mut hops = hops.into_iter();
        let found = |term: &Term| hops.clone().any(|hop| term.holds(hop));
        let somewhere: Vec<bool> = self.nowhere.iter().map(found).collect();
        hops.any(|hop| {
            holds(&self.root, hop, &|slot, _| {
                somewhere.get(slot).copied().unwrap_or(false)
            })
        })
    }

    /// Whether the expression holds at this hop by itself, as the kernel sees it: of every flow
    /// that matches it holds at some hop.
    #[must_use]
    pub fn matches_hop(&self, hop: &Subject) -> bool {
        holds(&self.root, hop, &|_, term| term.holds(hop))
    }
}

/// Whether the node holds at the hop; `somewhere` tells whether a slot's term holds at any hop of
/// the flow.
fn holds(node: &Node, hop: &Subject, somewhere: &impl Fn(usize, &Term) -> bool) -> bool {
    match node {
        Node::All(parts) => parts.iter().all(|part| holds(part, hop, somewhere)),
        Node::Any(parts) => parts.iter().any(|part| holds(part, hop, somewhere)),
        Node::Here(term) => term.holds(hop),
        Node::Unlike(term) => !term.holds(hop),
        Node::Nowhere { term, slot } => !somewhere(*slot, term),
    }
}
