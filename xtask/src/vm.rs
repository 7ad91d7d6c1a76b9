//! `cargo xtask vm`: the same paths on the kernels that operators have.
//!
//! Debian's kernel packages are downloaded and unpacked, never installed, and booted by qemu with
//! an initramfs of this machine's programs, in software emulation: no KVM is needed. Inside, a node
//! is made of network namespaces, Services in every form, each path is traced, and the JSON lines
//! come out over a serial line. What they must say is the same for each kernel, but for what is
//! listed in [`degradations`].
//!
//! Limits: x86-64, on a Debian. A machine has two processors, which emulation makes some twenty
//! times slower than real ones: times in its results mean nothing.

mod agreement;
mod check;
mod cpio;
mod decompress;
mod degradations;
mod doctor;
mod hops;
mod image;
mod index;
mod kernel;
mod lab;
mod likeness;
mod machine;
mod modules;
mod paths;
mod programs;
mod release;
mod results;
mod session;
mod table;
mod timing;
mod verdicts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{packages, process};
use decompress::Format;
use index::Index;
use kernel::Kernel;
use machine::{Accelerator, Machine};
use paths::Traced;
use release::Series;
use results::Results;
use table::Outcome;

/// Where the table is kept.
const DOCUMENTATION: &str = "docs/kernels.md";

/// Which kernels, and what on them.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Series such as 6.1, point releases, or `newest`; without any: 5.10, 6.1, 6.12, newest
    series: Vec<Series>,
    /// The tracer to test instead of one built from these sources
    #[arg(long, value_name = "PATH")]
    tracer: Option<PathBuf>,
    /// Trace only paths whose name contains this, for example `ipvs/` or `tcp`
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    only: String,
    /// Judge what the machines wrote the last time, instead of booting them
    #[arg(long)]
    again: bool,
    /// Put the table into docs/kernels.md
    #[arg(long)]
    document: bool,
    /// How many machines run at once
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// How long a machine may run, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    limit: u64,
    /// What runs the machines' instructions
    #[arg(long, value_enum, default_value_t)]
    accel: Accelerator,
    /// Options for every tracer
    #[arg(last = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Boots the kernels, traces the paths on each, prints how they came out.
