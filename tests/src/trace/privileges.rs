//! What threads may do, as `/proc/PID/task/TID/status` has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use rustix::process::Pid;

/// Capabilities by their numbers (uapi `linux/capability.h`).
const NAMES: [(&str, u32); 11] = [
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_KILL", 5),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYSLOG", 34),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// The bits of capabilities.
///
/// # Errors
/// When there is none of that name here.
pub fn bits(names: &[&str]) -> anyhow::Result<u64> {
    let mut all = 0;
    for wanted in names {
        let found = NAMES.iter().find(|(name, _)| name == wanted);
        let (_, number) = found.with_context(|| format!("no capability {wanted}"))?;
        all |= 1 << number;
    }
    Ok(all)
}

/// The sets of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// The thread's name.
    pub name: String,
    /// The permitted set.
    pub permitted: u64,
    /// The effective set.
    pub effective: u64,
    /// The inheritable set.
    pub inheritable: u64,
    /// The bounding set.
    pub bounding: u64,
    /// The ambient set.
    pub ambient: u64,
    /// Whether executing a program can give it nothing.
    pub no_new_privs: bool,
}

impl Privileges {
    /// Reads a `status`.
    ///
    /// # Errors
    /// When a line is missing.
    pub fn read(status: &str) -> anyhow::Result<Self> {
        let lines: BTreeMap<&str, &str> = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key, value.trim()))
            .collect();
        let text = |key: &str| lines.get(key).copied().with_context(|| format!("no {key}"));
        let set = |key: &str| anyhow::Ok(u64::from_str_radix(text(key)?, 16)?);
        Ok(Self {
            name: text("Name")?.to_owned(),
            permitted: set("CapPrm")?,
            effective: set("CapEff")?,
            inheritable: set("CapInh")?,
            bounding: set("CapBnd")?,
            ambient: set("CapAmb")?,
            no_new_privs: text("NoNewPrivs")? == "1",
        })
    }

    /// Of a thread, or of a process's first.
    ///
    /// # Errors
    /// When it is gone.
    pub fn of(directory: &Path) -> anyhow::Result<Self> {
        Self::read(&fs::read_to_string(directory.join("status"))?)
    }

    /// Of each thread of a process. A thread that ends meanwhile is left out.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of_threads(pid: Pid) -> anyhow::Result<Vec<Self>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))?;
        Ok(tasks
            .flatten()
            .filter_map(|task| Self::of(&task.path()).ok())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let status = "Name:\ta b\nCapInh:\t0000000000000001\nCapPrm:\t000001fffeffffff\n\
                      CapEff:\t0000000000000021\nCapBnd:\t0000000000000000\n\
                      CapAmb:\t0000000000000002\nNoNewPrivs:\t1\n";
        let read = Privileges::read(status).unwrap();
        assert_eq!(read.name, "a b");
        assert_eq!(read.effective, 0x21);
        assert_eq!(read.permitted, 0x1ff_feff_ffff);
        assert!(read.no_new_privs);
        assert!(Privileges::read("Name: x\n").is_err());
        assert_eq!(bits(&["CAP_KILL", "CAP_BPF"]).unwrap(), 1 << 5 | 1 << 39);
    }

    #[test]
    fn this_process_has_threads() -> anyhow::Result<()> {
        let own = Privileges::of_threads(rustix::process::getpid())?;
        assert!(own.contains(&Privileges::of(Path::new("/proc/thread-self"))?));
        Ok(())
    }
}
