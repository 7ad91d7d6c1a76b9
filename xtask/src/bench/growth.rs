//! `cargo xtask bench growth`: whether a packet costs the same on a large node as on a small one.
//!
//! The cost of a datagram is the time of all of the tracer's programs that ran for it, by the kernel's
//! statistics (with their own part, some 20 ns a run), so it does not depend on what else the machine
//! does. One of three things grows while the others stay: the flows that are under way at once, the network
//! namespaces with rules of their own, and the rules in the node. Each is measured with a filter that nothing
//! matches and with everything written; of flows the latter is a filter that all of them match, so that
//! the set of followed flows is full of them, and from 65,536 on more than full.
//!
//! Limits: namespaces and rules beside the traffic's own way. That the kernel itself evaluates more rules
//! for a flow's first packet is not the tracer's cost and not measured.

mod plot;
pub(super) mod surroundings;

use std::fs;
use std::path::{Path, PathBuf};

use self::plot::Line;
use self::surroundings::{add_namespaces, add_rules};
use super::observer::{EVERYTHING, NO_MATCH, Observer};
use super::page;
use super::programs::{self, Statistics, float};
use super::stage::Stage;
use super::statistics::median;
use crate::{packages, process};

/// The subject, as the page's marks have it.
const SUBJECT: &str = "growth";
/// Where the plot is.
const PLOT: &str = "docs/images/growth.svg";
/// What all datagrams of the flood match.
const DATAGRAMS: &str = "udp port 9000";

/// How it is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often each is measured; the median counts
    #[arg(long, default_value_t = 3)]
    times: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// The tracer to measure instead of one built from these sources
    #[arg(long, value_name = "PATH")]
    tracer: Option<PathBuf>,
    /// Print the figures and do not write them down
    #[arg(long)]
    dry: bool,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growing {
    Flows,
    Namespaces,
    Rules,
}

impl Growing {
    const ALL: [Self; 3] = [Self::Flows, Self::Namespaces, Self::Rules];

    const fn name(self) -> &'static str {
        match self {
            Self::Flows => "concurrent flows",
            Self::Namespaces => "network namespaces with rules",
            Self::Rules => "rules in the node",
        }
    }

    const fn sizes(self) -> &'static [u32] {
        match self {
            Self::Flows => &[10, 100, 1_000, 10_000, 100_000],
            Self::Namespaces => &[1, 10, 100, 500],
            Self::Rules => &[10, 100, 1_000, 20_000],
        }
    }

    const fn filters(self) -> [&'static str; 2] {
        match self {
            Self::Flows => [NO_MATCH, DATAGRAMS],
            _ => [NO_MATCH, EVERYTHING],
        }
    }
}

/// One row: nanoseconds a datagram, without a match and written.
struct Row {
    growing: Growing,
    size: u32,
    costs: [f64; 2],
}

/// Measures, and writes the figures and the plot down.
///
/// # Errors
/// When something cannot be built, raised or started.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    packages::install_for_tests()?;
    let tracer = process::tracer(arguments.tracer.as_deref())?;
    let mut stage = Stage::raise(arguments.seconds)?;
    stage.open_addresses()?;
    let statistics = Statistics::begin()?;
    let mut rows = Vec::new();
    for growing in Growing::ALL {
        let mut there = 0;
        for &size in growing.sizes() {
            grow(&stage, growing, there, size)?;
            there = size;
            let row = row(&mut stage, &tracer, growing, size, arguments.times)?;
            eprint!("{}", text(&row));
            rows.push(row);
        }
    }
    drop(statistics);
    stage.down()?;
    let table = table(&rows);
    print!("{table}");
    if arguments.dry {
        return Ok(());
    }
    fs::write(process::root().join(PLOT), plot::svg(&lines(&rows)))?;
    page::write_down(SUBJECT, &table)
}

/// From what is there to that size.
fn grow(stage: &Stage, growing: Growing, there: u32, size: u32) -> anyhow::Result<()> {
    match growing {
        Growing::Flows => Ok(()),
        Growing::Namespaces => add_namespaces(stage.lab(), there..size),
        Growing::Rules => add_rules(stage.lab(), there..size),
    }
}

fn row(
    stage: &mut Stage,
    tracer: &Path,
    growing: Growing,
    size: u32,
    times: u32,
) -> anyhow::Result<Row> {
    let mut costs = [0.0; 2];
    for (cost, filter) in costs.iter_mut().zip(growing.filters()) {
        let looking = Observer::Record(filter).start(stage.lab(), tracer)?;
        let flows = if growing == Growing::Flows { size } else { 1 };
        let measured: anyhow::Result<Vec<f64>> = (0..times)
            .map(|_| each(stage, looking.pid(), flows))
            .collect();
        *cost = median(measured?).unwrap_or_default();
        looking.end(stage.lab())?;
    }
    Ok(Row {
        growing,
        size,
        costs,
    })
}

/// The nanoseconds that all programs took for each datagram.
fn each(stage: &mut Stage, tracer: u32, flows: u32) -> anyhow::Result<f64> {
    let total = || -> anyhow::Result<u64> {
        let programs = programs::held_by(tracer)?;
        Ok(programs.values().map(|runs| runs.nanoseconds).sum())
    };
    let before = total()?;
    let done = stage.spread(flows)?;
    Ok(float(total()? - before) / float(done.count))
}

fn text(row: &Row) -> String {
    let [missed, written] = row.costs;
    let (name, size) = (row.growing.name(), row.size);
    format!("| {name} | {size} | {missed:.0} | {written:.0} |\n")
}

fn table(rows: &[Row]) -> String {
    let mut table =
        "| what grows | to | nothing matches, ns a datagram | all written, ns a datagram |\n\
                     |---|---|---|---|\n"
            .to_owned();
    table.extend(rows.iter().map(text));
    table + "\n![The same as a plot](images/growth.svg)\n"
}

fn lines(rows: &[Row]) -> Vec<Line> {
    let line = |growing: Growing, which: usize, kind: &str| Line {
        name: format!("{}, {kind}", growing.name()),
        points: rows
            .iter()
            .filter(|row| row.growing == growing)
            .filter_map(|row| Some((f64::from(row.size), *row.costs.get(which)?)))
            .collect(),
    };
    let both = |growing| [line(growing, 1, "written"), line(growing, 0, "no match")];
    Growing::ALL.into_iter().flat_map(both).collect()
}
