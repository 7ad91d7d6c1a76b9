//! `cargo xtask bench overhead`: what a tracer takes from the traffic that it looks at.
//!
//! Each kind of traffic runs once without and once with an observer, one right after the other, in
//! alternating order; the ratio of such a pair counts, and of all pairs' ratios the median. All pairs come
//! round by round, so that a machine that changes its pace meanwhile does so to every observer. The
//! tracer's observers record into a file (`record`), which is what one leaves running on a node, but for
//! the one flow, which `watch --json` prints, so that it can be checked: every byte sent over it
//! must have been seen, with no hole and nothing lost.
//!
//! Limits: rates of a machine with two processors that are shared by both ends, the kernel's work and
//! the observer. Differences below some hundredths are noise: see the quartiles.

mod cases;
mod traced;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::ensure;
use tracer_tests::load::Done;

use self::cases::Case;
use super::observer::{Observer, RECORDING};
use super::page;
use super::stage::{Load, Stage, scratch};
use super::statistics::{Compared, Pair, median};
use crate::process;

/// The subject, as the page's marks have it.
const SUBJECT: &str = "overhead";
/// What a tracer printed of a flow that was not complete.
const INCOMPLETE: &str = "incomplete.json";

/// What is measured, and how often.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many pairs of each
    #[arg(long, default_value_t = 7)]
    pairs: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Only observers whose name contains this; the figures are printed and not written down
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only traffic whose name contains this; the figures are printed and not written down
    #[arg(long, value_name = "TEXT")]
    traffic: Option<String>,
    /// The tracer to measure instead of one built from these sources
    #[arg(long, value_name = "PATH")]
    tracer: Option<PathBuf>,
}

/// Measures, and writes the figures down.
///
/// # Errors
/// When something cannot be built, raised or started, or the traced flow is not complete.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let tracer = process::tracer(arguments.tracer.as_deref())?;
    let mut stage = Stage::raise(arguments.seconds)?;
    let mut series: Vec<Series> = cases::all(stage.service())
        .into_iter()
        .filter(|case| case.observer.is_there())
        .filter(|case| {
            let only = arguments.only.as_deref();
            only.is_none_or(|only| case.name.contains(only))
        })
        .map(|case| Series::new(case, arguments.traffic.as_deref().unwrap_or_default()))
        .filter(|series| !series.loads.is_empty())
        .collect();
    for round in 0..arguments.pairs {
        let begin = Instant::now();
        for series in &mut series {
            series.pair(&mut stage, &tracer, round % 2 == 1)?;
        }
        let seconds = begin.elapsed().as_secs();
        eprintln!("pair {} of {}: {seconds} s", round + 1, arguments.pairs);
    }
    let _ = std::fs::remove_file(scratch(RECORDING)?);
    stage.down()?;
    let table = table(&series);
    print!("{table}");
    if arguments.only.is_none() && arguments.traffic.is_none() {
        page::write_down(SUBJECT, &table)?;
    }
    let incomplete: usize = series.iter().map(|series| series.incomplete).sum();
    ensure!(
        incomplete == 0,
        "the traced flow was not complete {incomplete} times: see {}",
        scratch(INCOMPLETE)?.display()
    );
    Ok(())
}

/// All pairs of one observer.
struct Series {
    case: Case,
    /// Those of the case that are asked for.
    loads: Vec<Load>,
    /// By kind of traffic, in their order.
    pairs: Vec<Vec<[Done; 2]>>,
    /// How many processors the observer used, by kind of traffic.
    processors: Vec<Vec<f64>>,
    /// What it said of itself, each time.
    notes: Vec<String>,
    /// How often the flow that it traced was not all there.
    incomplete: usize,
}

impl Series {
    fn new(case: Case, traffic: &str) -> Self {
        let asked = |load: &&Load| load.name().contains(traffic);
        let loads: Vec<Load> = case.loads.iter().filter(asked).copied().collect();
        Self {
            pairs: vec![Vec::new(); loads.len()],
            processors: vec![Vec::new(); loads.len()],
            loads,
            notes: Vec::new(),
            incomplete: 0,
            case,
        }
    }

