//! The parts, each with what it is given.

use std::{collections::BTreeMap, hint::black_box, io::Cursor, net::IpAddr};

use tracer::{
    event::{self, Record},
    filter::{Filter, FlowView, Sighting},
    node::rules::{
        evaluate::{RuleSet, explain},
        iptables::{Family, RuleSet as Iptables, Tables},
        outcome::Observed,
        path::Source,
        subject::{Elsewhere, Hook, States, Subject},
    },
    source::Batch,
    trace::{About, Reader, Steps, Writer},
};
use tracer_common::{filter as terms, record::Event};

use super::{
    made,
    traffic::{self, Traffic},
    work::{self, Engine, RECORD, RECORDS, Result, Ring},
};

/// Rings of events that pass before the engine is measured: more than a second, after which the first
/// connections are over.
const BEFORE: u64 = 5_000_000 / RECORDS as u64;
/// Services with rules: four for each make 20,000.
const SERVICES: u32 = 4_000;
/// Packets that are explained, one after the other.
const PACKETS: u32 = 200;
/// How often a filter is compiled, or judges a flow.
const TIMES: u64 = 1_000;
/// Of addresses that the traffic has, so that some of it matches.
const FILTER: &str = "(host 10.96.0.4 or net 10.244.2.0/24) and tcp and not port 22";
/// Events of a flow that is judged: a packet each way.
const HOPS: usize = 52;
/// Events of a recording.
const RECORDED: usize = 100_000;
/// Events between two looks at the ring under load.
const BATCH: usize = 2_000;

/// What a part does once, on what was made ready for it.
pub(crate) trait Work {
    /// Makes ready what is not part of what is measured.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self) -> Result<()>;
}

/// A part of the tracer that computes and does nothing else.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// What it is counted in.
    pub(crate) unit: &'static str,
    /// How many of these it does at once.
    pub(crate) count: u64,
    pub(crate) make: fn() -> Result<Box<dyn Work>>,
}

/// All, from the ring to the recording.
pub(crate) const PARTS: [Part; 9] = [
    part("decode", "event", RECORDS as u64, decode),
    part("assemble", "event", RECORDS as u64, assemble),
    part("filter/compile", "filter", TIMES, compile),
    part("filter/match a packet", "packet", RECORDS as u64, matching),
    part("filter/judge a flow", "flow", TIMES, judge),
    part("rules/read", "rule", SERVICES as u64 * 5 + 2, read_rules),
    part("rules/explain", "packet", PACKETS as u64, explaining),
    part("recording/write", "event", RECORDED as u64, write),
    part("recording/read", "event", RECORDED as u64, read),
];

const fn part(
    name: &'static str,
    unit: &'static str,
    count: u64,
    make: fn() -> Result<Box<dyn Work>>,
) -> Part {
    Part {
        name,
        unit,
        count,
        make,
    }
}

/// Work that needs nothing made ready.
struct Again<F>(F);

impl<F: FnMut() -> Result<()>> Work for Again<F> {
    fn run(&mut self) -> Result<()> {
        (self.0)()
    }
}

fn decode() -> Result<Box<dyn Work>> {
    let bytes = Ring::new(Traffic::new()).fill().to_vec();
    Ok(Box::new(Again(move || work::decode(&bytes).map(drop))))
}

/// The engine in its steady state, which gets what is new each time.
struct Assemble {
    ring: Ring,
    records: Vec<Record>,
    engine: Engine,
}

fn assemble() -> Result<Box<dyn Work>> {
    let mut ring = Ring::new(Traffic::new());
    let mut engine = Engine::new();
    for _ in 0..BEFORE {
        engine.take(ring.fill())?;
    }
    Ok(Box::new(Assemble {
        ring,
        records: Vec::new(),
        engine,
    }))
}

impl Work for Assemble {
    fn prepare(&mut self) -> Result<()> {
        let records = self.ring.fill().chunks(RECORD).map(event::decode);
        self.records = records.collect::<std::result::Result<_, _>>()?;
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        self.engine.assemble(&self.records);
        Ok(())
    }
}

fn compile() -> Result<Box<dyn Work>> {
    Ok(Box::new(Again(|| {
        for _ in 0..TIMES {
            let filter = Filter::parse(black_box(FILTER))?.resolve(&BTreeMap::new())?;
            black_box(filter.compile());
        }
        Ok(())
    })))
}

