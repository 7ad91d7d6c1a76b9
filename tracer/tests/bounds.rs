//! Whatever comes, the memory of engine and pipeline stays within its bound, and what was let go is said.

#[expect(
    dead_code,
    reason = "another test counts how often memory is asked for"
)]
#[path = "../benches/engine/counted.rs"]
mod counted;

use std::{collections::BTreeMap, io};

use tracer::{
    event::{Event, Record},
    filter::Filter,
    journey::{Journeys, Limits, Patience, Reasons},
    node::{reasons::DropReasons, snapshot::Snapshot},
    output::Sink,
    pipeline::{Held, Pipeline, When},
    report::{FlowReport, Knowledge, PacketReport, StatsReport},
    source::{Batch, Notice, PacketBytes},
};
use tracer_common::{
    hook,
    record::{self, FLAG_BRIDGE_PORT},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is given to the engine of it.
const ROOM: usize = 24 << 20;
/// What is held for the end.
const HELD: Held = Held {
    packets: 6 << 20,
    flows: 6 << 20,
};
/// For tables of bounded size, what is told about a packet, a batch of records.
const BESIDE: usize = 10 << 20;
/// Records in a batch, and in one that only a recording can have.
const BATCH: u64 = 2048;
const LARGE: u64 = 1 << 15;

/// Shows to nobody.
struct Nobody;

impl Sink for Nobody {
    fn packet(&mut self, _: &PacketReport) -> io::Result<()> {
        Ok(())
    }

    fn flow(&mut self, _: &FlowReport) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: &StatsReport) -> io::Result<()> {
        Ok(())
    }
}

/// A packet of a flow, both known by numbers.
fn packet(number: u64, flow: u64, time: u64) -> record::Event {
    let low = |number: u64| u32::try_from(number & 0xffff_ffff).unwrap_or(0);
    record::Event {
        kind: record::KIND_EVENT,
        hook: hook::DEVICE_QUEUE,
        time,
        skb: 0xffff_8881_0000_0000 + number * 256,
        source: [0, 0xffff_0000_0000 | (flow & 0xffff_ffff)],
        destination: [0, 0xffff_0a01_0000],
        source_port: 1,
        destination_port: 2,
        sequence: low(number),
        ip_id: low(number) & 0xffff,
        ip_version: 4,
        protocol: 17,
        length: 100,
        payload: 72,
        netns: 1,
        ifindex: 1,
        ..record::Event::default()
    }
}

/// Every packet is of another flow.
fn distinct(n: u64) -> record::Event {
    packet(n, n, n * 1_000)
}

/// A few hundred packets that never end, each time at another place and with another tuple.
fn endless(n: u64) -> record::Event {
    let round = n / 400;
    let mut event = packet(n % 400, n, n * 1_000);
    event.hook = match round % 3 {
        0 => hook::DEVICE_QUEUE,
        1 => hook::DEVICE_TRANSMIT,
        _ => hook::DEVICE_RECEIVE,
    };
    event.netns = u32::try_from(n).unwrap_or(0);
    event.ifindex = event.netns;
    event.device_name = [n, n];
    event
}

/// Nothing but holes: each event is what cannot come there.
fn holes(n: u64) -> record::Event {
    let mut event = packet(n % 3_000, n % 3_000, n * 1_000);
    event.hook = if n / 3_000 % 2 == 0 {
        hook::NETFILTER_LEAVE
    } else {
        hook::SOCKET_DELIVER
    };
    event.netfilter_hook = 2;
    event
}

/// Every packet is in another namespace, and dropped there.
fn namespaces(n: u64) -> record::Event {
    let mut event = packet(n, n, n * 1_000);
    event.netns = u32::try_from(n).unwrap_or(0);
    event.hook = hook::DROP;
    event.reason = 77;
    event
}

