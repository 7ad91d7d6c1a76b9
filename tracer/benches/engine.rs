//! The engine alone: records as the ring has them, in memory, are decoded and put together to journeys
//! and flows by one thread.
//!
//! `cargo bench -p tracer --bench engine -- [EVENTS]`. The traffic is that of the benchmark of recordings
//! ([`traffic`]), made up in portions of a ring's size, which is not part of what is measured. The figures
//! are of the steady state: [`BEFORE`] events pass first. Where there is valgrind, instructions are counted as well, in a
//! process of its own (`--count`): figures that no busy machine changes. The output is a table in Markdown;
//! `cargo xtask bench engine` puts it into docs/performance.md.

#[expect(dead_code, reason = "a test needs more of it")]
#[path = "engine/counted.rs"]
mod counted;
#[path = "recording/instructions.rs"]
mod instructions;
#[expect(dead_code, reason = "other benchmarks need more of it")]
#[path = "recording/table.rs"]
mod table;
#[expect(dead_code, reason = "other benchmarks need more of it")]
#[path = "recording/taken.rs"]
mod taken;
#[expect(dead_code, reason = "other benchmarks need more of it")]
#[path = "recording/traffic.rs"]
mod traffic;
#[expect(dead_code, reason = "another benchmark needs more of it")]
#[path = "engine/work.rs"]
mod work;

use std::time::Duration;

use counted::allocations;
use table::{ratio, row};
use taken::used;
use traffic::Traffic;
use work::{Engine, RECORDS, Result, Ring};

const EVENTS: u64 = 20_000_000;
/// More than a second of the traffic, after which its first connections are over.
const BEFORE: u64 = 5_000_000;
/// Rings of events of which instructions are counted.
const COUNTED: u64 = 12;

fn main() -> Result<()> {
    // `cargo bench` adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let first = arguments.next();
    if first.as_deref() == Some("--count") {
        return count();
    }
    let events = first.map_or(Ok(EVENTS), |word| word.parse())?;
    table::begin();
    decode(events)?;
    assemble(events, Traffic::new(), "", "4 million")?;
    assemble(events, Traffic::lasting(), ", of connections that last", "")?;
    instructions("decoded", "*work::decode*")?;
    instructions("decoded and put together", "*Engine::take*")
}

/// Does both for a while, to be watched by valgrind.
fn count() -> Result<()> {
    let mut ring = Ring::new(Traffic::new());
    let mut engine = Engine::new();
    for _ in 0..COUNTED {
        let records = ring.fill();
        work::decode(records)?;
        engine.take(records)?;
    }
    Ok(())
}

/// Counts the instructions of a function, from the first event on.
fn instructions(what: &str, function: &str) -> Result<()> {
    let name = format!("instructions for an event that is {what}");
    match instructions::count(function, &["--count"])? {
        None => row(&name, "no valgrind here", ""),
        Some(all) => {
            let each = ratio(all, COUNTED * RECORDS as u64);
            row(&name, format_args!("{each:.0}"), "");
        }
    }
    Ok(())
}

/// How many portions of a ring's size so many events are.
fn rings(events: u64) -> u64 {
    events.div_ceil(RECORDS as u64)
}

/// Of whole rings, which is what was measured.
fn rate(events: u64, taken: Duration) -> String {
    table::rate(rings(events) * RECORDS as u64, taken)
}

fn decode(events: u64) -> Result<()> {
    let mut ring = Ring::new(Traffic::new());
    let mut taken = Duration::ZERO;
    for _ in 0..rings(events) {
        let records = ring.fill();
        let begin = used();
        work::decode(records)?;
        taken += used() - begin;
    }
    row("events decoded per second", rate(events, taken), "");
    Ok(())
}

fn assemble(events: u64, traffic: Traffic, of: &str, aim: &str) -> Result<()> {
    let mut ring = Ring::new(traffic);
    let mut engine = Engine::new();
    for _ in 0..rings(BEFORE) {
        engine.take(ring.fill())?;
    }
    (engine.packets, engine.flows, engine.holes) = (0, 0, 0);
    let (mut taken, mut asked) = (Duration::ZERO, 0);
    for _ in 0..rings(events) {
        let records = ring.fill();
        let (begin, before) = (used(), allocations());
        engine.take(records)?;
        taken += used() - begin;
        asked += allocations() - before;
    }
    row(
        &format!("events decoded and put together to journeys and flows per second{of}"),
        rate(events, taken),
        aim,
    );
    let Engine {
        packets,
        flows,
        holes,
        ..
    } = engine;
    row(
        "packets, flows, holes of that",
        format_args!("{packets}, {flows}, {holes}"),
        "no holes",
    );
    let thousand = ratio(asked * 1_000, events);
    row(
        "allocations in a thousand events of that",
        format_args!("{thousand:.3}"),
        if aim.is_empty() { "none" } else { "" },
    );
    Ok(())
}