fn matching() -> Result<Box<dyn Work>> {
    let filter = Filter::parse(FILTER)?.resolve(&BTreeMap::new())?;
    let program = filter.compile().program;
    let subjects = subjects(RECORDS);
    Ok(Box::new(Again(move || {
        let found = subjects.iter().filter(|it| program.matches(black_box(it)));
        some_of(found.count(), subjects.len())
    })))
}

fn judge() -> Result<Box<dyn Work>> {
    let filter = Filter::parse(FILTER)?.resolve(&BTreeMap::new())?;
    let hops: Vec<Sighting> = subjects(HOPS)
        .into_iter()
        .map(|subject| Sighting {
            subject,
            reply: false,
        })
        .collect();
    Ok(Box::new(Again(move || {
        for _ in 0..TIMES {
            let flow = FlowView {
                hops: black_box(&hops),
                ..FlowView::default()
            };
            black_box(filter.matches(&flow));
        }
        Ok(())
    })))
}

/// What the kernel's filter sees of the traffic.
fn subjects(many: usize) -> Vec<terms::Subject> {
    let events = Traffic::new().filter_map(|record| match record {
        Record::Event(event) => Some(event.record),
        Record::Conntrack(_) => None,
    });
    events.take(many).map(|event| subject(&event)).collect()
}

fn subject(event: &Event) -> terms::Subject {
    terms::Subject {
        source: event.source,
        destination: event.destination,
        device_name: event.device_name,
        cgroup: 0,
        netns: event.netns,
        source_port: event.source_port,
        destination_port: event.destination_port,
        protocol: event.protocol,
        ip_version: event.ip_version,
    }
}

fn some_of(found: usize, all: usize) -> Result<()> {
    if found == 0 || found == all {
        return Err(format!("{found} of {all} match: the filter is none").into());
    }
    Ok(())
}

fn read_rules() -> Result<Box<dyn Work>> {
    let text = made::iptables(SERVICES);
    Ok(Box::new(Again(move || {
        black_box(iptables(black_box(&text))?);
        Ok(())
    })))
}

fn iptables(text: &str) -> Result<Iptables> {
    let tables = Tables::parse(text)?;
    Ok(Iptables::new(Family::V4, Source::IptablesNft, tables))
}

/// The first packets of connections to Services, each with the endpoint that it got.
fn explaining() -> Result<Box<dyn Work>> {
    let rules = iptables(&made::iptables(SERVICES))?;
    let client = IpAddr::from([10, 244, 255, 1]);
    let packets: Vec<_> = (0..PACKETS)
        .map(|packet| {
            let service = packet * (SERVICES / PACKETS);
            let called = made::cluster_ip(service).into();
            let mut syn = Subject::new(Hook::Prerouting, client, called, 6);
            (syn.source_port, syn.destination_port) = (Some(40_000), Some(80));
            syn.connection.states = States::NEW;
            let to = (made::endpoint(service), 8080);
            (syn, Observed::Destination(to.into()))
        })
        .collect();
    let mut work = Again(move || {
        let sets: [&dyn RuleSet; 1] = [&rules];
        for (syn, observed) in &packets {
            let explanation = explain(&sets, black_box(syn), &Elsewhere, *observed);
            if explanation.paths.len() != 1 {
                return Err(format!("{syn:?}: {explanation:#?}").into());
            }
        }
        Ok(())
    });
    // The first one makes the indexes.
    work.run()?;
    Ok(Box::new(work))
}

fn write() -> Result<Box<dyn Work>> {
    let batches = batches();
    Ok(Box::new(Again(move || {
        recording(&batches).map(|recording| drop(black_box(recording)))
    })))
}

fn read() -> Result<Box<dyn Work>> {
    let recording = recording(&batches())?;
    Ok(Box::new(Again(move || {
        let mut steps = Steps::new(Reader::open(Cursor::new(&recording))?);
        let mut records = 0;
        while let Some(step) = steps.next_step()? {
            records += black_box(step).batch.records.len();
        }
        if records == RECORDED {
            Ok(())
        } else {
            Err(format!("{records} of {RECORDED} events").into())
        }
    })))
}

fn batches() -> Vec<Batch> {
    let mut traffic = Traffic::new();
    let mut batch = || Batch {
        records: traffic.by_ref().take(BATCH).collect(),
        ..Batch::default()
    };
    (0..RECORDED / BATCH).map(|_| batch()).collect()
}

fn recording(batches: &[Batch]) -> Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), &About::default())?;
    writer.node(&traffic::node())?;
    for batch in batches {
        writer.batch(batch)?;
        writer.clock(batch.records.last().map_or(0, Record::time))?;
    }
    writer.finish()?;
    Ok(writer.into_storage())
}
