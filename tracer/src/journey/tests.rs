//! The engine on packets walked through a small node: two pods on a bridge, one Service.

mod captured;
mod copies;
mod identity;
mod ipvs;
mod limits;
mod processes;
mod train;
mod walk;

use walk::{CLIENT, NODE, SERVER, Walk, endpoint};

use tracer_common::record::FLAG_HAS_NETFILTER;

use super::{
    model::{Direction, Ends, Hole, Process, Stage, State, TranslationKind, Verdict},
    *,
};
use crate::event::{Endpoint, Tuple};

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const ACK: u8 = 16;
const FIN_ACK: u8 = 17;
const RST: u8 = 20;

/// Drop reasons: numbers as good as any.
const OTHERHOST: u32 = 13;

fn engine() -> Journeys {
    let reasons = Reasons {
        after_delivery: vec![50],
        bystander: vec![OTHERHOST],
    };
    let mut journeys = Journeys::new(Limits::default(), Patience::default(), reasons);
    journeys.netfilter_observed(NetnsId(NODE), Some(0));
    journeys
}

fn client() -> Endpoint {
    endpoint("10.244.0.2", 42980)
}

fn service() -> Endpoint {
    endpoint("10.96.45.123", 80)
}

fn backend() -> Endpoint {
    endpoint("10.244.0.3", 8080)
}

/// A packet of the client to the Service: DNAT in prerouting.
fn request(walk: &mut Walk, flags: u8, sequence: u32) -> Vec<Record> {
    walk.begin(client(), service(), flags, sequence);
    walk.pod_to_bridge(CLIENT, "veth-a", 11);
    walk.enter(hook::netfilter::PREROUTING);
    walk.retarget(client(), backend());
    walk.leave(hook::netfilter::PREROUTING);
    walk.bridge_to_pod(SERVER, "veth-b", 12);
    walk.take()
}

/// The backend's answer: turned back in postrouting.
fn reply(walk: &mut Walk, flags: u8, sequence: u32) -> Vec<Record> {
    walk.begin(backend(), client(), flags, sequence);
    walk.pod_to_bridge(SERVER, "veth-b", 12);
    walk.hook(hook::netfilter::PREROUTING);
    walk.hook(hook::netfilter::FORWARD);
    walk.enter(hook::netfilter::POSTROUTING);
    walk.retarget(service(), client());
    walk.leave(hook::netfilter::POSTROUTING);
    walk.port_to_pod(CLIENT, "veth-a", 11);
    walk.take()
}

fn run(journeys: &mut Journeys, records: &[Record]) -> Vec<Packet> {
    for record in records {
        journeys.push(record);
    }
    journeys.finish();
    journeys.take_packets().collect()
}

#[test]
fn a_request_is_one_packet_with_its_translation_and_no_hole() {
    let mut journeys = engine();
    let packets = run(&mut journeys, &request(&mut Walk::new(), SYN, 1));
    let [packet] = &packets[..] else {
        panic!("{packets:?}")
    };
    let path: Vec<(Stage, u32)> = packet
        .hops
        .iter()
        .map(|hop| (hop.stage, hop.netns.0))
        .collect();
    assert_eq!(
        path,
        [
            (Stage::DeviceQueue, CLIENT),
            (Stage::DeviceTransmit, CLIENT),
            (Stage::DeviceReceive, NODE),
            (Stage::Bridge, NODE),
            (Stage::Prerouting, NODE),
            (Stage::Forward, NODE),
            (Stage::Postrouting, NODE),
            (Stage::DeviceQueue, NODE),
            (Stage::DeviceTransmit, NODE),
            (Stage::DeviceReceive, SERVER),
            (Stage::Socket, SERVER),
        ]
    );
    assert_eq!(
        (packet.verdict, packet.verdict_observed),
        (Verdict::Delivered, true)
    );
    assert_eq!(packet.holes(), 0);
    let translation = packet.hops[4].translations().next().unwrap();
    assert_eq!(translation.kind, TranslationKind::Dnat);
    assert_eq!(
        (translation.from.destination, translation.to.destination),
        (service(), backend())
    );
    assert!(packet.hops[4].left.unwrap() > packet.hops[4].time);
}

