//! Buffers that are merged on reception, and buffers that are cut.

use tracer_common::record::FLAG_BRIDGE_PORT;

use super::*;

const PSH_ACK: u8 = 24;
/// `SKB_DROP_REASON_NOT_SPECIFIED`.
const NOT_SPECIFIED: u32 = 2;

/// `count` segments of 1000 bytes, sent by the client's pod; their addresses.
fn sent(walk: &mut Walk, count: u32) -> Vec<u64> {
    let each = (0..count).map(|n| {
        walk.begin(client(), backend(), ACK, 1000 + n * 1000);
        walk.payload(1000);
        walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
        walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
        walk.skb()
    });
    each.collect()
}

/// They arrive as one, at the first one's address.
fn merged(walk: &mut Walk, first: u64, count: u32) {
    walk.begin(client(), backend(), PSH_ACK, 1000);
    walk.like(first);
    walk.payload(count * 1000);
    walk.device(hook::DEVICE_RECEIVE, NODE, "veth-a", 11, FLAG_BRIDGE_PORT);
    walk.hook(hook::netfilter::PREROUTING);
}

fn stages(packet: &Packet) -> Vec<Stage> {
    packet.hops.iter().map(|hop| hop.stage).collect()
}

/// Of all packets, and what makes them whole.
fn all_alike(packets: &[Packet], verdict: Verdict) {
    for packet in packets {
        assert_eq!(
            (stages(packet), packet.verdict, packet.holes()),
            (stages(&packets[0]), verdict, 0)
        );
        assert_eq!(packet.payload, 1000);
    }
}

#[test]
fn merged_packets_share_the_rest_of_the_way() {
    let mut walk = Walk::new();
    let addresses = sent(&mut walk, 3);
    merged(&mut walk, addresses[0], 3);
    walk.bridge_to_pod(SERVER, "veth-b", 12);
    let mut records = walk.take();
    // The others are freed with the first, with the reason of whoever frees that.
    walk.begin(client(), backend(), ACK, 2000);
    walk.like(addresses[1]);
    walk.payload(1000);
    walk.drop(7, 1);
    records.extend(walk.take());
    let mut journeys = engine();
    let packets = run(&mut journeys, &records);
    assert_eq!(packets.len(), 3);
    all_alike(&packets, Verdict::Delivered);
    assert_eq!(packets[0].hops.len(), 11);
    let flow = journeys.flows()[0].clone();
    assert_eq!((flow.packets, flow.drops, flow.holes), ([3, 0], 0, 0));
}

#[test]
fn a_merged_buffer_that_is_dropped_is_so_many_packets() {
    let mut walk = Walk::new();
    let addresses = sent(&mut walk, 3);
    merged(&mut walk, addresses[0], 3);
    walk.enter(hook::netfilter::FORWARD);
    walk.drop(8, 1);
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    assert_eq!((packets.len(), journeys.flows()[0].drops), (3, 3));
    all_alike(&packets, Verdict::Dropped);
    assert_eq!(packets[2].dropped.unwrap().stage, Stage::Forward);
}

