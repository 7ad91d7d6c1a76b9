//! Fewer terms for a filter that is too large: a wider one.
//!
//! The result holds wherever the node holds. Of what is demanded together, the demands that select
//! least are dropped. Alternatives cannot be dropped, so they are widened: neighbouring addresses to
//! the network that holds both, neighbouring ports to a range, starting where least is added; and
//! where that is not possible, to everything.

use tracer_common::{
    address::{from_bytes, prefix_mask, to_bytes},
    filter::{
        DEVICE, HOST_DESTINATION, HOST_EITHER, HOST_SOURCE, NETNS, PORT_DESTINATION, PORT_EITHER,
        PORT_SOURCE, PROTOCOL, Term,
    },
};

use super::normal::Node;

/// A node of at most `budget` terms that holds wherever `node` does; `None` is everything.
pub(super) fn to_fit(node: &Node, budget: usize) -> Option<Node> {
    if node.terms() <= budget {
        return Some(node.clone());
    }
    match node {
        Node::All(parts) => fewer_demands(parts, budget),
        Node::Any(parts) => wider_alternatives(parts, budget),
        Node::Here(_) | Node::Unlike(_) | Node::Nowhere { .. } | Node::Flow(_) => None,
    }
}

fn fewer_demands(parts: &[Node], budget: usize) -> Option<Node> {
    let mut order: Vec<&Node> = parts.iter().collect();
    // Single tests first: they are cheap, and the many alternatives share what remains.
    order.sort_by_key(|part| (part.terms() > 1, std::cmp::Reverse(selectivity(part))));
    let mut remaining = budget;
    let mut kept = Vec::new();
    for part in order {
        if let Some(fitting) = to_fit(part, remaining) {
            remaining -= fitting.terms();
            kept.push(fitting);
        }
    }
    (!kept.is_empty()).then(|| Node::all(kept))
}

fn wider_alternatives(parts: &[Node], budget: usize) -> Option<Node> {
    let mut order: Vec<&Node> = parts.iter().collect();
    order.sort_by_key(|part| part.terms());
    let mut fitting = Vec::with_capacity(order.len());
    let (mut remaining, mut left) = (budget, order.len());
    for part in order {
        // Too many for one term each: they are made one term each, then merged.
        let share = (remaining / left).max(1);
        let part = to_fit(part, share)?;
        remaining = remaining.saturating_sub(part.terms());
        left -= 1;
        fitting.push(part);
    }
    let mut alternatives = match Node::any(fitting) {
        Node::Any(alternatives) => alternatives,
        one => return to_fit(&one, budget),
    };
    if alternatives.iter().map(Node::terms).sum::<usize>() > budget {
        alternatives = merged(alternatives, budget)?;
    }
    Some(Node::any(alternatives))
}

/// Merges neighbours until few enough are left; `None` when there are none to merge.
fn merged(mut alternatives: Vec<Node>, budget: usize) -> Option<Vec<Node>> {
    alternatives.sort_by_key(|node| match node {
        Node::Here(term) => (term.kind, to_bytes(term.value), term.low),
        _ => (0, [0; 16], 0),
    });
    while alternatives.iter().map(Node::terms).sum::<usize>() > budget {
        let (_, index, union) = alternatives
            .windows(2)
            .enumerate()
            .filter_map(|(index, pair)| {
                let (size, union) = union(&pair[0], &pair[1])?;
                Some((size, index, union))
            })
            .min_by_key(|(size, ..)| *size)?;
        alternatives[index] = Node::Here(union);
        alternatives.remove(index + 1);
    }
    Some(alternatives)
}

/// The smallest term that holds where either does, and how much it holds, as a power of two;
/// `None` when there is no such term.
fn union(a: &Node, b: &Node) -> Option<(u32, Term)> {
    let (Node::Here(a), Node::Here(b)) = (a, b) else {
        return None;
    };
    if a.kind != b.kind {
        return None;
    }
    match a.kind {
        HOST_EITHER | HOST_SOURCE | HOST_DESTINATION => {
            let (x, y) = (bits(a.value), bits(b.value));
            let same = (x ^ y).leading_zeros();
            let length = same.min(prefix_length(a)).min(prefix_length(b));
            let mask = prefix_mask(length);
            let term = Term {
                value: from_bytes((x & bits(mask)).to_be_bytes()),
                mask,
                ..*a
            };
            Some((128 - length, term))
        }
        PORT_EITHER | PORT_SOURCE | PORT_DESTINATION => {
            let (low, high) = (a.low.min(b.low), a.high.max(b.high));
            Some((16 - (high - low).leading_zeros(), Term { low, high, ..*a }))
        }
        _ => None,
    }
}

fn bits(address: [u64; 2]) -> u128 {
    u128::from_be_bytes(to_bytes(address))
}

fn prefix_length(term: &Term) -> u32 {
    bits(term.mask).leading_ones()
}

/// How much is left out, roughly in bits: only to compare.
fn selectivity(node: &Node) -> u32 {
    match node {
        Node::All(parts) => parts.iter().map(selectivity).max().unwrap_or(0),
        Node::Any(parts) => parts.iter().map(selectivity).min().unwrap_or(0),
        Node::Here(term) => match term.kind {
            HOST_EITHER | HOST_SOURCE | HOST_DESTINATION => {
                let length = prefix_length(term);
                // Of an IPv4 address the first 96 bits say only that it is one.
                length.checked_sub(96).unwrap_or(length / 4)
            }
            PORT_EITHER | PORT_SOURCE | PORT_DESTINATION => (term.high - term.low).leading_zeros(),
            NETNS | DEVICE => 8,
            PROTOCOL => 2,
            _ => 1,
        },
        Node::Unlike(_) | Node::Nowhere { .. } | Node::Flow(_) => 0,
    }
}