#[test]
fn both_directions_are_one_flow_with_both_tuples() {
    let mut journeys = engine();
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    records.extend(reply(&mut walk, SYN_ACK, 100));
    records.extend(request(&mut walk, ACK, 2));
    records.extend(request(&mut walk, FIN_ACK, 3));
    records.extend(reply(&mut walk, FIN_ACK, 101));
    records.extend(request(&mut walk, ACK, 4));
    let packets = run(&mut journeys, &records);
    assert_eq!(packets.len(), 6);
    let flows = journeys.flows();
    let [flow] = &flows[..] else {
        panic!("{flows:?}")
    };
    assert_eq!(
        (flow.client, flow.destination, flow.backend),
        (client(), service(), Some(backend()))
    );
    assert_eq!(
        (flow.client_netns, flow.backend_netns),
        (Some(NetnsId(CLIENT)), Some(NetnsId(SERVER)))
    );
    assert_eq!((flow.packets, flow.drops, flow.holes), ([4, 2], 0, 0));
    assert_eq!(flow.state, State::Closed);
    let [translation] = &flow.translations[..] else {
        panic!("{:?}", flow.translations)
    };
    assert_eq!(
        (translation.kind, translation.stage),
        (TranslationKind::Dnat, Some(Stage::Prerouting))
    );
    assert_eq!((translation.from, translation.to), (service(), backend()));
    let back = packets
        .iter()
        .find(|packet| packet.direction == Direction::Reply)
        .unwrap();
    let turned = back
        .hops
        .iter()
        .find_map(|hop| hop.translations().next())
        .unwrap();
    assert_eq!(turned.kind, TranslationKind::UnDnat);
}

#[test]
fn every_event_that_is_missing_inside_leaves_a_hole() {
    let whole = request(&mut Walk::new(), SYN, 1);
    // The first is the beginning; after the last nothing can be missed.
    for missing in 1..whole.len() - 1 {
        let mut records = whole.clone();
        let removed = records.remove(missing);
        let mut journeys = engine();
        let packets = run(&mut journeys, &records);
        let holes: u32 = packets.iter().map(Packet::holes).sum();
        assert_eq!(packets.len(), 1, "without {removed:?}");
        assert!(holes > 0, "no hole without {removed:?}");
        assert_eq!(journeys.flows()[0].holes, u64::from(holes));
    }
}

#[test]
fn a_journey_that_begins_in_the_middle_says_so() {
    let records = request(&mut Walk::new(), SYN, 1).split_off(2);
    let packets = run(&mut engine(), &records);
    assert_eq!(packets[0].hops[0].hole, Some(Hole::Beginning));
}

#[test]
fn what_was_under_way_when_tracing_began_has_no_hole() {
    let mut records = request(&mut Walk::new(), SYN, 1).split_off(2);
    for record in &mut records {
        let Record::Event(event) = record else {
            panic!("{record:?}");
        };
        event.record.time += 1_000_000_000;
    }
    let first = records[0].time();
    for (began, hole) in [
        (first - 1, None),
        (first - 100_000_000, Some(Hole::Beginning)),
    ] {
        let mut journeys = engine();
        journeys.began(began);
        let packets = run(&mut journeys, &records);
        assert_eq!(packets[0].hops[0].hole, hole, "began at {began}");
        assert_eq!(packets[0].holes(), u32::from(hole.is_some()));
    }
}

#[test]
fn unobserved_netfilter_is_a_hole_and_none_at_all_is_not() {
    let plain = |flags: u16| {
        let mut walk = Walk::new();
        walk.begin(client(), backend(), SYN, 1);
        walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
        walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
        walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, flags);
        walk.socket(SERVER);
        run(&mut engine(), &walk.take())
    };
    assert_eq!(plain(0)[0].holes(), 0);
    let unobserved = plain(FLAG_HAS_NETFILTER);
    assert_eq!(
        unobserved[0].hops.last().unwrap().hole,
        Some(Hole::NetfilterUnobserved)
    );
}

#[test]
fn a_drop_names_the_hook_it_happened_in() {
    let mut walk = Walk::new();
    walk.begin(client(), backend(), SYN, 1);
    walk.pod_to_bridge(CLIENT, "veth-a", 11);
    walk.hook(hook::netfilter::PREROUTING);
    walk.enter(hook::netfilter::FORWARD);
    walk.drop(8, 0xffff_ffff_8100_0000);
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    let [packet] = &packets[..] else {
        panic!("{packets:?}")
    };
    assert_eq!(packet.verdict, Verdict::Dropped);
    let dropped = packet.dropped.unwrap();
    assert_eq!(
        (dropped.reason, dropped.stage, dropped.netns),
        (8, Stage::Forward, NetnsId(NODE))
    );
    assert_eq!(packet.hops.last().unwrap().stage, Stage::Drop);
    assert_eq!((packet.holes(), journeys.flows()[0].drops), (0, 1));
}

