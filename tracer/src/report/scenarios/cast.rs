//! The scenarios.

use super::{
    Scenario, Way,
    flows::{answered, flow, source_translated, translated},
    tuple,
};
use crate::{
    journey::model::{
        Direction, Hole, Packet, Process, Stage, State, TranslationKind, Transport, Verdict,
    },
    report::{Asked, DeviceReport},
};

pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;

pub(super) fn tcp(flags: u8) -> Transport {
    Transport::Tcp {
        flags,
        sequence: 2_675_496_459,
        acknowledgement: if flags == SYN { 0 } else { 2_429_400_666 },
    }
}

pub(super) fn original(id: u64, start: u64, ends: &str, transport: Transport) -> Way {
    way(id, Direction::Original, start, ends, transport)
}

pub(super) fn reply(id: u64, start: u64, ends: &str, transport: Transport) -> Way {
    way(id, Direction::Reply, start, ends, transport)
}

fn way(id: u64, direction: Direction, start: u64, ends: &str, transport: Transport) -> Way {
    let protocol = match transport {
        Transport::Tcp { .. } => 6,
        Transport::Icmp { .. } => 1,
        _ => 17,
    };
    Way::new(id, direction, start, tuple(protocol, ends), transport)
}

/// From `pod-a1` through the bridge to `pod-b1`, by DNAT.
pub(super) fn to_backend(way: Way, ends_after: &str) -> Packet {
    way.sent(0, 2_400, "pod-a1 eth0")
        .received(6_300, "node1 veth8a3844aa")
        .hop(11_400, Stage::Bridge, "node1 cni0")
        .hook(11_400, 23_900, Stage::Prerouting, "node1 cni0")
        .translated(TranslationKind::Dnat, ends_after)
        .hop(49_700, Stage::DeviceQueue, "node1 cni0")
        .hop(50_200, Stage::Bridge, "node1 cni0")
        .hook(51_700, 8_600, Stage::Forward, "node1 cni0")
        .hook(61_600, 5_600, Stage::Postrouting, "node1 cni0")
        .sent(70_100, 400, "node1 veth6f55fdd3")
        .received(73_000, "pod-b1 eth0")
        .delivered(81_800, "pod-b1 eth0")
}

/// The way back, by un-DNAT.
pub(super) fn from_backend(way: Way, ends_after: &str) -> Packet {
    way.sent(0, 500, "pod-b1 eth0")
        .received(2_300, "node1 veth6f55fdd3")
        .hop(3_200, Stage::Bridge, "node1 cni0")
        .hook(3_200, 1_600, Stage::Prerouting, "node1 cni0")
        .hook(5_600, 1_000, Stage::Forward, "node1 cni0")
        .hook(7_100, 3_300, Stage::Postrouting, "node1 cni0")
        .translated(TranslationKind::UnDnat, ends_after)
        .sent(11_300, 500, "node1 veth8a3844aa")
        .received(12_700, "pod-a1 eth0")
        .delivered(14_000, "pod-a1 eth0")
}

fn process(pid: u32, comm: &str) -> Process {
    Process {
        pid,
        comm: comm.to_owned(),
        cgroup: 0,
    }
}

/// A connection to a ClusterIP with its endpoint on the same node: SYN, SYN-ACK, ACK, request.
pub(crate) fn cluster_ip() -> Scenario {
    let asked = "10.244.1.2:37500 10.96.0.81:80";
    let after = "10.244.1.2:37500 10.244.1.3:8080";
    let answer = "10.244.1.3:8080 10.244.1.2:37500";
    let packets = vec![
        to_backend(original(1, 0, asked, tcp(SYN)), after),
        from_backend(
            reply(2, 105_800, answer, tcp(SYN | ACK)),
            "10.96.0.81:80 10.244.1.2:37500",
        ),
        to_backend(original(3, 133_200, asked, tcp(ACK)), after),
        to_backend(
            original(4, 274_000, asked, tcp(PSH | ACK)).payload(74),
            after,
        ),
    ];
    let flow = flow(6, "10.244.1.2:37500", "10.96.0.81:80", State::Closed);
    let flow = answered(flow, "10.244.1.3:8080", "pod-b1");
    let mut flow = translated(flow, "10.244.1.3:8080");
    (flow.packets, flow.bytes) = ([6, 5], [392, 437]);
    flow.client_process = Some(process(4711, "curl"));
    flow.backend_process = Some(process(1234, "nginx"));
    let mut scenario = Scenario::new(&packets, &flow);
    scenario.flow.asked = Some(Asked {
        name: "web.default.svc.cluster.local".to_owned(),
        server: "10.96.0.10:53".parse().unwrap(),
        tried: Vec::new(),
        took: Some(812_000),
    });
    scenario
}

