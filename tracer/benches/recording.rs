//! What recordings cost: bytes and time per event, written, read, put together to journeys and replayed
//! into flows, the memory while replaying, and the time of opening and of a seek.
//!
//! `cargo bench -p tracer --bench recording -- [EVENTS] [DIRECTORY]`: so many events (two million
//! unless told) of made-up traffic ([`traffic`]) are written by the real writer, and then those of a
//! lab's real traffic. One thread does everything, and its processor time is what is measured, so that
//! rates are those of one core whatever else the machine does. The output is a table in Markdown;
//! `cargo xtask bench recording` puts it into docs/performance.md.

#[path = "recording/table.rs"]
mod table;
#[path = "recording/taken.rs"]
mod taken;
#[expect(dead_code, reason = "other benchmarks need more of it")]
#[path = "recording/traffic.rs"]
mod traffic;

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    io::{self, BufReader, Cursor},
    path::{Path, PathBuf},
    time::Duration,
};

use table::{milliseconds, rate, ratio, row};
use taken::{memory, used};

use tracer::{
    event::Record,
    filter::Filter,
    journey::{Journeys, Limits, Patience, Reasons},
    node::reasons::DropReasons,
    output::Sink,
    pipeline::{Pipeline, When},
    report::{FlowReport, Knowledge, PacketReport, StatsReport},
    source::{Batch, Notice},
    trace::{About, Reader, Steps, Writer},
};

/// Real traffic of a lab: every path, two directions, some drops.
const LAB: &[u8] = include_bytes!("../../tests/golden/lab-1.0.recording");
const EVENTS: u64 = 2_000_000;
/// Events between two looks at the ring under load.
const BATCH: usize = 2_000;
const SEEKS: u64 = 64;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // `cargo bench` adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let events = arguments.next().map_or(Ok(EVENTS), |word| word.parse())?;
    let directory = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let path = directory.join(format!("tracer-bench-{}", std::process::id()));
    let result = measure(&path, events);
    fs::remove_file(&path)?;
    result
}

fn measure(path: &Path, events: u64) -> Result<()> {
    table::begin();
    write(path, events)?;
    lab()?;
    open(path)?;
    seek(path)?;
    read(path)?;
    assemble(path)?;
    replay(path, "into flows", false)?;
    replay(
        path,
        "into flows and every packet's journey with names",
        true,
    )
}

fn write(path: &Path, events: u64) -> Result<()> {
    let mut writer = Writer::new(File::create(path)?, &About::default())?;
    writer.node(&traffic::node())?;
    let mut batch = Batch::default();
    batch.notices.push(Notice::NetfilterEverywhere { time: 0 });
    let mut taken = Duration::ZERO;
    let mut traffic = traffic::Traffic::new();
    while writer.records() < events {
        batch.records.extend(traffic.by_ref().take(BATCH));
        let now = batch.records.last().map_or(0, Record::time);
        let begin = used();
        writer.batch(&batch)?;
        writer.clock(now)?;
        taken += used() - begin;
        batch = Batch::default();
    }
    let begin = used();
    writer.finish()?;
    taken += used() - begin;
    let (length, records) = (writer.length(), writer.records());
    row("events in the recording", records, "50000000");
    row("bytes of it on disk", length, "");
    row(
        "bytes on disk per event",
        format_args!("{:.2}", ratio(length, records)),
        "at most 12",
    );
    row("events written per second", rate(records, taken), "");
    Ok(())
}

/// The recording of a lab, a few seconds long.
fn lab() -> Result<()> {
    let reader = Reader::open(Cursor::new(LAB))?;
    let (length, records) = (LAB.len() as u64, reader.records());
    let per_event = ratio(length, records);
    row(
        "bytes on disk per event of a lab's few seconds, with its index and what the node knew",
        format_args!("{per_event:.2}"),
        "at most 12",
    );
    Ok(())
}

fn steps(path: &Path) -> Result<Steps<BufReader<File>>> {
    Ok(Steps::new(Reader::open(BufReader::new(File::open(path)?))?))
}

