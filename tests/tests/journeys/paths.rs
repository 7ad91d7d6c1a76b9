//! Every path that a packet can take in a lab, as data.
//!
//! The notation is that of [`tracer_tests::trace::path`]. What a translation does follows from the
//! rules: kube-proxy translates the destination of what comes in (PREROUTING) or is sent by the node
//! (OUTPUT), masquerades what does not come from a pod, and what an endpoint sends to its own
//! Service; flanneld masquerades what leaves the cluster. Answers are translated back by conntrack at
//! the mirror images of these hooks: a source translation of POSTROUTING at PREROUTING, a destination
//! translation of PREROUTING at POSTROUTING, and one of OUTPUT at INPUT.

use tracer_tests::trace::json::State;

/// A connection to make, and what becomes of its packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) name: &'static str,
    /// The client: a pod, a node, or the machine outside.
    pub(crate) from: &'static str,
    pub(crate) to: Target,
    pub(crate) ipv6: bool,
    /// The way to the backend.
    pub(crate) original: &'static str,
    /// The way back.
    pub(crate) reply: &'static str,
    pub(crate) outcome: Outcome,
}

/// Whom the client calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Pod(&'static str),
    Outside,
    Service(&'static str),
    /// A Service's port on a node.
    NodePort(&'static str, &'static str),
    /// A port on the own loopback address that nobody listens on.
    Loopback,
}

/// What the connection comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered over HTTP and closed.
    Answered,
    /// A question over UDP, and its answer.
    Resolved,
    /// Refused by a REJECT rule, which sends an ICMP error and drops.
    Rejected,
    /// Refused because nobody listens.
    Refused,
    /// Dropped by a rule in FORWARD, and not answered.
    Dropped,
}

impl Outcome {
    pub(crate) fn state(self) -> State {
        match self {
            Self::Answered => State::Closed,
            Self::Resolved => State::Replied,
            Self::Rejected | Self::Refused => State::Refused,
            Self::Dropped => State::SynSent,
        }
    }
}

const fn answered(
    name: &'static str,
    from: &'static str,
    to: Target,
    original: &'static str,
    reply: &'static str,
) -> Connection {
    Connection {
        name,
        from,
        to,
        ipv6: false,
        original,
        reply,
        outcome: Outcome::Answered,
    }
}

const fn ipv6(connection: Connection) -> Connection {
    Connection {
        ipv6: true,
        ..connection
    }
}

const fn ending(outcome: Outcome, connection: Connection) -> Connection {
    Connection {
        outcome,
        ..connection
    }
}

