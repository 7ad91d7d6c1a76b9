//! Whether tracing can run here, and how well: what `tracer doctor` shows.
//!
//! Each thing that tracing rests on is looked at by itself, so that all that is missing is said at
//! once and not only the first. Then, if nothing forbids it, everything is really attached and
//! detached again, with a filter that no packet matches. Works without privilege as far as that
//! goes.

#[cfg(test)]
mod tests;

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tracer_common::filter::{self, Program, Term};

use super::{
    btf::KernelBtf,
    coverage::Node,
    facts,
    live::{Live, OLDEST, Options},
    load::Sizes,
    plan::{Plan, Readiness, version},
    rules,
    symbols::Symbols,
};
use crate::{
    node::{
        inventory::{Entry, Inventory},
        netns,
        pods::HostRoot,
    },
    privilege::{Capabilities, named},
    source::Source as _,
};

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkup {
    /// The worst of all.
    pub readiness: Readiness,
    /// What tracing rests on, one by one.
    pub findings: Vec<Finding>,
    /// What is attached; as planned, when attaching was not possible. `None` when the kernel could
    /// not be asked.
    pub plan: Option<Plan>,
    /// What attaching took, if it was possible.
    pub timing: Option<Timing>,
}

/// One thing that tracing rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub subject: Subject,
    /// How good it is.
    pub readiness: Readiness,
    /// What was found.
    pub text: String,
    /// What can be done about it.
    pub remedy: Option<String>,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The kernel's version.
    Kernel,
    /// The kernel's description of itself.
    Btf,
    /// What this process may do.
    Capabilities,
    /// Whether the kernel keeps its memory to itself.
    Lockdown,
    /// The names of kernel functions.
    Symbols,
    /// Network namespaces and their rules.
    Namespaces,
    /// Attaching for real.
    Attach,
}

/// What attaching took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From nothing to every hook seen.
    pub attach_us: u64,
    /// From every hook seen to nothing, with all records read.
    pub detach_us: u64,
}

impl Finding {
    fn good(subject: Subject, text: impl Into<String>) -> Self {
        Self {
            subject,
            readiness: Readiness::Ready,
            text: text.into(),
            remedy: None,
        }
    }

