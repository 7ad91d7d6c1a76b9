//! `cargo xtask bench idle`: what the tracer takes of a processor where nothing happens.
//!
//! The lab with a few namespaces with rules beside it, nobody sending anything, and a tracer without a filter,
//! begun anew each time. Counted is the processor time of the whole process and of each of its threads, from
//! when the start is some time ago: the kernel's and its own, as `/proc` says. Threads that enter a namespace end
//! in it, so their time is the process's only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::processor_time::seconds_of;

use super::growth::surroundings::add_namespaces;
use super::observer::{EVERYTHING, Looking, Observer};
use super::statistics::median;
use super::{page, programs};
use crate::{packages, process};

/// The subject, as the page's marks have it.
const SUBJECT: &str = "idle";
/// Namespaces with rules beside the lab's.
const NAMESPACES: u32 = 10;
/// A new device asks for routers and tells of its groups a few times.
const SETTLING: Duration = Duration::from_secs(40);

/// How it is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often it is measured; the median counts
    #[arg(long, default_value_t = 3)]
    times: u32,
    /// How long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How long after the start, in seconds
    #[arg(long, default_value_t = 20)]
    after: u64,
    /// The tracer to measure instead of one built from these sources
    #[arg(long, value_name = "PATH")]
    tracer: Option<PathBuf>,
    /// Print the figures and do not write them down
    #[arg(long)]
    dry: bool,
}

/// Seconds of processor time: of a process, and of each of its threads by name.
#[derive(Clone, Debug, Default, PartialEq)]
struct Taken {
    all: f64,
    threads: BTreeMap<String, f64>,
}

impl Taken {
    /// Up to now.
    fn by(process: u32) -> anyhow::Result<Self> {
        let directory = PathBuf::from(format!("/proc/{process}"));
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(directory.join("task"))?.flatten() {
            // A thread that ended meanwhile is one of those that enter a namespace.
            if let Some((mut name, seconds)) = thread_of(&entry.path()) {
                // Called as the program's file is.
                if entry.file_name() == process.to_string().as_str() {
                    "main".clone_into(&mut name);
                }
                *threads.entry(name).or_default() += seconds;
            }
        }
        let all = seconds_of(&directory.join("stat")).context("the observer has ended")?;
        Ok(Self { all, threads })
    }

    /// What came since, in hundredths of a processor.
    fn since(&self, before: &Self, passed: Duration) -> Self {
        let share = |now: f64, before: f64| (now - before).max(0.0) * 100.0 / passed.as_secs_f64();
        let threads = self.threads.iter();
        let threads = threads.filter_map(|(name, seconds)| {
            let before = before.threads.get(name)?;
            Some((name.clone(), share(*seconds, *before)))
        });
        Self {
            all: share(self.all, before.all),
            threads: threads.collect(),
        }
    }
}

fn thread_of(task: &Path) -> Option<(String, f64)> {
    let name = fs::read_to_string(task.join("comm")).ok()?;
    let seconds = seconds_of(&task.join("stat")).ok()?;
    Some((name.trim().to_owned(), seconds))
}

/// Measures, and writes the figures down.
///
/// # Errors
/// When something cannot be built, raised or started.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    packages::install_for_lab()?;
    let tracer = process::tracer(arguments.tracer.as_deref())?;
    process::build_lab_server()?;
    programs::warn_of_others();
    let lab = Lab::up(&Config::default())?;
    add_namespaces(&lab, 0..NAMESPACES)?;
    thread::sleep(SETTLING);
    let mut rounds = Vec::new();
    for _ in 0..arguments.times {
        let watching = Observer::Watch(EVERYTHING).start(&lab, &tracer)?;
        let taken = round(&watching, arguments)?;
        watching.end(&lab)?;
        eprintln!("{taken:?}");
        rounds.push(taken);
    }
    lab.down()?;
    let table = table(&rounds);
    print!("{table}");
    if arguments.dry {
        return Ok(());
    }
    page::write_down(SUBJECT, &table)
}

fn round(watching: &Looking, arguments: &Arguments) -> anyhow::Result<Taken> {
    thread::sleep(Duration::from_secs(arguments.after));
    let (begin, before) = (Instant::now(), Taken::by(watching.pid())?);
    thread::sleep(Duration::from_secs(arguments.seconds));
    let after = Taken::by(watching.pid())?;
    Ok(after.since(&before, begin.elapsed()))
}

fn table(rounds: &[Taken]) -> String {
    let mut table =
        "| of one processor | median | each time | aim |\n|---|---|---|---|\n".to_owned();
    let mut row = |name: &str, values: Vec<f64>, aim: &str| {
        let each: Vec<String> = values.iter().map(|value| format!("{value:.2} %")).collect();
        let median = median(values).unwrap_or_default();
        let each = each.join(", ");
        table.push_str(&format!("| {name} | {median:.2} % | {each} | {aim} |\n"));
    };
    let all = rounds.iter().map(|taken| taken.all).collect();
    row("`tracer watch`, no filter", all, "at most 0.50 %");
    let names = rounds.first().map(|taken| taken.threads.keys());
    for name in names.into_iter().flatten() {
        let of = |taken: &Taken| taken.threads.get(name).copied().unwrap_or_default();
        let values = rounds.iter().map(of).collect();
        row(&format!("of that the thread `{name}`"), values, "");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(all: f64, threads: &[(&str, f64)]) -> Taken {
        let threads = threads.iter();
        Taken {
            all,
            threads: threads
                .map(|(name, it)| ((*name).to_owned(), *it))
                .collect(),
        }
    }

    #[test]
    fn what_came_since_is_a_share() {
        let before = taken(1.0, &[("node", 0.5)]);
        let after = taken(1.6, &[("node", 0.8), ("rules", 0.1)]);
        let since = after.since(&before, Duration::from_secs(60));
        assert!((since.all - 1.0).abs() < 1e-9);
        assert!((since.threads["node"] - 0.5).abs() < 1e-9);
        // One that was not there before has no difference.
        assert_eq!(since.threads.len(), 1);
    }

    #[test]
    fn each_thread_has_a_row() {
        let rounds = [
            taken(0.6, &[("node", 0.2), ("rules", 0.1)]),
            taken(0.4, &[("node", 0.3), ("rules", 0.1)]),
            taken(0.5, &[("node", 0.1), ("rules", 0.1)]),
        ];
        let table = table(&rounds);
        assert!(table.contains("| 0.50 % | 0.60 %, 0.40 %, 0.50 % | at most 0.50 % |"));
        assert!(table.contains("the thread `node` | 0.20 % |"), "{table}");
        assert_eq!(table.lines().count(), 5);
    }
}
