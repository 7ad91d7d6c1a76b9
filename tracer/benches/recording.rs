//! What recordings cost: bytes and time per event, written and replayed into flows, the memory
//! while replaying, and the time of a seek.
//!
//! `cargo bench -p tracer --bench recording -- [EVENTS] [DIRECTORY]`: so many events (two million
//! unless told) are made of a recording of real traffic, repeated with other ports, numbers,
//! addresses of `sk_buff`s and times. One thread does everything, and its processor time is what is
//! measured, so that rates are those of one core whatever else the machine does.

use std::{
    fs::File,
    io::{self, BufReader, Cursor},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use tracer::{
    event::Record,
    filter::Filter,
    journey::{Journeys, Limits, Patience, Reasons},
    node::{reasons::DropReasons, snapshot::Snapshot},
    output::Sink,
    pipeline::{Pipeline, When},
    report::{FlowReport, Knowledge, PacketReport, StatsReport},
    source::Batch,
    trace::{About, Entry, Reader, Steps, Writer},
};

/// Real traffic of a lab: every path, two directions, some drops.
const TEMPLATE: &[u8] = include_bytes!("../../tests/golden/lab-1.0.recording");
const EVENTS: u64 = 2_000_000;
/// Events between two looks at the ring under load.
const BATCH: usize = 2_000;
const SEEKS: u64 = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo bench` adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let events = arguments.next().map_or(Ok(EVENTS), |word| word.parse())?;
    let directory = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let path = directory.join(format!("tracer-bench-{}", std::process::id()));
    let result = measure(&path, events);
    std::fs::remove_file(&path)?;
    result
}

fn measure(path: &Path, events: u64) -> Result<(), Box<dyn std::error::Error>> {
    let template = Template::read()?;
    println!("| | |\n|---|---|");
    write(path, &template, events)?;
    replay(path)?;
    seek(path)
}

/// A recording's records, to be repeated.
struct Template {
    records: Vec<Record>,
    node: Snapshot,
    /// From the first record to some time after the last.
    period: u64,
}

impl Template {
    fn read() -> Result<Self, Box<dyn std::error::Error>> {
        let mut reader = Reader::open(Cursor::new(TEMPLATE))?;
        let (mut records, mut node) = (Vec::new(), Snapshot::default());
        while let Some(entries) = reader.next_chunk()? {
            for entry in entries {
                match entry {
                    Entry::Records(more) => records.extend(more),
                    Entry::Node(known) => node = (*known).clone(),
                    _ => {}
                }
            }
        }
        let times: Vec<u64> = records.iter().map(time).collect();
        let first = times.iter().min().copied().unwrap_or(0);
        let last = times.iter().max().copied().unwrap_or(0);
        // What was seconds in the making is repeated as on a busy node.
        for record in &mut records {
            change(record, |event| {
                event.time = (event.time - first) / 20 + 1_000_000_000;
            });
        }
        Ok(Self {
            records,
            node,
            period: (last - first) / 20 + 1_000,
        })
    }

    /// The same traffic once more, of other connections.
    fn round(&self, round: u64) -> impl Iterator<Item = Record> + '_ {
        let port = u16::try_from(round % 20_011).unwrap_or(0);
        let number = u32::try_from(round.wrapping_mul(0x9e37_79b9) & 0xffff_ffff).unwrap_or(0);
        let order = u32::try_from((round * self.records.len() as u64) & 0xffff_ffff).unwrap_or(0);
        let mut random = round;
        self.records.iter().map(move |record| {
            let mut record = *record;
            // No two packets take equally long.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let late = (random >> 33) % 2_000;
            change(&mut record, |event| {
                event.time += round * self.period + late;
                event.order = event.order.wrapping_add(order);
                event.skb ^= (round % 509) << 12;
                event.sequence = event.sequence.wrapping_add(number);
                event.acknowledgement = event.acknowledgement.wrapping_add(number);
                for end in [&mut event.source_port, &mut event.destination_port] {
                    // The ports that clients choose.
                    if *end >= 32_768 {
                        *end = 32_768 + (*end - 32_768).wrapping_add(port) % 28_000;
                    }
                }
            });
            record
        })
    }
}

fn time(record: &Record) -> u64 {
    match record {
        Record::Event(event) => event.record.time,
        Record::Conntrack(tuples) => tuples.time,
    }
}

/// Changes events, and of a connection's tuples the time alone.
fn change(record: &mut Record, change: impl FnOnce(&mut tracer_common::record::Event)) {
    match record {
        Record::Event(event) => change(&mut event.record),
        Record::Conntrack(tuples) => {
            let mut event = tracer_common::record::Event {
                time: tuples.time,
                ..Default::default()
            };
            change(&mut event);
            tuples.time = event.time;
        }
    }
}

fn write(path: &Path, template: &Template, events: u64) -> io::Result<()> {
    let mut writer = Writer::new(File::create(path)?, &About::default())?;
    writer.node(&template.node)?;
    let mut batch = Batch::default();
    let mut taken = Duration::ZERO;
    let mut round = 0;
    while writer.records() < events {
        for record in template.round(round) {
            batch.records.push(record);
            if batch.records.len() == BATCH {
                let now = batch.records.last().map_or(0, time);
                let begin = used();
                writer.batch(&batch)?;
                writer.clock(now)?;
                taken += used() - begin;
                batch.records.clear();
            }
        }
        round += 1;
    }
    let begin = used();
    writer.finish()?;
    taken += used() - begin;
    let (length, records) = (writer.length(), writer.records());
    println!("| events | {records} |");
    println!(
        "| bytes on disk per event | {:.2} |",
        ratio(length, records)
    );
    println!(
        "| events written per second | {:.2} million |",
        rate(records, taken)
    );
    Ok(())
}

fn replay(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let before = memory();
    let begin = used();
    let mut steps = Steps::new(Reader::open(BufReader::new(File::open(path)?))?);
    let mut decoded = 0;
    while let Some(step) = steps.next_step()? {
        decoded += step.batch.records.len() as u64;
    }
    println!(
        "| events read per second | {:.2} million |",
        rate(decoded, used() - begin)
    );

    let begin = used();
    let mut steps = Steps::new(Reader::open(BufReader::new(File::open(path)?))?);
    let journeys = Journeys::new(
        Limits::default(),
        Patience::default(),
        Reasons::by_name(|_| None),
    );
    let filter = Filter::default().resolve(&std::collections::BTreeMap::new())?;
    let mut pipeline = Pipeline::new(journeys, filter, When::AsTheyEnd, Counting::default());
    let reasons = DropReasons::default();
    let mut records = 0;
    while let Some(step) = steps.next_step()? {
        let known = Knowledge {
            node: steps.node(),
            names: true,
            reasons: &reasons,
            function_at: &|_| None,
        };
        records += step.batch.records.len() as u64;
        pipeline.batch(&step.batch, &known)?;
        if let Some(now) = step.now {
            pipeline.advance(now, &known)?;
        }
    }
    let counted = pipeline.into_sink();
    println!(
        "| events replayed into flows per second | {:.2} million |",
        rate(records, used() - begin)
    );
    println!(
        "| flows, packets | {}, {} |",
        counted.flows, counted.packets
    );
    println!(
        "| memory before and at most while replaying | {before}, {} MB |",
        memory()
    );
    Ok(())
}

fn seek(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let begin = used();
    let mut steps = Steps::new(Reader::open(BufReader::new(File::open(path)?))?);
    let opened = used() - begin;
    let (first, last) = steps.reader().times().unwrap_or_default();
    let mut longest = Duration::ZERO;
    for at in 0..SEEKS {
        let time = first + (last - first) / SEEKS * (at * 7 % SEEKS);
        let begin = used();
        steps.seek(time)?;
        steps.next_step()?;
        longest = longest.max(used() - begin);
    }
    println!("| opening | {:.2} ms |", opened.as_secs_f64() * 1e3);
    println!(
        "| the longest of {SEEKS} seeks | {:.2} ms |",
        longest.as_secs_f64() * 1e3
    );
    Ok(())
}

/// Counts what would be shown.
#[derive(Default)]
struct Counting {
    flows: u64,
    packets: u64,
}

impl Sink for Counting {
    fn packet(&mut self, _: &PacketReport) -> io::Result<()> {
        self.packets += 1;
        Ok(())
    }

    fn flow(&mut self, _: &FlowReport) -> io::Result<()> {
        self.flows += 1;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: &StatsReport) -> io::Result<()> {
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rate(events: u64, taken: Duration) -> f64 {
    events as f64 / taken.as_secs_f64() / 1e6
}

/// Processor time of this process so far.
fn used() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// The most memory that this process had so far, in MB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}