#[test]
fn what_is_merged_is_apart_again_behind_the_queue() {
    let mut walk = Walk::new();
    let addresses = sent(&mut walk, 3);
    merged(&mut walk, addresses[0], 3);
    walk.hook(hook::netfilter::FORWARD);
    walk.hook(hook::netfilter::POSTROUTING);
    walk.device(hook::DEVICE_QUEUE, NODE, "veth-b", 12, FLAG_BRIDGE_PORT);
    walk.consume();
    for n in 0..3 {
        walk.begin(client(), backend(), ACK, 1000 + n * 1000);
        walk.payload(1000);
        walk.device(hook::DEVICE_TRANSMIT, NODE, "veth-b", 12, FLAG_BRIDGE_PORT);
        walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
        walk.socket(SERVER);
    }
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    assert_eq!(packets.len(), 3);
    all_alike(&packets, Verdict::Delivered);
    let mut ids: Vec<_> = packets.iter().map(|packet| packet.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert_eq!(journeys.flows()[0].packets, [3, 0]);
    assert_eq!(journeys.in_flight(), 0);
}

#[test]
fn only_what_follows_is_merged() {
    let mut walk = Walk::new();
    let first = sent(&mut walk, 1)[0];
    // Another connection's, and one behind a gap.
    walk.begin(endpoint("10.244.0.2", 1), backend(), ACK, 2000);
    walk.payload(1000);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    walk.begin(client(), backend(), ACK, 4000);
    walk.payload(1000);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    merged(&mut walk, first, 2);
    let packets = run(&mut engine(), &walk.take());
    assert_eq!(packets.len(), 3);
    let on: Vec<usize> = packets.iter().map(|packet| packet.hops.len()).collect();
    assert_eq!(on.iter().filter(|hops| **hops > 2).count(), 1);
}

#[test]
fn datagrams_are_merged_in_their_order() {
    let mut walk = Walk::new();
    let mut first = 0;
    for n in 0..3 {
        walk.begin_udp(client(), backend(), 70 + n);
        walk.payload(1000);
        walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
        walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
        if n == 0 {
            first = walk.skb();
        }
    }
    walk.begin_udp(client(), backend(), 70);
    walk.like(first);
    walk.payload(3000);
    walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
    walk.socket(SERVER);
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    assert_eq!(packets.len(), 3);
    all_alike(&packets, Verdict::Delivered);
}

/// A large buffer that was handed to the pod's device, and freed for its segments.
fn handed_over(walk: &mut Walk) {
    walk.begin(client(), backend(), ACK, 1000);
    walk.payload(3000);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.consume();
}

#[test]
fn a_segment_that_is_lost_is_told_although_others_arrive() {
    let mut walk = Walk::new();
    handed_over(&mut walk);
    for n in 0..3 {
        walk.begin(client(), backend(), ACK, 1000 + n * 1000);
        walk.payload(1000);
        if n == 1 {
            walk.drop_at((CLIENT, "eth0", 2), 60);
            continue;
        }
        walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
        walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
        walk.socket(SERVER);
    }
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    let verdicts: Vec<Verdict> = packets.iter().map(|packet| packet.verdict).collect();
    assert_eq!(verdicts.len(), 3);
    assert_eq!(
        verdicts
            .iter()
            .filter(|it| **it == Verdict::Dropped)
            .count(),
        1
    );
    let flow = journeys.flows()[0].clone();
    assert_eq!((flow.packets, flow.drops, flow.holes), ([3, 0], 1, 0));
}

#[test]
fn a_segment_may_wait_in_the_queue_for_long() {
    let mut walk = Walk::new();
    handed_over(&mut walk);
    for n in 0..3 {
        walk.wait(300_000_000);
        walk.begin(client(), backend(), ACK, 1000 + n * 1000);
        walk.payload(1000);
        walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
        walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
        walk.socket(SERVER);
    }
    let packets = run(&mut engine(), &walk.take());
    assert_eq!(packets.len(), 3);
    all_alike(&packets, Verdict::Delivered);
}

#[test]
fn a_buffer_that_a_hook_drops_without_a_reason_is_dropped_when_no_segment_comes() {
    let mut walk = Walk::new();
    walk.begin(client(), backend(), ACK, 1000);
    walk.payload(3000);
    walk.pod_to_bridge(CLIENT, "veth-a", 11);
    walk.hook(hook::netfilter::PREROUTING);
    walk.enter(hook::netfilter::FORWARD);
    walk.drop(NOT_SPECIFIED, 1);
    let mut journeys = engine();
    for record in &walk.take() {
        journeys.push(record);
    }
    assert_eq!(journeys.take_packets().count(), 0);
    journeys.advance(u64::MAX);
    let packets: Vec<Packet> = journeys.take_packets().collect();
    assert_eq!((packets.len(), packets[0].verdict), (1, Verdict::Dropped));
    assert_eq!(packets[0].dropped.unwrap().stage, Stage::Forward);
}

#[test]
fn of_a_buffer_that_a_socket_takes_in_pieces_the_refused_ones_are_told() {
    let mut walk = Walk::new();
    walk.begin_udp(client(), backend(), 7);
    walk.payload(3000);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
    walk.consume();
    for n in 1..3 {
        walk.begin_udp(client(), backend(), 70 + n);
        walk.payload(1000);
        walk.drop_at((SERVER, "eth0", 2), 6);
    }
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    let dropped = packets.iter().filter(|it| it.verdict == Verdict::Dropped);
    assert_eq!((packets.len(), dropped.count()), (3, 2));
    let arrived = packets.iter().find(|it| it.verdict == Verdict::Delivered);
    assert_eq!(arrived.unwrap().payload, 1000);
    assert_eq!(journeys.flows()[0].packets, [3, 0]);
}

#[test]
fn with_everything_observed_a_hook_that_queues_is_not_left_and_that_is_no_hole() {
    let mut walk = Walk::new();
    walk.begin(client(), backend(), SYN, 1);
    walk.pod_to_bridge(CLIENT, "veth-a", 11);
    walk.hook(hook::netfilter::PREROUTING);
    walk.enter(hook::netfilter::FORWARD);
    walk.wait(20_000_000);
    walk.hook(hook::netfilter::POSTROUTING);
    walk.port_to_pod(SERVER, "veth-b", 12);
    let records = walk.take();
    let mut everything = engine();
    everything.netfilter_observed_everywhere(0);
    assert_eq!(run(&mut everything, &records)[0].holes(), 0);
    // A link sees also what comes back.
    assert_eq!(run(&mut engine(), &records)[0].holes(), 1);
}
