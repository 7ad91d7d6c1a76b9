//! More than the tracer can take: what is lost is counted to the event and told, and the node goes on.
//!
//! The tracer is stopped (SIGSTOP) while datagrams are sent, so nobody reads its small buffer: that it
//! overflows does not depend on how fast a machine is, and a node that waited for the tracer would wait
//! for ever. What the hooks matched is compared with what the kernel's own protocol counters say.

use std::fs;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::json::{Flow, HookStats, Stats, Trace};
use tracer_tests::trace::process::{self, Running, wait_until};

/// The servers' ports.
const FLOODED: u16 = 29_700;
const BESIDE: u16 = 29_701;
const AFTERWARDS: u16 = 29_702;
const TOLD: u16 = 29_703;
/// How many datagrams are sent: their events are many times what the buffer holds.
const DATAGRAMS: u64 = 20_000;
/// The smallest buffer that there may be.
const RING: &str = "64K";

/// What the kernel counted of UDP in a pod.
fn counted(lab: &Lab, pod: &str, name: &str) -> anyhow::Result<u64> {
    lab.within(pod, || {
        // That of the thread: the process's own is another namespace.
        let text = fs::read_to_string("/proc/thread-self/net/snmp")?;
        let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
        let (names, values) = (lines.next(), lines.next());
        let (names, values) = names.zip(values).context("no UDP counters")?;
        let mut both = names.split(' ').zip(values.split(' '));
        let value = both.find(|(counter, _)| *counter == name);
        Ok(value.context("no such counter")?.1.parse()?)
    })
}

/// A socket in a pod.
fn bound(lab: &Lab, pod: &str, port: u16) -> anyhow::Result<UdpSocket> {
    let address = SocketAddr::from((lab.pod(pod).ipv4, port));
    lab.within(pod, || Ok(UdpSocket::bind(address)?))
}

/// From pod a1 to a socket of pod b1 that nobody reads.
pub(crate) struct Exchange {
    client: UdpSocket,
    server: UdpSocket,
}

impl Exchange {
    pub(crate) fn new(lab: &Lab, port: u16) -> anyhow::Result<Self> {
        let exchange = Self {
            client: bound(lab, "a1", port)?,
            server: bound(lab, "b1", port)?,
        };
        exchange.client.connect(exchange.server.local_addr()?)?;
        Ok(exchange)
    }

    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.client.local_addr()?)
    }

    /// The socket that is sent to.
    pub(crate) fn server(&self) -> anyhow::Result<UdpSocket> {
        Ok(self.server.try_clone()?)
    }

    /// Sends one and waits until it has come.
    pub(crate) fn arrives(&self) -> anyhow::Result<()> {
        self.client.send(b"first")?;
        self.server.set_read_timeout(Some(process::LIMIT))?;
        self.server.recv(&mut [0; 8])?;
        Ok(())
    }

    /// Sends so many; no one is refused.
    pub(crate) fn send(&self, datagrams: u64) -> anyhow::Result<()> {
        for number in 0..datagrams {
            self.client.send(&number.to_be_bytes())?;
        }
        Ok(())
    }
}

fn hook<'a>(stats: &'a Stats, name: &str) -> anyhow::Result<&'a HookStats> {
    let mut hooks = stats.hooks.iter();
    let found = hooks.find(|hook| hook.hook == name);
    found.with_context(|| format!("no hook {name}"))
}

/// The tracer is stopped, and what it watches is flooded. Returns what the kernel counted: datagrams
/// sent, and refused by the socket for want of room.
fn flood(lab: &Lab, watch: &Running, exchange: &Exchange) -> anyhow::Result<[u64; 2]> {
    let count = || -> anyhow::Result<[u64; 2]> {
        Ok([
            counted(lab, "a1", "OutDatagrams")?,
            counted(lab, "b1", "RcvbufErrors")?,
        ])
    };
    let before = count()?;
    watch.signal(Signal::STOP)?;
    let begin = std::time::Instant::now();
    let sent = exchange.send(DATAGRAMS);
    let took = begin.elapsed();
    watch.signal(Signal::CONT)?;
    sent?;
    eprintln!("{DATAGRAMS} datagrams sent in {took:?} with nobody reading the buffer");
    let after = count()?;
    Ok(std::array::from_fn(|at| after[at] - before[at]))
}

