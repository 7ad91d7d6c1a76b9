//! What is known, what is concluded and what stays unknown.

use std::collections::BTreeMap;

use super::{HopReport, Knowledge, Rewriting, protocol_name, scenarios};
use crate::{
    event::{Endpoint, Tuple},
    journey::model::{
        Device, Direction, Dropped, FlowId, FlowTranslation, Hop, Made, NetnsId, Packet, PacketId,
        Stage, TranslationKind, Transport, Verdict,
    },
    node::{reasons::DropReasons, rules::path::Source, snapshot::Snapshot},
};

/// `node1`, whose `eth0` has the address 192.168.77.11.
const NODE1: NetnsId = NetnsId(4_026_532_002);
/// `pod-a1`, of the pod `app/a1`.
const POD_A1: NetnsId = NetnsId(4_026_532_001);

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint {
        address: tracer_common::address::from_ipv4([192, 168, 77, last]),
        port,
    }
}

fn tuple(source: u8, destination: u8) -> Tuple {
    Tuple {
        source: endpoint(source, 1000),
        destination: endpoint(destination, 80),
        protocol: 6,
    }
}

fn device(ifindex: u32, name: &str) -> Device {
    let mut raw_name = [0; 16];
    raw_name[..name.len()].copy_from_slice(name.as_bytes());
    Device {
        ifindex,
        raw_name,
        bridge: false,
        bridge_port: false,
        loopback: false,
    }
}

fn hop(time: u64, netns: NetnsId) -> Hop {
    Hop {
        time,
        left: None,
        stage: Stage::Postrouting,
        netns,
        device: None,
        tuple: tuple(2, 3),
        made: None,
        encapsulation: None,
        hole: None,
        call: None,
    }
}

fn reported(hops: Vec<Hop>, dropped: Option<Dropped>, node: &Snapshot) -> super::PacketReport {
    let reasons = BTreeMap::from([(9, "NETFILTER_DROP".to_owned())]);
    let knowledge = Knowledge {
        node,
        names: true,
        reasons: &DropReasons::new(reasons, BTreeMap::new()),
        function_at: &|address| (address == 7).then(|| "f+0x0".to_owned()),
    };
    knowledge.packet(&Packet {
        id: PacketId(1),
        flow: FlowId(1),
        direction: Direction::Original,
        protocol: 6,
        transport: Transport::Other,
        length: 60,
        payload: 0,
        hops,
        verdict: Verdict::Unknown,
        verdict_observed: false,
        dropped,
        hops_cut: 0,
        bytes: None,
    })
}

#[test]
fn a_namespace_has_its_name_or_its_number_and_none_when_there_is_no_number() {
    let hops = [NODE1, NetnsId(5), NetnsId(0)].map(|netns| hop(1, netns));
    let report = reported(hops.into(), None, &scenarios::snapshot());
    let names = report.hops.iter().map(|hop| hop.netns.as_deref());
    assert!(names.eq([Some("node1"), Some("net:5"), None]));
}

#[test]
fn a_place_is_called_by_its_pod_where_it_has_one() {
    let hops = [POD_A1, NODE1].map(|netns| hop(1, netns));
    let report = reported(hops.into(), None, &scenarios::snapshot());
    let names: Vec<_> = report.hops.iter().map(HopReport::called).collect();
    assert_eq!(names, [Some("app/a1"), Some("node1")]);
    let netns = report.hops.iter().map(|hop| hop.netns.as_deref());
    assert!(netns.eq([Some("pod-a1"), Some("node1")]));
}

/// A number that one pod's namespace had up to 20, and another's from 30 on.
fn reused() -> Snapshot {
    let life = |since: u64, pod: &str, device: &str| {
        serde_json::json!({"inode": 5, "names": [format!("cni-{pod}")], "pod": pod, "since": since,
            "links": {"2": {"index": 2, "name": "eth0", "kind": device, "up": true, "mtu": 1500,
                "addresses": [{"address": "192.168.77.11", "length": 24}]}}})
    };
    let past =
        serde_json::json!({"namespace": life(10, "app/old", "veth"), "last": 20, "until": 25});
    let now = life(30, "app/new", "macvlan");
    serde_json::from_value(serde_json::json!({"namespaces": [now], "past": [past]})).unwrap()
}

