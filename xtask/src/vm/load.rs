//! Traffic in a machine, with and without a tracer: one boot, many pairs. The benchmark's part is
//! `bench/machine.rs`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tracer_tests::load::Done;

use super::index::Index;
use super::kernel::Kernel;
use super::machine::{Accelerator, Machine};
use super::release::Series;
use super::results::Results;
use super::{image, install, unavailable};
use crate::process;

/// What is measured in the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// How many pairs.
    pub(crate) pairs: u32,
    /// How long each measurement takes.
    pub(crate) seconds: f64,
    /// How long the machine may run.
    pub(crate) limit: Duration,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// `ask` or `flood`.
    pub(crate) kind: String,
    /// What the tracer beside it, or of its pair, traces: `nothing` or `everything`.
    pub(crate) observer: String,
    /// Whether the tracer is beside it.
    pub(crate) with: bool,
    /// What was done; of a flood, the datagrams that arrived.
    pub(crate) done: Done,
}

/// Boots a kernel of Debian's, and lets traffic run.
///
/// # Errors
/// When there can be no machine, or it does not come to its end.
pub(crate) fn run(
    series: &Series,
    tracer: &Path,
    order: Order,
) -> anyhow::Result<(String, Vec<Measured>)> {
    if let Some(reason) = unavailable() {
        anyhow::bail!("{reason}");
    }
    install()?;
    process::build_lab_server()?;
    let load = process::build_load()?;
    let target = process::target_directory()?;
    let cache = target.join("vm");
    let mut index = Index::open(cache.join("apt"))?;
    let kernel = Kernel::obtain(series, &mut index, &cache.join("kernels"))?;
    let directory = cache.join("runs").join(format!("load-{}", kernel.version));
    fs::create_dir_all(&directory)?;
    let server = target.join("debug/lab-server");
    let Order { pairs, seconds, .. } = order;
    let plan = format!(". /lab/load\nlab iptables-nft\nload {pairs} {seconds}\nlower\n");
    let machine = Machine {
        kernel: &kernel,
        initramfs: &image::with_load(&kernel, [tracer, &server, &load], &plan)?,
        accelerator: Accelerator::default(),
        directory: &directory,
        limit: order.limit,
    };
    machine.run()?;
    let results = Results::parse(&machine.results());
    ensure!(results.failures.is_empty(), "{:?}", results.failures);
    let section = results.section("load").with_context(|| {
        let console = machine.console();
        format!(
            "the machine did not come to that: see {}",
            console.display()
        )
    })?;
    for message in &section.messages {
        eprintln!("{message}");
    }
    let measured: anyhow::Result<_> = section.output.iter().map(|line| parse(line)).collect();
    Ok((kernel.version.clone(), measured?))
}

/// What `load.sh` writes.
fn parse(line: &str) -> anyhow::Result<Measured> {
    let words: Vec<&str> = line.splitn(5, ' ').collect();
    let [kind, observer, side, arrived, json] = words[..] else {
        anyhow::bail!("not a measurement: {line}");
    };
    let mut done: Done = serde_json::from_str(json).with_context(|| line.to_owned())?;
    if kind == "flood" {
        done.count = arrived.parse().with_context(|| line.to_owned())?;
    }
    Ok(Measured {
        kind: kind.to_owned(),
        observer: observer.to_owned(),
        with: side == "with",
        done,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn of_a_flood_what_arrived_counts() {
        let json = r#"{"count":90,"seconds":2.0,"p50_ns":0,"p99_ns":0}"#;
        let flood = parse(&format!("flood nothing with 80 {json}")).unwrap();
        assert!(flood.with && flood.done.count == 80);
        let ask = parse(&format!("ask everything without 0 {json}")).unwrap();
        assert!(!ask.with && ask.done.count == 90);
        assert!(parse("ask everything without 0 ").is_err());
        assert!(parse("").is_err());
    }
}