fn open(path: &Path) -> Result<()> {
    forget_memory()?;
    let before = memory();
    let begin = used();
    let steps = steps(path)?;
    row("opening", milliseconds(used() - begin), "");
    let memory = memory().saturating_sub(before);
    row("memory for that", format_args!("{memory} MB"), "");
    drop(steps);
    Ok(())
}

/// As `replay --at` does: opens, goes there, and has the first events.
fn seek(path: &Path) -> Result<()> {
    let (first, last) = steps(path)?.reader().times().unwrap_or_default();
    let mut longest = Duration::ZERO;
    for at in 0..SEEKS {
        let begin = used();
        let mut steps = steps(path)?;
        steps.seek(first + (last - first) / SEEKS * (at * 7 % SEEKS))?;
        steps.next_step()?;
        longest = longest.max(used() - begin);
    }
    row(
        &format!("opening and going to a time, the longest of {SEEKS}"),
        milliseconds(longest),
        "less than 100 ms",
    );
    Ok(())
}

fn read(path: &Path) -> Result<()> {
    let begin = used();
    let mut steps = steps(path)?;
    let mut records = 0;
    while let Some(step) = steps.next_step()? {
        records += step.batch.records.len() as u64;
    }
    row("events read per second", rate(records, used() - begin), "");
    Ok(())
}

fn journeys() -> Journeys {
    Journeys::new(
        Limits::default(),
        Patience::default(),
        Reasons::by_name(|_| None),
    )
}

/// Read, and put together to packets and flows by the engine alone.
fn assemble(path: &Path) -> Result<()> {
    let begin = used();
    let mut steps = steps(path)?;
    let mut journeys = journeys();
    journeys.netfilter_observed_everywhere(0);
    let (mut records, mut packets, mut flows, mut holes) = (0, 0_u64, 0_u64, 0_u64);
    while let Some(step) = steps.next_step()? {
        records += step.batch.records.len() as u64;
        for record in &step.batch.records {
            journeys.push(record);
        }
        while let Some(packet) = journeys.next_packet() {
            packets += 1;
            holes += u64::from(packet.holes());
            journeys.take_back(packet);
        }
        if let Some(now) = step.now {
            journeys.advance(now);
            flows += journeys.take_given_up().count() as u64;
            for id in journeys.flows_over(now) {
                flows += u64::from(journeys.take_flow(id).is_some());
            }
        }
    }
    row(
        "events read and put together to journeys per second",
        rate(records, used() - begin),
        "4 million, later",
    );
    row(
        "packets, flows, holes of that",
        format_args!("{packets}, {flows}, {holes}"),
        "no holes",
    );
    Ok(())
}

fn replay(path: &Path, what: &str, packets: bool) -> Result<()> {
    forget_memory()?;
    let begin = used();
    let mut steps = steps(path)?;
    let filter = Filter::default().resolve(&BTreeMap::new())?;
    let counting = Counting {
        packets,
        ..Counting::default()
    };
    let mut pipeline = Pipeline::new(journeys(), filter, When::AsTheyEnd, counting);
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
    let shown = pipeline.into_sink().shown;
    row(
        &format!("events replayed {what} per second"),
        rate(records, used() - begin),
        if packets { "" } else { "2 million" },
    );
    row("shown by that", shown, "");
    let memory = format!("{} MB", memory());
    row("memory at most", memory, "less than 256 MB");
    Ok(())
}

/// Counts what would be shown.
#[derive(Default)]
struct Counting {
    packets: bool,
    shown: u64,
}

impl Sink for Counting {
    fn shows_packets(&self) -> bool {
        self.packets
    }

    fn packet(&mut self, _: &PacketReport) -> io::Result<()> {
        self.shown += 1;
        Ok(())
    }

    fn flow(&mut self, _: &FlowReport) -> io::Result<()> {
        self.shown += 1;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: &StatsReport) -> io::Result<()> {
        Ok(())
    }
}

/// `proc_pid_clear_refs(5)`: begins the count of the most memory anew.
fn forget_memory() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}
