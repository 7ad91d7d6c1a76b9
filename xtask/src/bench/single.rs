//! Benchmarks that are programs of the tracer's crate.

use std::{ffi::OsString, fs, path::Path, process::Stdio};

use anyhow::{Context as _, bail};

use super::page;
use crate::process;

/// That of recordings, which takes a directory.
///
/// # Errors
/// As [`run`].
pub(crate) fn recording(events: u64, directory: &Path) -> anyhow::Result<()> {
    let directory = process::root().join(directory);
    fs::create_dir_all(&directory)?;
    run("recording", &[events.to_string().into(), directory.into()])
}

/// Runs it and writes its table down.
///
/// # Errors
/// When it cannot be built or run, or the page has no place for the figures.
pub(crate) fn run(name: &str, arguments: &[OsString]) -> anyhow::Result<()> {
    let output = process::cargo()
        .args(["bench", "-q", "-p", "tracer", "--bench", name, "--"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the benchmark failed: {}", output.status);
    }
    let table = String::from_utf8(output.stdout).context("the benchmark's table")?;
    print!("{table}");
    page::write_down(name, &table)
}