///
/// # Errors
/// When something is missing to do that. A path that comes out wrong is a failure's exit status.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "this downloads and boots kernels for x86-64, and packs programs of this machine for them"
    );
    let mut paths = paths::all();
    paths.retain(|traced| traced.to_string().contains(&arguments.only));
    ensure!(
        !paths.is_empty(),
        "no path's name contains {:?}",
        arguments.only
    );
    install()?;
    let target = process::target_directory()?;
    let tracer = match &arguments.tracer {
        Some(path) => path.clone(),
        None => process::build_tracer(None)?,
    };
    process::build_lab_server()?;
    let bench = Bench {
        directory: target.join("vm/runs"),
        tracer,
        server: target.join("debug/lab-server"),
        paths,
        arguments,
    };
    let kernels = kernels(&arguments.series, &target.join("vm"))?;
    let mut outcomes = bench.all(&kernels)?;
    compare(&mut outcomes);
    let table = table::table(&outcomes);
    println!("\n{table}");
    if !outcomes.iter().all(Outcome::is_good) {
        println!("{}", table::failures(&outcomes));
        println!(
            "what the machines wrote is in {}",
            bench.directory.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    if arguments.document {
        document(&table)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares what the kernels say, each with the last.
fn compare(outcomes: &mut [Outcome]) {
    let Some((last, others)) = outcomes.split_last_mut() else {
        return;
    };
    for other in others.iter_mut() {
        let row = likeness::row(&other.likenesses, &last.likenesses, &last.version);
        other.rows.push(row);
    }
    let row = likeness::row(&last.likenesses, &last.likenesses, &last.version);
    last.rows.push(row);
}

/// Puts the table into the documentation.
fn document(table: &str) -> anyhow::Result<()> {
    let path = process::root().join(DOCUMENTATION);
    let text = fs::read_to_string(&path).with_context(|| DOCUMENTATION.to_owned())?;
    fs::write(&path, table::document(&text, table)?)?;
    println!("the table is in {DOCUMENTATION}");
    Ok(())
}

/// Installs what is missing and says so.
fn install() -> anyhow::Result<()> {
    let formats = [Format::Gzip, Format::Lz4, Format::Xz, Format::Zstd];
    let tools = formats.map(|format| match format {
        Format::Xz => (format.program(), "xz-utils"),
        _ => (format.program(), format.program()),
    });
    let emulator = (machine::EMULATOR, "qemu-system-x86");
    let needed = image::PROGRAMS.into_iter().chain(tools).chain([emulator]);
    let missing = |(program, _): &(&str, &str)| programs::find(program).is_none();
    let mut missing: Vec<&str> = needed.filter(missing).map(|(_, package)| package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    println!(
        "installing what the machines need and this one lacks: {}",
        missing.join(", ")
    );
    packages::apt(missing.into_iter())
}

/// The kernels, each once, in the order asked for.
fn kernels(series: &[Series], cache: &Path) -> anyhow::Result<Vec<Kernel>> {
    let mut index = Index::open(cache.join("apt"))?;
    let defaults = Series::defaults();
    let series = if series.is_empty() { &defaults } else { series };
    let mut kernels: Vec<Kernel> = Vec::new();
    for series in series {
        let kernel = Kernel::obtain(series, &mut index, &cache.join("kernels"))?;
        println!("{series}: Debian's {} ({})", kernel.release, kernel.version);
        if kernels.iter().all(|known| known.release != kernel.release) {
            kernels.push(kernel);
        }
    }
    Ok(kernels)
}

/// What is the same for each machine.
struct Bench<'a> {
    directory: PathBuf,
    tracer: PathBuf,
    server: PathBuf,
    paths: Vec<Traced>,
    arguments: &'a Arguments,
}

impl Bench<'_> {
    /// Runs every kernel, some at once.
    fn all(&self, kernels: &[Kernel]) -> anyhow::Result<Vec<Outcome>> {
        let waiting = Mutex::new(kernels.iter().enumerate());
        let outcomes = Mutex::new(Vec::new());
        let worker = || -> anyhow::Result<()> {
            loop {
                let next = waiting.lock().map_or(None, |mut waiting| waiting.next());
                let Some((number, kernel)) = next else {
                    return Ok(());
                };
                let outcome = self.one(kernel)?;
                if let Ok(mut outcomes) = outcomes.lock() {
                    outcomes.push((number, outcome));
                }
            }
        };
        thread::scope(|scope| {
            let jobs = 0..self.arguments.jobs.max(1);
            let workers: Vec<_> = jobs.map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(_) => bail!("a thread that runs machines panicked"),
                })
        })?;
        let mut outcomes = outcomes.into_inner().unwrap_or_default();
        outcomes.sort_by_key(|(number, _)| *number);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    /// Boots one kernel and judges what it says.
    fn one(&self, kernel: &Kernel) -> anyhow::Result<Outcome> {
        let directory = self.directory.join(&kernel.version);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let options = self.arguments.options.join(" ");
        let initramfs = image::build(kernel, &self.tracer, &self.server, &self.paths, &options)
            .with_context(|| format!("the initramfs for {}", kernel.version))?;
        let machine = Machine {
            kernel,
            initramfs: &initramfs,
            accelerator: self.arguments.accel,
            directory: &directory,
            limit: Duration::from_secs(self.arguments.limit),
        };
        let begin = Instant::now();
        let mut failures = Vec::new();
        if !self.arguments.again {
            if let Err(error) = machine.run() {
                failures.push(format!("{error:#}"));
            }
            let seconds = begin.elapsed().as_secs();
            println!("{}: the machine ran for {seconds} s", kernel.version);
        }
        let results = Results::parse(&machine.results());
        failures.extend(results.failures.iter().cloned());
        if !results.complete {
            let console = machine.console();
            failures.push(format!(
                "the machine did not come to its end: see {}",
                console.display()
            ));
        }
        Ok(self.judge(kernel, &results, failures))
    }

    fn judge(&self, kernel: &Kernel, results: &Results, failures: Vec<String>) -> Outcome {
        Outcome {
            version: kernel.version.clone(),
            choices: doctor::Choices::read(results.section("doctor")),
            rows: verdicts::of(&self.paths, &kernel.numbers, results),
            likenesses: likeness::of(&self.paths, &kernel.numbers, results),
            failures,
        }
    }
}
