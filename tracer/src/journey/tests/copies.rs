//! Copies: of a bridge that floods, for the sender's own host, for several sockets, by rules.

use tracer_common::record::{FLAG_BRIDGE_PORT, PACKET_LOOPBACK};

use super::*;

/// `PACKET_MULTICAST` (uapi).
const TO_MANY: u8 = 2;
const FULL: u32 = 6;

fn group() -> Endpoint {
    endpoint("239.1.2.3", 5000)
}

/// A packet to a group, up to the switch's port (namespace 9).
fn to_group(walk: &mut Walk) -> u64 {
    walk.begin_udp(client(), group(), 7);
    walk.payload(10);
    walk.packet_type(TO_MANY);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_RECEIVE, 9, "port1", 1, FLAG_BRIDGE_PORT);
    walk.skb()
}

/// A copy at that address goes out by a port.
fn out_by(walk: &mut Walk, skb: u64, port: &str, ifindex: u32) {
    walk.at(skb);
    walk.device(hook::DEVICE_QUEUE, 9, port, ifindex, FLAG_BRIDGE_PORT);
    walk.device(hook::DEVICE_TRANSMIT, 9, port, ifindex, FLAG_BRIDGE_PORT);
}

#[test]
fn a_copy_that_is_over_does_not_hide_the_others() {
    let mut walk = Walk::new();
    let original = to_group(&mut walk);
    out_by(&mut walk, original + 8192, "port2", 2);
    walk.device(hook::DEVICE_RECEIVE, 10, "eth0", 2, 0);
    walk.drop(OTHERHOST, 1);
    // Made of the original, after the first copy's end.
    out_by(&mut walk, original + 16384, "port3", 3);
    walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
    walk.socket(SERVER);
    walk.at(original);
    walk.drop(OTHERHOST, 1);
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    let [packet] = &packets[..] else {
        panic!("{packets:#?}")
    };
    assert_eq!((packet.verdict, packet.holes()), (Verdict::Delivered, 0));
    assert_eq!(packet.hops.len(), 7);
    let flow = journeys.flows()[0].clone();
    assert_eq!((flow.packets, flow.drops), ([1, 0], 0));
}

#[test]
fn of_copies_that_are_all_dropped_the_socket_that_was_full_is_told() {
    let mut walk = Walk::new();
    let original = to_group(&mut walk);
    out_by(&mut walk, original + 8192, "port2", 2);
    walk.device(hook::DEVICE_RECEIVE, 10, "eth0", 2, 0);
    walk.drop(2, 1);
    out_by(&mut walk, original, "port3", 3);
    walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
    walk.socket(SERVER);
    walk.drop(FULL, 1);
    let packets = run(&mut engine(), &walk.take());
    let dropped = packets[0].dropped.unwrap();
    assert_eq!(
        (packets.len(), dropped.reason, dropped.stage),
        (1, FULL, Stage::Socket)
    );
}

/// What the sender's own host gets comes first: it is sent back before the packet is sent.
fn looped_back(walk: &mut Walk) -> u64 {
    walk.begin_udp(client(), group(), 7);
    walk.payload(10);
    walk.packet_type(PACKET_LOOPBACK);
    walk.device(hook::DEVICE_RECEIVE, CLIENT, "eth0", 2, 0);
    walk.skb()
}

#[test]
fn the_copy_for_the_own_host_is_no_packet_more() {
    let mut walk = Walk::new();
    let own = looped_back(&mut walk);
    walk.socket(CLIENT);
    let records = walk.take();
    let mut rest = Walk::new();
    let original = to_group(&mut rest);
    out_by(&mut rest, original, "port2", 2);
    rest.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
    rest.socket(SERVER);
    let mut rest = rest.take();
    assert_eq!(own, original);
    apart(&mut rest);
    let mut journeys = engine();
    let packets = run(&mut journeys, &[records, rest].concat());
    assert_eq!(packets.len(), 2, "{packets:#?}");
    assert!(
        packets
            .iter()
            .all(|it| it.verdict == Verdict::Delivered && it.holes() == 0)
    );
    let flow = journeys.flows()[0].clone();
    assert_eq!(
        (flow.packets, flow.client_netns),
        ([1, 0], Some(NetnsId(CLIENT)))
    );
}

