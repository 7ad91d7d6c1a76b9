//! IPVS: a hook that is entered, and left by the OUTPUT that IPVS sends the packet through. The
//! sequences are those of a node with kube-proxy's IPVS mode on Linux 6.12.

use hook::netfilter::{FORWARD, INPUT, OUTPUT, POSTROUTING, PREROUTING};
use tracer_common::record::{FLAG_BRIDGE, FLAG_BRIDGE_PORT, FLAG_LOOPBACK};

use super::*;
use crate::event::Tuple;

const CNI0: (&str, u32) = ("cni0", 5);

fn stages(packet: &Packet) -> Vec<Stage> {
    packet.hops.iter().map(|hop| hop.stage).collect()
}

/// The only hop that translated: where, what, and the ends before and after.
fn translation(packet: &Packet) -> (Stage, TranslationKind, Tuple, Tuple) {
    let mut made = packet.hops.iter().flat_map(|hop| {
        let of_hop = hop.translations();
        of_hop.map(|made| (hop.stage, made.kind, made.from, made.to))
    });
    let first = made.next().unwrap();
    assert_eq!(made.next(), None);
    first
}

/// From OUTPUT, where IPVS sends it, over the bridge into the server's pod.
fn sent_on(walk: &mut Walk) {
    walk.hook(OUTPUT);
    walk.hook(POSTROUTING);
    walk.device(hook::DEVICE_QUEUE, NODE, CNI0.0, CNI0.1, FLAG_BRIDGE);
    walk.device(hook::DEVICE_TRANSMIT, NODE, CNI0.0, CNI0.1, FLAG_BRIDGE);
    walk.port_to_pod(SERVER, "veth-b", 12);
}

/// A packet of the client to the virtual server, up to where IPVS takes it.
fn called(walk: &mut Walk, flags: u8, sequence: u32) {
    walk.begin(client(), service(), flags, sequence);
    walk.pod_to_bridge(CLIENT, "veth-a", 11);
    walk.hook(PREROUTING);
    walk.device(hook::DEVICE_RECEIVE, NODE, CNI0.0, CNI0.1, FLAG_BRIDGE);
    walk.enter(INPUT);
}

fn request(walk: &mut Walk, flags: u8, sequence: u32) -> Vec<Record> {
    called(walk, flags, sequence);
    walk.retarget(client(), backend());
    sent_on(walk);
    walk.take()
}

/// The answer: turned back in FORWARD.
fn reply(walk: &mut Walk, flags: u8, sequence: u32) -> Vec<Record> {
    walk.begin(backend(), client(), flags, sequence);
    walk.pod_to_bridge(SERVER, "veth-b", 12);
    walk.hook(PREROUTING);
    walk.enter(FORWARD);
    walk.retarget(service(), client());
    walk.leave(FORWARD);
    walk.hook(POSTROUTING);
    walk.port_to_pod(CLIENT, "veth-a", 11);
    walk.take()
}

#[test]
fn the_hook_that_took_the_packet_made_the_translation() {
    let packets = run(&mut engine(), &request(&mut Walk::new(), SYN, 1));
    let [packet] = &packets[..] else {
        panic!("{packets:?}")
    };
    use Stage::*;
    assert_eq!(
        stages(packet),
        [
            DeviceQueue,
            DeviceTransmit,
            DeviceReceive,
            Bridge,
            Prerouting,
            Bridge,
            Input,
            Output,
            Postrouting,
            DeviceQueue,
            Bridge,
            DeviceQueue,
            DeviceTransmit,
            DeviceReceive,
            Socket,
        ]
    );
    assert_eq!(
        (packet.holes(), packet.verdict, packet.verdict_observed),
        (0, Verdict::Delivered, true)
    );
    let (stage, kind, from, to) = translation(packet);
    assert_eq!((stage, kind), (Input, TranslationKind::Dnat));
    assert_eq!((from.destination, to.destination), (service(), backend()));
    let (input, output) = (&packet.hops[6], &packet.hops[7]);
    assert_eq!(input.left, Some(output.time), "the time that IPVS took");
}

#[test]
fn both_directions_are_one_flow_with_a_backend() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    records.extend(reply(&mut walk, SYN_ACK, 100));
    records.extend(request(&mut walk, ACK, 2));
    // With net.ipv4.vs.conntrack, conntrack tells the same.
    records.push(walk::conntrack(
        NODE,
        client(),
        service(),
        backend(),
        client(),
    ));
    let mut journeys = engine();
    let packets = run(&mut journeys, &records);
    assert_eq!(packets.iter().map(Packet::holes).sum::<u32>(), 0);
    let flows = journeys.flows();
    let [flow] = &flows[..] else {
        panic!("{flows:?}")
    };
    assert_eq!(
        (flow.client, flow.destination, flow.backend, flow.packets),
        (client(), service(), Some(backend()), [2, 1])
    );
    assert_eq!(flow.backend_netns, Some(NetnsId(SERVER)));
    let [made] = &flow.translations[..] else {
        panic!("{:?}", flow.translations)
    };
    assert_eq!(
        (made.kind, made.stage, made.netns, made.from, made.to),
        (
            TranslationKind::Dnat,
            Some(Stage::Input),
            NetnsId(NODE),
            service(),
            backend()
        )
    );
    let back = packets.iter().find(|p| p.direction == Direction::Reply);
    let (stage, kind, ..) = translation(back.unwrap());
    assert_eq!((stage, kind), (Stage::Forward, TranslationKind::UnDnat));
}

