//! The capabilities that the program has a use for, and which of them this process has.
//!
//! Asked before anything is done, so that the error can name what is missing instead of the call that
//! failed. What is required without which nothing works is little; without the others tracing shows
//! less, which is said.

use std::{fmt, fs, io};

use rustix::{process::geteuid, thread::capabilities};
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
    /// `CAP_NET_RAW`: reading legacy iptables' rules.
    NetRaw,
    /// `CAP_NET_ADMIN`: netfilter links, delivery to sockets, listing rules.
    NetAdmin,
    /// `CAP_SYS_ADMIN`: entering network namespaces.
    SysAdmin,
    /// `CAP_SYS_PTRACE`: finding the namespaces of other users' processes.
    SysPtrace,
    /// `CAP_SYSLOG`: the addresses of kernel functions.
    Syslog,
}

/// Those without which nothing works.
const REQUIRED: [Capability; 2] = [Capability::Bpf, Capability::Perfmon];
/// Those without which something is missing; the last only to who is not root, whose files those are.
const USEFUL: [Capability; 6] = [
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::SysAdmin,
    Capability::SysPtrace,
    Capability::Syslog,
    Capability::DacReadSearch,
];

impl Capability {
    /// Its number (uapi `linux/capability.h`).
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::DacOverride => 1,
            Self::DacReadSearch => 2,
            Self::Kill => 5,
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
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
            Self::DacReadSearch => "to look at rules and namespaces that are root's alone",
            Self::Kill => "to end a command that has become another user",
            Self::NetAdmin => "to see netfilter hooks and delivery to sockets, and to list rules",
            Self::NetRaw => "to read legacy iptables' rules",
            Self::SysPtrace => "to find the network namespaces of other users' processes",
            Self::SysAdmin => "to look into other network namespaces",
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
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Syslog => "CAP_SYSLOG",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// Capabilities with what each is for, in a sentence.
#[must_use]
pub fn named(capabilities: &[Capability]) -> String {
    let items = capabilities
        .iter()
        .map(|c| format!("{c} ({})", c.purpose()));
    items.collect::<Vec<_>>().join(", ")
}

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Those that work, or can be made to: a bit for each.
    pub held: u64,
    /// Whether the files of root are this process's own.
    pub root: bool,
    /// Whether they hold on the whole node, not only in a user namespace.
    pub on_node: bool,
}

impl Capabilities {
    /// Those of the calling thread.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn read() -> io::Result<Self> {
        let sets = capabilities(None)?;
        // Absent when the kernel has no user namespaces.
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Ok(Self {
            held: (sets.effective | sets.permitted & super::FILE_ACCESS).bits(),
            root: geteuid().is_root(),
            on_node: map.is_empty() || maps_everything(&map),
        })
    }

    /// Whether this one is there. `CAP_SYS_ADMIN` stands for the two that were split off it.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        let bit = |capability: Capability| self.held >> capability.number() & 1 == 1;
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
        let mut wanted = self.without(&USEFUL);
        wanted.retain(|capability| !(self.root && *capability == Capability::DacReadSearch));
        wanted
    }

    fn without(self, these: &[Capability]) -> Vec<Capability> {
        let lacks = |capability: &Capability| !self.has(*capability);
        these.iter().copied().filter(lacks).collect()
    }
}

/// Whether a `uid_map` is that of the initial user namespace.
fn maps_everything(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(held: u64) -> Capabilities {
        Capabilities {
            held,
            root: true,
            on_node: true,
        }
    }

    fn bits(capabilities: &[Capability]) -> u64 {
        let bits = capabilities
            .iter()
            .map(|capability| 1 << capability.number());
        bits.fold(0, |all, bit: u64| all | bit)
    }

    #[test]
    fn what_is_missing_is_told_from_what_is_wanted() {
        assert_eq!(with(0).missing(), REQUIRED);
        assert_eq!(with(0).wanted(), USEFUL[..5]);
        let all = bits(&REQUIRED) | bits(&USEFUL);
        assert_eq!((with(all).missing(), with(all).wanted()), (vec![], vec![]));
        for capability in REQUIRED.into_iter().chain(USEFUL) {
            let user = Capabilities {
                root: false,
                ..with(all & !bits(&[Capability::SysAdmin, capability]))
            };
            let named = [user.missing(), user.wanted()].concat();
            assert!(named.contains(&capability), "{capability}");
        }
    }

    #[test]
    fn sys_admin_stands_for_what_was_split_off_it() {
        assert_eq!(with(bits(&[Capability::SysAdmin])).missing(), []);
        assert_eq!(
            with(bits(&[Capability::Perfmon])).missing(),
            [Capability::Bpf]
        );
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
}
