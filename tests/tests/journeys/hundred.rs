//! One hundred curls in a row: complete, told apart, and in bounded memory.

use std::ops::Range;

use anyhow::{Context as _, ensure};
use rustix::process::Pid;
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::json::{Flow, State, Trace};
use tracer_tests::trace::judge::{self, Case, Ends};
use tracer_tests::trace::process::{Running, whole_lab};
use tracer_tests::trace::witness::{self, Captures, Entry};

/// The client ports.
const PORTS: Range<u16> = 22000..22100;
/// And those of connections that only make memory grow if it can, in so many batches.
const MORE_PORTS: Range<u16> = 22100..22250;
const BATCH: usize = 50;
/// What the tracer may take at its peak, in KiB. The peak is at the start, when the kernel's type
/// information is read; the ring of 8 MiB, which is mapped twice in a row, counts too.
const PEAK: u64 = 96 * 1024;
/// What a batch more may add, in KiB: nothing, but for what allocators do. Kept whole, a connection
/// is 10 packets of 12 to 23 hops of some hundred bytes, so a batch is 1 MiB and more.
const GROWTH: u64 = 256;

/// The ways to the two endpoints of the Service `web`.
const ENDPOINTS: [(&str, &str, &str); 2] = [
    (
        "b1",
        "a1 > node1[prerouting dnat] > b1",
        "b1 > node1[postrouting un-dnat] > a1",
    ),
    (
        "b2",
        "a1 > node1[prerouting dnat] > node2 > b2",
        "b2 > node2 > node1[postrouting un-dnat] > a1",
    ),
];

#[test]
fn a_hundred_curls() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let device = ("a1".to_owned(), "eth0".to_owned());
    let captures = Captures::start(&lab, vec![device.clone()])?;
    let watch = Running::watch(["--json", &whole_lab(&lab)])?;
    curls(&lab, PORTS)?;
    memory_is_bounded(&lab, &watch)?;
    let seen = captures.stop(|_| PORTS.len() + MORE_PORTS.len())?;
    let trace = watch.stop()?;

    let totals = trace.totals()?;
    ensure!(
        totals.lost == 0 && totals.emitted == totals.matched,
        "{totals:?}"
    );
    let conntrack = Entry::parse_all(&lab.conntrack("node1")?);
    let seen = seen.get(&device).context("no capture")?;
    for port in PORTS.chain(MORE_PORTS) {
        let ends = ends(&lab, &conntrack, port)?;
        let flow = judge_flow(&lab, &trace, ends)?;
        let Ends {
            client,
            destination,
            ..
        } = ends;
        witness::agrees(seen, &device, (client, destination), flow.packets.original)?;
        witness::agrees(seen, &device, (destination, client), flow.packets.reply)?;
    }
    let of_tcp = trace.flows.iter().filter(|flow| flow.proto == "tcp");
    let count = of_tcp.count();
    ensure!(count == PORTS.len() + MORE_PORTS.len(), "{count} flows");
    lab.down()
}

/// Makes more connections and looks at the tracer's memory meanwhile.
fn memory_is_bounded(lab: &Lab, watch: &Running) -> anyhow::Result<()> {
    let mut own = vec![memory(watch.pid(), "RssAnon")?];
    for first in MORE_PORTS.step_by(BATCH) {
        curls(lab, first..first + u16::try_from(BATCH)?)?;
        own.push(memory(watch.pid(), "RssAnon")?);
    }
    let peak = memory(watch.pid(), "VmHWM")?;
    println!("own memory: {own:?} KiB; in all at most {peak} KiB");
    ensure!(peak < PEAK, "{peak} KiB at its peak");
    // Some things are read once, when they are first needed, and so make a single step.
    let growth = own
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .min();
    ensure!(growth < Some(GROWTH), "own memory, in KiB: {own:?}");
    Ok(())
}

/// The ends of the connection from that port: which endpoint it is, is conntrack's word.
fn ends(lab: &Lab, conntrack: &[Entry], port: u16) -> anyhow::Result<Ends> {
    let service = lab.service("web");
    let client = (lab.pod("a1").ipv4, port).into();
    let destination = (service.cluster_ip, service.port).into();
    let entry = witness::entry(conntrack, "tcp", (client, destination))?;
    Ok(Ends {
        client,
        destination,
        backend: entry.reply.0,
        masquerade: None,
    })
}

/// Every packet of the flow has the flow's tuple at each of its hops.
fn judge_flow<'a>(lab: &Lab, trace: &'a Trace, ends: Ends) -> anyhow::Result<&'a Flow> {
    let is_backend = |(pod, ..): &&(&str, _, _)| lab.pod(pod).ipv4 == ends.backend.ip();
    let (_, original, reply) = ENDPOINTS
        .iter()
        .find(is_backend)
        .with_context(|| format!("{} is no endpoint", ends.backend))?;
    let flow = trace.flow("tcp", ends.client)?;
    let case = Case {
        lab,
        ends,
        original: &original.parse()?,
        reply: &reply.parse()?,
        state: State::Closed,
    };
    judge::flow(trace, flow, &case)?;
    Ok(flow)
}

/// One after another, each from its own port.
fn curls(lab: &Lab, ports: Range<u16>) -> anyhow::Result<()> {
    let script = format!(
        "port={}; while [ $port -lt {} ]; do \
         curl --silent --show-error --max-time 30 --local-port $port http://{}/ || exit; \
         port=$((port + 1)); done",
        ports.start,
        ports.end,
        lab.service("web").cluster_ip
    );
    let answers = lab.run(lab.command("a1", "sh").args(["-c", &script]))?;
    ensure!(
        answers.matches("server: ").count() == ports.len(),
        "{answers}"
    );
    Ok(())
}

/// A line of `/proc/PID/status`, in KiB.
fn memory(pid: Pid, key: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    value
        .and_then(|value| value.split_ascii_whitespace().nth(1)?.parse().ok())
        .with_context(|| format!("no {key}"))
}
