//! Flows that failed, and flows that only look so.

mod lookups;
mod stream;

pub(crate) use lookups::{Question, asks_for_names, datagram, looked_up, says};
pub(crate) use stream::{acknowledgement, segment, slow, swallowed, too_large};

use super::{
    Scenario, Way,
    cast::{ACK, RST, SYN, from_backend, icmp, original, reply, tcp, to_backend},
    flows::{answered, flow, translated},
    netns, snapshot, snapshot_with, tuple,
};
use crate::journey::model::{
    Flow, Packet, Process, Stage, State, TranslationKind, Transport, Verdict,
};
use crate::node::snapshot::Snapshot;
use crate::report::{
    listening::{Listener, Listening, Port},
    lookups::Lookups,
};

/// A second, in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

const CLIENT: &str = "10.244.1.2:37600";
const ASKED: &str = "10.244.1.2:37600 10.96.0.81:80";
const AFTER: &str = "10.244.1.2:37600 10.244.1.3:8080";

/// What is shown of the flow when everything was seen up to so long after its first packet.
fn shown(packets: &[Packet], flow: Flow, after: u64) -> Scenario {
    shown_on(&snapshot(), packets, flow, after)
}

fn shown_on(node: &Snapshot, packets: &[Packet], flow: Flow, after: u64) -> Scenario {
    let flow = counted(packets, flow);
    let until = flow.first + after;
    Scenario::seen(node, packets, &flow, until)
}

/// With the numbers of its packets.
fn counted(packets: &[Packet], mut flow: Flow) -> Flow {
    let count = |reply: bool| {
        let same = packets
            .iter()
            .filter(|p| (p.direction as usize == 1) == reply);
        same.count() as u64
    };
    flow.packets = [count(false), count(true)];
    flow.drops = packets.iter().filter(|p| p.dropped.is_some()).count() as u64;
    flow
}

fn syn(id: u64, start: u64, ends: &str) -> Way {
    original(id, start, ends, tcp(SYN))
}

/// To a pod or a Service, by the node.
fn called(destination: &str, state: State) -> Flow {
    flow(6, CLIENT, destination, state)
}

/// Up to the node's bridge.
fn into_node(way: Way) -> Way {
    way.sent(0, 700, "pod-a1 eth0")
        .received(2_200, "node1 veth8a3844aa")
        .hop(3_900, Stage::Bridge, "node1 cni0")
        .hook(3_900, 9_800, Stage::Prerouting, "node1 cni0")
}

/// A SYN to a Service without endpoints, and the error.
pub(crate) fn no_endpoints() -> Scenario {
    let ends = "10.244.1.2:37600 10.96.0.85:80";
    let syn = into_node(syn(1, 0, ends))
        .hop(16_700, Stage::Forward, "node1 cni0")
        .dropped(19_400, 9, 0xffff_ffff_81c0_00a6);
    let error = error("10.244.1.1:0 10.244.1.2:0", ends, 3)
        .sent(0, 400, "node1 veth8a3844aa")
        .received(1_600, "pod-a1 eth0")
        .ended(Verdict::Delivered, false);
    shown(
        &[syn, error],
        called("10.96.0.85:80", State::Refused),
        30_000,
    )
}

fn error(ends: &str, about: &str, code: u8) -> Way {
    let mut way = reply(2, 20_000, ends, icmp(3, code));
    if let Transport::Icmp { quoted, .. } = &mut way.packet.transport {
        *quoted = Some(tuple(6, about));
    }
    way
}

/// SYNs that a rule drops.
pub(crate) fn dropped_by_rule(times: u64) -> Scenario {
    let packet = |id| {
        into_node(syn(id, (id - 1) * SECOND, ASKED))
            .translated(TranslationKind::Dnat, AFTER)
            .hop(16_700, Stage::Forward, "node1 cni0")
            .dropped(19_400, 9, 0xffff_ffff_81c0_00a6)
    };
    let packets: Vec<Packet> = (1..=times).map(packet).collect();
    let flow = translated(called("10.96.0.81:80", State::SynSent), "10.244.1.3:8080");
    shown(&packets, flow, 40_000)
}

/// A SYN that the kernel drops at the node's bridge, for that reason.
pub(crate) fn dropped_for(reason: u32) -> Scenario {
    let packet = into_node(syn(1, 0, "10.244.1.2:37600 10.244.2.3:8080"))
        .hop(15_400, Stage::Bridge, "node1 cni0")
        .dropped(19_400, reason, 0xffff_ffff_81d0_0321);
    shown(&[packet], called("10.244.2.3:8080", State::SynSent), 40_000)
}

/// A SYN that comes to a pod and is dropped there for that reason, so late.
pub(crate) fn unwanted(reason: u32, start: u64) -> Packet {
    into_node(syn(1, start, "10.244.1.2:37600 10.244.1.3:9"))
        .sent(20_000, 400, "node1 veth6f55fdd3")
        .received(21_000, "pod-b1 eth0")
        .dropped(22_000, reason, 0xffff_ffff_81d0_0321)
}

