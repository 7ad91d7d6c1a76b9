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
mod bench;
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
mod load;
mod machine;
#[cfg(test)]
mod made_up;
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

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{packages, process};
use bench::Bench;
use decompress::Format;
use index::Index;
use kernel::Kernel;
use machine::Accelerator;
use table::Outcome;

pub(crate) use load::{Measured, Order, run as measure};
pub(crate) use release::Series;

/// Where the table is kept.
const DOCUMENTATION: &str = "docs/kernels.md";
/// How many machines run at once unless told: each has two processors, and mostly uses one.
const JOBS: usize = 2;
/// How long a machine may run unless told, in seconds: many times what it takes on an idle host.
const LIMIT: u64 = 3600;
/// The same as a step of the tests, in seconds: ten times what it takes.
const LIMIT_IN_TESTS: u64 = 1200;

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
    #[arg(long, default_value_t = JOBS)]
    jobs: usize,
    /// How long a machine may run, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT)]
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
    if let Some(reason) = unavailable() {
        bail!("{reason}");
    }
    install()?;
    Ok(if execute(arguments)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The same as a step of `cargo xtask test`, on the kernels of the releases that are in use. Where
/// machines cannot be had it says why, and does nothing.
///
/// # Errors
/// When a path comes out wrong, or something fails where machines can be had.
pub(crate) fn test() -> anyhow::Result<()> {
    let reason = unavailable().or_else(|| install().err().map(|error| format!("{error:#}")));
    if let Some(reason) = reason {
        println!("skipped: no virtual machine can be had here: {reason}");
        return Ok(());
    }
    let arguments = Arguments {
        series: Series::of_releases(),
        tracer: None,
        only: String::new(),
        again: false,
        document: false,
        jobs: JOBS,
        limit: LIMIT_IN_TESTS,
        accel: Accelerator::default(),
        options: Vec::new(),
    };
    ensure!(execute(&arguments)?, "not all paths are as they must be");
    Ok(())
}

/// Why there can be no machines whatever is installed.
fn unavailable() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some(
            "kernels for x86-64 are booted, with programs of this machine, which is another"
                .to_owned(),
        );
    }
    index::mirrors().err().map(|error| format!("{error:#}"))
}

/// Whether everything is as it must be.
fn execute(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut paths = paths::all();
    paths.retain(|traced| traced.to_string().contains(&arguments.only));
    ensure!(
        !paths.is_empty(),
        "no path's name contains {:?}",
        arguments.only
    );
    let target = process::target_directory()?;
    let tracer = process::tracer(arguments.tracer.as_deref())?;
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
        return Ok(false);
    }
    if arguments.document {
        document(&table)?;
    }
    Ok(true)
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
