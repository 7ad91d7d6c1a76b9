//! What each part that only computes takes: time by criterion, and instructions, which no busy machine
//! changes.
//!
//! `cargo bench -p tracer --bench parts` is criterion's usual program: it takes a part's name and criterion's options,
//! and says what changed since the last time. Times are processor time. `cargo bench -p tracer --bench parts -- table` does
//! each part for a few seconds only and prints a table in Markdown with the medians, and with what valgrind counts
//! (in a process of its own for each part, `--once`); `cargo xtask bench parts` puts it into docs/performance.md.

#[path = "recording/instructions.rs"]
mod instructions;
#[expect(dead_code, reason = "another benchmark loads the rules")]
#[path = "rules/made.rs"]
mod made;
#[path = "parts/part.rs"]
mod part;
#[expect(dead_code, reason = "other benchmarks need more of it")]
#[path = "recording/taken.rs"]
mod taken;
#[expect(dead_code, reason = "other benchmarks need more of it")]
#[path = "recording/traffic.rs"]
mod traffic;
#[path = "engine/work.rs"]
mod work;

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::Command,
    time::Duration,
};

use criterion::{Criterion, Throughput};
use part::{PARTS, Part, Work};
use taken::used;
use work::Result;

/// What criterion is told for the table: enough for a median.
const SHORT: [&str; 7] = [
    "--bench",
    "--noplot",
    "--sample-size=15",
    "--warm-up-time=0.5",
    "--measurement-time=2",
    "--nresamples=1000",
    "--color=never",
];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["--once", name] => once(name),
        ["table"] | ["table", "--bench"] | ["--bench", "table"] => table(),
        _ => by_criterion(),
    }
}

fn by_criterion() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    for part in PARTS {
        let mut group = criterion.benchmark_group(part.name);
        group.throughput(Throughput::Elements(part.count));
        // Made when it is not passed over.
        let mut work = None;
        let mut failed = None;
        group.bench_function(part.unit, |bencher| {
            bencher.iter_custom(|times| match measure(&part, &mut work, times) {
                Ok(taken) => taken,
                Err(error) => {
                    failed = Some(error);
                    Duration::from_secs(1)
                }
            });
        });
        group.finish();
        if let Some(error) = failed {
            return Err(format!("{}: {error}", part.name).into());
        }
    }
    criterion.final_summary();
    Ok(())
}

fn measure(part: &Part, work: &mut Option<Box<dyn Work>>, times: u64) -> Result<Duration> {
    let work = match work {
        Some(work) => work,
        none => none.insert((part.make)()?),
    };
    let mut taken = Duration::ZERO;
    for _ in 0..times {
        work.prepare()?;
        let begin = used();
        counted(&mut **work)?;
        taken += used() - begin;
    }
    Ok(taken)
}

/// What is measured and counted, by its name.
#[inline(never)]
fn counted(work: &mut dyn Work) -> Result<()> {
    work.run()
}

/// Does a part once, to be watched by valgrind.
fn once(name: &str) -> Result<()> {
    let part = PARTS.iter().find(|part| part.name == name);
    let part = part.ok_or_else(|| format!("no part {name}"))?;
    let mut work = (part.make)()?;
    work.prepare()?;
    counted(&mut *work)
}

fn table() -> Result<()> {
    let results = tempfile::tempdir()?;
    let said = Command::new(std::env::current_exe()?)
        .args(SHORT)
        .env("CRITERION_HOME", results.path())
        .output()?;
    if !said.status.success() {
        io::stderr().write_all(&said.stderr)?;
        return Err(format!("criterion's run: {}", said.status).into());
    }
    println!("| part | each | median | instructions |\n|---|---|---|---|");
    for part in &PARTS {
        let median = median(part, results.path())? / each(part.count);
        let instructions = match instructions::count("*parts::counted*", &["--once", part.name])? {
            None => "no valgrind here".to_owned(),
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            Some(all) => format!("{:.0}", all as f64 / each(part.count)),
        };
        let Part { name, unit, .. } = part;
        println!("| {name} | {unit} | {} | {instructions} |", time(median));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn each(count: u64) -> f64 {
    count as f64
}

fn time(nanoseconds: f64) -> String {
    if nanoseconds < 10_000.0 {
        format!("{nanoseconds:.1} ns")
    } else {
        format!("{:.1} µs", nanoseconds / 1e3)
    }
}

/// As criterion wrote it down, in nanoseconds.
fn median(part: &Part, results: &Path) -> Result<f64> {
    // What is no file's name it writes as `_`.
    let group = part.name.replace('/', "_");
    let path = results.join(group).join(part.unit);
    let text = fs::read_to_string(path.join("new/estimates.json"))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let estimates: serde_json::Value = serde_json::from_str(&text)?;
    let median = estimates["median"]["point_estimate"].as_f64();
    median.ok_or_else(|| format!("{}: no median", part.name).into())
}
