//! Running other programs, cargo first of all.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, bail};

/// A command of the cargo that runs `xtask`, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Runs the command on this terminal.
///
/// # Errors
/// When it cannot be run or fails: its command line.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs the command and shows its output only when it fails.
///
/// # Errors
/// When it cannot be run or fails: its command line and what it wrote.
pub(crate) fn run_quietly(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run `{}`: is it installed?", line(command)))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        bail!("`{}` failed ({}):\n{said}", line(command), output.status);
    }
    Ok(())
}

/// Runs the command on this terminal, whatever comes of it.
///
/// # Errors
/// When it cannot be run.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("cannot run `{}`: is it installed?", line(command)))
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// Builds the lab's server into the directory that `xtask` itself stands in, where the lab looks.
///
/// # Errors
/// When it does not build.
pub(crate) fn build_lab_server() -> anyhow::Result<()> {
    let arguments = [
        "build",
        "--quiet",
        "--package",
        "tracer-tests",
        "--bin",
        "lab-server",
    ];
    run(cargo().args(arguments))
}

/// The `tracer` that was given, else one that is built.
///
/// # Errors
/// When it does not build.
pub(crate) fn tracer(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    match given {
        Some(path) => Ok(path.to_owned()),
        None => build_tracer(None),
    }
}

/// Builds the release `tracer`, with the given BPF object instead of the one that is kept with the
/// sources, and says where it is.
///
/// # Errors
/// When it does not build.
pub(crate) fn build_tracer(object: Option<&Path>) -> anyhow::Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "tracer"]);
    if let Some(object) = object {
        build.env("TRACER_BPF_OBJECT", object);
    }
    run(&mut build)?;
    let path = target_directory()?.join("release/tracer");
    if !path.is_file() {
        bail!("cargo built no {}", path.display());
    }
    Ok(path)
}

/// Where cargo builds: `xtask` itself runs from `<target>/debug/xtask`.
///
/// # Errors
/// When `xtask` was copied elsewhere.
pub(crate) fn target_directory() -> anyhow::Result<PathBuf> {
    let running = std::env::current_exe().context("cannot find the running executable")?;
    let directory = running.ancestors().nth(2);
    let directory = directory.context("xtask does not run from cargo's target directory")?;
    Ok(directory.to_path_buf())
}

/// Builds the release `lab-load`, and says where it is.
///
/// # Errors
/// When it does not build.
pub(crate) fn build_load() -> anyhow::Result<PathBuf> {
    let arguments = ["build", "--quiet", "--release", "--package", "tracer-tests"];
    run(cargo().args(arguments).args(["--bin", "lab-load"]))?;
    Ok(target_directory()?.join("release/lab-load"))
}
