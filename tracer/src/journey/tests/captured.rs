//! The engine on what a kernel (6.18) showed of packets that were merged, cut, copied or kept.
//!
//! `captured/*.txt` are the events of one lab each, as the ring gave them, with addresses and
//! namespaces numbered anew. A line is: time, hook, namespace, device/index, flags, `sk_buff`,
//! source, destination, protocol, sequence, acknowledgement, TCP flags, IP id, length, payload,
//! TTL, conntrack, drop reason, packet type.

use tracer_common::{address, record};

use super::*;
use crate::event::{Event, Record};

/// Reasons by number: numbers differ by kernel anyway.
const REASONS: [&str; 8] = [
    "-",
    "SKB_CONSUMED",
    "NOT_SPECIFIED",
    "OTHERHOST",
    "SOCKET_RCVBUFF",
    "IP_LOCAL_SOURCE",
    "TCP_OLD_DATA",
    "IP_INADDRERRORS",
];

fn reason(name: &str) -> u32 {
    let at = REASONS.iter().position(|known| *known == name);
    u32::try_from(at.unwrap()).unwrap()
}

fn event(line: &str) -> Event {
    let mut fields = line.split(' ');
    let mut next = || fields.next().unwrap();
    let mut r = record::Event {
        head: record::Head {
            kind: record::KIND_EVENT,
            time: 1_000_000_000 + next().parse::<u64>().unwrap(),
            ..record::Head::default()
        },
        ..record::Event::default()
    };
    (r.hook, r.netfilter_hook) = hook_of(next());
    r.netns = next().parse().unwrap();
    let (device, index) = next().split_once('/').unwrap();
    r.ifindex = index.parse().unwrap();
    let mut name = [0; 16];
    name[..device.len()].copy_from_slice(device.as_bytes());
    if device != "-" {
        r.device_name = address::from_bytes(name);
    }
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let small = |text: &str| u32::try_from(hex(text)).unwrap();
    r.flags = u16::try_from(hex(next())).unwrap();
    r.skb = hex(next());
    for (end, port) in [
        (&mut r.source, &mut r.source_port),
        (&mut r.destination, &mut r.destination_port),
    ] {
        let (ip, number) = next().rsplit_once(':').unwrap();
        let at = endpoint(ip, number.parse().unwrap());
        (*end, *port) = (at.address, at.port);
    }
    r.protocol = next().parse().unwrap();
    r.sequence = small(next());
    r.acknowledgement = small(next());
    r.tcp_flags = u8::try_from(hex(next())).unwrap();
    r.ip_id = small(next());
    r.length = next().parse().unwrap();
    r.payload = next().parse().unwrap();
    r.ttl = next().parse().unwrap();
    r.ip_version = 4;
    r.conntrack = hex(next());
    r.reason = reason(next());
    r.packet_type = next().parse().unwrap();
    assert_eq!(fields.next(), None);
    Event {
        record: r,
        other: None,
    }
}

fn hook_of(name: &str) -> (u8, u8) {
    use hook::netfilter::{FORWARD, INPUT, OUTPUT, POSTROUTING, PREROUTING};
    if let Some(at) = hook::NAMES.iter().position(|known| *known == name) {
        return (u8::try_from(at).unwrap(), 0);
    }
    let (at, side) = name.split_once('.').unwrap();
    let side = match side {
        "enter" => hook::NETFILTER_ENTER,
        _ => hook::NETFILTER_LEAVE,
    };
    let number = match at {
        "prerouting" => PREROUTING,
        "input" => INPUT,
        "forward" => FORWARD,
        "output" => OUTPUT,
        _ => POSTROUTING,
    };
    (side, number)
}

fn records(text: &str) -> Vec<Record> {
    text.lines()
        .map(|line| Record::Event(event(line)))
        .collect()
}

/// The node is the second namespace in all of them.
fn observing() -> Journeys {
    let reasons = Reasons {
        bystander: vec![reason("OTHERHOST")],
        ..Reasons::default()
    };
    let mut journeys = Journeys::new(Limits::default(), Patience::default(), reasons);
    journeys.netfilter_observed(NetnsId(2), Some(0));
    journeys
}

fn path(packet: &Packet) -> Vec<(Stage, u32)> {
    let hops = packet.hops.iter();
    hops.map(|hop| (hop.stage, hop.netns.0)).collect()
}

/// From the second pod through the bridge to the first.
fn back() -> Vec<(Stage, u32)> {
    use Stage::*;
    vec![
        (DeviceQueue, 3),
        (DeviceTransmit, 3),
        (DeviceReceive, 2),
        (Bridge, 2),
        (Prerouting, 2),
        (Forward, 2),
        (Postrouting, 2),
        (DeviceQueue, 2),
        (DeviceTransmit, 2),
        (DeviceReceive, 1),
        (Socket, 1),
    ]
}