#[test]
fn a_packet_has_the_names_of_its_time() {
    let at = |time| Hop {
        device: Some(device(2, "eth0")),
        ..hop(time, NetnsId(5))
    };
    let report = reported(vec![at(15), at(22), at(27), at(40)], None, &reused());
    let pods: Vec<_> = report
        .hops
        .iter()
        .map(|hop| hop.pod.as_deref().unwrap())
        .collect();
    assert_eq!(pods, ["app/old", "app/old", "app/new", "app/new"]);
    assert_eq!(report.hops[0].netns.as_deref(), Some("cni-app/old"));
    let kinds = report
        .hops
        .iter()
        .map(|hop| hop.device.as_ref()?.kind.as_deref());
    assert!(kinds.eq(["veth", "veth", "macvlan", "macvlan"].map(Some)));
}

#[test]
fn each_end_of_a_flow_has_the_name_of_when_it_was_seen() {
    let node = reused();
    let reasons = DropReasons::new(BTreeMap::new(), BTreeMap::new());
    let knowledge = Knowledge {
        node: &node,
        names: true,
        reasons: &reasons,
        function_at: &|_| None,
    };
    let mut flow = scenarios::open_flow();
    // A flow to the old pod, whose client goes on trying while the new one is there.
    (flow.backend_netns, flow.backend_seen) = (Some(NetnsId(5)), 15);
    (flow.client_netns, flow.client_seen) = (None, 0);
    (flow.first, flow.last) = (14, 90);
    let report = knowledge.flow(&flow);
    assert_eq!(report.backend.unwrap().pod.as_deref(), Some("app/old"));
    assert_eq!((report.client.pod, report.client.netns), (None, None));
}

#[test]
fn a_device_is_of_the_kind_that_the_node_knows_or_its_flags_say() {
    let kind_of = |netns, device| {
        let hop = Hop {
            device: Some(device),
            ..hop(1, netns)
        };
        let report = reported(vec![hop], None, &scenarios::snapshot());
        report.hops[0].device.clone().unwrap().kind
    };
    let bridge = Device {
        bridge: true,
        ..device(9, "br0")
    };
    let loopback = Device {
        loopback: true,
        ..device(1, "lo")
    };
    assert_eq!(
        kind_of(NODE1, device(4, "flannel.1")).as_deref(),
        Some("vxlan")
    );
    // Another device has the index by now.
    assert_eq!(kind_of(NODE1, device(4, "veth9")), None);
    assert_eq!(kind_of(NODE1, device(99, "veth9")), None);
    assert_eq!(kind_of(NetnsId(5), bridge).as_deref(), Some("bridge"));
    assert_eq!(kind_of(NetnsId(0), loopback).as_deref(), Some("loopback"));
}

/// The kinds that a hop's translation is reported as, with the last bytes before and after.
fn kinds(netns: NetnsId, kind: TranslationKind, from: Tuple, to: Tuple) -> Vec<(Rewriting, u64)> {
    let kinds = [Some(kind); 2];
    let hop = Hop {
        tuple: from,
        made: Some(Made { to, kinds }),
        ..hop(1, netns)
    };
    let report = reported(vec![hop], None, &scenarios::snapshot());
    let translations = report.hops[0].translations.iter();
    let last =
        |endpoint: Endpoint| u64::from(tracer_common::address::to_bytes(endpoint.address)[15]);
    translations.map(|t| (t.kind, last(t.to))).collect()
}

#[test]
fn a_source_that_becomes_the_namespaces_own_address_is_masqueraded() {
    use TranslationKind::Snat;
    let masquerade = kinds(NODE1, Snat, tuple(2, 3), tuple(11, 3));
    assert_eq!(masquerade, [(Rewriting::Masquerade, 11)]);
    let other_address = kinds(NODE1, Snat, tuple(2, 3), tuple(99, 3));
    assert_eq!(other_address, [(Rewriting::Snat, 99)]);
    let other_namespace = kinds(NetnsId(5), Snat, tuple(2, 3), tuple(11, 3));
    assert_eq!(other_namespace, [(Rewriting::Snat, 11)]);
    assert!(Rewriting::Masquerade.inferred() && !Rewriting::Snat.inferred());
}

