//! What the kernel can do for a test of the flow.
//!
//! Which pods a flow's ends are is not in a packet, but where the packet is: a flow of a pod has a
//! hop in the pod's network namespace; a flow of a Service has one where that is called
//! ([`super::fronts`]). That hop need not be the one at which the rest of the filter
//! holds: of `pod default/web and port 8080`, the pod may have called port 80. So where a pod or a
//! Service is demanded together with other tests, the kernel is asked for that hop and for what holds at
//! every hop of a flow that matches; the rest is left to the judgement above. Where it is not
//! demanded, but only possible, a test of the flow is held to hold.

use tracer_common::filter::{self as terms, Term};

use super::{
    fronts,
    normal::{FlowNode, FlowTest, Node},
};

/// An expression without tests of the flow, which holds at some hop of every flow that matches.
pub(super) fn kernel_side(node: &Node) -> Node {
    match node {
        Node::Any(parts) => any(parts, kernel_side),
        Node::All(parts) => {
            let Some(anchor) = parts.iter().find_map(anchor) else {
                return Node::all(parts.iter().map(without_flow).collect());
            };
            let everywhere = parts.iter().map(at_every_hop);
            Node::all(std::iter::once(anchor).chain(everywhere).collect())
        }
        Node::Flow(_) => anchor(node).unwrap_or(ALWAYS),
        leaf => leaf.clone(),
    }
}

const ALWAYS: Node = Node::All(Vec::new());

/// What holds at some hop of a flow if the node holds for it, by where its pod or its Service is.
fn anchor(node: &Node) -> Option<Node> {
    match node {
        Node::Flow(FlowNode {
            test: FlowTest::Pod { inodes, .. },
            negated: false,
        }) if !inodes.is_empty() => Some(Node::any(inodes.iter().map(netns).collect())),
        Node::Flow(FlowNode {
            test: FlowTest::Service { fronts, .. },
            negated: false,
        }) => fronts::at_fronts(fronts),
        Node::Any(parts) => {
            let anchors: Option<Vec<Node>> = parts.iter().map(anchor).collect();
            anchors.map(Node::any)
        }
        _ => None,
    }
}

fn netns(inode: &u32) -> Node {
    Node::Here(Term {
        kind: terms::NETNS,
        number: *inode,
        ..Term::default()
    })
}

/// The node with every test of the flow held to hold.
fn without_flow(node: &Node) -> Node {
    match node {
        Node::All(parts) => Node::all(parts.iter().map(without_flow).collect()),
        Node::Any(parts) => any(parts, without_flow),
        Node::Flow(_) => ALWAYS,
        leaf => leaf.clone(),
    }
}

/// What of the node holds at every hop of a flow that matches.
fn at_every_hop(node: &Node) -> Node {
    match node {
        Node::All(parts) => Node::all(parts.iter().map(at_every_hop).collect()),
        Node::Any(parts) => any(parts, at_every_hop),
        Node::Flow(_) => ALWAYS,
        Node::Here(term) if !matches!(term.kind, terms::PROTOCOL | terms::IP_VERSION) => ALWAYS,
        leaf => leaf.clone(),
    }
}

/// One of them; always, when one is always.
fn any(parts: &[Node], side: impl Fn(&Node) -> Node) -> Node {
    let parts: Vec<Node> = parts.iter().map(side).collect();
    if parts.contains(&ALWAYS) {
        return ALWAYS;
    }
    Node::any(parts)
}