/// Small packets are cut from one buffer, merged on the node, cut for the port and merged in the pod.
#[test]
fn what_is_cut_and_merged_twice_are_the_packets_of_the_wire() {
    let mut journeys = observing();
    let packets = run(&mut journeys, &records(include_str!("captured/merged.txt")));
    let payloads: Vec<u32> = packets.iter().map(|packet| packet.payload).collect();
    assert_eq!(payloads, [1398, 1398, 1398, 897]);
    for packet in &packets {
        assert_eq!((path(packet), packet.holes()), (back(), 0));
        assert_eq!(
            (packet.verdict, packet.verdict_observed),
            (Verdict::Delivered, true)
        );
    }
    let [flow] = journeys.flows()[..] else {
        panic!("several flows")
    };
    assert_eq!((flow.packets[0] + flow.packets[1], flow.drops), (4, 0));
}

/// A buffer goes to a process (NFQUEUE) in segments, and TCP sends the last once more meanwhile.
#[test]
fn what_a_process_gets_in_segments_is_not_dropped() {
    let mut journeys = observing();
    let packets = run(&mut journeys, &records(include_str!("captured/queued.txt")));
    assert_eq!(packets.len(), 4, "{packets:#?}");
    let delivered = |packet: &&Packet| packet.verdict == Verdict::Delivered;
    assert_eq!(packets.iter().filter(delivered).count(), 3);
    for packet in packets.iter().filter(delivered) {
        assert_eq!((path(packet), packet.holes()), (back(), 0));
    }
    // That is a drop: the receiver has it already.
    let late = packets.iter().find(|packet| !delivered(packet)).unwrap();
    let dropped = late.dropped.unwrap();
    assert_eq!(
        (dropped.reason, dropped.stage, late.holes()),
        (reason("TCP_OLD_DATA"), Stage::Socket, 0)
    );
    let bytes: u32 = packets.iter().map(|packet| packet.payload).sum();
    assert_eq!(bytes, 1398 * 2 + 1295 * 2);
}

/// Two sockets in the other pod, of which one is full after the first; one in the sender's own.
#[test]
fn a_multicast_packet_arrives_where_somebody_has_it() {
    let mut journeys = observing();
    let packets = run(
        &mut journeys,
        &records(include_str!("captured/multicast.txt")),
    );
    assert!(packets.iter().all(|packet| packet.holes() == 0));
    assert!(
        packets
            .iter()
            .all(|packet| packet.verdict == Verdict::Delivered)
    );
    let there = packets.iter().filter(|packet| packet.hops.len() > 2);
    let here = packets.iter().filter(|packet| packet.hops.len() == 2);
    assert_eq!((there.count(), here.count()), (2, 2));
    let [flow] = journeys.flows()[..] else {
        panic!("several flows")
    };
    assert_eq!((flow.packets, flow.drops), ([2, 0], 0));
}

/// Conntrack keeps fragments until the packet is whole; the last one's buffer becomes the whole's.
#[test]
fn fragments_that_are_kept_and_cut_again_stay_what_they_are() {
    let mut journeys = observing();
    let packets = run(
        &mut journeys,
        &records(include_str!("captured/fragments.txt")),
    );
    assert_eq!(packets.len(), 3, "{packets:#?}");
    for packet in &packets {
        assert_eq!((packet.verdict, packet.holes()), (Verdict::Delivered, 0));
        let path = path(packet);
        assert_eq!(path.first(), Some(&(Stage::DeviceQueue, 1)));
        assert_eq!(path.last(), Some(&(Stage::DeviceReceive, 3)));
    }
    let counts: Vec<[u64; 2]> = journeys.flows().iter().map(|flow| flow.packets).collect();
    assert_eq!(counts, [[1, 0], [2, 0]]);
}

/// `dup to` in prerouting: the copy goes out by another device and is flooded by a switch.
#[test]
fn a_copy_that_rules_make_is_not_another_packet() {
    let mut journeys = observing();
    let packets = run(
        &mut journeys,
        &records(include_str!("captured/duplicated.txt")),
    );
    assert_eq!(packets.len(), 2, "{packets:#?}");
    assert!(
        packets
            .iter()
            .all(|packet| packet.verdict == Verdict::Delivered)
    );
    let [flow] = journeys.flows()[..] else {
        panic!("several flows")
    };
    assert_eq!((flow.packets, flow.drops, flow.holes), ([1, 1], 0, 0));
}