#[test]
fn each_end_that_was_rewritten_is_reported_once() {
    let both = kinds(NODE1, TranslationKind::Dnat, tuple(2, 3), tuple(11, 4));
    assert_eq!(both, [(Rewriting::Dnat, 4), (Rewriting::Masquerade, 11)]);
    let back = kinds(NODE1, TranslationKind::UnDnat, tuple(4, 11), tuple(3, 2));
    assert_eq!(back, [(Rewriting::UnSnat, 2), (Rewriting::UnDnat, 3)]);
    assert!(kinds(NODE1, TranslationKind::Dnat, tuple(2, 3), tuple(2, 3)).is_empty());
}

#[test]
fn times_are_since_the_hop_before_also_when_clocks_disagree() {
    let mut hops = [100, 130, 120].map(|time| hop(time, NODE1));
    hops[1].left = Some(145);
    hops[2].left = Some(110);
    let report = reported(hops.into(), None, &Snapshot::default());
    let times = report
        .hops
        .iter()
        .map(|hop| (hop.since_previous, hop.spent));
    assert!(times.eq([(0, None), (30, Some(15)), (0, Some(0))]));
    assert_eq!(report.duration(), 20);
}

#[test]
fn a_drop_has_its_names_or_its_numbers() {
    let drop = |reason, location| {
        let dropped = Dropped {
            reason,
            location,
            stage: Stage::Forward,
            netns: NODE1,
        };
        reported(Vec::new(), Some(dropped), &scenarios::snapshot()).drop
    };
    let named = drop(9, 7).unwrap();
    assert_eq!(named.reason.as_deref(), Some("NETFILTER_DROP"));
    assert_eq!(named.function.as_deref(), Some("f+0x0"));
    assert_eq!(named.netns.as_deref(), Some("node1"));
    let unnamed = drop(10, 8).unwrap();
    assert_eq!((&unnamed.reason, &unnamed.function), (&None, &None));
    assert_eq!((unnamed.reason_number, unnamed.address), (10, 8));
}

#[test]
fn protocols_have_the_names_that_filters_use() {
    for word in ["tcp", "udp", "sctp", "icmp", "icmp6"] {
        assert!((0..=u8::MAX).any(|number| protocol_name(number) == word));
        assert!(crate::filter::Filter::parse(word).is_ok());
    }
    assert_eq!(protocol_name(253), "253");
}

/// What the Kubernetes API says of a Service that no rule names, as in IPVS mode, and of a pod elsewhere.
#[test]
fn names_of_the_kubernetes_api_come_after_the_nodes_own() {
    let cluster: crate::node::cluster::Contents = serde_json::from_value(serde_json::json!({
        "services": [
            {
                "name": {"namespace": "app", "name": "nameless", "port": "http"}, "protocol": 6,
                "frontends": [{"cluster-ip": "10.96.7.7:80"}, {"node-port": [null, 30777]}],
                "endpoints": [], "source": "kubernetes-api",
            },
            {
                "name": {"namespace": "app", "name": "old-name"}, "protocol": 6,
                "frontends": [{"cluster-ip": "10.96.0.81:80"}],
                "endpoints": [], "source": "kubernetes-api",
            },
        ],
        "pods": [
            {"name": "other/far", "addresses": ["10.244.9.9"]},
            {"name": "other/wrong", "addresses": ["10.244.1.2", "10.244.1.3"]},
            {"name": "other/host", "addresses": ["192.168.77.19"], "host_network": true},
        ],
    }))
    .unwrap();
    let node = scenarios::snapshot().with_cluster(std::sync::Arc::new(cluster.into()));
    let reasons = DropReasons::default();
    let known = Knowledge {
        node: &node,
        names: true,
        reasons: &reasons,
        function_at: &|_| None,
    };
    let flow = |destination: &str, backend: &str| {
        let mut flow = scenarios::open_flow();
        let end = |text: &str| {
            let at: std::net::SocketAddr = text.parse().unwrap();
            Endpoint::from(at)
        };
        flow.destination = end(destination);
        flow.backend = Some(end(backend));
        flow.backend_netns = None;
        flow
    };
    let called = |destination: &str| {
        let flow = flow(destination, "10.244.9.9:8080");
        let service = known.flow(&flow).service.map(|name| name.to_string());
        let asked = known.called_service(&flow).map(|called| called.name);
        assert_eq!(service.is_some(), asked.is_some(), "{destination}");
        service
    };
    assert_eq!(called("10.96.7.7:80").as_deref(), Some("app/nameless:http"));
    assert_eq!(
        called("192.168.77.11:30777").as_deref(),
        Some("app/nameless:http")
    );
    assert_eq!(called("10.9.9.9:30777"), None, "no address of the node's");
    let by_rules = called("10.96.0.81:80");
    assert!(
        by_rules.is_some() && by_rules.as_deref() != Some("app/old-name"),
        "{by_rules:?}"
    );

    let pods = |backend: &str| known.pods_of(&flow("10.96.7.7:80", backend));
    assert_eq!(
        pods("10.244.9.9:1"),
        [Some("app/a1".to_owned()), Some("other/far".to_owned())]
    );
    assert_eq!(pods("192.168.77.19:1")[1], None, "an address of its node");
    let mut here = scenarios::open_flow();
    here.backend_netns = Some(POD_A1);
    assert_eq!(known.pods_of(&here)[1].as_deref(), Some("app/a1"));
}