#[test]
fn every_event_that_is_missing_inside_leaves_a_hole() {
    let whole = request(&mut Walk::new(), SYN, 1);
    for missing in 1..whole.len() - 1 {
        let mut records = whole.clone();
        let removed = records.remove(missing);
        let packets = run(&mut engine(), &records);
        let holes: u32 = packets.iter().map(Packet::holes).sum();
        assert_eq!(packets.len(), 1, "without {removed:?}");
        // What the bridge passes up is at its host's hooks without a further event on some ways.
        let optional = matches!(removed, Record::Event(e)
            if e.record.hook == hook::DEVICE_RECEIVE && e.has(FLAG_BRIDGE));
        assert!(holes > 0 || optional, "no hole without {removed:?}");
    }
}

#[test]
fn what_the_node_itself_calls_is_taken_in_output() {
    let mut walk = Walk::new();
    walk.begin(client(), service(), SYN, 1);
    walk.enter_at(OUTPUT, ("lo", 1), FLAG_LOOPBACK);
    walk.retarget(client(), backend());
    sent_on(&mut walk);
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    let [packet] = &packets[..] else {
        panic!("{packets:?}")
    };
    use Stage::*;
    assert_eq!(
        stages(packet)[..4],
        [Output, Output, Postrouting, DeviceQueue]
    );
    let (stage, kind, ..) = translation(packet);
    assert_eq!((stage, kind), (Output, TranslationKind::Dnat));
    assert!(packet.hops[0].made.is_some() && packet.hops[1].made.is_none());
    assert_eq!(packet.holes(), 0);
    assert_eq!(journeys.flows()[0].translations[0].stage, Some(Output));
}

#[test]
fn an_endpoint_on_the_node_is_left_to_the_hook() {
    let local = endpoint("10.244.0.1", 8080);
    let mut walk = Walk::new();
    called(&mut walk, SYN, 1);
    walk.retarget(client(), local);
    walk.leave(INPUT);
    walk.socket(NODE);
    let packets = run(&mut engine(), &walk.take());
    let (stage, kind, _, to) = translation(&packets[0]);
    assert_eq!((stage, kind), (Stage::Input, TranslationKind::Dnat));
    assert_eq!((to.destination, packets[0].holes()), (local, 0));
    assert_eq!(packets[0].verdict, Verdict::Delivered);
}

#[test]
fn what_is_routed_untranslated_is_one_packet_without_a_translation() {
    let mut walk = Walk::new();
    called(&mut walk, SYN, 1);
    sent_on(&mut walk);
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    let [packet] = &packets[..] else {
        panic!("{packets:?}")
    };
    assert_eq!((packet.holes(), packet.verdict), (0, Verdict::Delivered));
    assert!(packet.hops.iter().all(|hop| hop.made.is_none()));
    assert_eq!(journeys.flows()[0].translations, []);
}

#[test]
fn a_virtual_server_without_real_ones_drops_in_its_hook() {
    let mut walk = Walk::new();
    called(&mut walk, SYN, 1);
    walk.drop(8, 0xffff_ffff_c000_0000);
    let packets = run(&mut engine(), &walk.take());
    let dropped = packets[0].dropped.unwrap();
    assert_eq!(
        (packets[0].verdict, dropped.stage, packets[0].holes()),
        (Verdict::Dropped, Stage::Input, 0)
    );
}

#[test]
fn the_same_events_without_ipvs_have_a_hole() {
    // Another namespace's OUTPUT, or another hook, is no way out of a hook.
    let mut elsewhere = Walk::new();
    called(&mut elsewhere, SYN, 1);
    elsewhere.device(hook::DEVICE_QUEUE, NODE, "veth-b", 12, FLAG_BRIDGE_PORT);
    let packets = run(&mut engine(), &elsewhere.take());
    assert_eq!(
        packets[0].hops.last().unwrap().hole,
        Some(Hole::Missing(Stage::Input))
    );
    let mut other = Walk::new();
    called(&mut other, SYN, 1);
    other.hook(POSTROUTING);
    assert!(run(&mut engine(), &other.take())[0].holes() > 0);
}
