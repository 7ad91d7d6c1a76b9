//! Whether tracing can run here, and how well: what `tracer doctor` shows.
//!
//! Each thing that tracing rests on is looked at by itself, so that all that is missing is said at
//! once and not only the first. Then, if nothing forbids it, everything is really attached and
//! detached again, with a filter that no packet matches. Works without privilege as far as that
//! goes.
//!
//! What a machine says ([`machine`]) is apart from what is made of it ([`examine`], pure), so that
//! every kind of kernel can be examined in a test.

#[cfg(test)]
pub(crate) mod cases;
#[cfg(test)]
mod tests;

mod attempt;
mod findings;
mod machine;

use serde::{Deserialize, Serialize};

pub use attempt::nothing;

use self::{attempt::Failure, machine::Machine};
use super::plan::{Outcome, Plan, Readiness};
use crate::privilege::{Capabilities, Capability};

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
    /// Reading those rules, which names what they do.
    Rules,
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
    /// Processor time of the first, which other work on the machine does not change.
    pub attach_cpu_us: u64,
    /// Processor time of the second.
    pub detach_cpu_us: u64,
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
    examine(Machine::look(), |_| attempt::attach())
}

/// What is to be said of a machine, where `attach` attaches everything, as planned, and detaches it again.
fn examine(
    machine: Machine,
    attach: impl FnOnce(Option<&Plan>) -> Result<(Plan, Timing), Failure>,
) -> Checkup {
    let (btf, mut plan) = findings::btf(&machine);
    let mut findings = vec![
        findings::kernel(&machine),
        btf,
        findings::capabilities(machine.capabilities.as_ref()),
        findings::lockdown(&machine.surroundings),
        findings::symbols(machine.symbols.as_ref().err()),
        findings::namespaces(machine.namespaces.as_ref()),
        findings::rules(machine.namespaces.as_ref().ok(), &machine.programs),
    ];
    // Tens of megabytes, of which attaching takes as many again.
    drop(machine.btf);
    let impossible = |finding: &Finding| finding.readiness == Readiness::Impossible;
    let mut timing = None;
    findings.push(if findings.iter().any(impossible) {
        Finding::good(Subject::Attach, "not tried").but(
            Readiness::Impossible,
            "see first to what is impossible above",
        )
    } else {
        match attach(plan.as_ref()) {
            Ok((attached, took)) => {
                plan = Some(attached);
                timing = Some(took);
                Finding::good(
                    Subject::Attach,
                    "everything was attached and detached again",
                )
            }
            Err(error) => findings::refused(&*error, &machine.surroundings),
        }
    });
    if let (Some(plan), Ok(capabilities)) = (&mut plan, &machine.capabilities) {
        name_capability(plan, *capabilities);
    }
    let planned = plan.as_ref().map(Plan::readiness);
    let found = findings.iter().map(|finding| finding.readiness);
    Checkup {
        readiness: found.chain(planned).max().unwrap_or(Readiness::Ready),
        findings,
        plan,
        timing,
    }
}

/// What was refused for want of the one capability that some families need and others do not.
fn name_capability(plan: &mut Plan, capabilities: Capabilities) {
    if capabilities.has(Capability::NetAdmin) {
        return;
    }
    for family in plan.families.iter_mut().filter(|f| f.choice.is_none()) {
        let refused = |outcome: &Outcome| match outcome {
            Outcome::Failed { reason } => reason.contains(NOT_PERMITTED),
            _ => false,
        };
        if family.steps.iter().any(|step| refused(&step.outcome))
            && let Some(degraded) = &mut family.degraded
        {
            let needed = Capability::NetAdmin;
            degraded.remedy = format!("run it as root, or give the process {needed}");
        }
    }
}

/// What the system says of `EPERM`.
const NOT_PERMITTED: &str = "Operation not permitted";