fn flow(trace: &Trace, client: SocketAddr) -> anyhow::Result<&Flow> {
    trace.flow("udp", client)
}

#[test]
fn what_a_flood_loses_is_counted_to_the_event_and_told() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let [flooded, beside, afterwards] =
        [FLOODED, BESIDE, AFTERWARDS].map(|port| Exchange::new(&lab, port));
    let (flooded, beside, afterwards) = (flooded?, beside?, afterwards?);
    // The neighbours are known, so that no datagram waits or is dropped for one that is not.
    afterwards.arrives()?;
    let filter = format!(
        "netns {} and udp portrange {FLOODED}-{AFTERWARDS}",
        lab.netns("a1")
    );
    let watch = Running::watch(["--json", "--ring-size", RING, &filter])?;
    beside.send(1)?;
    let [sent, refused] = flood(&lab, &watch, &flooded)?;
    // Everything was read again, and more comes.
    let client = format!("\"{}\"", afterwards.address()?);
    let mut others = 0;
    wait_until(|| {
        afterwards.send(1)?;
        others += 1;
        let found = watch.output().contains(&client);
        Ok((!found).then(|| "the flow after the flood is not seen".to_owned()))
    })?;
    let trace = watch.stop()?;
    let totals = trace.totals()?;
    ensure!(sent == DATAGRAMS, "{sent} were sent");
    ensure!(totals.lost > 0, "{totals:?}");
    for hook in &totals.hooks {
        ensure!(hook.emitted + hook.lost == hook.matched, "{hook:?}");
    }
    ensure!(totals.emitted + totals.lost == totals.matched, "{totals:?}");
    // Queued at the pod's device and at the other port of the bridge, received at the other ends.
    let all = sent + 1 + others;
    for name in ["device.queue", "device.transmit", "device.receive"] {
        let matched = hook(totals, name)?.matched;
        ensure!(matched == 2 * all, "{name}: {matched} of {all} datagrams");
    }
    // Prerouting, forward, postrouting on the bridge of the node; nothing in the pods.
    let matched = hook(totals, "netfilter.enter")?.matched;
    ensure!(matched == 3 * all, "{matched} of {all} datagrams");
    // A socket is asked before it is known whether it has room.
    let matched = hook(totals, "socket.deliver")?.matched;
    ensure!(matched == all, "{matched} of {all} datagrams");
    let dropped = hook(totals, "drop")?.matched;
    ensure!(dropped == refused, "{dropped} drops, {refused} refused");
    ensure!(flow(&trace, flooded.address()?)?.affected_by_loss);
    ensure!(flow(&trace, beside.address()?)?.affected_by_loss);
    lab.down()
}

#[test]
fn people_are_told_what_was_lost_and_which_flows_lack_it() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let exchange = Exchange::new(&lab, TOLD)?;
    let filter = format!("netns {} and udp port {TOLD}", lab.netns("a1"));
    let words = [
        "watch",
        "--summary",
        "--color",
        "never",
        "--ring-size",
        RING,
    ];
    let mut watch = Running::start(process::command(
        words.into_iter().chain([filter.as_str()]),
    )?)?;
    watch.wait_for("tracer: watching")?;
    flood(&lab, &watch, &exchange)?;
    let ended = watch.interrupt()?;
    ensure!(ended.status.success(), "{ended:?}");
    let of_flow = |line: &&str| line.starts_with("flow ");
    let flow = ended.stdout.lines().find(of_flow).context("no flow")?;
    ensure!(
        flow.split(':').next().is_some_and(|id| id.ends_with('?')),
        "{flow}"
    );
    let told = "events lost: flows marked ? may be incomplete";
    ensure!(ended.stdout.contains(told), "{}", ended.stdout);
    lab.down()
}
