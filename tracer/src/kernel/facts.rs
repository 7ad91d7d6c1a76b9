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

/// What the kernel offers, by its BTF and what `/proc` and `/sys` show. Needs no privilege.
#[must_use]
pub fn gather(btf: &KernelBtf, offsets: &Offsets) -> Facts {
    let known = |globals: &[&str]| globals.iter().all(|global| offsets.get(global).is_some());
    let arguments = |name: &str| Some((name.to_owned(), btf.tracepoint_args(name)?));
    Facts {
        release: release(),
        tracepoints: TRACEPOINTS.into_iter().filter_map(arguments).collect(),
        netfilter_function: btf.has_function(HOOK_FUNCTION),
        netfilter_links: btf.has_function(LINK_FUNCTION),
        kprobes: Path::new(KPROBES).exists(),
        call_registers: known(&["CALL_FIRST", "CALL_SECOND", "CALL_RESULT", "CALL_STACK"]),
        netfilter_state: known(&[
            "STATE_HOOK",
            "STATE_PF",
            "STATE_NET",
            "STATE_IN",
            "STATE_OUT",
        ]),
        conntrack: known(&["SKB_NFCT", "CONN_STATUS", "CONN_TUPLES"]),
        cgroup: cgroup(),
        lockdown: lockdown(),
        notes: btf.notes().to_vec(),
    }
}

/// `uname -r`.
#[must_use]
pub fn release() -> String {
    let uname = rustix::system::uname();
    uname.release().to_string_lossy().into_owned()
}

fn cgroup() -> Option<Cgroup> {
    let mut roots = hierarchy::find()?.roots;
    let best = roots.iter().position(hierarchy::Directory::is_root);
    let whole = best.is_some();
    let path = roots.swap_remove(best.unwrap_or(0)).path;
    Some(Cgroup { path, whole })
}

/// The mode in brackets, `none [integrity] confidentiality`; unknown without securityfs.
pub(super) fn lockdown() -> Option<String> {
    let modes = fs::read_to_string(Path::new("/sys/kernel/security/lockdown")).ok()?;
    let chosen = modes.split_once('[')?.1.split_once(']')?.0;
    Some(chosen.to_owned())
}
