//! The capabilities that the program has a use for, and which of them this process has.
//!
//! Read from `/proc/self`, before anything is done, so that the error can name what is missing
//! instead of the call that failed.

use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};

/// A capability that the program needs or can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Capability {
    /// `CAP_DAC_OVERRIDE`: making and removing the traced command's cgroup where the user may not.
    DacOverride,
    /// `CAP_DAC_READ_SEARCH`: what other users keep to themselves of their namespaces.
    DacReadSearch,
    /// `CAP_KILL`: handing SIGTERM to a traced command that has become another user.
    Kill,
    /// `CAP_BPF` (5.8+): loading programs.
    Bpf,
    /// `CAP_PERFMON` (5.8+): programs that read kernel memory, tracepoints.
    Perfmon,
    /// `CAP_NET_ADMIN`: netfilter links, listing rules.
    NetAdmin,
    /// `CAP_SYS_ADMIN`: entering network namespaces.
    SysAdmin,
    /// `CAP_SYS_PTRACE`: finding the namespaces of other users' processes.
    SysPtrace,
    /// `CAP_SYSLOG`: the addresses of kernel functions.
    Syslog,
}

/// Those without which nothing works.
const REQUIRED: [Capability; 4] = [
    Capability::Bpf,
    Capability::Perfmon,
    Capability::NetAdmin,
    Capability::SysAdmin,
];
/// Those without which something is missing.
const USEFUL: [Capability; 2] = [Capability::SysPtrace, Capability::Syslog];

impl Capability {
    /// Its number (uapi `linux/capability.h`).
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::DacOverride => 1,
            Self::DacReadSearch => 2,
            Self::Kill => 5,
            Self::NetAdmin => 12,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::Syslog => 34,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }

    /// Whether `CAP_SYS_ADMIN`, of which it was a part before 5.8, still includes it.
    pub(super) fn is_part_of_sys_admin(self) -> bool {
        matches!(self, Self::Bpf | Self::Perfmon)
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        match self {
            Self::DacOverride => "to make the command's cgroup",
            Self::DacReadSearch => "to open namespaces and rules that are root's alone",
            Self::Kill => "to end a command that has become another user",
            Self::NetAdmin => "to see netfilter hooks and list rules",
            Self::SysPtrace => "to find the network namespaces of other users' processes",
            Self::SysAdmin => "to enter network namespaces",
            Self::Syslog => "to name the kernel functions that drop packets",
            Self::Perfmon => "to attach to tracepoints",
            Self::Bpf => "to load BPF programs",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::Kill => "CAP_KILL",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Syslog => "CAP_SYSLOG",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The set as the kernel shows it, a bit for each.
    pub effective: u64,
    /// Whether they hold on the whole node, not only in a user namespace.
    pub on_node: bool,
}

impl Capabilities {
    /// Those of the calling thread's process.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn read() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let effective = effective(&status)
            .ok_or_else(|| io::Error::other("no CapEff line in /proc/self/status"))?;
        // Absent when the kernel has no user namespaces.
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Ok(Self {
            effective,
            on_node: map.is_empty() || maps_everything(&map),
        })
    }

    /// Whether this one is there. `CAP_SYS_ADMIN` stands for the two that were split off it.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        let bit = |capability: Capability| self.effective >> capability.number() & 1 == 1;
        bit(capability) || (bit(Capability::SysAdmin) && capability.is_part_of_sys_admin())
    }

    /// The needed ones that are not there.
    #[must_use]
    pub fn missing(self) -> Vec<Capability> {
        self.without(&REQUIRED)
    }

    /// Those not there without which something is missing, though not everything.
    #[must_use]
    pub fn wanted(self) -> Vec<Capability> {
        self.without(&USEFUL)
    }

    fn without(self, these: &[Capability]) -> Vec<Capability> {
        let lacks = |capability: &Capability| !self.has(*capability);
        these.iter().copied().filter(lacks).collect()
    }
}

/// The set in the text of `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether a `uid_map` is that of the initial user namespace.
fn maps_everything(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(effective: u64) -> Capabilities {
        Capabilities {
            effective,
            on_node: true,
        }
    }

    #[test]
    fn the_set_is_read_from_status() {
        let status = "Name:\ttracer\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\n\
                      CapEff:\t000000c000201000\nCapBnd:\t000001ffffffffff\n";
        let found = with(effective(status).unwrap());
        assert!(found.missing().is_empty());
        assert_eq!(found.wanted(), [Capability::SysPtrace, Capability::Syslog]);
        assert_eq!(effective("Name:\ttracer\n"), None);
        assert_eq!(effective("CapEff:\tx\n"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(with(0).missing(), REQUIRED);
        let names = |caps: Capabilities| -> Vec<String> {
            caps.missing().iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            names(with(1 << 39 | 1 << 38)),
            ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]
        );
        assert_eq!(names(with(1 << 21)), ["CAP_NET_ADMIN"]);
        assert!(names(with(1 << 21 | 1 << 12)).is_empty());
    }

    #[test]
    fn a_user_namespace_is_recognised() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("         0       1000          1\n"));
        assert!(!maps_everything("0 0 4294967295\n 1 1 1\n"));
    }

    #[test]
    fn this_process_has_a_set() {
        Capabilities::read().unwrap();
    }

    proptest! {
        #[test]
        fn any_status_is_read(text in "\\PC*") {
            let _ = effective(&text);
            let _ = effective(&format!("CapEff:{text}"));
        }
    }
}