    /// One pair of each kind of traffic, with the observer first or second.
    fn pair(
        &mut self,
        stage: &mut Stage,
        tracer: &std::path::Path,
        observed_first: bool,
    ) -> anyhow::Result<()> {
        let loads = self.loads.clone();
        let without = |stage: &mut Stage| -> anyhow::Result<Vec<Done>> {
            loads.iter().map(|load| stage.run(*load)).collect()
        };
        let (before, with) = if observed_first {
            (None, self.with(stage, tracer)?)
        } else {
            (Some(without(stage)?), self.with(stage, tracer)?)
        };
        let without = match before {
            Some(done) => done,
            None => without(stage)?,
        };
        for ((pairs, without), with) in self.pairs.iter_mut().zip(without).zip(with) {
            pairs.push([without, with]);
        }
        Ok(())
    }

    fn with(&mut self, stage: &mut Stage, tracer: &std::path::Path) -> anyhow::Result<Vec<Done>> {
        let looking = self.case.observer.start(stage.lab(), tracer)?;
        let mut all = Vec::new();
        for (load, processors) in self.loads.iter().zip(&mut self.processors) {
            let (begin, before) = (Instant::now(), looking.processor_time()?);
            all.push(stage.run(*load)?);
            let used = looking.processor_time()? - before;
            processors.push(used / begin.elapsed().as_secs_f64());
        }
        let (output, said) = looking.end(stage.lab())?;
        self.notes.push(match self.case.observer {
            Observer::Flow(_) => match traced::complete(&output) {
                Ok(complete) => complete.to_string(),
                Err(error) => {
                    self.incomplete += 1;
                    std::fs::write(scratch(INCOMPLETE)?, output)?;
                    format!("not complete: {error:#}")
                }
            },
            // Where the file was is this machine's affair.
            _ => {
                let file = scratch(RECORDING)?;
                let last = said.lines().last().unwrap_or_default();
                last.replace(&*file.to_string_lossy(), RECORDING)
            }
        });
        Ok(all)
    }

    fn rows(&self) -> impl Iterator<Item = String> {
        let loads = self.loads.iter().zip(&self.pairs);
        loads
            .zip(&self.processors)
            .flat_map(|((load, pairs), used)| {
                let used = median(used.iter().copied()).unwrap_or_default();
                let rate = |done: &Done| done.rate() / load.unit();
                let aim = (self.case.aim)(*load);
                let aim = aim.map_or_else(String::new, |aim| format!("at least {aim}"));
                let mut rows =
                    vec![self.row(load.name(), pairs, rate, 0, [&aim, &format!("{used:.2}")])];
                if *load == Load::Ask {
                    for (name, time) in TIMES {
                        rows.push(self.row(name, pairs, time, 2, ["", ""]));
                    }
                }
                rows
            })
    }

    fn row(
        &self,
        what: &str,
        pairs: &[[Done; 2]],
        figure: impl Fn(&Done) -> f64,
        digits: usize,
        [aim, used]: [&str; 2],
    ) -> String {
        let pairs: Vec<Pair> = pairs
            .iter()
            .map(|[without, with]| Pair {
                without: figure(without),
                with: figure(with),
            })
            .collect();
        let name = self.case.name;
        let Some(it) = Compared::of(&pairs) else {
            return format!("| {what} | {name} | not measured | | | | | |\n");
        };
        let [low, high] = it.quartiles;
        format!(
            "| {what} | {name} | {:.digits$} | {:.digits$} | {:.3} | {low:.3} to {high:.3} | {aim} | {used} |\n",
            it.without, it.with, it.ratio
        )
    }
}

/// What is read off a measurement.
type Figure = fn(&Done) -> f64;

/// Of request and response.
const TIMES: [(&str, Figure); 2] = [
    ("half of the answers within, µs", |done| {
        micros(done.p50_ns)
    }),
    ("99 of 100 within, µs", |done| micros(done.p99_ns)),
];

fn micros(nanoseconds: u64) -> f64 {
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6
}

fn table(series: &[Series]) -> String {
    let mut text = "| traffic | with | without it | with it | ratio | half of the ratios | aim | processors it used |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    text.extend(series.iter().flat_map(Series::rows));
    text.push('\n');
    for series in series {
        let name = series.case.name;
        if let (true, Some(note)) = (series.case.speaks, series.notes.last()) {
            text += &format!("- {name}, the last time: {note}\n");
        }
        if series.incomplete > 0 {
            let (times, of) = (series.incomplete, series.notes.len());
            text += &format!("- {name}: **not complete** {times} of {of} times\n");
        }
    }
    text
}
