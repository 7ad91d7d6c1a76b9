//! The attach plan (pure): from what a kernel offers to what is attached, family by family.
//!
//! Each family of hooks gets the best that works on this kernel, with the reason, what is missing
//! and what can be done about it. Attaching then notes in the same plan how each step went, so
//! that `doctor` can print it, a recording can carry it, and nothing is silently absent.

mod choice;
mod family;
mod netfilter;
#[cfg(test)]
mod tests;
mod way;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use family::{Degraded, Family, Kind, Outcome, Step, Target};
pub use way::{NetfilterWay, Standing, WayState};

/// What a kernel offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// The arguments that each tracepoint gives to a program; the absent have no entry.
    pub tracepoints: BTreeMap<String, usize>,
    /// Whether `nf_hook_slow` can have programs around it, as far as BTF tells (fentry, 5.5+).
    pub netfilter_function: bool,
    /// Whether BPF programs can be netfilter functions (6.4+, `CONFIG_NETFILTER_BPF_LINK`).
    pub netfilter_links: bool,
    /// Whether perf events can be on kernel functions (`CONFIG_KPROBE_EVENTS`, 4.17+).
    pub kprobes: bool,
    /// Whether it is known in which registers a function's arguments are.
    pub call_registers: bool,
    /// Whether the members of `nf_hook_state` are known.
    pub netfilter_state: bool,
    /// Whether the members of `nf_conn` are known.
    pub conntrack: bool,
    /// Whether a socket's cookie can be read.
    #[serde(default)]
    pub socket_cookie: bool,
    /// Where cgroup v2 is mounted.
    pub cgroup: Option<Cgroup>,
    /// The lockdown mode, where it can be seen.
    pub lockdown: Option<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// A mount of the cgroup v2 tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Where.
    pub path: PathBuf,
    /// Whether it shows the whole tree, not a part of it as in a container.
    pub whole: bool,
}

/// What is attached, or was to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The kernel that it is for, `uname -r`.
    pub release: String,
    /// Every family, in the order of [`Kind`].
    pub families: Vec<Family>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// How well the plan works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Everything is there.
    Ready,
    /// Something is missing.
    Degraded,
    /// Tracing is not possible.
    Impossible,
}

/// Every netfilter hook runs through it.
pub const HOOK_FUNCTION: &str = "nf_hook_slow";
/// The tracepoints that [`Facts::tracepoints`] is about.
pub const TRACEPOINTS: [&str; 5] = [
    "netif_receive_skb",
    "net_dev_start_xmit",
    "net_dev_queue",
    "kfree_skb",
    "consume_skb",
];

impl Plan {
    /// The best that this kernel allows; `way` leaves netfilter no choice.
    #[must_use]
    pub fn new(facts: &Facts, way: Option<NetfilterWay>) -> Self {
        let mut notes = facts.notes.clone();
        if facts.lockdown.as_deref() == Some("confidentiality") {
            notes.push(
                "the kernel is locked down (confidentiality): BPF programs may not read its \
                 memory; boot with lockdown=integrity"
                    .to_owned(),
            );
        }
        Self {
            release: facts.release.clone(),
            families: choice::families(facts, way),
            notes,
        }
    }

    /// Takes a family out that nobody asks for.
    pub fn leave_out(&mut self, kind: Kind) {
        self.families.retain(|family| family.kind != kind);
    }

    /// One family's part.
    #[must_use]
    pub fn family(&self, kind: Kind) -> Option<&Family> {
        self.families.iter().find(|family| family.kind == kind)
    }

    /// How well it works, as planned or, once attached, as it went.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let devices = self.family(Kind::Devices);
        if devices.is_none_or(|family| family.choice.is_none()) {
            Readiness::Impossible
        } else if self.families.iter().any(|f| f.degraded.is_some()) {
            Readiness::Degraded
        } else {
            Readiness::Ready
        }
    }

    /// The steps of the families for which something was chosen.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let chosen = self.families.iter().filter(|f| f.choice.is_some());
        chosen.flat_map(|family| &family.steps)
    }

    /// Whether netfilter's hooks are seen in all namespaces at once.
    #[must_use]
    pub fn sees_netfilter_everywhere(&self) -> bool {
        let family = self.family(Kind::Netfilter).filter(|f| f.choice.is_some());
        family.is_some_and(|f| {
            f.steps
                .iter()
                .any(|s| matches!(s.target, Target::FunctionBegin(_) | Target::Kprobe(_)))
        })
    }

    /// Replaces a family of which a step failed by its alternative, if it has one.
    pub fn fall_back(&mut self) -> bool {
        let failed = |family: &&mut Family| family.choice.is_none() && family.otherwise.is_some();
        let Some(family) = self.families.iter_mut().find(failed) else {
            return false;
        };
        if let Some(mut other) = family.otherwise.take() {
            other.ways = std::mem::take(&mut family.ways);
            let possible = |way: &&mut WayState| way.standing == Standing::Possible;
            if let Some(next) = other.ways.iter_mut().find(possible) {
                next.standing = Standing::Chosen;
            }
            *family = *other;
        }
        true
    }

    /// Notes how a step went. A failure takes the whole family out of the plan.
    pub fn note(&mut self, program: &str, outcome: Outcome) {
        for family in &mut self.families {
            let Some(step) = family.steps.iter_mut().find(|s| s.program == program) else {
                continue;
            };
            if let Outcome::Failed { reason } = &outcome {
                family.choice = None;
                let why = format!("{program} was refused: {reason}");
                let chosen = |way: &&mut WayState| way.standing == Standing::Chosen;
                if let Some(way) = family.ways.iter_mut().find(chosen) {
                    way.standing = Standing::Refused { why };
                }
                family.degraded = Some(Degraded {
                    what: family.kind.without().to_owned(),
                    remedy: "see the reason that the kernel gives for the program; report it with \
                             the output of `tracer doctor --json` if it is not clear"
                        .to_owned(),
                });
            }
            step.outcome = outcome;
            break;
        }
        self.review_conntrack();
    }

    /// Connections are read at netfilter hooks: without those, not at all.
    fn review_conntrack(&mut self) {
        let gone = self
            .family(Kind::Netfilter)
            .is_some_and(|f| f.choice.is_none() && f.otherwise.is_none());
        let conntrack = self.families.iter_mut().find(|f| f.kind == Kind::Conntrack);
        if let Some(family) = conntrack.filter(|family| gone && family.choice.is_some()) {
            *family = choice::no_conntrack_without_netfilter();
        }
    }

    /// Why a step of a family failed, the first of them.
    #[must_use]
    pub fn failure(&self, kind: Kind) -> Option<(&Step, &str)> {
        let mut steps = self.family(kind)?.steps.iter();
        steps.find_map(|step| match &step.outcome {
            Outcome::Failed { reason } => Some((step, reason.as_str())),
            _ => None,
        })
    }

    /// Why nothing was chosen for a family, or what was chosen failed.
    #[must_use]
    pub fn lack(&self, kind: Kind) -> Option<String> {
        let family = self.family(kind).filter(|family| family.choice.is_none())?;
        Some(match self.failure(kind) {
            Some((step, reason)) => format!("{} was refused: {reason}", step.program),
            None => family.why.clone(),
        })
    }
}

/// Major and minor of `uname -r`.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
