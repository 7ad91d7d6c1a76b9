//! `tracer doctor`: can it run here, how well, and what can be done about it.

mod cost;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;

use crate::{
    kernel::{
        checkup::{Checkup, Finding, Subject, Timing, checkup},
        plan::{Family, Outcome, Readiness, Standing, Step, Target, WayState},
    },
    output::sanitize,
};

/// Say whether tracing can run here: kernel, privileges, each hook, what is missing and what to
/// do about it. Exit status: 0 ready, 1 something is missing, 2 not possible
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Measure for some seconds instead what tracing costs here, by the kernel's account of each program.
    /// Exit status: 0 when that could be measured
    #[arg(long)]
    pub cost: bool,
    /// Measure what tracing these flows costs, in the words of docs/filter.md; without, what it costs to look
    /// and find nothing
    #[arg(requires = "cost")]
    pub filter: Vec<String>,
}

/// Looks, really attaches and detaches, and prints what was found.
///
/// # Errors
/// When the output cannot be written.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    if args.cost {
        print(&cost::run(args)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let found = checkup();
    let shown = if args.json {
        json(&found)?
    } else {
        text(&found)
    };
    print(&shown)?;
    Ok(ExitCode::from(status(found.readiness)))
}

fn print(shown: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(shown.as_bytes()) {
        // The reader of a pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The exit status.
fn status(readiness: Readiness) -> u8 {
    match readiness {
        Readiness::Ready => 0,
        Readiness::Degraded => 1,
        Readiness::Impossible => 2,
    }
}

/// The version of this object's form, as everywhere in the program's JSON.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: u32,
    #[serde(flatten)]
    checkup: &'a Checkup,
}

fn json(found: &Checkup) -> serde_json::Result<String> {
    let line = Line {
        kind: "doctor",
        schema: SCHEMA,
        checkup: found,
    };
    let json = serde_json::to_string(&line)?;
    Ok(format!("{}\n", sanitize::json(&json)))
}

/// For people.
fn text(found: &Checkup) -> String {
    let mut lines = Vec::new();
    for finding in &found.findings {
        lines.extend(finding_lines(finding, found.timing));
    }
    if let Some(plan) = &found.plan {
        lines.push(String::new());
        for family in &plan.families {
            lines.extend(family_lines(family, found.timing.is_some()));
        }
        lines.extend(plan.notes.iter().map(|note| format!("note: {note}")));
    }
    lines.push(String::new());
    lines.push(conclusion(found.readiness).to_owned());
    let lines = lines
        .iter()
        .map(|line| sanitize::plain(line).trim_end().to_owned() + "\n");
    lines.collect()
}

fn conclusion(readiness: Readiness) -> &'static str {
    match readiness {
        Readiness::Ready => "ready: everything can be traced here",
        Readiness::Degraded => "degraded: tracing works here, with what is missing said above",
        Readiness::Impossible => "impossible: tracing cannot run here until that is mended",
    }
}

fn state(readiness: Readiness) -> &'static str {
    match readiness {
        Readiness::Ready => "ok",
        Readiness::Degraded => "degraded",
        Readiness::Impossible => "impossible",
    }
}

fn heading(subject: &str, state: &str, text: &str) -> String {
    format!("{subject:13} {state:11} {text}")
}

/// Below a heading.
fn below(text: &str) -> String {
    format!("{:26}{text}", "")
}

fn finding_lines(finding: &Finding, timing: Option<Timing>) -> Vec<String> {
    let subject = match finding.subject {
        Subject::Kernel => "kernel",
        Subject::Btf => "BTF",
        Subject::Capabilities => "capabilities",
        Subject::Lockdown => "lockdown",
        Subject::Symbols => "symbols",
        Subject::Namespaces => "namespaces",
        Subject::Rules => "rules",
        Subject::Attach => "attach",
    };
    let mut lines = vec![heading(subject, state(finding.readiness), &finding.text)];
    if let Some(timing) = timing.filter(|_| finding.subject == Subject::Attach) {
        lines.push(below(&format!(
            "attached in {} ({} of processor time), detached in {} ({})",
            time(timing.attach_us),
            time(timing.attach_cpu_us),
            time(timing.detach_us),
            time(timing.detach_cpu_us)
        )));
    }
    lines.extend(finding.remedy.iter().map(|remedy| advice(remedy)));
    lines
}

fn family_lines(family: &Family, attached: bool) -> Vec<String> {
    let state = match (&family.choice, &family.degraded) {
        (Some(_), None) if attached => state(Readiness::Ready),
        (Some(_), None) => "planned",
        (None, _) if family.is_needed() => state(Readiness::Impossible),
        _ => state(Readiness::Degraded),
    };
    let choice = family.choice.as_deref().unwrap_or("nothing");
    let text = format!("{choice}: {}", family.why);
    let mut lines = vec![heading(&family.kind.to_string(), state, &text)];
    lines.extend(family.steps.iter().map(|step| below(&step_text(step))));
    lines.extend(
        family
            .ways
            .iter()
            .filter_map(way_text)
            .map(|way| below(&way)),
    );
    if let Some(degraded) = &family.degraded {
        lines.push(below(&degraded.what));
        lines.push(advice(&degraded.remedy));
    }
    lines
}

fn advice(remedy: &str) -> String {
    below(&format!("-> {remedy}"))
}

fn step_text(step: &Step) -> String {
    let target = match &step.target {
        Target::Tracepoint(name) => format!("tracepoint {name}"),
        Target::NetfilterHooks => "netfilter hooks".to_owned(),
        Target::FunctionBegin(name) => format!("beginning of {name}"),
        Target::FunctionEnd(name) => format!("end of {name}"),
        Target::Kprobe(name) => format!("kprobe of {name}"),
        Target::Kretprobe(name) => format!("kretprobe of {name}"),
        Target::CgroupIngress(path) | Target::CgroupEgress(path) => {
            format!("cgroup {}", path.display())
        }
        Target::CgroupSocketCreate(path) => format!("sockets of cgroup {}", path.display()),
    };
    let outcome = match &step.outcome {
        Outcome::Planned => "not tried".to_owned(),
        Outcome::Attached { load_us, .. } => format!("loaded in {}", time(*load_us)),
        Outcome::Failed { reason } => format!("failed: {reason}"),
    };
    format!("{} at {target}: {outcome}", step.program)
}

/// Of a way that was not chosen.
fn way_text(state: &WayState) -> Option<String> {
    let way = state.way;
    Some(match &state.standing {
        Standing::Chosen => return None,
        Standing::Possible => format!("--netfilter {way}: possible too"),
        Standing::Refused { why } => format!("--netfilter {way}: {why}"),
        Standing::Lacking { why } => format!("--netfilter {way}: not possible: {why}"),
    })
}

fn time(micros: u64) -> String {
    let milliseconds = Duration::from_micros(micros).as_secs_f64() * 1e3;
    format!("{milliseconds:.1} ms")
}