/// A SYN that comes to a pod where nobody listens, and the reset; `reason` is that of the kernel's, 0
/// where it gives none.
pub(crate) fn nothing_listens(reason: u32) -> Scenario {
    let (packets, flow) = refused_by_pod(reason);
    shown(&packets, flow, 60_000)
}

/// The same where the port is listened on at these addresses by that process.
pub(crate) fn listens_on(addresses: &[&str], process: Option<&str>) -> Scenario {
    let (packets, flow) = refused_by_pod(3);
    let listeners = addresses.iter().map(|address| Listener {
        local: address.parse().unwrap(),
        process: process.map(|comm| Process {
            pid: 812,
            comm: comm.to_owned(),
            cgroup: 0,
        }),
    });
    let port = Port {
        netns: netns("pod-b1"),
        protocol: 6,
        port: 9,
    };
    let mut listening = Listening::default();
    listening.found(port, flow.first + 5_000_000, listeners.collect());
    let flow = counted(&packets, flow);
    let until = flow.first + SECOND;
    let known = (&listening, &Lookups::default());
    Scenario::seen_by(&snapshot(), &packets, &flow, until, known)
}

fn refused_by_pod(reason: u32) -> ([Packet; 2], Flow) {
    let reset = from_backend(
        reply(2, 23_000, "10.244.1.3:9 10.244.1.2:37600", tcp(RST | ACK)),
        "10.244.1.3:9 10.244.1.2:37600",
    );
    let flow = called("10.244.1.3:9", State::Refused);
    ([unwanted(reason, 0), reset], flow)
}

/// A reset from where nothing is seen.
pub(crate) fn refused_elsewhere() -> Scenario {
    let syn = into_node(syn(1, 0, "10.244.1.2:37600 203.0.113.9:443"))
        .sent(20_000, 400, "node1 eth0")
        .ended(Verdict::Left, true);
    let reset = reply(
        2,
        SECOND / 10,
        "203.0.113.9:443 10.244.1.2:37600",
        tcp(RST | ACK),
    )
    .received(0, "node1 eth0")
    .sent(2_000, 400, "node1 veth8a3844aa")
    .received(4_000, "pod-a1 eth0")
    .delivered(5_000, "pod-a1 eth0");
    shown(
        &[syn, reset],
        called("203.0.113.9:443", State::Refused),
        SECOND,
    )
}

/// An error of a router's about a SYN that left.
pub(crate) fn unreachable(code: u8) -> Scenario {
    let ends = "10.244.1.2:37600 203.0.113.9:443";
    let syn = into_node(syn(1, 0, ends))
        .sent(20_000, 400, "node1 eth0")
        .ended(Verdict::Left, true);
    let error = error("198.51.100.1:0 10.244.1.2:0", ends, code)
        .received(0, "node1 eth0")
        .sent(2_000, 400, "node1 veth8a3844aa")
        .received(4_000, "pod-a1 eth0")
        .ended(Verdict::Delivered, false);
    shown(
        &[syn, error],
        called("203.0.113.9:443", State::Refused),
        SECOND,
    )
}

/// A SYN that leaves the node, so long ago.
pub(crate) fn left(after: u64) -> Scenario {
    let syn = into_node(syn(1, 0, "10.244.1.2:37600 203.0.113.9:443"))
        .sent(20_000, 400, "node1 eth0")
        .ended(Verdict::Left, true);
    shown(&[syn], called("203.0.113.9:443", State::SynSent), after)
}

/// A SYN that is seen last there.
pub(crate) fn seen_last_at(stage: Stage) -> Scenario {
    let syn = into_node(syn(1, 0, "10.244.1.2:37600 10.244.2.3:8080"));
    let syn = syn.hop(16_000, stage, "node1 cni0");
    let flow = called("10.244.2.3:8080", State::SynSent);
    shown(&[syn.ended(Verdict::Unknown, false)], flow, 5 * SECOND)
}

/// A SYN-ACK that does not come to the client, by how it ends.
pub(crate) fn lost_answer(verdict: Verdict) -> Scenario {
    let answer = reply(
        2,
        100_000,
        "10.244.1.3:8080 10.244.1.2:37600",
        tcp(SYN | ACK),
    )
    .sent(0, 400, "pod-b1 eth0")
    .received(1_000, "node1 veth6f55fdd3")
    .sent(2_000, 400, "node1 eth0")
    .ended(verdict, true);
    let flow = called("10.96.0.81:80", State::SynReceived);
    let flow = translated(
        answered(flow, "10.244.1.3:8080", "pod-b1"),
        "10.244.1.3:8080",
    );
    shown(
        &[to_backend(syn(1, 0, ASKED), AFTER), answer],
        flow,
        5 * SECOND,
    )
}