/// A SYN from a pod to a pod on another node, through VXLAN, both nodes being on this kernel.
pub(crate) fn vxlan() -> Scenario {
    let outer = "192.168.77.11:58734 192.168.77.12:8472";
    let packet = original(1, 0, "10.244.1.2:40112 10.244.2.3:8080", tcp(SYN))
        .sent(0, 600, "pod-a1 eth0")
        .received(2_100, "node1 veth8a3844aa")
        .hop(3_900, Stage::Bridge, "node1 cni0")
        .hook(3_900, 4_100, Stage::Prerouting, "node1 cni0")
        .hook(10_200, 2_300, Stage::Forward, "node1 flannel.1")
        .hook(12_900, 2_000, Stage::Postrouting, "node1 flannel.1")
        .sent(16_000, 700, "node1 flannel.1")
        .tunnel(Some(outer))
        .hook(18_400, 1_200, Stage::Output, "node1 eth0")
        .hook(19_900, 900, Stage::Postrouting, "node1 eth0")
        .sent(21_500, 12_900, "node1 eth0")
        .received(41_200, "node2 eth0")
        .hook(43_700, 3_800, Stage::Prerouting, "node2 eth0")
        .hook(48_000, 1_100, Stage::Input, "node2 eth0")
        .tunnel(None)
        .received(51_300, "node2 flannel.1")
        .hook(53_100, 2_700, Stage::Prerouting, "node2 flannel.1")
        .hook(56_600, 2_200, Stage::Forward, "node2 cni0")
        .hook(59_100, 1_400, Stage::Postrouting, "node2 cni0")
        .hop(61_000, Stage::DeviceQueue, "node2 cni0")
        .hop(61_400, Stage::Bridge, "node2 cni0")
        .sent(62_800, 400, "node2 veth11d2c0a4")
        .received(64_900, "pod-b2 eth0")
        .delivered(70_300, "pod-b2 eth0");
    let flow = flow(6, "10.244.1.2:40112", "10.244.2.3:8080", State::Established);
    Scenario::new(&[packet], &answered(flow, "10.244.2.3:8080", "pod-b2"))
}

/// A SYN that a FORWARD rule drops.
pub(crate) fn forward_drop() -> Scenario {
    let packet = original(1, 0, "10.244.1.2:37512 10.96.0.81:80", tcp(SYN))
        .sent(0, 700, "pod-a1 eth0")
        .received(2_200, "node1 veth8a3844aa")
        .hop(3_900, Stage::Bridge, "node1 cni0")
        .hook(3_900, 9_800, Stage::Prerouting, "node1 cni0")
        .translated(TranslationKind::Dnat, "10.244.1.2:37512 10.244.1.3:8080")
        .hop(15_100, Stage::DeviceQueue, "node1 cni0")
        .hop(15_400, Stage::Bridge, "node1 cni0")
        .hop(16_700, Stage::Forward, "node1 cni0")
        .dropped(19_400, 9, 0xffff_ffff_81c0_00a6);
    let flow = flow(6, "10.244.1.2:37512", "10.96.0.81:80", State::SynSent);
    let mut flow = translated(flow, "10.244.1.3:8080");
    (flow.packets, flow.bytes, flow.drops) = ([3, 0], [180, 0], 3);
    Scenario::new(&[packet], &flow)
}

/// A connection refused on a pod's own loopback.
pub(crate) fn refused() -> Scenario {
    let syn = original(1, 0, "127.0.0.1:51000 127.0.0.1:81", tcp(SYN))
        .sent(0, 300, "pod-a1 lo")
        .received(1_500, "pod-a1 lo")
        .dropped(4_800, 3, 0xffff_ffff_81d0_0321);
    let reset = reply(2, 4_100, "127.0.0.1:81 127.0.0.1:51000", tcp(RST | ACK))
        .sent(0, 200, "pod-a1 lo")
        .received(900, "pod-a1 lo")
        .delivered(2_000, "pod-a1 lo");
    let mut flow = flow(6, "127.0.0.1:51000", "127.0.0.1:81", State::Refused);
    (flow.drops, flow.last) = (1, flow.first + 6_100);
    Scenario::new(&[syn, reset], &flow)
}

/// A DNS question through a Service, and its answer.
pub(crate) fn udp() -> Scenario {
    let question = original(
        1,
        0,
        "10.244.1.2:43210 10.96.0.10:53",
        Transport::Udp { begin: 0 },
    )
    .payload(33);
    let answer = "10.244.1.3:5353 10.244.1.2:43210";
    let answer = reply(2, 120_000, answer, Transport::Udp { begin: 0 }).payload(49);
    let packets = [
        to_backend(question, "10.244.1.2:43210 10.244.1.3:5353"),
        from_backend(answer, "10.96.0.10:53 10.244.1.2:43210"),
    ];
    let flow = flow(17, "10.244.1.2:43210", "10.96.0.10:53", State::Replied);
    let flow = answered(flow, "10.244.1.3:5353", "pod-b1");
    let mut flow = translated(flow, "10.244.1.3:5353");
    flow.affected_by_loss = true;
    Scenario::new(&packets, &flow)
}

