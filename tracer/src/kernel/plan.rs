//! The attach plan (pure): from what a kernel offers to what is attached, family by family.
//!
//! Each family of hooks gets the best that works on this kernel, with the reason, what is missing
//! and what can be done about it. Attaching then notes in the same plan how each step went, so
//! that `doctor` can print it, a recording can carry it, and nothing is silently absent.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

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
    /// Whether the members of `nf_hook_state` are known.
    pub netfilter_state: bool,
    /// Whether the members of `nf_conn` are known.
    pub conntrack: bool,
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
        })
    }
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
    /// What is tried when this one fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Box<Family>>,
}

/// A way to see netfilter's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NetfilterWay {
    /// Programs around `nf_hook_slow`: all namespaces at once.
    Fentry,
    /// BPF programs linked as netfilter functions, in each namespace that has rules.
    Link,
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
    /// A cgroup's ingress.
    CgroupIngress(PathBuf),
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

const DEVICE_STEPS: [(&str, &str); 3] = [
    ("device_receive", "netif_receive_skb"),
    ("device_transmit", "net_dev_start_xmit"),
    ("device_queue", "net_dev_queue"),
];
/// Every netfilter hook runs through it.
pub const HOOK_FUNCTION: &str = "nf_hook_slow";
const DROP: &str = "kfree_skb";
const CONSUME: &str = "consume_skb";
/// The tracepoints that [`Facts::tracepoints`] is about.
pub const TRACEPOINTS: [&str; 5] = [
    "netif_receive_skb",
    "net_dev_start_xmit",
    "net_dev_queue",
    DROP,
    CONSUME,
];
const NEWER: &str = "use a kernel from 5.8 on that has BTF and these tracepoints";

