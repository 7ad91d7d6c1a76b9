//! The paths through IPVS.
//!
//! A ClusterIP is one of the node's own addresses. IPVS takes a packet to it in INPUT, translates it
//! and sends it on from there, through OUTPUT. The reply is bridged; IPVS translates it back in
//! FORWARD.

use tracer_tests::trace::json::{Kind, Stage};

use super::{CURL6, Case, Form, LOOKUP, Outcome, TCP};

const IPVS: Case = Case {
    forms: &[Form::Ipvs],
    translations: &[(Kind::Dnat, Stage::Input)],
    original: "pod-a/eth0 [postrouting] queue transmit, node/vetha receive, \
        node/cni0 bridge prerouting bridge input(dnat) output postrouting queue bridge, \
        node/vethb queue transmit, pod-b/eth0 receive socket",
    reply: "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
        node/cni0 bridge prerouting forward(un-dnat) postrouting, \
        node/vetha queue transmit, pod-a/eth0 receive socket",
    ..TCP
};
const MASQUERADED: &[(Kind, Stage)] = &[
    (Kind::Dnat, Stage::Input),
    (Kind::Masquerade, Stage::Postrouting),
];

/// The paths.
pub(super) const CASES: &[Case] = &[
    IPVS,
    Case {
        name: "tcp6",
        command: CURL6,
        client: "fd00:10:244:1::2",
        destination: "[fd00:10:96::81]:80",
        backend: Some("[fd00:10:244:1::3]:8080"),
        ..IPVS
    },
    Case {
        name: "udp",
        command: LOOKUP,
        destination: "10.96.0.10:53",
        backend: Some("10.244.1.3:5353"),
        outcome: Outcome::Resolved,
        ..IPVS
    },
    Case {
        name: "affinity",
        command: "curl -sS -m 60 http://10.96.0.83/",
        destination: "10.96.0.83:80",
        ..IPVS
    },
    // What is masqueraded comes back to the node's address: NAT turns it back inside the bridge, which
    // then sends it on to the pod.
    Case {
        name: "hairpin",
        netns: "pod-b",
        client: "10.244.1.3",
        translations: MASQUERADED,
        original: "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
            node/cni0 bridge prerouting bridge input(dnat) output postrouting(masquerade) queue bridge, \
            node/vethb queue transmit, pod-b/eth0 receive socket",
        reply: "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
            node/cni0 bridge prerouting(un-snat) forward(un-dnat) postrouting, \
            node/vethb queue transmit, pod-b/eth0 receive socket",
        ..IPVS
    },
    Case {
        name: "nodeport",
        command: "curl -sS -m 60 http://192.168.77.11:30081/",
        destination: "192.168.77.11:30081",
        translations: MASQUERADED,
        original: "pod-a/eth0 [postrouting] queue transmit, node/vetha receive, \
            node/cni0 bridge prerouting bridge input(dnat) output postrouting(masquerade) queue bridge, \
            node/vethb queue transmit, pod-b/eth0 receive socket",
        reply: "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
            node/cni0 bridge prerouting(un-snat) forward(un-dnat) postrouting, \
            node/vetha queue transmit, pod-a/eth0 receive socket",
        ..IPVS
    },
    // The node calls under the address that it calls: it has the ClusterIP itself.
    Case {
        name: "node",
        netns: "node",
        client: "10.96.0.81",
        translations: &[
            (Kind::Dnat, Stage::Output),
            (Kind::Masquerade, Stage::Postrouting),
        ],
        original: "node/lo output(dnat), node/cni0 output postrouting(masquerade) queue bridge, \
            node/vethb queue transmit, pod-b/eth0 receive socket",
        reply: "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
            node/cni0 bridge prerouting(un-snat) bridge input(un-dnat) socket",
        ..IPVS
    },
    // An endpoint that is the node itself: INPUT goes on with the translated packet.
    Case {
        name: "host",
        command: "curl -sS -m 60 http://10.96.0.86/",
        destination: "10.96.0.86:80",
        backend: Some("192.168.77.11:8080"),
        original: "pod-a/eth0 [postrouting] queue transmit, node/vetha receive, \
            node/cni0 bridge prerouting bridge input(dnat) socket",
        reply: "node/cni0 output(un-dnat) postrouting queue bridge, \
            node/vetha queue transmit, pod-a/eth0 receive socket",
        ..IPVS
    },
    // A virtual server without real ones: IPVS itself refuses.
    Case {
        name: "refused",
        command: "curl -sS -m 60 http://10.96.0.85/",
        destination: "10.96.0.85:80",
        backend: None,
        translations: &[],
        outcome: Outcome::Rejected,
        original: "pod-a/eth0 [postrouting] queue transmit, node/vetha receive, \
            node/cni0 bridge prerouting bridge input drop",
        reply: "node/cni0 output postrouting queue bridge, \
            node/vetha queue transmit, pod-a/eth0 receive",
        ..IPVS
    },
];