/// A packet of which events are missing, in each of the ways.
pub(crate) fn hole() -> Scenario {
    let packet = original(1, 0, "10.244.1.2:37520 10.244.1.3:8080", tcp(ACK))
        .hole(Hole::Beginning)
        .received(0, "node1 veth8a3844aa")
        .hop(1_700, Stage::Bridge, "node1 cni0")
        .hole(Hole::NetfilterUnobserved)
        .hook(5_100, 2_000, Stage::Forward, "node1 cni0")
        .hole(Hole::Missing(Stage::Postrouting))
        .sent(9_000, 400, "node1 veth6f55fdd3")
        .ended(Verdict::Unknown, false);
    let mut flow = flow(6, "10.244.1.2:37520", "10.244.1.3:8080", State::Established);
    (flow.holes, flow.client_netns) = (3, None);
    Scenario::new(&[packet], &flow)
}

/// A SYN to an IPv6 ClusterIP.
pub(crate) fn ipv6() -> Scenario {
    let (client, service) = ("[fd00:10:244:1::2]:37500", "[fd00:10:96:1:1:1:1:5051]:80");
    let backend = "[fd00:10:244:1::3]:8080";
    let packet = to_backend(
        original(1, 0, &format!("{client} {service}"), tcp(SYN)),
        &format!("{client} {backend}"),
    );
    let flow = flow(6, client, service, State::SynReceived);
    let flow = translated(answered(flow, backend, "pod-b1"), backend);
    Scenario::new(&[packet], &flow)
}

pub(super) fn icmp(kind: u8, code: u8) -> Transport {
    let (sequence, quoted) = (1, None);
    Transport::Icmp {
        kind,
        code,
        sequence,
        quoted,
    }
}

/// An echo request, and an error about a UDP packet to a port that nobody has.
pub(crate) fn echo() -> Scenario {
    let request = original(1, 0, "10.244.1.2:77 10.244.1.3:77", icmp(8, 0))
        .sent(0, 400, "pod-a1 eth0")
        .received(1_600, "node1 veth8a3844aa")
        .sent(4_400, 300, "node1 veth6f55fdd3")
        .received(6_000, "pod-b1 eth0")
        .ended(Verdict::Delivered, false);
    let mut error = reply(2, 20_000, "10.244.1.3:0 10.244.1.2:0", icmp(3, 3))
        .sent(0, 400, "pod-b1 eth0")
        .received(1_600, "node1 veth6f55fdd3")
        .sent(4_400, 300, "node1 veth8a3844aa")
        .received(6_000, "pod-a1 eth0")
        .ended(Verdict::Delivered, false);
    if let Transport::Icmp { quoted, .. } = &mut error.transport {
        *quoted = Some(tuple(17, "10.244.1.2:43210 10.244.1.3:9"));
    }
    let flow = flow(1, "10.244.1.2:77", "10.244.1.3:77", State::Replied);
    let flow = answered(flow, "10.244.1.3:77", "pod-b1");
    Scenario::new(&[request, error], &flow)
}

/// A SYN that leaves the node with the node's address.
pub(crate) fn masquerade() -> Scenario {
    let after = "192.168.77.11:61234 203.0.113.9:443";
    let packet = original(1, 0, "10.244.1.2:40300 203.0.113.9:443", tcp(SYN))
        .sent(0, 600, "pod-a1 eth0")
        .received(2_100, "node1 veth8a3844aa")
        .hop(3_900, Stage::Bridge, "node1 cni0")
        .hook(3_900, 4_100, Stage::Prerouting, "node1 cni0")
        .hook(10_200, 2_300, Stage::Forward, "node1 eth0")
        .hook(12_900, 6_000, Stage::Postrouting, "node1 eth0")
        .translated(TranslationKind::Snat, after)
        .sent(20_000, 1_500_000, "node1 eth0")
        .ended(Verdict::Left, true);
    let flow = flow(6, "10.244.1.2:40300", "203.0.113.9:443", State::SynSent);
    let mut flow = source_translated(flow, "192.168.77.11:61234");
    flow.packets = [1, 0];
    Scenario::new(&[packet], &flow)
}

/// Names that try to write on the terminal, and long ones.
pub(crate) fn hostile() -> Scenario {
    let mut scenario = forward_drop();
    let escape = "pod\x1b[2J\x1b[31m\u{202e}\u{9b}31m\r\n漢字";
    scenario.flow.client.netns = Some(escape.to_owned());
    scenario.flow.client.pod = None;
    let packet = &mut scenario.packets[0];
    for hop in &mut packet.hops {
        hop.pod = None;
        hop.netns = hop.netns.take().map(|name| match name.as_str() {
            "pod-a1" => escape.to_owned(),
            _ => "cni-1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d".to_owned(),
        });
    }
    packet.hops[1].device = Some(DeviceReport {
        name: "eth\x1b]0;t\x07".to_owned(),
        kind: Some("veth\x1b[0m".to_owned()),
    });
    if let Some(drop) = &mut packet.drop {
        drop.netns = Some(escape.to_owned());
    }
    scenario
}
