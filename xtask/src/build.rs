//! Building what a command needs, with the cargo that runs it.

use std::process::Command;

use anyhow::{Context as _, bail};

/// A command of the cargo that runs `xtask`.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs the command with its output going to the terminal.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("`{program}` failed: {status}");
    }
    Ok(())
}

/// Builds the lab's server into the directory that `xtask` itself stands in, where the lab looks.
pub(crate) fn lab_server() -> anyhow::Result<()> {
    run(cargo().args([
        "build",
        "--quiet",
        "--package",
        "tracer-tests",
        "--bin",
        "lab-server",
    ]))
}