/// Moves what another walk made to addresses and times of its own.
fn apart(records: &mut [Record]) {
    for record in records {
        if let Record::Event(event) = record {
            event.record.skb += 1 << 20;
            event.record.time += 100_000;
        }
    }
}

#[test]
fn nobody_at_home_is_no_drop_of_what_is_sent() {
    let mut walk = Walk::new();
    looped_back(&mut walk);
    walk.drop(3, 1);
    let records = walk.take();
    let mut rest = Walk::new();
    to_group(&mut rest);
    rest.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
    rest.socket(SERVER);
    let mut rest = rest.take();
    apart(&mut rest);
    let mut journeys = engine();
    let packets = run(&mut journeys, &[records.clone(), rest].concat());
    assert_eq!((packets.len(), packets[0].verdict), (1, Verdict::Delivered));
    assert_eq!(
        (journeys.flows()[0].packets, journeys.flows()[0].drops),
        ([1, 0], 0)
    );
    // Alone it is.
    let packets = run(&mut engine(), &records);
    assert_eq!((packets.len(), packets[0].verdict), (1, Verdict::Dropped));
}

/// A packet at a pod's sockets: `taken` of them, of which so many have no room.
fn at_sockets(packet_type: u8, taken: u32, full: u32) -> Packet {
    let mut walk = Walk::new();
    walk.begin_udp(client(), backend(), 7);
    walk.payload(10);
    walk.packet_type(packet_type);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
    let original = walk.skb();
    for n in 0..taken {
        walk.at(original);
        walk.socket(SERVER);
        if n < full {
            // All but the last take copies.
            let copy = if n + 1 == taken { 0 } else { 8192 };
            walk.at(original + copy);
            walk.drop(FULL, 1);
        }
    }
    let mut packets = run(&mut engine(), &walk.take());
    assert_eq!(packets.len(), 1, "{packets:#?}");
    packets.remove(0)
}

#[test]
fn a_group_packet_is_dropped_when_no_socket_has_it() {
    assert_eq!(at_sockets(TO_MANY, 3, 0).verdict, Verdict::Delivered);
    assert_eq!(at_sockets(TO_MANY, 3, 2).verdict, Verdict::Delivered);
    assert_eq!(at_sockets(TO_MANY, 3, 3).verdict, Verdict::Dropped);
    assert_eq!(at_sockets(TO_MANY, 1, 1).verdict, Verdict::Dropped);
}

#[test]
fn a_raw_socket_that_has_it_is_not_the_one_that_it_was_for() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    walk.socket(SERVER);
    walk.drop(FULL, 1);
    records.extend(walk.take());
    assert_eq!(run(&mut engine(), &records)[0].verdict, Verdict::Dropped);
}

#[test]
fn a_socket_that_takes_it_late_makes_no_packet() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    walk.wait(Patience::default().delivered * 2);
    walk.socket(SERVER);
    walk.drop(FULL, 1);
    records.extend(walk.take());
    let mut journeys = engine();
    let packets = run(&mut journeys, &records);
    assert_eq!((packets.len(), packets[0].verdict), (1, Verdict::Delivered));
    assert_eq!(journeys.flows().len(), 1);
}

#[test]
fn what_a_hook_uses_up_was_taken_by_it() {
    let mut walk = Walk::new();
    walk.begin(client(), service(), SYN, 1);
    walk.pod_to_bridge(CLIENT, "veth-a", 11);
    walk.hook(hook::netfilter::PREROUTING);
    walk.enter(hook::netfilter::FORWARD);
    // SYNPROXY answers in the server's name.
    walk.consume();
    let packets = run(&mut engine(), &walk.take());
    assert_eq!(
        (
            packets.len(),
            packets[0].verdict,
            packets[0].verdict_observed
        ),
        (1, Verdict::Delivered, true)
    );
}