/// A node with a table of IPVS, and what the Kubernetes API calls the Service in it, if it is asked.
fn with_ipvs(asked: bool) -> Snapshot {
    let table = crate::node::ipvs::Table::parse(
        "TCP  0A600707:0050 rr\n\
         \x20 -> 0AF40102:1F90      Masq    1      0          0\n\
         \x20 -> 0AF40103:1F90      Masq    1      0          0\n",
    );
    let mut node = serde_json::to_value(scenarios::snapshot()).unwrap();
    let namespaces = node["namespaces"].as_array_mut().unwrap();
    let node1 = namespaces.iter_mut().find(|it| it["inode"] == NODE1.0);
    node1.unwrap()["rules"] =
        serde_json::json!({"time": scenarios::START, "rules": {"ipvs": table}});
    let node: Snapshot = serde_json::from_value(node).unwrap();
    if !asked {
        return node;
    }
    let cluster: crate::node::cluster::Contents = serde_json::from_value(serde_json::json!({
        "services": [{
            "name": {"namespace": "app", "name": "shop", "port": "http"}, "protocol": 6,
            "frontends": [{"cluster-ip": "10.96.7.7:80"}],
            "endpoints": [], "source": "kubernetes-api",
        }],
        "pods": [],
    }))
    .unwrap();
    node.with_cluster(std::sync::Arc::new(cluster.into()))
}

#[test]
fn rules_of_ipvs_have_the_names_of_the_kubernetes_api() {
    let end = |text: &str| Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap());
    let mut flow = scenarios::open_flow();
    flow.destination = end("10.96.7.7:80");
    flow.backend = Some(end("10.244.1.3:8080"));
    flow.translations = vec![FlowTranslation {
        kind: TranslationKind::Dnat,
        stage: Some(Stage::Input),
        netns: NODE1,
        from: flow.destination,
        to: end("10.244.1.3:8080"),
        before: Some(Tuple {
            source: flow.client,
            destination: flow.destination,
            protocol: 6,
        }),
        time: scenarios::START,
        call: None,
    }];
    let rule = |asked, names| {
        let node = with_ipvs(asked);
        let known = Knowledge {
            node: &node,
            names,
            reasons: &DropReasons::default(),
            function_at: &|_| None,
        };
        let placed = &known.flow(&flow).translations[0];
        placed.translation.rule.clone()
    };
    assert_eq!(rule(true, false), None);
    let unnamed = rule(false, true).unwrap();
    assert_eq!(unnamed.path.last().unwrap().source, Source::Ipvs);
    assert_eq!(unnamed.service, None);
    let choice = rule(true, true).unwrap().service.unwrap();
    assert_eq!(choice.service.to_string(), "app/shop:http");
    assert_eq!(choice.endpoint, Some((2, 2)));
}
