//! Journeys built by hand, as the engine would give them, and the node that they cross: for the
//! tests of whatever shows them.
//!
//! The node is the lab's: `pod-a1` and `pod-b1` on `node1`, `pod-b2` on `node2`, bridges `cni0`,
//! a VXLAN `flannel.1` between the nodes. The pods are `app/a1`, `app/b1` and `app/b2`. Times are nanoseconds since the packet's first hop.

mod cast;
pub(crate) mod faults;
pub(crate) mod flows;

use std::{collections::BTreeMap, net::SocketAddr};

use tracer_common::address;

pub(crate) use cast::{
    cluster_ip, echo, forward_drop, hole, hostile, ipv6, masquerade, refused, udp, vxlan,
};

use super::{
    Evidence, FlowReport, Knowledge, PacketReport, Seen, listening::Listening, lookups::Lookups,
};
use crate::{
    event::{Endpoint, Tuple},
    journey::model::{
        Device, Direction, Dropped, Encapsulation, Flow, FlowId, Hole, HookCall, Hop, Made,
        NetnsId, Packet, PacketId, Stage, State, Tracking, TranslationKind, Transport, Verdict,
    },
    node::{reasons::DropReasons, snapshot::Snapshot},
};

/// A device's name, kind and address.
type DeviceFacts = (&'static str, &'static str, &'static str);

/// Namespaces with their devices. The inode number is 4026532001 and on, a device's index 2 and on.
const NODE: [(&str, &[DeviceFacts]); 5] = [
    (
        "pod-a1",
        &[
            ("lo", "loopback", "127.0.0.1"),
            ("eth0", "veth", "10.244.1.2"),
        ],
    ),
    (
        "node1",
        &[
            ("eth0", "veth", "192.168.77.11"),
            ("cni0", "bridge", "10.244.1.1"),
            ("flannel.1", "vxlan", "10.244.1.0"),
            ("veth8a3844aa", "veth", "::"),
            ("veth6f55fdd3", "veth", "::"),
        ],
    ),
    ("pod-b1", &[("eth0", "veth", "10.244.1.3")]),
    (
        "node2",
        &[
            ("eth0", "veth", "192.168.77.12"),
            ("cni0", "bridge", "10.244.2.1"),
            ("flannel.1", "vxlan", "10.244.2.0"),
            ("veth11d2c0a4", "veth", "::"),
        ],
    ),
    ("pod-b2", &[("eth0", "veth", "10.244.2.3")]),
];

/// What handles packets on `node1`.
const NODE1_RULES: &str = include_str!("scenarios/node1.rules");

/// The first namespace's inode number.
const FIRST_INODE: u32 = 4_026_532_001;
/// When the first packet starts.
pub(crate) const START: u64 = 83_000_000_000_000;

/// What the node knows.
pub(crate) fn snapshot() -> Snapshot {
    snapshot_with("none", &serde_json::json!({}))
}

/// The same with what one namespace does with packets.
fn snapshot_with(netns: &str, network: &serde_json::Value) -> Snapshot {
    let namespaces: Vec<_> = (FIRST_INODE..)
        .zip(NODE)
        .map(|(inode, (name, devices))| {
            let links: BTreeMap<u32, _> = (2..)
                .zip(devices)
                .map(|(index, (name, kind, address))| {
                    let address = serde_json::json!({"address": address, "length": 24});
                    let link = serde_json::json!({
                        "index": index, "name": name, "kind": kind, "up": true, "mtu": 1500,
                        "addresses": [address],
                    });
                    (index, link)
                })
                .collect();
            let pod = name.strip_prefix("pod-").map(|pod| format!("app/{pod}"));
            let rules = (name == "node1").then(|| {
                let set = serde_json::json!({
                    "family": "V4", "source": "iptables-nft", "tables": NODE1_RULES,
                });
                serde_json::json!({"time": START, "rules": {"iptables": [set]}})
            });
            serde_json::json!({
                "inode": inode, "names": [name], "pod": pod, "links": links, "rules": rules,
                "network": if name == netns { network.clone() } else { serde_json::json!({}) },
            })
        })
        .collect();
    serde_json::from_value(serde_json::json!({ "namespaces": namespaces })).unwrap()
}

/// A flow with an answer, as the engine gives it.
pub(crate) fn open_flow() -> Flow {
    let flow = flows::flow(6, "10.244.1.2:37500", "10.244.1.3:8080", State::Established);
    flows::answered(flow, "10.244.1.3:8080", "pod-b1")
}

/// A scenario's journeys, reported with what the node knows.
pub(crate) struct Scenario {
    pub(crate) packets: Vec<PacketReport>,
    pub(crate) flow: FlowReport,
}

/// All of them, by name.
pub(crate) fn all() -> [(&'static str, Scenario); 10] {
    [
        ("cluster_ip", cluster_ip()),
        ("vxlan", vxlan()),
        ("forward_drop", forward_drop()),
        ("refused", refused()),
        ("udp", udp()),
        ("hole", hole()),
        ("ipv6", ipv6()),
        ("echo", echo()),
        ("masquerade", masquerade()),
        ("hostile", hostile()),
    ]
}

impl Scenario {
    fn new(packets: &[Packet], flow: &Flow) -> Self {
        Self::seen(&snapshot(), packets, flow, flow.last)
    }

    /// With everything seen up to a time.
    fn seen(node: &Snapshot, packets: &[Packet], flow: &Flow, until: u64) -> Self {
        let known = (&Listening::default(), &Lookups::default());
        Self::seen_by(node, packets, flow, until, known)
    }

    fn seen_by(
        node: &Snapshot,
        packets: &[Packet],
        flow: &Flow,
        until: u64,
        (listening, lookups): (&Listening, &Lookups),
    ) -> Self {
        let reasons = BTreeMap::from([
            (3, "NO_SOCKET".to_owned()),
            (9, "NETFILTER_DROP".to_owned()),
            (20, "IP_INNOROUTES".to_owned()),
            (21, "IP_RPFILTER".to_owned()),
            (22, "IP_INADDRERRORS".to_owned()),
            (23, "PKT_TOO_BIG".to_owned()),
            (24, "NEIGH_FAILED".to_owned()),
            (25, "IP_LOCAL_SOURCE".to_owned()),
            (26, "TCP_OLD_DATA".to_owned()),
            (27, "SOCKET_RCVBUFF".to_owned()),
            (28, "TC_INGRESS".to_owned()),
            (29, "QDISC_DROP".to_owned()),
        ]);
        let knowledge = Knowledge {
            node,
            names: true,
            reasons: &DropReasons::new(reasons, BTreeMap::new()),
            function_at: &|address| match address {
                0xffff_ffff_81c0_00a6 => Some("nf_hook_slow+0xa6".to_owned()),
                0xffff_ffff_81d0_0321 => Some("tcp_v4_rcv+0x321".to_owned()),
                _ => None,
            },
        };
        let mut evidence = Evidence::default();
        for packet in packets {
            evidence.packet(packet, flow.state);
        }
        let seen = Seen {
            evidence: &evidence,
            until,
            listening,
            lookups,
        };
        Self {
            packets: packets.iter().map(|p| knowledge.packet(p)).collect(),
            flow: knowledge.flow_seen(flow, seen),
        }
    }
}

fn endpoint(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    let bytes = match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    };
    Endpoint {
        address: address::from_bytes(bytes),
        port: address.port(),
    }
}

/// `a:p b:q`
fn tuple(protocol: u8, ends: &str) -> Tuple {
    let (source, destination) = ends.split_once(' ').unwrap();
    Tuple {
        source: endpoint(source),
        destination: endpoint(destination),
        protocol,
    }
}

pub(crate) fn netns(name: &str) -> NetnsId {
    let position = NODE.iter().position(|(known, _)| *known == name);
    let position = position.and_then(|at| u32::try_from(at).ok()).unwrap();
    NetnsId(FIRST_INODE + position)
}

/// `node1 cni0`
fn place(place: &str) -> (NetnsId, Device) {
    let (name, device) = place.split_once(' ').unwrap();
    let (_, devices) = NODE.iter().find(|(known, _)| *known == name).unwrap();
    let (index, kind) = (2..)
        .zip(*devices)
        .find(|(_, (known, _, _))| *known == device)
        .map(|(index, (_, kind, _))| (index, *kind))
        .unwrap();
    let mut raw_name = [0; 16];
    raw_name[..device.len()].copy_from_slice(device.as_bytes());
    let device = Device {
        ifindex: index,
        raw_name,
        bridge: kind == "bridge",
        bridge_port: device.starts_with("veth"),
        loopback: kind == "loopback",
    };
    (netns(name), device)
}

/// A packet on its way.
struct Way {
    packet: Packet,
    start: u64,
    tuple: Tuple,
    encapsulation: Option<Encapsulation>,
    hole: Option<Hole>,
}

impl Way {
    fn new(id: u64, direction: Direction, start: u64, tuple: Tuple, transport: Transport) -> Self {
        let packet = Packet {
            id: PacketId(id),
            flow: FlowId(1),
            direction,
            protocol: tuple.protocol,
            transport,
            length: 60,
            payload: 0,
            hops: Vec::new(),
            bytes: None,
            verdict: Verdict::Unknown,
            verdict_observed: false,
            dropped: None,
            hops_cut: 0,
        };
        Self {
            packet,
            start: START + start,
            tuple,
            encapsulation: None,
            hole: None,
        }
    }

    fn payload(mut self, bytes: u32) -> Self {
        self.packet.payload = bytes;
        self.packet.length += bytes;
        self
    }

    fn hop(mut self, time: u64, stage: Stage, at: &str) -> Self {
        let (netns, device) = place(at);
        self.packet.hops.push(Hop {
            time: self.start + time,
            left: None,
            stage,
            netns,
            device: Some(device),
            tuple: self.tuple,
            made: None,
            encapsulation: self.encapsulation,
            hole: self.hole.take(),
            call: self.call(stage, device.ifindex),
        });
        self
    }

    /// What a hook is told, conntrack having seen all packets of the flow.
    fn call(&self, stage: Stage, device: u32) -> Option<HookCall> {
        let first = match self.packet.transport {
            Transport::Tcp { flags, .. } => flags == 2,
            _ => self.packet.id.0 == 1,
        };
        let tracking = if first {
            Tracking::New
        } else {
            Tracking::Established(self.packet.direction)
        };
        let (input, output) = match stage {
            Stage::Prerouting | Stage::Input => (device, 0),
            Stage::Forward => (device, device),
            Stage::Output | Stage::Postrouting => (0, device),
            _ => return None,
        };
        Some(HookCall {
            input,
            output,
            tracking,
        })
    }

    /// Queued and, so much later, transmitted.
    fn sent(self, time: u64, queued: u64, at: &str) -> Self {
        self.hop(time, Stage::DeviceQueue, at)
            .hop(time + queued, Stage::DeviceTransmit, at)
    }

    fn received(self, time: u64, at: &str) -> Self {
        self.hop(time, Stage::DeviceReceive, at)
    }

    fn hook(mut self, time: u64, spent: u64, stage: Stage, at: &str) -> Self {
        self = self.hop(time, stage, at);
        let left = Some(self.start + time + spent);
        if let Some(hop) = self.packet.hops.last_mut() {
            hop.left = left;
        }
        self
    }

    /// The last hop makes that of the tuple.
    fn translated(mut self, kind: TranslationKind, ends: &str) -> Self {
        let to = tuple(self.tuple.protocol, ends);
        self.tuple = to;
        if let Some(hop) = self.packet.hops.last_mut() {
            let kinds = [Some(kind), None];
            hop.made = Some(Made { to, kinds });
        }
        self
    }

    fn tunnel(mut self, outer: Option<&str>) -> Self {
        let encapsulated = |ends| Encapsulation {
            vni: 1,
            outer: tuple(17, ends),
        };
        self.encapsulation = outer.map(encapsulated);
        self
    }

    fn hole(mut self, hole: Hole) -> Self {
        self.hole = Some(hole);
        self
    }

    fn delivered(self, time: u64, at: &str) -> Packet {
        self.hop(time, Stage::Socket, at)
            .ended(Verdict::Delivered, true)
    }

    fn ended(mut self, verdict: Verdict, observed: bool) -> Packet {
        self.packet.verdict = verdict;
        self.packet.verdict_observed = observed;
        self.packet
    }

    /// Dropped at the place of the last hop.
    fn dropped(mut self, time: u64, reason: u32, location: u64) -> Packet {
        let last = *self.packet.hops.last().unwrap();
        self.packet.dropped = Some(Dropped {
            reason,
            location,
            stage: last.stage,
            netns: last.netns,
        });
        self.packet.hops.push(Hop {
            time: self.start + time,
            left: None,
            stage: Stage::Drop,
            made: None,
            hole: None,
            call: None,
            ..last
        });
        self.ended(Verdict::Dropped, true)
    }
}
