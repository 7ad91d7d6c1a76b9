//! `cargo xtask bench hooks`: what each of the tracer's programs costs a run.
//!
//! The kernel measures each program's runs ([`programs`](super::programs)); of that is taken what a program that does
//! nothing takes at the same hook under the same traffic, which is mostly the measuring itself. Once with a filter
//! that nothing matches, and once with none, when every hook writes its record (but for what the ring
//! cannot take).
//!
//! Limits: netfilter by links, which this asks for; the figures are those of this machine's processor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tracer_tests::load::Done;

use super::empty::{Empty, PROGRAMS, Place};
use super::observer::{EVERYTHING, NO_MATCH, Observer};
use super::page;
use super::programs::{self, Runs, Statistics, float};
use super::stage::{Load, NODE, Stage};
use super::statistics::median;
use crate::{packages, process};

/// The subject, as the page's marks have it.
const SUBJECT: &str = "hooks";
/// The filters, and the nanoseconds that a run may take.
const FILTERS: [(&str, &str, f64); 2] =
    [("no match", NO_MATCH, 45.0), ("emitted", EVERYTHING, 110.0)];
/// The traffic.
const LOADS: [(&str, Load); 2] = [("UDP flood", Load::Flood), ("TCP", Load::Ask)];

/// How it is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often each is measured; the median counts
    #[arg(long, default_value_t = 5)]
    times: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// The tracer to measure instead of one built from these sources
    #[arg(long, value_name = "PATH")]
    tracer: Option<PathBuf>,
    /// Print the figures and do not write them down
    #[arg(long)]
    dry: bool,
}

/// By program's name.
type Measured = BTreeMap<String, Vec<Sample>>;

#[derive(Clone, Copy)]
struct Sample {
    /// Nanoseconds a run.
    each: f64,
    /// How often it ran for each datagram, or for each request with its answer.
    times: f64,
}

/// Measures, and writes the figures down.
///
/// # Errors
/// When something cannot be built, raised or attached.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    packages::install_for_tests()?;
    let tracer = process::tracer(arguments.tracer.as_deref())?;
    let mut stage = Stage::raise(arguments.seconds)?;
    let statistics = Statistics::begin()?;
    let mut figures = Figures::default();
    for _ in 0..arguments.times {
        figures.measure_nothing(&mut stage)?;
        figures.measure(&mut stage, &tracer)?;
    }
    drop(statistics);
    stage.down()?;
    let table = figures.table();
    print!("{table}");
    if arguments.dry {
        return Ok(());
    }
    page::write_down(SUBJECT, &table)
}

/// What was measured so far.
#[derive(Default)]
struct Figures {
    /// Nanoseconds a run of an empty program, by place and traffic.
    empty: BTreeMap<(Place, &'static str), Vec<f64>>,
    /// What the tracer's programs took, by kind of filter and traffic.
    traced: BTreeMap<(&'static str, &'static str), Measured>,
}

impl Figures {
    fn measure_nothing(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        for (_, place) in PROGRAMS {
            let attached = Empty::attach(place, stage.lab(), NODE)?;
            for (name, load) in LOADS {
                let samples = self.empty.entry((place, name)).or_default();
                samples.extend(nothing(stage, &attached, load)?);
            }
        }
        Ok(())
    }

    fn measure(&mut self, stage: &mut Stage, tracer: &Path) -> anyhow::Result<()> {
        for (kind, filter, _) in FILTERS {
            let looking = Observer::RecordByLinks(filter).start(stage.lab(), tracer)?;
            for (name, load) in LOADS {
                let all = self.traced.entry((kind, name)).or_default();
                for (program, sample) in traced(stage, looking.pid(), load)? {
                    all.entry(program).or_default().push(sample);
                }
            }
            looking.end(stage.lab())?;
        }
        Ok(())
    }

    fn table(&self) -> String {
        let mut text =
            "| program | traffic | runs for each | empty, ns | no match, ns | emitted, ns |\n\
                        |---|---|---|---|---|---|\n"
                .to_owned();
        for (traffic, _) in LOADS {
            let mut sums = [0.0; 2];
            for (program, place) in PROGRAMS {
                let Some(nothing) = middle(self.empty.get(&(place, traffic))) else {
                    continue;
                };
                let found = FILTERS.map(|(kind, ..)| self.found((kind, traffic), program, nothing));
                for (sum, sample) in sums.iter_mut().zip(found) {
                    *sum += sample.map_or(0.0, |it| it.each * it.times);
                }
                let times = found.iter().flatten().next().map_or(0.0, |it| it.times);
                let [missed, emitted] = found.map(cell);
                text += &format!(
                    "| `{program}` | {traffic} | {times:.1} | {nothing:.0} | {missed} | {emitted} |\n"
                );
            }
            let [missed, emitted] = sums;
            text += &format!("| all, for each | {traffic} | | | {missed:.0} | {emitted:.0} |\n");
        }
        let [(_, _, missed), (_, _, emitted)] = FILTERS;
        text + &format!("| aim, each | | | | at most {missed} | at most {emitted} |\n")
    }

    /// The medians of a program's samples, less what an empty one takes.
    fn found(
        &self,
        which: (&'static str, &'static str),
        program: &str,
        nothing: f64,
    ) -> Option<Sample> {
        let samples = self.traced.get(&which)?.get(program)?;
        Some(Sample {
            each: median(samples.iter().map(|it| it.each))? - nothing,
            times: median(samples.iter().map(|it| it.times))?,
        })
    }
}

/// Nanoseconds a run of an empty program; none where it does not run.
fn nothing(stage: &mut Stage, program: &Empty, load: Load) -> anyhow::Result<Option<f64>> {
    let (id, own) = (program.id()?, std::process::id());
    let read = || -> anyhow::Result<Runs> {
        Ok(programs::held_by(own)?
            .get(&id)
            .copied()
            .unwrap_or_default())
    };
    let before = read()?;
    stage.run(load)?;
    let runs = read()?.since(before);
    Ok(runs.each().filter(|_| is_enough(runs)))
}

/// The same for each program of a tracer.
fn traced(stage: &mut Stage, tracer: u32, load: Load) -> anyhow::Result<Vec<(String, Sample)>> {
    let names = programs::names()?;
    let before = programs::held_by(tracer)?;
    let Done { count, .. } = stage.run(load)?;
    let after = programs::held_by(tracer)?;
    Ok(after
        .into_iter()
        .filter_map(|(id, runs)| {
            let runs = runs.since(before.get(&id).copied().unwrap_or_default());
            let each = runs.each().filter(|_| is_enough(runs))?;
            let times = float(runs.runs) / float(count);
            Some((names.get(&id)?.clone(), Sample { each, times }))
        })
        .collect())
}

/// A program that ran now and then, found nothing of its in a cache: that says nothing.
const fn is_enough(runs: Runs) -> bool {
    runs.runs > 1000
}

/// What takes less than an empty program's noise takes nothing.
fn cell(sample: Option<Sample>) -> String {
    sample.map_or_else(String::new, |it| format!("{:.0}", it.each.max(0.0)))
}

fn middle(samples: Option<&Vec<f64>>) -> Option<f64> {
    median(samples?.iter().copied())
}