#[test]
fn a_reset_from_somebody_elses_mouth_is_no_backend() {
    let mut walk = Walk::new();
    walk.begin(client(), service(), SYN, 1);
    walk.pod_to_bridge(CLIENT, "veth-a", 11);
    walk.enter(hook::netfilter::PREROUTING);
    walk.drop(8, 1);
    let mut records = walk.take();
    walk.begin(service(), client(), RST, 0);
    walk.device(hook::DEVICE_QUEUE, NODE, "veth-a", 11, 0);
    walk.device(hook::DEVICE_TRANSMIT, NODE, "veth-a", 11, 0);
    walk.device(hook::DEVICE_RECEIVE, CLIENT, "eth0", 2, 0);
    walk.socket(CLIENT);
    records.extend(walk.take());
    let mut journeys = engine();
    run(&mut journeys, &records);
    let flows = journeys.flows();
    let [flow] = &flows[..] else {
        panic!("{flows:?}")
    };
    assert_eq!(
        (flow.state, flow.backend, flow.packets),
        (State::Refused, None, [1, 1])
    );
}

#[test]
fn an_icmp_error_goes_with_the_flow_that_it_quotes() {
    let mut walk = Walk::new();
    walk.begin_udp(client(), backend(), 7);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
    walk.drop(3, 1);
    let mut records = walk.take();
    let about = Tuple {
        source: client(),
        destination: backend(),
        protocol: 17,
    };
    walk.begin_icmp_error(endpoint("10.244.0.3", 0), endpoint("10.244.0.2", 0), about);
    walk.device(hook::DEVICE_QUEUE, SERVER, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, SERVER, "eth0", 2, 0);
    walk.device(hook::DEVICE_RECEIVE, CLIENT, "eth0", 2, 0);
    records.extend(walk.take());
    let mut journeys = engine();
    let packets = run(&mut journeys, &records);
    let flows = journeys.flows();
    let [flow] = &flows[..] else {
        panic!("{flows:?}")
    };
    assert_eq!(
        (flow.protocol, flow.packets, flow.state),
        (17, [1, 1], State::Refused)
    );
    assert!(
        packets
            .iter()
            .any(|packet| packet.direction == Direction::Reply && packet.protocol == 1)
    );
}

#[test]
fn an_open_flow_is_turned_round_and_paired_by_conntrack() {
    let mut walk = Walk::new();
    // The server speaks first, in the middle of a connection.
    walk.begin(backend(), client(), ACK, 500);
    walk.track(4);
    walk.pod_to_bridge(SERVER, "veth-b", 12);
    walk.enter(hook::netfilter::PREROUTING);
    walk.set_conntrack(0xffff_8880_0000_1003);
    walk.leave(hook::netfilter::PREROUTING);
    let mut records = walk.take();
    records.push(walk::conntrack(
        NODE,
        client(),
        service(),
        backend(),
        client(),
    ));
    let mut journeys = engine();
    let packets = run(&mut journeys, &records);
    assert_eq!(packets[0].direction, Direction::Reply);
    let flows = journeys.flows();
    let [flow] = &flows[..] else {
        panic!("{flows:?}")
    };
    assert_eq!((flow.client, flow.packets), (client(), [0, 1]));
    let [translation] = &flow.translations[..] else {
        panic!("{:?}", flow.translations)
    };
    assert_eq!(
        (translation.from, translation.to, translation.stage),
        (service(), backend(), None)
    );
}

#[test]
fn a_port_used_again_is_another_flow_and_a_repeated_syn_is_not() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    records.extend(request(&mut walk, SYN, 1));
    records.extend(reply(&mut walk, RST, 0));
    records.extend(request(&mut walk, SYN, 900));
    let mut journeys = engine();
    run(&mut journeys, &records);
    let packets: Vec<[u64; 2]> = journeys.flows().iter().map(|flow| flow.packets).collect();
    assert_eq!(packets, [[2, 1], [1, 0]]);
}

#[test]
fn the_same_addresses_on_another_node_are_another_flow() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    walk.begin(client(), service(), SYN, 1);
    walk.device(hook::DEVICE_QUEUE, 77, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, 77, "eth0", 2, 0);
    records.extend(walk.take());
    let mut journeys = engine();
    run(&mut journeys, &records);
    assert_eq!(journeys.flows().len(), 2);
}

