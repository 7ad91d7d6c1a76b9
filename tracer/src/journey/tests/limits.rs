//! Bounds hold whatever comes.

use proptest::prelude::*;

use super::*;
use crate::event::Event;

fn any_record() -> impl Strategy<Value = Record> {
    let places = (0..hook::COUNT, 0..6u8, 0..5u32, 0..4u32, any::<u16>());
    let packet = (
        0..6u64,
        0..4u32,
        any::<u8>(),
        prop::sample::select(vec![1u8, 6, 17, 47, 58]),
        0..3u16,
        0..3u16,
    );
    (places, packet, 0..1_000_000_000u64).prop_map(
        |((hook, number, netns, ifindex, flags), packet, time)| {
            let (skb, sequence, tcp_flags, protocol, from, to) = packet;
            let mut walk = Walk::new();
            walk.begin(
                endpoint("10.0.0.1", from),
                endpoint("10.0.0.2", to),
                tcp_flags,
                sequence,
            );
            walk.device(u8::try_from(hook).unwrap(), netns, "dev", ifindex, flags);
            let Some(Record::Event(Event { mut record, other })) = walk.take().pop() else {
                unreachable!()
            };
            record.skb = skb;
            record.protocol = protocol;
            record.netfilter_hook = number;
            record.time = time;
            Record::Event(Event { record, other })
        },
    )
}

/// Takes the flows that are over; says how many there were.
fn flows_over(journeys: &mut Journeys, now: u64) -> usize {
    let over = journeys.flows_over(now);
    let taken = over.into_iter().filter_map(|id| journeys.take_flow(id));
    taken.count()
}

proptest! {
    #[test]
    fn any_events_stay_within_the_limits(records in prop::collection::vec(any_record(), 0..400)) {
        let limits = Limits { packets: 3, hops: 5, flows: 4, ..Limits::default() };
        let mut journeys = Journeys::new(limits, Patience::default(), Reasons::default());
        let mut given = 0;
        for record in &records {
            journeys.push(record);
            prop_assert!(journeys.in_flight() <= limits.packets);
            prop_assert!(journeys.flows.len() <= limits.flows);
            for packet in journeys.take_packets().collect::<Vec<_>>() {
                given += packet.hops.len();
                prop_assert!(packet.hops.len() <= limits.hops);
            }
        }
        journeys.finish();
        prop_assert_eq!(journeys.in_flight(), 0);
        given += journeys.take_packets().map(|packet| packet.hops.len()).sum::<usize>();
        // Each event makes two hops at most (a bridge before prerouting), and copies share theirs.
        prop_assert!(given <= records.len() * 2 * limits.hops);
    }

    #[test]
    fn flows_never_count_more_than_was_seen(records in prop::collection::vec(any_record(), 0..400)) {
        let mut journeys = Journeys::new(Limits::default(), Patience::default(), Reasons::default());
        for record in &records {
            journeys.push(record);
        }
        journeys.finish();
        let counted: u64 = journeys.flows().iter().map(|flow| flow.packets[0] + flow.packets[1]).sum();
        prop_assert!(counted <= records.len() as u64);
    }
}

#[test]
fn silent_packets_and_flows_are_given_out_in_time() {
    let mut journeys = engine();
    let mut records = request(&mut Walk::new(), SYN, 1);
    records.truncate(5);
    for record in &records {
        journeys.push(record);
    }
    let patience = Patience::default();
    journeys.advance(patience.packet / 2);
    assert_eq!(journeys.in_flight(), 1);
    journeys.advance(patience.packet * 2);
    assert_eq!(
        (journeys.in_flight(), journeys.take_packets().count()),
        (0, 1)
    );
    assert_eq!(flows_over(&mut journeys, patience.silent / 2), 0);
    assert_eq!(flows_over(&mut journeys, patience.silent * 2), 1);
    assert!(journeys.flows().is_empty());
}

#[test]
fn what_was_delivered_makes_room_first() {
    let limits = Limits {
        packets: 2,
        ..Limits::default()
    };
    let mut journeys = Journeys::new(limits, Patience::default(), Reasons::default());
    let mut walk = Walk::new();
    let mut under_way = request(&mut walk, SYN, 1);
    under_way.truncate(5);
    let delivered = request(&mut walk, SYN, 2);
    let next = request(&mut walk, SYN, 3);
    for record in under_way.iter().chain(&delivered).chain(&next[..1]) {
        journeys.push(record);
    }
    let given: Vec<Verdict> = journeys.take_packets().map(|it| it.verdict).collect();
    assert_eq!(given, [Verdict::Delivered]);
    assert_eq!(journeys.overflow().packets, 0);
}

#[test]
fn a_flow_is_not_over_while_a_packet_of_it_is_under_way() {
    let mut journeys = engine();
    let mut walk = Walk::new();
    let mut records = request(&mut walk, RST, 1);
    records.truncate(2);
    for record in &records {
        journeys.push(record);
    }
    let patience = Patience::default();
    let late = records[1].time() + patience.closed + 1;
    journeys.advance(late);
    assert_eq!(journeys.in_flight(), 1);
    assert_eq!(flows_over(&mut journeys, late), 0);
    journeys.advance(late + patience.packet);
    assert_eq!(journeys.take_packets().count(), 1);
    assert_eq!(flows_over(&mut journeys, late + patience.packet), 1);
}

/// A SYN, and the error that says that it was rejected, at the client.
fn rejected_syn(walk: &mut Walk) -> Vec<Record> {
    walk.begin(client(), backend(), SYN, 7);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_RECEIVE, NODE, "veth-a", 11, 0);
    walk.drop(3, 1);
    let about = Tuple {
        source: client(),
        destination: backend(),
        protocol: 6,
    };
    let [node, pod] = ["10.244.0.1", "10.244.0.2"].map(|address| endpoint(address, 0));
    walk.begin_icmp_error(node, pod, about);
    walk.device(hook::DEVICE_QUEUE, NODE, "veth-a", 11, 0);
    walk.device(hook::DEVICE_RECEIVE, CLIENT, "eth0", 2, 0);
    walk.take()
}

#[test]
fn a_syn_that_comes_again_after_an_error_is_of_the_same_flow() {
    let (mut journeys, mut walk) = (engine(), Walk::new());
    let first = rejected_syn(&mut walk);
    // Sent again after a second, by a timer that was late.
    walk.wait(1_200_000_000);
    let again = rejected_syn(&mut walk);
    run(&mut journeys, &first);
    let before = again[0].time() - 1;
    assert_eq!(journeys.flows_over(before), []);
    run(&mut journeys, &again);
    let flows = journeys.flows();
    let [flow] = &flows[..] else {
        panic!("{flows:?}")
    };
    assert_eq!((flow.packets, flow.state), ([2, 2], State::Refused));
    let last = again.last().unwrap().time();
    let Patience { refused, .. } = Patience::default();
    assert_eq!(journeys.flows_over(last + refused), []);
    assert_eq!(journeys.flows_over(last + refused + 1).len(), 1);
}