/// The paths, the same for every variant.
pub(crate) const CONNECTIONS: &[Connection] = &[
    answered(
        "pod to pod on one node",
        "a1",
        Target::Pod("b1"),
        "a1 > node1 > b1",
        "b1 > node1 > a1",
    ),
    answered(
        "pod to pod across nodes",
        "a1",
        Target::Pod("b2"),
        "a1 > node1 > node2 > b2",
        "b2 > node2 > node1 > a1",
    ),
    answered(
        "pod to ClusterIP, the endpoint on the same node",
        "a1",
        Target::Service("web-node1"),
        "a1 > node1[prerouting dnat] > b1",
        "b1 > node1[postrouting un-dnat] > a1",
    ),
    answered(
        "pod to ClusterIP, the endpoint on the other node",
        "a1",
        Target::Service("web-node2"),
        "a1 > node1[prerouting dnat] > node2 > b2",
        "b2 > node2 > node1[postrouting un-dnat] > a1",
    ),
    answered(
        "hairpin",
        "b1",
        Target::Service("hairpin"),
        "b1 > node1[prerouting dnat, postrouting masquerade] > b1",
        "b1 > node1[prerouting un-snat, postrouting un-dnat] > b1",
    ),
    answered(
        "node to ClusterIP, the endpoint on the same node",
        "node1",
        Target::Service("web-node1"),
        "node1[output dnat, postrouting masquerade] > b1",
        "b1 > node1[prerouting un-snat, input un-dnat]",
    ),
    answered(
        "node to ClusterIP, the endpoint on the other node",
        "node1",
        Target::Service("web-node2"),
        "node1[output dnat, postrouting masquerade] > node2 > b2",
        "b2 > node2 > node1[prerouting un-snat, input un-dnat]",
    ),
    answered(
        "outside to NodePort, on the endpoint's node",
        "outside",
        Target::NodePort("node1", "web-nodeport"),
        "outside > node1[prerouting dnat, postrouting masquerade] > b1",
        "b1 > node1[prerouting un-snat, postrouting un-dnat] > outside",
    ),
    answered(
        "outside to NodePort, on the node without endpoint",
        "outside",
        Target::NodePort("node2", "web-nodeport"),
        "outside > node2[prerouting dnat, postrouting masquerade] > node1 > b1",
        "b1 > node1 > node2[prerouting un-snat, postrouting un-dnat] > outside",
    ),
    // externalTrafficPolicy: Local keeps the client's address.
    answered(
        "outside to NodePort, local endpoints only",
        "outside",
        Target::NodePort("node2", "local-only"),
        "outside > node2[prerouting dnat] > b2",
        "b2 > node2[postrouting un-dnat] > outside",
    ),
    answered(
        "pod to outside",
        "a1",
        Target::Outside,
        "a1 > node1[postrouting masquerade] > outside",
        "outside > node1[prerouting un-snat] > a1",
    ),
    ipv6(answered(
        "pod to pod on one node, IPv6",
        "a1",
        Target::Pod("b1"),
        "a1 > node1 > b1",
        "b1 > node1 > a1",
    )),
    ipv6(answered(
        "pod to pod across nodes, IPv6",
        "a1",
        Target::Pod("b2"),
        "a1 > node1 > node2 > b2",
        "b2 > node2 > node1 > a1",
    )),
    ipv6(answered(
        "pod to ClusterIP, the endpoint on the same node, IPv6",
        "a1",
        Target::Service("web-node1"),
        "a1 > node1[prerouting dnat] > b1",
        "b1 > node1[postrouting un-dnat] > a1",
    )),
    ipv6(answered(
        "pod to ClusterIP, the endpoint on the other node, IPv6",
        "a1",
        Target::Service("web-node2"),
        "a1 > node1[prerouting dnat] > node2 > b2",
        "b2 > node2 > node1[postrouting un-dnat] > a1",
    )),
    ipv6(answered(
        "hairpin, IPv6",
        "b1",
        Target::Service("hairpin"),
        "b1 > node1[prerouting dnat, postrouting masquerade] > b1",
        "b1 > node1[prerouting un-snat, postrouting un-dnat] > b1",
    )),
    ipv6(answered(
        "node to ClusterIP, the endpoint on the other node, IPv6",
        "node1",
        Target::Service("web-node2"),
        "node1[output dnat, postrouting masquerade] > node2 > b2",
        "b2 > node2 > node1[prerouting un-snat, input un-dnat]",
    )),
    ipv6(answered(
        "outside to NodePort, on the node without endpoint, IPv6",
        "outside",
        Target::NodePort("node2", "web-nodeport"),
        "outside > node2[prerouting dnat, postrouting masquerade] > node1 > b1",
        "b1 > node1 > node2[prerouting un-snat, postrouting un-dnat] > outside",
    )),
    ipv6(answered(
        "pod to outside, IPv6",
        "a1",
        Target::Outside,
        "a1 > node1[postrouting masquerade] > outside",
        "outside > node1[prerouting un-snat] > a1",
    )),
    ipv6(ending(
        Outcome::Resolved,
        answered(
            "DNS over UDP through a Service, IPv6",
            "a1",
            Target::Service("kube-dns"),
            "a1 > node1[prerouting dnat] > b1",
            "b1 > node1[postrouting un-dnat] > a1",
        ),
    )),
    ending(
        Outcome::Resolved,
        answered(
            "DNS over UDP through a Service",
            "a1",
            Target::Service("kube-dns"),
            "a1 > node1[prerouting dnat] > b1",
            "b1 > node1[postrouting un-dnat] > a1",
        ),
    ),
    // Not translated, so on its way to the default route; the error is the node's own packet.
    ending(
        Outcome::Rejected,
        answered(
            "a Service without endpoints",
            "a1",
            Target::Service("ghost"),
            "a1 > node1[forward drop] > outside",
            "node1 > a1",
        ),
    ),
    ending(
        Outcome::Refused,
        answered(
            "refused on the pod's own loopback",
            "a1",
            Target::Loopback,
            "lo@a1[input drop]",
            "lo@a1",
        ),
    ),
    ending(
        Outcome::Dropped,
        answered(
            "dropped on the way to the other node",
            "a1",
            Target::Service("web-node2"),
            "a1 > node1[prerouting dnat, forward drop] > node2 > b2",
            "b2 > node2 > node1[postrouting un-dnat] > a1",
        ),
    ),
    ending(
        Outcome::Dropped,
        answered(
            "dropped on the way to a pod on the same node",
            "a1",
            Target::Service("web-node1"),
            "a1 > node1[prerouting dnat, forward drop] > b1",
            "b1 > node1[postrouting un-dnat] > a1",
        ),
    ),
];
