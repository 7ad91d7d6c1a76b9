//! Building nodes so that the same meaning takes few terms.
//!
//! `tcp port 80 or 443` is written out `(tcp and port 80) or (tcp and port 443)`: four terms. What
//! all alternatives demand is asked once: `tcp and (port 80 or port 443)`, three. Terms are scarce
//! in the kernel ([`tracer_common::filter::MAX_TERMS`]) and cost time there.

use super::normal::Node;

impl Node {
    /// All hold. Nested ones are made one, repeated ones dropped.
    pub(super) fn all(nodes: Vec<Self>) -> Self {
        let mut parts = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Self::All(inner) => inner.into_iter().for_each(|part| add(&mut parts, part)),
                one => add(&mut parts, one),
            }
        }
        single(parts).unwrap_or_else(Self::All)
    }

    /// One holds. Nested ones are made one, repeated ones dropped, and what all demand is asked
    /// once.
    pub(super) fn any(nodes: Vec<Self>) -> Self {
        let mut parts = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Self::Any(inner) => inner.into_iter().for_each(|part| add(&mut parts, part)),
                one => add(&mut parts, one),
            }
        }
        match single(parts) {
            Ok(node) => node,
            Err(parts) => factored(parts),
        }
    }

    /// What it demands, as a list.
    fn demands(&self) -> &[Self] {
        match self {
            Self::All(parts) => parts,
            one => std::slice::from_ref(one),
        }
    }

    /// How many terms it takes.
    pub(super) fn terms(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::terms).sum(),
            Self::Here(_) | Self::Unlike(_) | Self::Nowhere { .. } => 1,
            Self::Flow(_) => 0,
        }
    }
}

fn add(parts: &mut Vec<Node>, part: Node) {
    if !parts.contains(&part) {
        parts.push(part);
    }
}

/// The only one, or all of them back.
fn single(mut parts: Vec<Node>) -> Result<Node, Vec<Node>> {
    match parts.pop() {
        Some(only) if parts.is_empty() => Ok(only),
        Some(last) => {
            parts.push(last);
            Err(parts)
        }
        None => Err(parts),
    }
}

/// `(x and a) or (x and b)` as `x and (a or b)`, and `x or (x and b)` as `x`.
fn factored(parts: Vec<Node>) -> Node {
    let Some((first, others)) = parts.split_first() else {
        return Node::Any(parts);
    };
    let common: Vec<Node> = first
        .demands()
        .iter()
        .filter(|demand| others.iter().all(|part| part.demands().contains(demand)))
        .cloned()
        .collect();
    if common.is_empty() {
        return Node::Any(parts);
    }
    let mut alternatives = Vec::with_capacity(parts.len());
    for part in &parts {
        let rest: Vec<_> = part
            .demands()
            .iter()
            .filter(|demand| !common.contains(demand))
            .cloned()
            .collect();
        if rest.is_empty() {
            return Node::all(common);
        }
        alternatives.push(Node::all(rest));
    }
    let mut demands = common;
    demands.push(Node::any(alternatives));
    Node::all(demands)
}
