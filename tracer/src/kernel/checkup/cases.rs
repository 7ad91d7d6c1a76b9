//! Machines as they can be, for tests: kernels that lack something, and what is to be said of each.

use std::{io, path::PathBuf};

use super::{
    Checkup, Failure, Timing, examine,
    machine::{Machine, Namespaces},
};
use crate::{
    kernel::{
        btf::{BtfError, KernelBtf, fixture},
        facts::Surroundings,
        live,
        plan::{Cgroup, Outcome, Plan, Readiness},
        symbols::SymbolsError,
    },
    privilege::{Capabilities, Capability},
};

/// A machine and what is to be said of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    machine: Machine,
    pub(crate) readiness: Readiness,
    /// What must be said: what it lacks, and what to do.
    pub(crate) said: &'static [&'static str],
}

impl Case {
    fn new(
        name: &'static str,
        readiness: Readiness,
        said: &'static [&'static str],
        change: impl FnOnce(&mut Machine),
    ) -> Self {
        let mut machine = machine();
        change(&mut machine);
        Self {
            name,
            machine,
            readiness,
            said,
        }
    }

    /// A kernel that lacks that.
    fn lacking(
        name: &'static str,
        readiness: Readiness,
        said: &'static [&'static str],
        lacks: &[&str],
    ) -> Self {
        let kernel = fixture::kernel(lacks);
        Self::new(name, readiness, said, |machine| machine.btf = Ok(kernel))
    }

    pub(crate) fn checkup(self) -> Checkup {
        examine(self.machine, attached)
    }

    /// Why `run` and `watch` would not start there.
    pub(crate) fn start_error(&self) -> Option<String> {
        let Machine {
            capabilities,
            surroundings,
            btf,
            ..
        } = &self.machine;
        let started = live::possible(*capabilities.as_ref().unwrap(), surroundings);
        if let Err(error) = started {
            return Some(error.to_string());
        }
        match btf {
            Err(error) => Some(error.to_string()),
            Ok(btf) => live::understand(btf, surroundings)
                .err()
                .map(|error| error.to_string()),
        }
    }
}

/// One where everything works: Linux 6.1, root.
fn machine() -> Machine {
    let all = Capabilities {
        held: u64::MAX,
        root: true,
        on_node: true,
    };
    Machine {
        surroundings: Surroundings {
            release: "6.1.0-40-amd64".to_owned(),
            kprobes: true,
            cgroup: Some(Cgroup {
                path: PathBuf::from("/sys/fs/cgroup"),
                whole: true,
            }),
            lockdown: Some("none".to_owned()),
        },
        programs: vec![("nft", true)],
        btf: Ok(fixture::kernel(&[])),
        capabilities: Ok(all),
        symbols: Ok(()),
        namespaces: Ok(Namespaces {
            total: 3,
            with_rules: vec!["host".to_owned()],
            ..Namespaces::default()
        }),
    }
}

/// A machine with that kernel, on which all else is well.
pub(super) fn of_kernel(btf: Result<KernelBtf, BtfError>) -> Checkup {
    examine(Machine { btf, ..machine() }, attached)
}

/// What attaching comes to where nothing is refused.
fn attached(plan: Option<&Plan>) -> Result<(Plan, Timing), Failure> {
    let mut plan = plan.ok_or("no plan")?.clone();
    let programs: Vec<String> = plan.steps().map(|step| step.program.clone()).collect();
    for program in programs {
        let done = Outcome::Attached {
            load_us: 1000,
            attach_us: 10,
        };
        plan.note(&program, done);
    }
    let timing = Timing {
        attach_us: 312_000,
        detach_us: 1200,
        attach_cpu_us: 287_000,
        detach_cpu_us: 900,
    };
    Ok((plan, timing))
}

fn without(capability: Capability) -> u64 {
    // It would stand for others.
    !(1 << capability.number() | 1 << Capability::SysAdmin.number())
}

