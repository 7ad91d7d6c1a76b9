//! `cargo xtask test`: everything that must hold, in the order in which failures are cheapest.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

use crate::{ebpf, interrupt, packages, process, vm};

/// Tells the end-to-end tests which `tracer` to run.
const TRACER_VARIABLE: &str = "TRACER_BIN";
/// The BPF object that is kept with the sources.
const KEPT_OBJECT: &str = "tracer/bpf/tracer.bpf.o";

/// A step's name and what it does.
type Step = (&'static str, fn() -> anyhow::Result<()>);

/// Each stands on those before it. The lab's tests come with the end-to-end tests: both need root.
const STEPS: &[Step] = &[
    ("formatting", formatting),
    ("clippy", clippy),
    ("clippy of the BPF programs", clippy_ebpf),
    ("the BPF object is of these sources", ebpf::check_fresh),
    ("packages", packages::install_for_tests),
    ("unit and property tests", unit_tests),
    ("the lab and end-to-end tests", end_to_end_tests),
    (
        "end-to-end tests on a freshly built BPF object",
        fresh_object,
    ),
    ("Debian's kernels in virtual machines", vm::test),
    ("licences and sources of the dependencies", dependencies),
];

/// Runs all steps up to the first that fails.
///
/// # Errors
/// The failed step's.
pub(crate) fn run() -> anyhow::Result<()> {
    // Tests interrupt the tracer and what it runs.
    interrupt::heed()?;
    let begin = Instant::now();
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("\n== {name}");
        let begin = Instant::now();
        step().with_context(|| format!("{name} (step {} of {})", times.len() + 1, STEPS.len()))?;
        let seconds = begin.elapsed().as_secs();
        println!("== {name}: passed in {seconds} s");
        times.push((name, seconds));
    }
    println!("\nall passed in {} s:", begin.elapsed().as_secs());
    for (name, seconds) in times {
        println!("{seconds:>6} s  {name}");
    }
    Ok(())
}

fn formatting() -> anyhow::Result<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> anyhow::Result<()> {
    let scope = [
        "clippy",
        "--workspace",
        "--exclude",
        "tracer-ebpf",
        "--all-targets",
    ];
    process::run(process::cargo().args(scope).args(["--", "-D", "warnings"]))?;
    // Unit tests have the feature always, so this is what is left of it.
    let feature = [
        "clippy",
        "--package",
        "tracer",
        "--features",
        "kubernetes-api",
    ];
    process::run(
        process::cargo()
            .args(feature)
            .args(["--", "-D", "warnings"]),
    )
}

/// On the host's target, which stable Rust has; only unwinding must be off, for lack of `std`.
fn clippy_ebpf() -> anyhow::Result<()> {
    let scope = [
        "clippy",
        "--package",
        "tracer-ebpf",
        "--config",
        "profile.dev.panic='abort'",
    ];
    process::run(process::cargo().args(scope).args(["--", "-D", "warnings"]))
}

fn unit_tests() -> anyhow::Result<()> {
    let exclude = ["--exclude", "tracer-ebpf", "--exclude", "tracer-tests"];
    process::run(process::cargo().args(["test", "--workspace"]).args(exclude))
}

/// With the release build: what is tested is what is shipped, and the demo uses it too.
fn end_to_end_tests() -> anyhow::Result<()> {
    test_on(&process::build_tracer(None)?)
}

fn test_on(tracer: &Path) -> anyhow::Result<()> {
    let mut command = process::cargo();
    command.args(["test", "--package", "tracer-tests"]);
    process::run(command.env(TRACER_VARIABLE, tracer))
}

/// Builds the BPF programs as `cargo xtask ebpf` does and runs the same tests on them. Where the
/// build gives the kept object byte for byte, they have run on it already.
fn fresh_object() -> anyhow::Result<()> {
    let fresh = ebpf::build_fresh()?;
    let kept = process::root().join(KEPT_OBJECT);
    if read(&fresh)? == read(&kept)? {
        println!("the same as the kept object, byte for byte");
        return Ok(());
    }
    println!("not the same as the kept object: testing it as well");
    test_on(&process::build_tracer(Some(&fresh))?)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Advisories are left out: their database has to be downloaded.
fn dependencies() -> anyhow::Result<()> {
    let deny = cargo_deny()?;
    let mut command = std::process::Command::new(deny);
    command.current_dir(process::root());
    process::run(command.args([
        "deny",
        "--log-level",
        "error",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))
}

/// An installed `cargo-deny`, else one built once into `<target>/tools`.
fn cargo_deny() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = process::target_directory()?.join("tools");
    let found = std::env::split_paths(&path)
        .chain([tools.join("bin")])
        .map(|directory| directory.join("cargo-deny"))
        .find(|path| path.is_file());
    if let Some(path) = found {
        return Ok(path);
    }
    println!("installing cargo-deny into {}", tools.display());
    let mut install = process::cargo();
    install
        // A debug build takes a third of the time, and checks as well.
        .args(["install", "cargo-deny", "--locked", "--debug", "--root"])
        .arg(&tools);
    process::run(install.env("CARGO_TARGET_DIR", tools.join("build")))?;
    // The build takes more room than all of the project's own.
    std::fs::remove_dir_all(tools.join("build")).context("cannot remove cargo-deny's build")?;
    Ok(tools.join("bin/cargo-deny"))
}