/// A question that a socket takes and nobody answers.
pub(crate) fn silent_server(destination: &str, protocol: u8) -> Scenario {
    let transport = if protocol == 6 {
        tcp(SYN)
    } else {
        Transport::Udp { begin: 0 }
    };
    let ends = format!("{CLIENT} {destination}");
    let packet = into_node(original(1, 0, &ends, transport))
        .sent(20_000, 400, "node1 veth6f55fdd3")
        .received(21_000, "pod-b1 eth0")
        .delivered(22_000, "pod-b1 eth0");
    let state = if protocol == 6 {
        State::SynSent
    } else {
        State::Unreplied
    };
    let flow = answered(
        flow(protocol, CLIENT, destination, state),
        destination,
        "pod-b1",
    );
    shown(&[packet], flow, 5 * SECOND)
}

/// A pod that calls itself.
pub(crate) fn hairpin() -> Scenario {
    let after = "10.244.1.2:37600 10.244.1.2:8080";
    let syn = into_node(syn(1, 0, ASKED))
        .translated(TranslationKind::Dnat, after)
        .sent(20_000, 400, "node1 veth8a3844aa")
        .received(21_000, "pod-a1 eth0")
        .dropped(22_000, 25, 0xffff_ffff_81d0_0321);
    let flow = translated(called("10.96.0.81:80", State::SynSent), "10.244.1.2:8080");
    shown(&[syn], flow, 30_000)
}

/// An answer that is switched to the client without being translated back.
pub(crate) fn untranslated() -> Scenario {
    let question = to_backend(syn(1, 0, ASKED), AFTER);
    let ends = "10.244.1.3:8080 10.244.1.2:37600";
    let answer = reply(2, 100_000, ends, tcp(SYN | ACK))
        .sent(0, 400, "pod-b1 eth0")
        .received(1_000, "node1 veth6f55fdd3")
        .sent(2_000, 400, "node1 veth8a3844aa")
        .received(3_000, "pod-a1 eth0")
        .dropped(4_000, 3, 0xffff_ffff_81d0_0321);
    let flow = answered(
        called("10.96.0.81:80", State::Reset),
        "10.244.1.3:8080",
        "pod-b1",
    );
    shown(
        &[question, answer],
        translated(flow, "10.244.1.3:8080"),
        200_000,
    )
}

/// The same flow while events were lost.
pub(crate) fn with_losses() -> Scenario {
    let syn =
        into_node(syn(1, 0, "10.244.1.2:37600 203.0.113.9:443")).ended(Verdict::Unknown, false);
    let mut flow = called("203.0.113.9:443", State::SynSent);
    flow.affected_by_loss = true;
    shown(&[syn], flow, 5 * SECOND)
}

/// The same flow, given out before its end.
pub(crate) fn without_room() -> Scenario {
    let syn =
        into_node(syn(1, 0, "10.244.1.2:37600 203.0.113.9:443")).ended(Verdict::Unknown, false);
    let mut flow = called("203.0.113.9:443", State::SynSent);
    flow.let_go = true;
    shown(&[syn], flow, 5 * SECOND)
}

/// What a Service sends to another node's pod leaves by the default route; `direct` has a route of its
/// own.
pub(crate) fn by_default_route(direct: bool) -> Scenario {
    let mut routes = vec![
        serde_json::json!({"to": "0.0.0.0", "length": 0, "via": "192.168.77.1", "device": "eth0"}),
        serde_json::json!({"to": "10.244.1.0", "length": 24, "device": "cni0"}),
    ];
    if direct {
        routes.push(serde_json::json!({"to": "10.244.2.0", "length": 24, "device": "eth0"}));
    }
    let node = snapshot_with("node1", &serde_json::json!({"routes": routes}));
    let syn = into_node(syn(1, 0, ASKED))
        .translated(TranslationKind::Dnat, "10.244.1.2:37600 10.244.2.3:8080")
        .hook(16_000, 900, Stage::Forward, "node1 eth0")
        .sent(20_000, 400, "node1 eth0")
        .ended(Verdict::Left, true);
    let flow = translated(called("10.96.0.81:80", State::SynSent), "10.244.2.3:8080");
    shown_on(&node, &[syn], flow, 2 * SECOND)
}

/// A SYN that a hook drops where no rule does, while conntrack's table has that many entries of 1000.
pub(crate) fn dropped_without_a_rule(stage: Stage, entries: Option<u64>) -> Scenario {
    let conntrack = entries.map(|count| [count, 1000]);
    let node = snapshot_with("node1", &serde_json::json!({"conntrack": conntrack}));
    let ends = "10.244.1.2:37600 10.244.2.3:8080";
    let packet = syn(1, 0, ends)
        .sent(0, 700, "pod-a1 eth0")
        .received(2_200, "node1 veth8a3844aa")
        .hop(3_900, stage, "node1 cni0")
        .dropped(19_400, 9, 0xffff_ffff_81c0_00a6);
    shown_on(
        &node,
        &[packet],
        called("10.244.2.3:8080", State::SynSent),
        40_000,
    )
}
