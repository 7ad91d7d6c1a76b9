//! `tracer doctor`: can it run here, how well, and what can be done about it.

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
}

/// Looks, really attaches and detaches, and prints what was found.
///
/// # Errors
/// When the output cannot be written.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let found = checkup();
    let shown = if args.json {
        json(&found)?
    } else {
        text(&found)
    };
    match io::stdout().lock().write_all(shown.as_bytes()) {
        // The reader of a pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    Ok(ExitCode::from(match found.readiness {
        Readiness::Ready => 0,
        Readiness::Degraded => 1,
        Readiness::Impossible => 2,
    }))
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
        Subject::Attach => "attach",
    };
    let mut lines = vec![heading(subject, state(finding.readiness), &finding.text)];
    if let Some(timing) = timing.filter(|_| finding.subject == Subject::Attach) {
        lines.push(below(&format!(
            "attached in {}, detached in {}",
            time(timing.attach_us),
            time(timing.detach_us)
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
        Target::CgroupIngress(path) => format!("cgroup {}", path.display()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::plan::{Facts, Kind, Plan, TRACEPOINTS};

    fn old_kernel() -> Checkup {
        let facts = Facts {
            release: "6.1.0-40-amd64".to_owned(),
            tracepoints: TRACEPOINTS.map(|name| (name.to_owned(), 3)).into(),
            netfilter_state: true,
            conntrack: true,
            ..Facts::default()
        };
        let mut plan = Plan::new(&facts, None);
        let attached = Outcome::Attached {
            load_us: 123_456,
            attach_us: 200,
        };
        plan.note("device_queue", attached);
        let reason = "the verifier says no: Permission denied (os error 13): \u{1b}[2J".to_owned();
        plan.note("consume", Outcome::Failed { reason });
        Checkup {
            readiness: plan.readiness(),
            findings: vec![
                Finding {
                    subject: Subject::Kernel,
                    readiness: Readiness::Ready,
                    text: "6.1.0-40-amd64".to_owned(),
                    remedy: None,
                },
                Finding {
                    subject: Subject::Symbols,
                    readiness: Readiness::Degraded,
                    text: "the kernel hides its addresses".to_owned(),
                    remedy: Some("run with CAP_SYSLOG".to_owned()),
                },
                Finding {
                    subject: Subject::Attach,
                    readiness: Readiness::Ready,
                    text: "everything was attached and detached again".to_owned(),
                    remedy: None,
                },
            ],
            plan: Some(plan),
            timing: Some(Timing {
                attach_us: 412_345,
                detach_us: 1_234,
            }),
        }
    }

    #[test]
    fn people_see_what_is_missing_and_what_to_do() {
        insta::assert_snapshot!(text(&old_kernel()), @r"
        kernel        ok          6.1.0-40-amd64
        symbols       degraded    the kernel hides its addresses
                                  -> run with CAP_SYSLOG
        attach        ok          everything was attached and detached again
                                  attached in 412.3 ms, detached in 1.2 ms

        devices       ok          tp_btf tracepoints: they see every device of every network namespace
                                  device_receive at tracepoint netif_receive_skb: not tried
                                  device_transmit at tracepoint net_dev_start_xmit: not tried
                                  device_queue at tracepoint net_dev_queue: loaded in 123.5 ms
        drops         ok          tp_btf kfree_skb with reason: the tracepoint gives the reason of a drop
                                  drop_with_reason at tracepoint kfree_skb: not tried
        consume       degraded    nothing: it tells a packet's end from its address being used again
                                  consume at tracepoint consume_skb: failed: the verifier says no: Permission denied (os error 13): [2J
                                  the end of a packet that was used up is not seen
                                  -> see the reason that the kernel gives for the program; report it with the output of `tracer doctor --json` if it is not clear
        netfilter     degraded    nothing: this kernel has none of the ways to see them
                                  --netfilter fentry: not possible: this kernel's BTF does not describe nf_hook_slow
                                  --netfilter link: not possible: this kernel does not take BPF programs as netfilter functions
                                  --netfilter kprobe: not possible: this kernel has no kprobes, or /sys is not mounted
                                  netfilter hooks are not seen: translations show only between devices, a drop by a rule only as a drop
                                  -> use a kernel that describes its functions (CONFIG_DEBUG_INFO_BTF=y), or from 6.4 on with CONFIG_NETFILTER_BPF_LINK=y, or with CONFIG_KPROBE_EVENTS=y, on x86-64 or arm64
        socket        degraded    nothing: no cgroup v2 tree is mounted
                                  delivery to a socket is not seen: a packet's last hop is its device
                                  -> mount one: mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, mount the node's /sys/fs/cgroup
        conntrack     degraded    nothing: connections are read at netfilter hooks, which are not seen
                                  connections' tuples are not read: a flow that was translated before tracing began has only one of its tuples
                                  -> see netfilter

        degraded: tracing works here, with what is missing said above
        ");
    }

    #[test]
    fn each_way_to_see_netfilter_has_a_line() {
        let facts = Facts {
            netfilter_function: true,
            netfilter_links: true,
            kprobes: true,
            call_registers: true,
            netfilter_state: true,
            ..Facts::default()
        };
        let mut plan = Plan::new(&facts, None);
        let reason = "bpf_raw_tracepoint_open: Operation not permitted".to_owned();
        plan.note("netfilter_end", Outcome::Failed { reason });
        assert!(plan.fall_back());
        let family = plan.family(Kind::Netfilter).unwrap();
        insta::assert_snapshot!(family_lines(family, true).join("\n"), @"
        netfilter     ok          netfilter links: they see each hook before its first and after its last function, in the network namespaces that have rules
                                  netfilter_leave at netfilter hooks: not tried
                                  netfilter_enter at netfilter hooks: not tried
                                  --netfilter fentry: netfilter_end was refused: bpf_raw_tracepoint_open: Operation not permitted
                                  --netfilter kprobe: possible too
        ");
        let json = serde_json::to_value(&family.ways).unwrap();
        assert_eq!(json[0]["way"], "fentry");
        assert_eq!(json[0]["standing"], "refused");
        assert_eq!(
            json[1],
            serde_json::json!({"way": "link", "standing": "chosen"})
        );
        assert_eq!(json[2]["standing"], "possible");
        assert_eq!(
            serde_json::from_value::<Family>(serde_json::to_value(family).unwrap()).unwrap(),
            *family
        );
    }

    #[test]
    fn programs_get_one_object() {
        let shown = json(&old_kernel()).unwrap();
        assert!(!shown.contains('\u{1b}'));
        assert_eq!(shown.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(value["type"], "doctor");
        assert_eq!(value["schema"], 1);
        assert_eq!(value["readiness"], "degraded");
        assert_eq!(value["findings"][1]["subject"], "symbols");
        assert_eq!(value["plan"]["families"][0]["kind"], "devices");
        assert_eq!(value["timing"]["attach_us"], 412_345);
    }
}
