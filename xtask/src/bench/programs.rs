//! What BPF programs took, by the kernel's own account.
//!
//! While somebody asks for that (`BPF_ENABLE_STATS`), the kernel looks at the clock before and after each run of
//! any program, and says in the `fdinfo` of who holds a program how often it ran and how long. Names
//! are bpftool's, as far as the kernel keeps them (15 characters).

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::process::Command;

use anyhow::{Context as _, ensure};
use aya_obj::generated::{bpf_cmd, bpf_stats_type};
use serde::Deserialize;

use super::bpf::{bpf, zero};

/// A program that every tracer has.
const FIRST: &str = "device_queue";

/// The kernel measures as long as this is there, also when this process is killed.
pub(crate) struct Statistics {
    _asked: OwnedFd,
}

impl Statistics {
    /// Begins.
    ///
    /// # Errors
    /// Without root, or on a kernel before 5.8.
    pub(crate) fn begin() -> anyhow::Result<Self> {
        let mut attr = zero();
        attr.enable_stats.type_ = bpf_stats_type::BPF_STATS_RUN_TIME as u32;
        let asked = bpf(bpf_cmd::BPF_ENABLE_STATS, &mut attr);
        Ok(Self {
            _asked: asked.context("the kernel does not measure programs")?,
        })
    }
}

/// What a program took so far, or since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// How often it ran.
    pub(crate) runs: u64,
    /// How long in all.
    pub(crate) nanoseconds: u64,
}

impl Runs {
    /// What came since.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            runs: self.runs.saturating_sub(before.runs),
            nanoseconds: self.nanoseconds.saturating_sub(before.nanoseconds),
        }
    }

    /// Nanoseconds a run; `None` when it did not run.
    pub(crate) fn each(self) -> Option<f64> {
        (self.runs > 0).then(|| float(self.nanoseconds) / float(self.runs))
    }
}

/// For rates, which need no 53 bits.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
pub(crate) const fn float(number: u64) -> f64 {
    number as f64
}

/// What the programs took so far that a process holds, by id.
///
/// # Errors
/// When there is no such process.
pub(crate) fn held_by(process: u32) -> anyhow::Result<BTreeMap<u32, Runs>> {
    let directory = format!("/proc/{process}/fdinfo");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot list {directory}"))?;
    let texts = entries
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    Ok(texts.filter_map(|text| program(&text)).collect())
}

/// The names of all loaded programs, by id.
///
/// # Errors
/// When bpftool cannot be run.
pub(crate) fn names() -> anyhow::Result<BTreeMap<u32, String>> {
    #[derive(Deserialize)]
    struct Program {
        id: u32,
        name: Option<String>,
    }
    let output = Command::new("bpftool")
        .args(["--json", "prog", "show"])
        .output()
        .context("cannot run bpftool")?;
    ensure!(output.status.success(), "bpftool: {}", output.status);
    let programs: Vec<Program> = serde_json::from_slice(&output.stdout).context("bpftool")?;
    let named = programs.into_iter();
    Ok(named
        .filter_map(|program| Some((program.id, program.name?)))
        .collect())
}

/// Says so when a tracer runs on this machine already: its programs would be measured, too.
pub(crate) fn warn_of_others() {
    let names = names().unwrap_or_default();
    if names.values().any(|name| name == FIRST) {
        eprintln!("warning: another tracer runs on this machine: the figures are of both");
    }
}

/// What `bpf_prog_show_fdinfo` says of a program; `None` of any other file.
fn program(text: &str) -> Option<(u32, Runs)> {
    let value = |name: &str| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let id = value("prog_id").filter(|_| value("prog_type").is_some())?;
    let number = |name| value(name).and_then(|text| text.parse().ok());
    let runs = Runs {
        runs: number("run_cnt")?,
        nanoseconds: number("run_time_ns")?,
    };
    Some((id.parse().ok()?, runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_account_is_read() {
        let text = "pos:\t0\nprog_type:\t26\nprog_id:\t77\nrun_time_ns:\t1200\nrun_cnt:\t10\n";
        let (id, runs) = program(text).unwrap();
        assert_eq!((id, runs.each()), (77, Some(120.0)));
        assert_eq!(program("pos:\t0\nmap_type:\t27\nmap_id:\t3\n"), None);
        // A link names its program too.
        assert_eq!(program("link_type:\ttracing\nprog_id:\t77\n"), None);
    }

    #[test]
    fn what_came_since_is_a_difference() {
        let runs = |runs, nanoseconds| Runs { runs, nanoseconds };
        assert_eq!(runs(10, 900).since(runs(4, 300)), runs(6, 600));
        assert_eq!(runs(0, 0).each(), None);
    }
}
