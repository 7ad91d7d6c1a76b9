//! What `tracer run` hands on: the command's status, its output, and what was seen until Ctrl-C.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, ensure};
use rustix::process::{Signal, kill_process_group};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::json::State;
use tracer_tests::trace::process::{self, Ended, Running};

use super::connection::Planned;
use super::evidence::{Evidence, conntrack, judge, judge_all};
use super::paths::{CONNECTIONS, Outcome};

/// The first client port of [`each_path_is_shown_by_run_alone`].
const FIRST_PORT: u16 = 26000;

/// What a shell reports for a command that SIGTERM ended.
const TERMINATED: i32 = 128 + 15;
/// What one reports for a command that Ctrl-C ended.
const INTERRUPTED: i32 = 128 + 2;

#[test]
fn the_commands_status_is_passed_on() -> anyhow::Result<()> {
    needs_a_lab!();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$", TERMINATED),
    ] {
        let ended = process::run(["run", "--json", "--", "sh", "-c", script])?;
        ensure!(ended.status.code() == Some(status), "{script}: {ended:#?}");
        // Nothing was sent, so there is nothing but the counts.
        let trace = ended.trace()?;
        ensure!(
            trace.flows.is_empty() && trace.packets.is_empty(),
            "{ended:#?}"
        );
        ensure!(trace.stats.len() == 1, "{ended:#?}");
    }
    Ok(())
}

#[test]
fn json_has_standard_output_to_itself() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let url = format!("http://{}/", lab.service("web-node1").cluster_ip);
    let netns = lab.netns("a1");
    let script = "echo on stdout; echo on stderr >&2; exec curl -sS --max-time 30 \"$0\"";
    let arguments = [
        "run", "--netns", &netns, "--json", "--", "sh", "-c", script, &url,
    ];
    let ended = process::run(arguments)?;
    ensure!(ended.status.success(), "{ended:#?}");
    for said in ["on stdout\n", "on stderr\n", "server: b1\n"] {
        ensure!(ended.stderr.contains(said), "{ended:#?}");
    }
    let trace = ended.trace()?;
    // What the command sent and was answered, and no more.
    let [flow] = &trace.flows[..] else {
        anyhow::bail!("{ended:#?}");
    };
    ensure!(
        flow.state == State::Closed && flow.client.netns == Some(netns),
        "{flow:#?}"
    );
    ensure!(
        trace.packets.iter().all(|packet| packet.flow == flow.id),
        "{ended:#?}"
    );
    lab.down()
}

#[test]
fn text_leaves_the_commands_output_where_it_was() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let url = format!("http://{}/", lab.service("web-node1").cluster_ip);
    let ended = process::run([
        "run",
        "--netns",
        &lab.netns("a1"),
        "--color=never",
        "--",
        "curl",
        "-sS",
        "--max-time",
        "30",
        &url,
    ])?;
    ensure!(
        ended.status.success() && ended.stderr.is_empty(),
        "{ended:#?}"
    );
    ensure!(ended.stdout.contains("server: b1\n"), "{ended:#?}");
    let (service, pod) = (lab.service("web-node1"), lab.pod("b1"));
    let translation = format!("{}:80 -> {}:8080", service.cluster_ip, pod.ipv4);
    for said in ["DNAT", &translation, &lab.netns("node1"), &pod.veth, "cni0"] {
        ensure!(ended.stdout.contains(said), "{said:?} is not in {ended:#?}");
    }
    lab.down()
}

#[test]
fn ctrl_c_prints_what_was_seen() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let url = format!("http://{}/", lab.service("web-node2").cluster_ip);
    let netns = lab.netns("a1");
    let script = "curl -sS --max-time 30 \"$0\"; exec sleep 1000";
    let mut command = process::command(["run", "--netns", &netns, "--json", "--", "sh"])?;
    // A terminal sends SIGINT to the whole group that is in its foreground.
    command.args(["-c", script, &url]).process_group(0);
    let mut running = Running::start(command)?;
    running.wait_for("client: ")?;
    kill_process_group(running.pid(), Signal::INT)?;
    let ended = running.wait()?;
    ensure!(ended.status.code() == Some(INTERRUPTED), "{ended:#?}");
    let trace = ended.trace()?;
    let [flow] = &trace.flows[..] else {
        anyhow::bail!("{ended:#?}");
    };
    // curl's end and Ctrl-C may meet; the answer was there.
    ensure!(
        flow.packets.original >= 3 && flow.packets.reply >= 2,
        "{flow:#?}"
    );
    ensure!(flow.holes == 0 && flow.backend.is_some(), "{flow:#?}");
    ensure!(trace.totals()?.lost == 0, "{ended:#?}");
    lab.down()
}

#[test]
fn an_interrupted_watch_ends_well() -> anyhow::Result<()> {
    needs_a_lab!();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let watch = Running::watch(["--json", "host 192.0.2.1"])?;
        watch.signal(signal)?;
        let ended = watch.wait()?;
        ensure!(ended.status.success(), "{signal:?}: {ended:#?}");
        ensure!(!ended.trace()?.stats.is_empty(), "{signal:?}: {ended:#?}");
    }
    Ok(())
}

/// `run` finds its command's packets by the command's cgroup, and the answers by following them.
#[test]
fn each_path_is_shown_by_run_alone() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    // Dropped ones need a rule of their own.
    let paths = CONNECTIONS
        .iter()
        .filter(|path| path.outcome != Outcome::Dropped);
    let mut by_client: BTreeMap<&str, Vec<Planned<'_>>> = BTreeMap::new();
    for (port, connection) in (FIRST_PORT..).zip(paths) {
        let planned = Planned::new(&lab, connection, port)?;
        by_client.entry(connection.from).or_default().push(planned);
    }
    for (from, planned) in by_client {
        let ended = run_all(&lab, from, &planned)?;
        let evidence = Evidence {
            trace: ended.trace()?,
            conntrack: conntrack(&lab)?,
            captured: None,
        };
        for planned in &planned {
            judge(planned, &evidence).with_context(|| planned.connection.name)?;
        }
        judge_all(&planned, &evidence)?;
        // The kernel's own packets, neighbour discovery for one, are not the command's.
        let flows = &evidence.trace.flows;
        ensure!(flows.len() == planned.len(), "{flows:#?}");
    }
    lab.down()
}

/// One traced shell that makes all the connections.
fn run_all(lab: &Lab, from: &str, planned: &[Planned<'_>]) -> anyhow::Result<Ended> {
    let lines = planned.iter().map(|planned| {
        let line = planned
            .client_line()
            .join(" ")
            .replace('[', "\\[")
            .replace(']', "\\]");
        format!("{line}; echo \"status $?\"\n")
    });
    let script: String = lines.collect();
    let netns = lab.netns(from);
    let ended = process::run([
        "run", "--netns", &netns, "--json", "--", "sh", "-c", &script,
    ])?;
    let statuses = ended
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("status "));
    let statuses: Vec<i32> = statuses.map(str::parse).collect::<Result<_, _>>()?;
    let expected: Vec<i32> = planned.iter().map(Planned::expected_status).collect();
    ensure!(
        statuses == expected,
        "{statuses:?} instead of {expected:?}: {}",
        ended.stderr
    );
    Ok(ended)
}