    fn but(self, readiness: Readiness, remedy: impl Into<String>) -> Self {
        Self {
            readiness,
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// An error of which the text says what to do.
    fn bad(subject: Subject, readiness: Readiness, error: &dyn std::error::Error) -> Self {
        Self {
            readiness,
            ..Self::good(subject, error.to_string())
        }
    }
}

/// Looks at everything, attaches and detaches. Takes a second or so, in which it blocks.
#[must_use]
pub fn checkup() -> Checkup {
    let (btf, mut plan) = btf();
    let mut findings = vec![
        kernel(),
        btf,
        capabilities(),
        lockdown(),
        symbols(),
        namespaces(),
    ];
    let impossible = |finding: &Finding| finding.readiness == Readiness::Impossible;
    let forbidden = findings.iter().any(impossible);
    let mut timing = None;
    findings.push(if forbidden {
        Finding::good(Subject::Attach, "not tried").but(
            Readiness::Impossible,
            "see first to what is impossible above",
        )
    } else {
        match attach() {
            Ok((attached, took)) => {
                plan = Some(attached);
                timing = Some(took);
                Finding::good(
                    Subject::Attach,
                    "everything was attached and detached again",
                )
            }
            Err(error) => Finding::bad(Subject::Attach, Readiness::Impossible, &*error),
        }
    });
    let planned = plan.as_ref().map(Plan::readiness);
    let found = findings.iter().map(|finding| finding.readiness);
    Checkup {
        readiness: found.chain(planned).max().unwrap_or(Readiness::Ready),
        findings,
        plan,
        timing,
    }
}

fn kernel() -> Finding {
    let release = facts::release();
    let old = version(&release).is_some_and(|version| version < OLDEST);
    let finding = Finding::good(Subject::Kernel, release);
    if old {
        finding.but(Readiness::Impossible, "use Linux 5.8 or newer")
    } else {
        finding
    }
}

fn btf() -> (Finding, Option<Plan>) {
    let subject = Subject::Btf;
    let asked = KernelBtf::load().and_then(|btf| btf.offsets().map(|offsets| (btf, offsets)));
    let (btf, offsets) = match asked {
        Ok(asked) => asked,
        Err(error) => return (Finding::bad(subject, Readiness::Impossible, &error), None),
    };
    let plan = Plan::new(&facts::gather(&btf, &offsets), None);
    // Those of netfilter, of its calls and of connections are in the plan.
    let planned = ["nf_hook_state", "pt_regs", "nf_conn"];
    let absent = offsets
        .absent()
        .iter()
        .filter(|absent| !planned.contains(&absent.field.structure));
    let absent: Vec<String> = absent.map(ToString::to_string).collect();
    let finding = Finding::good(subject, "the kernel describes its structures");
    let finding = if absent.is_empty() {
        finding
    } else {
        let text = absent.join("; ");
        Finding::good(subject, text).but(Readiness::Degraded, "use a kernel of a distribution")
    };
    (finding, Some(plan))
}

fn capabilities() -> Finding {
    let subject = Subject::Capabilities;
    let capabilities = match Capabilities::read() {
        Ok(capabilities) => capabilities,
        Err(error) => return Finding::bad(subject, Readiness::Impossible, &error),
    };
    let (missing, wanted) = (capabilities.missing(), capabilities.wanted());
    if !missing.is_empty() {
        let text = format!("missing: {}", named(&missing));
        return Finding::good(subject, text).but(
            Readiness::Impossible,
            "run it as root, or give the process these capabilities",
        );
    }
    if !capabilities.on_node {
        let text = "they hold in a user namespace only";
        return Finding::good(subject, text).but(
            Readiness::Impossible,
            "run it as root of the node (in a container: privileged, without user namespaces)",
        );
    }
    if !wanted.is_empty() {
        let text = format!("enough, but without {}", named(&wanted));
        return Finding::good(subject, text).but(
            Readiness::Degraded,
            "run it as root, or give the process these capabilities",
        );
    }
    Finding::good(subject, "all that are needed")
}

fn lockdown() -> Finding {
    let subject = Subject::Lockdown;
    match facts::lockdown().as_deref() {
        Some(mode @ "confidentiality") => Finding::good(subject, mode).but(
            Readiness::Impossible,
            "BPF programs may not read the kernel's memory: boot with lockdown=integrity",
        ),
        Some(mode) => Finding::good(subject, mode),
        None => Finding::good(subject, "not shown: securityfs is not mounted"),
    }
}

fn symbols() -> Finding {
    match Symbols::load() {
        Ok(_) => Finding::good(Subject::Symbols, "kernel functions have names"),
        Err(error) => Finding::bad(Subject::Symbols, Readiness::Degraded, &error),
    }
}

fn namespaces() -> Finding {
    let subject = Subject::Namespaces;
    let inventory = match Inventory::read() {
        Ok(inventory) => inventory,
        Err(error) => return Finding::bad(subject, Readiness::Impossible, &error),
    };
    let (mut with_rules, mut unknown) = (Vec::new(), Vec::new());
    for entry in inventory.entries.values() {
        match has_rules(entry) {
            Some(true) => with_rules.push(name(entry)),
            Some(false) => {}
            None => unknown.push(name(entry)),
        }
    }
    let total = inventory.entries.len();
    let mut text = format!("{total} network namespaces");
    if unknown.len() < total {
        text += &format!(", {} with rules{}", with_rules.len(), listed(&with_rules));
    }
    if !unknown.is_empty() {
        text += &format!(
            ", {} cannot be looked at{}",
            unknown.len(),
            listed(&unknown)
        );
    }
    for note in &inventory.notes {
        text += &format!("; {note}");
    }
    let finding = Finding::good(subject, text);
    // The notes are of processes, which mostly share their namespaces with others.
    if unknown.is_empty() {
        finding
    } else {
        finding.but(Readiness::Degraded, "run it as root of the node")
    }
}

/// `None` when it may not be looked at. One that ended meanwhile has none.
fn has_rules(entry: &Entry) -> Option<bool> {
    match entry.open() {
        Ok(file) => netns::in_netns(file.as_fd(), rules::of_this_netns)
            .ok()?
            .ok()
            .map(rules::Rules::any),
        Err(error) => (error.kind() == std::io::ErrorKind::NotFound).then_some(false),
    }
}

fn name(entry: &Entry) -> String {
    let name = entry.names.first().cloned();
    name.unwrap_or_else(|| format!("net:{}", entry.inode))
}

/// The first few.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    let names = &names[..names.len().min(SHOWN)];
    if names.is_empty() {
        String::new()
    } else {
        format!(" ({}{more})", names.join(", "))
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Attaches everything and detaches it again, in a runtime of its own.
fn attach() -> Result<(Plan, Timing), Failure> {
    // The caller may be in a runtime already, where another cannot be started.
    let attempt = std::thread::spawn(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build()?;
        runtime.block_on(attach_and_detach())
    });
    attempt
        .join()
        .unwrap_or_else(|_| Err("the attempt panicked".into()))
}

async fn attach_and_detach() -> Result<(Plan, Timing), Failure> {
    let node = Node::watch(HostRoot::default())?;
    let start = Instant::now();
    let options = Options {
        filter: &nothing(),
        sizes: Sizes::default(),
        netfilter: None,
    };
    let mut live = Live::start(options, node)?;
    let attached = Instant::now();
    live.finish();
    while live.next().await?.is_some() {}
    let plan = live.plan().clone();
    let timing = Timing {
        attach_us: micros(attached - start),
        detach_us: micros(attached.elapsed()),
    };
    Ok((plan, timing))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A filter that no packet matches.
fn nothing() -> Program {
    let mut program = Program {
        count: 1,
        ..Program::default()
    };
    // A kind that there is not holds never.
    program.terms[0] = Term {
        on_true: filter::REJECT,
        on_false: filter::REJECT,
        ..Term::default()
    };
    program
}
