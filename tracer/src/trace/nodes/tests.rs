//! Two nodes' recordings made of one, and put together again.

use std::io::Cursor;

use tracer_common::{
    hook,
    record::{self, FLAG_PHYSICAL},
};

use super::*;
use crate::{
    event::Event,
    journey::{Journeys, Limits, Patience, Reasons, model::Verdict},
    node::snapshot::Namespace,
    trace::Writer,
};

const HOST: u32 = 4_026_531_840;
const DELAY: u64 = 40_000;

fn event(hook: u8, skb: u64, time: u64, number: u32, reply: bool) -> Record {
    let mut ends = [([0, 1], 40_000), ([0, 2], 80)];
    if reply {
        ends.reverse();
    }
    let [(source, source_port), (destination, destination_port)] = ends;
    Record::Event(Event {
        record: record::Event {
            head: record::Head {
                time,
                kind: record::KIND_EVENT,
                hook,
                skb,
                flags: FLAG_PHYSICAL,
                netns: HOST,
                ifindex: 2,
                ..record::Head::default()
            },
            protocol: 6,
            ip_version: 4,
            sequence: number,
            tcp_flags: 16,
            source,
            destination,
            source_port,
            destination_port,
            ..record::Event::default()
        },
        other: None,
    })
}

/// What each of two nodes saw of packets that go there and back, by its own clock.
fn seen(count: u32, ahead: i64) -> [Vec<Record>; 2] {
    let mut both = [Vec::new(), Vec::new()];
    let clocks = [0, ahead];
    for number in 1..=count {
        let reply = number % 2 == 0;
        let (from, to) = if reply { (1, 0) } else { (0, 1) };
        let sent = 1_000_000_000_000 + u64::from(number) * 1_000_000;
        let skb = 0xffff_8881_0000_0000 + u64::from(number % 7) * 256;
        let at = |node: usize, time: u64| time.checked_add_signed(clocks[node]).unwrap();
        let first = [(hook::DEVICE_QUEUE, 0), (hook::DEVICE_TRANSMIT, 1_000)];
        for (hook, later) in first {
            both[from].push(event(hook, skb, at(from, sent + later), number, reply));
        }
        let got = sent + 1_000 + DELAY + u64::from(number % 5) * 3_000;
        for (hook, later) in [(hook::DEVICE_RECEIVE, 0), (hook::SOCKET_DELIVER, 5_000)] {
            both[to].push(event(hook, skb, at(to, got + later), number, reply));
        }
    }
    both
}

fn recorded(name: &str, records: &[Record]) -> (String, Reader<Cursor<Vec<u8>>>) {
    let about = About {
        recording: name.to_owned(),
        boot: name.to_owned(),
        host: name.to_owned(),
        ..About::default()
    };
    let mut writer = Writer::new(Vec::new(), &about).unwrap();
    let host = Namespace {
        inode: HOST,
        names: vec!["host".to_owned()],
        ..Namespace::default()
    };
    let known = Contents {
        namespaces: vec![host],
        ..Contents::default()
    };
    writer.node(&Snapshot::from(known)).unwrap();
    for records in records.chunks(11) {
        let batch = Batch {
            notices: Vec::new(),
            records: records.to_vec(),
        };
        writer.batch(&batch).unwrap();
        writer.clock(records.last().unwrap().time()).unwrap();
    }
    writer.finish().unwrap();
    let reader = Reader::open(Cursor::new(writer.into_storage())).unwrap();
    (format!("{name}.rec"), reader)
}

fn together(count: u32, ahead: i64) -> Nodes<Cursor<Vec<u8>>> {
    let [first, second] = seen(count, ahead);
    Nodes::new(recorded("one", &first), vec![recorded("two", &second)]).unwrap()
}

#[test]
fn a_packet_from_node_to_node_is_one_journey_whatever_the_clocks() {
    for ahead in [0, 3_700_000_000, -900_000_000_000] {
        let mut nodes = together(60, ahead);
        let [clock] = nodes.clocks() else {
            panic!("{:?}", nodes.clocks())
        };
        let (off, error) = ((clock.ahead - ahead).unsigned_abs(), clock.error.unwrap());
        assert!(off <= error && error < 2 * DELAY, "{clock:?}");
        assert_eq!((clock.node.as_str(), clock.packets), ("two", [30, 30]));

        let reasons = Reasons::by_name(|_| None);
        let mut journeys = Journeys::new(Limits::default(), Patience::default(), reasons);
        let (mut packets, mut last) = (Vec::new(), 0);
        while let Some(step) = nodes.next_step().unwrap() {
            for record in &step.batch.records {
                assert!(record.time() >= last);
                last = record.time();
                journeys.push(record);
            }
            packets.extend(journeys.take_packets());
        }
        journeys.finish();
        packets.extend(journeys.take_packets());
        assert_eq!(packets.len(), 60);
        for packet in &packets {
            assert_eq!((packet.verdict, packet.holes()), (Verdict::Delivered, 0));
            let names = packet.hops.iter().map(|hop| {
                let namespace = nodes.node().namespace(hop.netns.0).unwrap();
                namespace.display_name().into_owned()
            });
            let names: Vec<String> = names.collect();
            let (from, to) = (names[0].as_str(), names[3].as_str());
            assert!(matches!(
                (from, to),
                ("one/host", "two/host") | ("two/host", "one/host")
            ));
            assert_eq!(packet.hops.len(), 4);
        }
        assert_eq!(journeys.flows().len(), 1);
    }
}

#[test]
fn a_time_is_sought_on_all_clocks() {
    let mut nodes = together(60, 5_000_000_000);
    let from = 1_000_000_000_000 + 50 * 1_000_000;
    nodes.seek(from).unwrap();
    let mut times = Vec::new();
    while let Some(step) = nodes.next_step().unwrap() {
        times.extend(step.batch.records.iter().map(Record::time));
    }
    assert!(times.iter().filter(|time| **time >= from).count() >= 10 * 4);
}

#[test]
fn nodes_without_packets_between_them_have_their_calendars() {
    let clock = |monotonic, realtime| super::super::ClockRelation {
        monotonic,
        realtime,
    };
    let with = |name: &str, clock| {
        let about = About {
            recording: name.to_owned(),
            boot: name.to_owned(),
            host: name.to_owned(),
            clock,
            ..About::default()
        };
        let mut writer = Writer::new(Vec::new(), &about).unwrap();
        writer.clock(about.clock.monotonic + 5).unwrap();
        writer.finish().unwrap();
        let reader = Reader::open(Cursor::new(writer.into_storage())).unwrap();
        (name.to_owned(), reader)
    };
    // The second was started 70 later.
    let nodes = Nodes::new(
        with("a", clock(100, 1_000)),
        vec![with("b", clock(30, 1_000))],
    );
    let nodes = nodes.unwrap();
    assert_eq!(nodes.clocks()[0].ahead, -70);
    assert_eq!(nodes.clocks()[0].packets, [0, 0]);
}
