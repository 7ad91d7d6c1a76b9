//! What is to be said of each thing that tracing rests on (pure).

use std::{error::Error, io};

use super::{
    Finding, Subject,
    machine::{Machine, Namespaces},
};
use crate::{
    kernel::{
        facts::{self, Surroundings},
        live::OLDEST,
        plan::{Plan, Readiness, version},
        symbols::SymbolsError,
    },
    privilege::{Capabilities, named},
};

const GIVE: &str = "run it as root, or give the process these capabilities: see docs/privileges.md";

pub(super) fn kernel(machine: &Machine) -> Finding {
    let release = &machine.surroundings.release;
    let finding = Finding::good(Subject::Kernel, release);
    let newer = "use Linux 5.8 or newer";
    if version(release).is_some_and(|version| version < OLDEST) {
        finding.but(Readiness::Impossible, newer)
    } else if matches!(&machine.btf, Ok(btf) if btf.lacks_ring_buffer()) {
        let text = format!("{release}, which has no BPF ring buffer");
        Finding::good(Subject::Kernel, text).but(Readiness::Impossible, newer)
    } else {
        finding
    }
}

/// With the plan for the kernel that the BTF describes.
pub(super) fn btf(machine: &Machine) -> (Finding, Option<Plan>) {
    let subject = Subject::Btf;
    let unusable = |error: &dyn Error| (Finding::bad(subject, Readiness::Impossible, error), None);
    let btf = match &machine.btf {
        Ok(btf) => btf,
        Err(error) => return unusable(error),
    };
    let offsets = match btf.offsets() {
        Ok(offsets) => offsets,
        Err(error) => return unusable(&error),
    };
    let facts = facts::gather(btf, &offsets, &machine.surroundings);
    // Those of netfilter, of its calls and of connections are in the plan.
    let planned = ["nf_hook_state", "pt_regs", "nf_conn"];
    let absent = offsets
        .absent()
        .iter()
        .filter(|absent| !planned.contains(&absent.field.structure));
    let absent: Vec<String> = absent.map(ToString::to_string).collect();
    let finding = if absent.is_empty() {
        Finding::good(subject, "the kernel describes its structures")
    } else {
        let text = absent.join("; ");
        Finding::good(subject, text).but(Readiness::Degraded, "use a kernel of a distribution")
    };
    (finding, Some(Plan::new(&facts, None)))
}

pub(super) fn capabilities(found: Result<&Capabilities, &io::Error>) -> Finding {
    let subject = Subject::Capabilities;
    let capabilities = match found {
        Ok(capabilities) => capabilities,
        Err(error) => return Finding::bad(subject, Readiness::Impossible, error),
    };
    let (missing, wanted) = (capabilities.missing(), capabilities.wanted());
    if !missing.is_empty() {
        let text = format!("missing: {}", named(&missing));
        return Finding::good(subject, text).but(Readiness::Impossible, GIVE);
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
        return Finding::good(subject, text).but(Readiness::Degraded, GIVE);
    }
    Finding::good(subject, "all that are needed")
}

pub(super) fn lockdown(surroundings: &Surroundings) -> Finding {
    let subject = Subject::Lockdown;
    match surroundings.lockdown.as_deref() {
        Some(mode) if surroundings.keeps_memory() => Finding::good(subject, mode).but(
            Readiness::Impossible,
            "BPF programs may not read the kernel's memory: boot with lockdown=integrity",
        ),
        Some(mode) => Finding::good(subject, mode),
        None => Finding::good(subject, "not shown: securityfs is not mounted"),
    }
}

pub(super) fn symbols(error: Option<&SymbolsError>) -> Finding {
    match error {
        None => Finding::good(Subject::Symbols, "kernel functions have names"),
        Some(error) => Finding::bad(Subject::Symbols, Readiness::Degraded, error),
    }
}

pub(super) fn namespaces(found: Result<&Namespaces, &io::Error>) -> Finding {
    let subject = Subject::Namespaces;
    let Namespaces {
        total,
        with_rules,
        unknown,
        notes,
        ..
    } = match found {
        Ok(found) => found,
        Err(error) => return Finding::bad(subject, Readiness::Impossible, error),
    };
    let mut text = format!("{total} network namespaces");
    if unknown.len() < *total {
        text += &format!(", {} with rules{}", with_rules.len(), listed(with_rules));
    }
    if !unknown.is_empty() {
        text += &format!(", {} cannot be looked at{}", unknown.len(), listed(unknown));
    }
    for note in notes {
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

/// Whether the rules that there are can be read. A program that is missing and that no rules ask for is
/// nothing worse.
pub(super) fn rules(found: Option<&Namespaces>, programs: &[(&'static str, bool)]) -> Finding {
    let subject = Subject::Rules;
    let named = |there: bool| {
        let names = programs.iter().filter(|(_, is)| *is == there);
        let names: Vec<&str> = names.map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let unread = found
        .map(|found| found.unread.as_slice())
        .unwrap_or_default();
    if !unread.is_empty() {
        let text = format!(
            "{}: translations and drops by such rules are shown without them, and Services without names",
            unread.join("; ")
        );
        return Finding::good(subject, text).but(
            Readiness::Degraded,
            "install the program that is named, of the same version as the one that makes the rules",
        );
    }
    let mut text = "all that there are can be read".to_owned();
    if !named(true).is_empty() {
        text += &format!(", with {}", named(true));
    }
    if !named(false).is_empty() {
        text += &format!("; not here, and not needed now: {}", named(false));
    }
    Finding::good(subject, text)
}

/// Attaching failed. Where it is not known whether the kernel is locked down, that may be why.
pub(super) fn refused(error: &(dyn Error + Send + Sync), surroundings: &Surroundings) -> Finding {
    let finding = Finding::bad(Subject::Attach, Readiness::Impossible, error);
    if surroundings.lockdown.is_some() {
        return finding;
    }
    finding.but(
        Readiness::Impossible,
        "look whether the kernel is locked down: mount -t securityfs none /sys/kernel/security; \
         cat /sys/kernel/security/lockdown",
    )
}

/// The first few.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    let names = &names[..names.len().min(SHOWN)];
    if names.is_empty() {
        String::new()
    } else {
        format!(" ({}{more})", names.join(", "))
    }
}