impl Plan {
    /// The best that this kernel allows; `way` leaves netfilter no choice.
    #[must_use]
    pub fn new(facts: &Facts, way: Option<NetfilterWay>) -> Self {
        let netfilter = netfilter(facts, way);
        let conntrack = conntrack(facts, &netfilter);
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
            families: vec![
                devices(facts),
                drops(facts),
                consume(facts),
                netfilter,
                socket(facts),
                conntrack,
            ],
            notes,
        }
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
                .any(|s| matches!(s.target, Target::FunctionBegin(_)))
        })
    }

    /// Replaces a family of which a step failed by its alternative, if it has one.
    pub fn fall_back(&mut self) -> bool {
        let failed = |family: &&mut Family| family.choice.is_none() && family.otherwise.is_some();
        let Some(family) = self.families.iter_mut().find(failed) else {
            return false;
        };
        let refused = family.steps.iter().find_map(|step| match &step.outcome {
            Outcome::Failed { reason } => Some(format!("{} was refused ({reason})", step.program)),
            _ => None,
        });
        if let Some(mut other) = family.otherwise.take() {
            if let Some(refused) = refused {
                other.why = format!("{}; {refused}", other.why);
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
            if matches!(outcome, Outcome::Failed { .. }) {
                family.choice = None;
                family.degraded = Some(Degraded {
                    what: without(family.kind).to_owned(),
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
            *family = no_conntrack_without_netfilter();
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
}

/// What a family's absence means.
fn without(kind: Kind) -> &'static str {
    match kind {
        Kind::Devices => "packets are not seen at all",
        Kind::Drops => "drops are not seen: a dropped packet ends without a verdict",
        Kind::Consume => "the end of a packet that was used up is not seen",
        Kind::Netfilter => {
            "netfilter hooks are not seen: translations show only between devices, a drop by a \
             rule only as a drop"
        }
        Kind::Socket => "delivery to a socket is not seen: a packet's last hop is its device",
        Kind::Conntrack => {
            "connections' tuples are not read: a flow that was translated before tracing began \
             has only one of its tuples"
        }
    }
}

impl Family {
    /// Whether nothing works without it.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.kind == Kind::Devices
    }
}

fn family(kind: Kind, choice: &str, why: String, steps: Vec<Step>) -> Family {
    Family {
        kind,
        choice: Some(choice.to_owned()),
        why,
        degraded: None,
        steps,
        otherwise: None,
    }
}

fn absent(kind: Kind, why: String, remedy: &str) -> Family {
    Family {
        kind,
        choice: None,
        why,
        degraded: Some(Degraded {
            what: without(kind).to_owned(),
            remedy: remedy.to_owned(),
        }),
        steps: Vec::new(),
        otherwise: None,
    }
}

fn step(program: &str, target: Target) -> Step {
    Step {
        program: program.to_owned(),
        target,
        outcome: Outcome::Planned,
    }
}

fn at(program: &str, tracepoint: &str) -> Step {
    step(program, Target::Tracepoint(tracepoint.to_owned()))
}

fn devices(facts: &Facts) -> Family {
    let lacks = |name: &&str| !facts.tracepoints.contains_key(*name);
    let names = DEVICE_STEPS.map(|(_, tracepoint)| tracepoint);
    let missing: Vec<&str> = names.into_iter().filter(lacks).collect();
    if !missing.is_empty() {
        let why = format!("this kernel has no tracepoint {}", missing.join(", "));
        return absent(Kind::Devices, why, NEWER);
    }
    let steps = DEVICE_STEPS.map(|(program, tracepoint)| at(program, tracepoint));
    let why = "they see every device of every network namespace".to_owned();
    family(Kind::Devices, "tp_btf tracepoints", why, steps.to_vec())
}

fn drops(facts: &Facts) -> Family {
    match facts.tracepoints.get(DROP) {
        None => absent(
            Kind::Drops,
            format!("this kernel has no tracepoint {DROP}"),
            NEWER,
        ),
        Some(3..) => family(
            Kind::Drops,
            "tp_btf kfree_skb with reason",
            "the tracepoint gives the reason of a drop".to_owned(),
            vec![at("drop_with_reason", DROP)],
        ),
        Some(_) => Family {
            degraded: Some(Degraded {
                what: "drops have no reason, only the kernel function that dropped".to_owned(),
                remedy: "use a kernel from 5.17 on".to_owned(),
            }),
            ..family(
                Kind::Drops,
                "tp_btf kfree_skb",
                "the tracepoint of this kernel gives no reason of a drop".to_owned(),
                vec![at("drop_without_reason", DROP)],
            )
        },
    }
}

fn consume(facts: &Facts) -> Family {
    if facts.tracepoints.contains_key(CONSUME) {
        let why = "it tells a packet's end from its address being used again".to_owned();
        let steps = vec![at("consume", CONSUME)];
        family(Kind::Consume, "tp_btf consume_skb", why, steps)
    } else {
        let why = format!("this kernel has no tracepoint {CONSUME}");
        absent(Kind::Consume, why, NEWER)
    }
}

fn netfilter(facts: &Facts, way: Option<NetfilterWay>) -> Family {
    if !facts.netfilter_state {
        let why = "this kernel's BTF does not describe struct nf_hook_state".to_owned();
        return absent(Kind::Netfilter, why, "use a kernel with CONFIG_NETFILTER=y");
    }
    match way {
        Some(NetfilterWay::Fentry) => netfilter_function(facts),
        Some(NetfilterWay::Link) => netfilter_links(facts),
        None if facts.netfilter_function => Family {
            otherwise: Some(Box::new(netfilter_links(facts))),
            ..netfilter_function(facts)
        },
        None => netfilter_links(facts),
    }
}

fn netfilter_function(facts: &Facts) -> Family {
    let kind = Kind::Netfilter;
    if !facts.netfilter_function {
        let why = format!("this kernel's BTF does not describe {HOOK_FUNCTION}");
        return absent(kind, why, "use --netfilter link, on a kernel from 6.4 on");
    }
    let function = || HOOK_FUNCTION.to_owned();
    family(
        kind,
        "fentry and fexit of nf_hook_slow",
        "they see each hook of every network namespace, with its verdict".to_owned(),
        vec![
            step("netfilter_end", Target::FunctionEnd(function())),
            step("netfilter_begin", Target::FunctionBegin(function())),
        ],
    )
}

fn netfilter_links(facts: &Facts) -> Family {
    let kind = Kind::Netfilter;
    if !facts.netfilter_links {
        let why = "this kernel does not take BPF programs as netfilter functions".to_owned();
        let remedy = "use a kernel from 6.4 on with CONFIG_NETFILTER_BPF_LINK=y";
        return absent(kind, why, remedy);
    }
    let steps = ["netfilter_leave", "netfilter_enter"];
    family(
        kind,
        "netfilter links",
        "they see each hook before its first and after its last function, in the network \
         namespaces that have rules"
            .to_owned(),
        steps
            .map(|program| step(program, Target::NetfilterHooks))
            .to_vec(),
    )
}

fn socket(facts: &Facts) -> Family {
    let kind = Kind::Socket;
    let Some(cgroup) = &facts.cgroup else {
        return absent(
            kind,
            "no cgroup v2 tree is mounted".to_owned(),
            "mount one: mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, mount the \
             node's /sys/fs/cgroup",
        );
    };
    let target = Target::CgroupIngress(cgroup.path.clone());
    let why = format!(
        "it sees what sockets take, for all processes below {}",
        cgroup.path.display()
    );
    let steps = vec![step("socket_deliver", target)];
    let mut family = family(kind, "cgroup_skb at the root of cgroup v2", why, steps);
    if !cgroup.whole {
        family.degraded = Some(Degraded {
            what: format!(
                "{} is only a part of the cgroup tree: delivery to processes outside of it is \
                 not seen",
                cgroup.path.display()
            ),
            remedy: "run in the node's cgroup namespace, or mount the node's /sys/fs/cgroup"
                .to_owned(),
        });
    }
    family
}

fn conntrack(facts: &Facts, netfilter: &Family) -> Family {
    let kind = Kind::Conntrack;
    if netfilter.choice.is_none() {
        return no_conntrack_without_netfilter();
    }
    if !facts.conntrack {
        let why = "struct nf_conn is not described by this kernel's BTF".to_owned();
        let remedy = "load the module nf_conntrack before tracing (the kernel must be 5.11 or \
                      newer for modules' BTF)";
        return absent(kind, why, remedy);
    }
    family(
        kind,
        "read at netfilter hooks",
        "the last hook of a path knows the connection".to_owned(),
        Vec::new(),
    )
}

fn no_conntrack_without_netfilter() -> Family {
    absent(
        Kind::Conntrack,
        "connections are read at netfilter hooks, which are not seen".to_owned(),
        "see netfilter",
    )
}

/// Major and minor of `uname -r`.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The mount of cgroup v2 in the text of a `mountinfo`: the one that shows the most of the tree.
#[must_use]
pub fn cgroup_mount(mountinfo: &str) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(3);
        let (root, path) = (words.next()?, words.next()?);
        (filesystem.split(' ').next() == Some("cgroup2"))
            .then(|| (root.len(), Path::new(path).to_owned()))
    });
    mounts.min().map(|(_, path)| path)
}