fn no_btf() -> BtfError {
    BtfError::Read {
        path: PathBuf::from("/sys/kernel/btf/vmlinux"),
        source: io::ErrorKind::NotFound.into(),
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [kernels(), members(), places()]
        .into_iter()
        .flatten()
        .collect()
}

/// Kernels that are too old, or built or booted otherwise.
fn kernels() -> Vec<Case> {
    use Readiness::{Degraded, Impossible, Ready};
    let locked = |mode: &'static str| {
        move |machine: &mut Machine| machine.surroundings.lockdown = Some(mode.to_owned())
    };
    vec![
        Case::new("a whole one", Ready, &[], |_| {}),
        Case::new(
            "no BTF",
            Impossible,
            &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"],
            |machine| machine.btf = Err(no_btf()),
        ),
        Case::new(
            "BTF that cannot be decoded",
            Impossible,
            &["cannot decode the BTF of vmlinux", "newer version"],
            |machine| machine.btf = KernelBtf::from_bytes(b"not BTF"),
        ),
        Case::new(
            "Linux 5.4",
            Impossible,
            &["5.4.0-150-generic", "Linux 5.8 or newer"],
            |machine| machine.surroundings.release = "5.4.0-150-generic".to_owned(),
        ),
        Case::lacking(
            "no ring buffer",
            Impossible,
            &["no BPF ring buffer", "Linux 5.8 or newer"],
            &["BPF_MAP_TYPE_RINGBUF"],
        ),
        Case::new(
            "lockdown, confidentiality",
            Impossible,
            &["confidentiality", "lockdown=integrity"],
            locked("confidentiality"),
        ),
        Case::new("lockdown, integrity", Ready, &[], locked("integrity")),
        Case::lacking(
            "Linux 5.10, without modules' BTF and drop reasons",
            Degraded,
            &[
                "struct nf_conn is not described",
                "load the module nf_conntrack before tracing",
                "drops have no reason",
                "use a kernel from 5.17 on",
            ],
            &["nf_conntrack", "bpf_nf_link_attach", "reason"],
        ),
    ]
}

/// Kernels that lack a member, a structure, a tracepoint or a function.
fn members() -> Vec<Case> {
    use Readiness::{Degraded, Impossible};
    vec![
        Case::lacking(
            "a needed member is missing",
            Impossible,
            &[
                "struct sk_buff of this kernel has no member network_header",
                "look for a newer one",
            ],
            &["sk_buff.network_header"],
        ),
        Case::lacking(
            "a needed structure is missing",
            Impossible,
            &[
                "does not describe struct net_device",
                "use a kernel from 5.8 on",
            ],
            &["net_device"],
        ),
        Case::lacking(
            "a member that can be missing",
            Degraded,
            &[
                "struct net_device of this kernel has no rtnl_link_ops",
                "kernel of a distribution",
            ],
            &["net_device.rtnl_link_ops"],
        ),
        Case::lacking(
            "a tracepoint that is needed",
            Impossible,
            &["no tracepoint net_dev_queue", "5.8 on that has BTF"],
            &["net_dev_queue"],
        ),
        Case::lacking(
            "a tracepoint that can be missing",
            Degraded,
            &[
                "no tracepoint consume_skb",
                "the end of a packet that was used up is not seen",
            ],
            &["consume_skb"],
        ),
        Case::lacking(
            "no netfilter",
            Degraded,
            &["struct nf_hook_state", "CONFIG_NETFILTER=y"],
            &["nf_hook_state", "nf_hook_slow", "bpf_nf_link_attach"],
        ),
    ]
}

/// Where the process runs, and what it may do.
fn places() -> Vec<Case> {
    use Readiness::{Degraded, Impossible};
    let with = |held, root, on_node| {
        move |machine: &mut Machine| {
            machine.capabilities = Ok(Capabilities {
                held,
                root,
                on_node,
            });
        }
    };
    vec![
        Case::new(
            "an ordinary user",
            Impossible,
            &["CAP_BPF", "CAP_PERFMON", "docs/privileges.md"],
            with(0, false, true),
        ),
        Case::new(
            "without CAP_PERFMON",
            Impossible,
            &["CAP_PERFMON (to attach to tracepoints)"],
            with(without(Capability::Perfmon), true, true),
        ),
        Case::new(
            "without CAP_SYS_PTRACE",
            Degraded,
            &["enough, but without", "CAP_SYS_PTRACE"],
            with(without(Capability::SysPtrace), true, true),
        ),
        Case::new(
            "root of a user namespace",
            Impossible,
            &["user namespace", "root of the node"],
            with(u64::MAX, true, false),
        ),
        Case::new(
            "no cgroup2",
            Degraded,
            &["no cgroup v2 tree is mounted", "mount -t cgroup2"],
            |machine| machine.surroundings.cgroup = None,
        ),
        Case::new(
            "hidden symbols",
            Degraded,
            &["hides its addresses", "kernel.kptr_restrict"],
            |machine| machine.symbols = Err(SymbolsError::Hidden),
        ),
        Case::new(
            "namespaces that may not be entered",
            Degraded,
            &["1 cannot be looked at (pod)", "root of the node"],
            |machine| {
                machine.namespaces = Ok(Namespaces {
                    total: 3,
                    unknown: vec!["pod".to_owned()],
                    ..Namespaces::default()
                });
            },
        ),
    ]
}