#[test]
fn losses_mark_what_was_under_way() {
    let mut journeys = engine();
    let records = request(&mut Walk::new(), SYN, 1);
    for record in &records {
        journeys.push(record);
    }
    let last = journeys.flows()[0].last;
    // The connection is open: any of its packets may be what was lost.
    journeys.lost(last + 1, last + 2);
    assert!(journeys.flows()[0].affected_by_loss);
}

#[test]
fn losses_mark_what_is_first_seen_after_and_what_comes_from_then() {
    let mut journeys = engine();
    let mut walk = Walk::new();
    let records = request(&mut walk, SYN, 1);
    let Some(Record::Event(last)) = records.last() else {
        panic!()
    };
    // Notices come before the records of their time.
    journeys.lost(0, last.record.time);
    run(&mut journeys, &records);
    assert!(journeys.flows()[0].affected_by_loss);
    walk.begin(endpoint("10.244.0.9", 1), backend(), SYN, 1);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    run(&mut journeys, &walk.take());
    assert!(!journeys.flows()[1].affected_by_loss);
}

#[test]
fn losses_mark_what_is_first_seen_in_its_middle_afterwards() {
    let later = |flags, lost: u64| {
        let mut journeys = engine();
        let mut walk = Walk::new();
        let records = request(&mut walk, flags, 1);
        journeys.lost(0, lost);
        run(&mut journeys, &records);
        journeys.flows()[0].affected_by_loss
    };
    // Its SYN may be what was lost.
    assert!(later(ACK, 1));
    assert!(!later(SYN, 1));
    assert!(!later(ACK, 0), "nothing was lost");
    // Of a whole walk without its first hop, the beginning may be.
    let mut journeys = engine();
    journeys.lost(0, 1);
    let records = request(&mut Walk::new(), SYN, 1);
    let rest = records.iter().position(
        |record| matches!(record, Record::Event(e) if e.record.hook == hook::DEVICE_TRANSMIT),
    );
    run(&mut journeys, &records[rest.unwrap()..]);
    assert!(journeys.flows()[0].affected_by_loss);
}

#[test]
fn a_drop_that_is_all_that_was_seen_of_a_flow_can_be_filtered() {
    let mut walk = Walk::new();
    walk.begin(client(), service(), ACK, 1);
    walk.drop(6, 7);
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    assert_eq!(packets[0].verdict, Verdict::Dropped);
    let flow = journeys.flows()[0];
    assert_eq!(flow.drops, 1);
    assert_eq!(flow.subjects.len(), 1, "{flow:?}");
}

#[test]
fn what_is_let_go_is_no_hole_and_the_flow_is_a_sample() {
    let without_queue = |sampled: &[(u64, bool)]| {
        let mut journeys = engine();
        for (time, sampled) in sampled {
            journeys.sampled(*time, *sampled);
        }
        let records = request(&mut Walk::new(), SYN, 1);
        let rest = records.iter().position(
            |record| matches!(record, Record::Event(e) if e.record.hook == hook::DEVICE_TRANSMIT),
        );
        let packets = run(&mut journeys, &records[rest.unwrap()..]);
        (packets[0].holes(), journeys.flows()[0].sampled)
    };
    assert_eq!(without_queue(&[]), (1, false));
    assert_eq!(without_queue(&[(0, true)]), (0, true));
    // What is under way when everything is seen again may have begun before.
    assert_eq!(without_queue(&[(0, true), (1, false)]), (0, true));
}

#[test]
fn with_everything_observed_only_hooks_that_there_are_can_be_missing() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    // Neither forward's beginning nor its end: in the first packet nobody knows of it.
    let without_forward = |records: &mut Vec<Record>| {
        records.retain(|record| {
            !matches!(record, Record::Event(e) if e.record.netfilter_hook == hook::netfilter::FORWARD)
        });
    };
    without_forward(&mut records);
    let mut journeys = Journeys::new(Limits::default(), Patience::default(), Reasons::default());
    journeys.netfilter_observed_everywhere(0);
    assert_eq!(run(&mut journeys, &records)[0].holes(), 0);
    assert_eq!(
        run(&mut journeys, &request(&mut walk, ACK, 2))[0].holes(),
        0
    );
    let mut records = request(&mut walk, ACK, 3);
    without_forward(&mut records);
    assert_eq!(run(&mut journeys, &records)[0].holes(), 1);
}
