//! What the attached programs cost, by the kernel's own account (5.1 and later).
//!
//! The kernel measures a program's runs while somebody holds a descriptor that asks for it
//! (`BPF_ENABLE_STATS`, 5.8), at the price of two looks at the clock for each run of any program of the
//! machine. What it measured stands in the descriptors' `fdinfo`, which takes no privilege to read; the
//! programs' names do, so they are asked for at the beginning.

use std::{collections::BTreeMap, fs, os::fd::OwnedFd, path::PathBuf, time::Duration};

use aya::{
    programs::loaded_programs,
    sys::{Stats, SyscallError, enable_stats},
};

/// What is known of this process's descriptors.
const DESCRIPTORS: &str = "/proc/self/fdinfo";

/// What a program took so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Its name in the BPF object, as far as the kernel keeps it (15 characters).
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// How long in all.
    pub time: Duration,
}

/// Has the kernel measure as long as what is returned is there. Takes `CAP_SYS_ADMIN`.
///
/// # Errors
/// What the kernel said.
pub(super) fn ask() -> Result<OwnedFd, SyscallError> {
    enable_stats(Stats::RunTime)
}

/// Where the kernel says what this process's programs took: found once, since there can be thousands of
/// descriptors.
#[derive(Debug)]
pub(super) struct Programs(Vec<PathBuf>);

impl Programs {
    /// Those that are loaded by now.
    pub(super) fn own() -> Self {
        let entries = fs::read_dir(DESCRIPTORS).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let read =
            paths.filter_map(|path| Some((program(&fs::read_to_string(&path).ok()?)?.0, path)));
        // A program can have several descriptors.
        let of_each: BTreeMap<u32, PathBuf> = read.collect();
        Self(of_each.into_values().collect())
    }

    /// What they took so far, all together.
    pub(super) fn time(&self) -> Duration {
        let texts = self
            .0
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok());
        let times = texts.filter_map(|text| Some(program(&text)?.1.0));
        Duration::from_nanos(times.sum())
    }
}

/// The kernel measures as long as this is there.
#[derive(Debug)]
pub struct Metering {
    _asked: OwnedFd,
    names: BTreeMap<u32, String>,
}

impl Metering {
    /// Begins, of the programs that this process has loaded by now. Takes `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn begin() -> Result<Self, SyscallError> {
        let asked = ask()?;
        let own = own_programs();
        let loaded = loaded_programs().filter_map(Result::ok);
        let names = loaded.filter(|program| own.contains_key(&program.id()));
        let names = names
            .map(|program| {
                let name = program.name_as_str().unwrap_or("?");
                (program.id(), name.to_owned())
            })
            .collect();
        Ok(Self {
            _asked: asked,
            names,
        })
    }

    /// What each program took so far, by name.
    #[must_use]
    pub fn read(&self) -> Vec<Cost> {
        let mut costs: Vec<Cost> = own_programs()
            .into_iter()
            .filter_map(|(id, (time, runs))| {
                Some(Cost {
                    program: self.names.get(&id)?.clone(),
                    runs,
                    time: Duration::from_nanos(time),
                })
            })
            .collect();
        costs.sort_by(|a, b| a.program.cmp(&b.program));
        costs
    }
}

/// Nanoseconds and runs of the programs that this process holds, by id.
fn own_programs() -> BTreeMap<u32, (u64, u64)> {
    let entries = fs::read_dir(DESCRIPTORS).into_iter().flatten();
    let texts = entries
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.filter_map(|text| program(&text)).collect()
}

/// What `bpf_prog_show_fdinfo` says of a program; `None` of any other file.
fn program(text: &str) -> Option<(u32, (u64, u64))> {
    let value = |name: &str| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let id = value("prog_id").filter(|_| value("prog_type").is_some())?;
    let number = |name| value(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    Some((id.parse().ok()?, (number("run_time_ns"), number("run_cnt"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_account_is_read() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t16\nprog_type:\t26\nprog_jited:\t1\n\
                    prog_tag:\t0123456789abcdef\nmemlock:\t40960\nprog_id:\t77\n\
                    run_time_ns:\t123456\nrun_cnt:\t789\nrecursion_misses:\t0\n";
        assert_eq!(program(text), Some((77, (123_456, 789))));
        assert_eq!(program("pos:\t0\nmap_type:\t27\nmap_id:\t3\n"), None);
        // A link names its program too.
        assert_eq!(program("link_type:\ttracing\nprog_id:\t77\n"), None);
    }
}
