//! Wrong usage and missing means: each with a message that says what to do, and a status that is
//! not 0.

use std::process::Command;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::process::{self, Ended};

/// A failure, and wrong usage.
const FAILURE: i32 = 1;
const USAGE: i32 = 2;
/// As shells have it: the command was not found, or cannot be executed.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// It ended with that status, said all of the words on stderr, and wrote nothing on stdout.
fn refused(ended: &Ended, status: i32, words: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<_> = words
        .iter()
        .filter(|word| !ended.stderr.contains(**word))
        .collect();
    ensure!(
        missing.is_empty() && ended.status.code() == Some(status) && ended.stdout.is_empty(),
        "{missing:?} not said: {ended:#?}"
    );
    Ok(())
}

/// The tracer, run by another program, with arguments that would otherwise work.
fn run_by(words: &[&str]) -> anyhow::Result<[Ended; 2]> {
    let executable = process::executable()?;
    let by = |arguments: &[&str]| {
        let mut command = Command::new(words.first().context("no program")?);
        command.args(&words[1..]).arg(&executable).args(arguments);
        command.output()?.try_into()
    };
    Ok([
        by(&["watch", "--json"])?,
        by(&["run", "--json", "--", "echo", "run"])?,
    ])
}

#[test]
fn without_root_the_required_capabilities_are_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    for ended in run_by(&nobody)? {
        refused(&ended, FAILURE, &["CAP_BPF", "CAP_PERFMON", "root"])?;
    }
    Ok(())
}

#[test]
fn a_missing_capability_is_named_and_those_that_are_there_are_not() -> anyhow::Result<()> {
    needs_a_lab!();
    // CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON for the kernel, so these go with it.
    for (set, missing, there) in [
        ("--bounding-set=-sys_admin,-bpf", "CAP_BPF", "CAP_PERFMON"),
        (
            "--bounding-set=-sys_admin,-perfmon",
            "CAP_PERFMON",
            "CAP_BPF",
        ),
    ] {
        for ended in run_by(&["setpriv", set])? {
            refused(&ended, FAILURE, &[missing])?;
            ensure!(!ended.stderr.contains(there), "{ended:#?}");
        }
    }
    Ok(())
}

#[test]
fn without_type_information_the_kernels_option_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    // In a mount namespace of its own, an empty directory hides the kernel's.
    let empty = tempfile::tempdir()?;
    let script = "mount --bind \"$0\" /sys/kernel/btf && exec \"$@\"";
    let directory = empty.path().to_str().context("not a name")?;
    for ended in run_by(&["unshare", "--mount", "sh", "-c", script, directory])? {
        refused(
            &ended,
            FAILURE,
            &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"],
        )?;
    }
    Ok(())
}

#[test]
fn an_unknown_namespace_is_named_with_those_like_it() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let wrong = format!("{}-pod-a", lab.id());
    let ended = process::run(["run", "--netns", &wrong, "--", "true"])?;
    refused(&ended, FAILURE, &[&wrong, &lab.netns("a1"), "tracer names"])?;
    let ended = process::run(["watch", &format!("netns {wrong}")])?;
    refused(&ended, USAGE, &[&wrong, "tracer names"])?;
    let ended = process::run(["run", "--netns", "/no/such/path", "--", "true"])?;
    refused(&ended, FAILURE, &["/no/such/path"])?;
    let ended = process::run(["run", "--netns", "4194303", "--", "true"])?;
    refused(&ended, FAILURE, &["4194303"])?;
    lab.down()
}

#[test]
fn the_place_of_a_filters_error_is_marked() -> anyhow::Result<()> {
    for command in [&["watch"][..], &["run", "--json"]] {
        let arguments = command.iter().copied().chain(["tcp prot 80", "--", "true"]);
        let arguments = arguments.take(if command == ["watch"] { 2 } else { 5 });
        let ended = process::run(arguments)?;
        refused(
            &ended,
            USAGE,
            &["`prot`", "`port`", "  tcp prot 80\n      ^~~~"],
        )?;
    }
    let ended = process::run(["watch", "host", "10.0.0.1", "and"])?;
    refused(&ended, USAGE, &["host 10.0.0.1 and", "^"])
}

#[test]
fn a_command_that_cannot_be_run_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let ended = process::run(["run", "--json", "--", "no-such-command"])?;
    refused(&ended, NOT_FOUND, &["no-such-command", "not found"])?;
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("not a name")?;
    let ended = process::run(["run", "--json", "--", path])?;
    refused(&ended, NOT_EXECUTABLE, &[path])?;
    refused(&process::run(["run"])?, USAGE, &["CMD"])?;
    refused(&process::run(["fly"])?, USAGE, &["fly", "--help"])
}

#[test]
fn a_ring_of_an_impossible_size_is_refused_with_the_possible_ones() -> anyhow::Result<()> {
    for size in ["0", "1000", "3M", "2G", "8G", "99999999999999999999"] {
        let ended = process::run(["watch", &format!("--ring-size={size}")])?;
        refused(&ended, USAGE, &["64 KiB", "1 GiB"]).with_context(|| size.to_owned())?;
    }
    let ended = process::run(["watch", "--ring-size=big"])?;
    refused(&ended, USAGE, &["big", "number"])
}

#[test]
fn too_little_memory_is_refused_with_what_is_needed() -> anyhow::Result<()> {
    for command in [&["watch"][..], &["live"], &["replay", "no.recording"]] {
        let ended = process::run([command, &["--memory", "63M"]].concat())?;
        refused(&ended, USAGE, &["64M"]).with_context(|| format!("{command:?}"))?;
    }
    Ok(())
}

/// Which ways work is the kernel's to say. One that does not is not silently replaced: the command
/// does not run.
#[test]
fn a_way_to_see_netfilter_that_does_not_work_is_refused() -> anyhow::Result<()> {
    needs_a_lab!();
    for way in ["fentry", "link", "kprobe"] {
        let arguments = ["run", "--json", "--netfilter", way, "--", "echo", "it ran"];
        let ended = process::run(arguments)?;
        if ended.status.success() {
            ensure!(ended.stderr.contains("it ran"), "{ended:#?}");
            continue;
        }
        let said = format!("--netfilter {way} does not work here: ");
        refused(&ended, FAILURE, &[&said, "without the option"])?;
        ensure!(!ended.stderr.contains("it ran"), "{ended:#?}");
    }
    let ended = process::run(["watch", "--netfilter", "magic"])?;
    refused(&ended, USAGE, &["magic", "fentry", "link", "kprobe"])
}

#[test]
fn who_asks_the_kubernetes_api_with_a_program_that_cannot_is_told_how_to_build_one()
-> anyhow::Result<()> {
    needs_a_lab!();
    for command in ["watch", "record", "names", "run"] {
        let mut arguments = vec![command, "--kubernetes-api"];
        match command {
            "record" => arguments.extend(["-o", "/nonexistent/file"]),
            "run" => arguments.extend(["--", "true"]),
            _ => {}
        }
        let ended = process::run(arguments)?;
        refused(
            &ended,
            USAGE,
            &["--kubernetes-api", "--features kubernetes-api"],
        )?;
    }
    Ok(())
}
