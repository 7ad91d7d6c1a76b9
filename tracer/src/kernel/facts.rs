//! Asking the running kernel what it offers. The answers go into the attach plan.

use std::{fs, path::Path};

use super::{
    btf::{KernelBtf, Offsets},
    plan::{Cgroup, Facts, HOOK_FUNCTION, TRACEPOINTS},
};
use crate::node::hierarchy;

/// The function that makes netfilter links, in kernels that have them.
const LINK_FUNCTION: &str = "bpf_nf_link_attach";
/// Where the kernel says how perf events are put on its functions.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe/format/retprobe";
/// Where it says what it keeps from root.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// The mode in which BPF programs may not read the kernel's memory (5.4+).
const CONFIDENTIALITY: &str = "confidentiality";

/// What `/proc` and `/sys` show of the kernel and of the place where this process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `uname -r`.
    pub release: String,
    /// Whether perf events can be on kernel functions.
    pub kprobes: bool,
    /// Where cgroup v2 is mounted.
    pub cgroup: Option<Cgroup>,
    /// The lockdown mode, where it can be seen.
    pub lockdown: Option<String>,
}

impl Surroundings {
    /// Looks. Needs no privilege.
    #[must_use]
    pub fn look() -> Self {
        let uname = rustix::system::uname();
        Self {
            release: uname.release().to_string_lossy().into_owned(),
            kprobes: Path::new(KPROBES).exists(),
            cgroup: cgroup(),
            lockdown: fs::read_to_string(LOCKDOWN).ok().as_deref().and_then(mode),
        }
    }

    /// Whether the kernel keeps its memory from BPF programs.
    #[must_use]
    pub fn keeps_memory(&self) -> bool {
        self.lockdown.as_deref() == Some(CONFIDENTIALITY)
    }
}

/// What the kernel offers, by its BTF and what `/proc` and `/sys` show.
#[must_use]
pub fn gather(btf: &KernelBtf, offsets: &Offsets, surroundings: &Surroundings) -> Facts {
    let known = |names: &[&str]| names.iter().all(|name| offsets.get(name).is_some());
    let arguments = |name: &str| Some((name.to_owned(), btf.tracepoint_args(name)?));
    Facts {
        release: surroundings.release.clone(),
        tracepoints: TRACEPOINTS.into_iter().filter_map(arguments).collect(),
        netfilter_function: btf.has_function(HOOK_FUNCTION),
        netfilter_links: btf.has_function(LINK_FUNCTION),
        kprobes: surroundings.kprobes,
        call_registers: known(&["CALL_FIRST", "CALL_SECOND", "CALL_RESULT", "CALL_STACK"]),
        netfilter_state: known(&["STATE_HOOK", "STATE_PF", "STATE_IN", "STATE_OUT"]),
        socket_cookie: known(&["SOCK_COOKIE"]),
        conntrack: known(&["SKB_NFCT", "CONN_STATUS", "CONN_TUPLES"]),
        cgroup: surroundings.cgroup.clone(),
        lockdown: surroundings.lockdown.clone(),
        notes: btf.notes().to_vec(),
    }
}

fn cgroup() -> Option<Cgroup> {
    let mut roots = hierarchy::find()?.roots;
    let best = roots.iter().position(hierarchy::Directory::is_root);
    let whole = best.is_some();
    let path = roots.swap_remove(best.unwrap_or(0)).path;
    Some(Cgroup { path, whole })
}

/// The mode in brackets, `none [integrity] confidentiality`; unknown without securityfs.
fn mode(modes: &str) -> Option<String> {
    let chosen = modes.split_once('[')?.1.split_once(']')?.0;
    Some(chosen.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_of_lockdown_is_the_one_in_brackets() {
        let said = "none integrity [confidentiality]\n";
        assert_eq!(mode(said).as_deref(), Some("confidentiality"));
        assert_eq!(mode("[none] integrity\n").as_deref(), Some("none"));
        assert_eq!(
            (mode(""), mode("none ["), mode("]none[")),
            (None, None, None)
        );
    }
}
