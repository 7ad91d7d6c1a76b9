//! Families of hooks, each with what was chosen for it, and the programs of that.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::WayState;

/// What a family of hooks shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Packets at devices. Nothing works without.
    Devices,
    /// Packets freed as dropped.
    Drops,
    /// Packets freed as used up.
    Consume,
    /// Packets before and after each netfilter hook.
    Netfilter,
    /// Packets that a socket takes.
    Socket,
    /// The tuples of tracked connections.
    Conntrack,
    /// The processes that make sockets.
    Processes,
    /// The first bytes of packets that sockets send.
    Bytes,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Devices => "devices",
            Self::Drops => "drops",
            Self::Consume => "consume",
            Self::Netfilter => "netfilter",
            Self::Socket => "socket",
            Self::Conntrack => "conntrack",
            Self::Processes => "processes",
            Self::Bytes => "bytes",
        })
    }
}

impl Kind {
    /// What its absence means.
    pub(super) const fn without(self) -> &'static str {
        match self {
            Self::Devices => "packets are not seen at all",
            Self::Drops => "drops are not seen: a dropped packet ends without a verdict",
            Self::Consume => "the end of a packet that was used up is not seen",
            Self::Netfilter => {
                "netfilter hooks are not seen: translations show only between devices, a drop by a \
                 rule only as a drop"
            }
            Self::Socket => "delivery to a socket is not seen: a packet's last hop is its device",
            Self::Processes => {
                "the process that sends is found by looking for its socket, which short-lived ones do not \
                 wait for"
            }
            Self::Bytes => {
                "with `record --bytes`, nothing is kept of packets that no socket of this node takes"
            }
            Self::Conntrack => {
                "connections' tuples are not read: a flow that was translated before tracing began \
                 has only one of its tuples"
            }
        }
    }
}

/// One family's part of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// Which.
    pub kind: Kind,
    /// What was chosen; `None` when nothing works.
    pub choice: Option<String>,
    /// Why.
    pub why: String,
    /// What is missing, if anything.
    pub degraded: Option<Degraded>,
    /// The programs to load and attach.
    pub steps: Vec<Step>,
    /// Of netfilter: every way to see its hooks, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<WayState>,
    /// What is tried when this one fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Box<Family>>,
}

/// Something is not as good as it could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    /// What is missing.
    pub what: String,
    /// What can be done.
    pub remedy: String,
}

/// One program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in the BPF object.
    pub program: String,
    /// Where it goes.
    pub target: Target,
    /// How it went.
    pub outcome: Outcome,
}

/// Where a program is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A tracepoint, with BTF-typed arguments.
    Tracepoint(String),
    /// Each netfilter hook of each network namespace that has rules.
    NetfilterHooks,
    /// The beginning of a kernel function.
    FunctionBegin(String),
    /// The end of a kernel function.
    FunctionEnd(String),
    /// The beginning of a kernel function, by a probe.
    Kprobe(String),
    /// The return of a kernel function, by a probe.
    Kretprobe(String),
    /// A cgroup's ingress.
    CgroupIngress(PathBuf),
    /// A cgroup's egress.
    CgroupEgress(PathBuf),
    /// Where processes of a cgroup make sockets.
    CgroupSocketCreate(PathBuf),
}

/// How a step went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was not tried.
    #[default]
    Planned,
    /// Done; microseconds for the verifier, and for attaching.
    Attached {
        /// Loading.
        load_us: u64,
        /// Attaching; 0 for netfilter, which is attached per namespace.
        attach_us: u64,
    },
    /// Refused.
    Failed {
        /// What the kernel said, with the verifier's last lines.
        reason: String,
    },
}

impl Family {
    /// Whether nothing works without it.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.kind == Kind::Devices
    }

    /// What was chosen, and why.
    pub(super) fn chosen(kind: Kind, choice: &str, why: String, steps: Vec<Step>) -> Self {
        Self {
            kind,
            choice: Some(choice.to_owned()),
            why,
            degraded: None,
            steps,
            ways: Vec::new(),
            otherwise: None,
        }
    }

    /// Nothing works, and why; what can be done.
    pub(super) fn absent(kind: Kind, why: String, remedy: &str) -> Self {
        Self {
            kind,
            choice: None,
            why,
            degraded: Some(Degraded {
                what: kind.without().to_owned(),
                remedy: remedy.to_owned(),
            }),
            steps: Vec::new(),
            ways: Vec::new(),
            otherwise: None,
        }
    }
}

impl Step {
    /// Not tried yet.
    pub(super) fn of(program: &str, target: Target) -> Self {
        Self {
            program: program.to_owned(),
            target,
            outcome: Outcome::Planned,
        }
    }
}