/// Copies of copies, of which some are dropped and none arrives.
fn copies(n: u64) -> record::Event {
    let mut event = packet(n % 100, n % 100, n * 1_000);
    event.skb = 0xffff_8881_0000_0000 + n * 256;
    event.flags = FLAG_BRIDGE_PORT;
    event.hook = match n / 100 % 3 {
        0 => hook::DEVICE_RECEIVE,
        1 => hook::DEVICE_QUEUE,
        _ => hook::DROP,
    };
    event.reason = 77;
    event
}

/// The most memory that all of it took, and what was said.
fn run(
    of: fn(u64) -> record::Event,
    when: When,
    (events, batch): (u64, u64),
) -> Result<(usize, Vec<String>)> {
    let known_reasons = DropReasons::default();
    let node = Snapshot::default();
    let known = Knowledge {
        node: &node,
        names: true,
        reasons: &known_reasons,
        function_at: &|_| None,
    };
    // What has the records is not the pipeline's.
    let batches = (0..events / batch).map(|number| Batch {
        notices: vec![Notice::Bytes(bytes(number))],
        records: (number * batch..(number + 1) * batch)
            .map(|n| {
                let (record, other) = (of(n), None);
                Record::Event(Event { record, other })
            })
            .collect(),
    });
    let (most, said) = counted::most(|| -> Result<Vec<String>> {
        let limits = Limits::within(ROOM);
        let mut journeys = Journeys::new(limits, Patience::default(), Reasons::default());
        journeys.netfilter_observed_everywhere(0);
        let filter = Filter::default().resolve(&BTreeMap::new())?;
        let mut pipeline = Pipeline::new(journeys, filter, when, Nobody).holding(HELD);
        for batch in batches {
            pipeline.batch(&batch, &known)?;
            let now = batch.records.last().map_or(0, Record::time);
            pipeline.advance(now, &known)?;
            pipeline.take_unknown();
            pipeline.take_sockets();
        }
        pipeline.finish(&known)?;
        Ok(pipeline.take_problems())
    });
    Ok((most, said?))
}

/// A packet's first bytes, of a name's length.
fn bytes(number: u64) -> PacketBytes {
    let mut bytes = vec![0x45, 0, 2, 88, 0, 0, 0x40, 0, 64, 17, 0, 0];
    bytes.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0x80, 0, 2, 68, 0, 0]);
    bytes.extend(number.to_be_bytes());
    bytes.resize(600, 7);
    PacketBytes {
        time: number,
        skb: number,
        netns: 1,
        hook: hook::SOCKET_DELIVER,
        length: 600,
        bytes,
    }
}

fn stays_within(of: fn(u64) -> record::Event, events: u64) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for batch in [BATCH, LARGE] {
        let records = usize::try_from(batch)? * size_of::<Record>();
        for when in [When::AsTheyEnd, When::AsTheyChange, When::AtTheEnd] {
            let (most, problems) = run(of, when, (events, batch))?;
            let held = if when == When::AtTheEnd {
                HELD.packets + HELD.flows
            } else {
                0
            };
            let bound = ROOM + held + BESIDE + records;
            assert!(
                most <= bound,
                "{when:?}, batches of {batch}: {most} bytes of at most {bound}; {problems:?}"
            );
            said.extend(problems);
        }
    }
    Ok(said)
}

fn says(said: &[String], what: &str) -> bool {
    said.iter().any(|problem| problem.contains(what))
}

#[test]
fn of_distinct_flows() -> Result<()> {
    let said = stays_within(distinct, 150_000)?;
    assert!(says(&said, "were given up before their end"), "{said:?}");
    assert!(says(&said, "too many to keep until the end"), "{said:?}");
    Ok(())
}

#[test]
fn of_packets_that_never_end() -> Result<()> {
    let said = stays_within(endless, 150_000)?;
    assert!(says(&said, "were given up before their end"), "{said:?}");
    Ok(())
}

#[test]
fn of_nothing_but_holes() -> Result<()> {
    stays_within(holes, 150_000).map(drop)
}

#[test]
fn of_namespaces_without_end() -> Result<()> {
    stays_within(namespaces, 100_000).map(drop)
}

#[test]
fn of_copies_without_end() -> Result<()> {
    stays_within(copies, 150_000).map(drop)
}
