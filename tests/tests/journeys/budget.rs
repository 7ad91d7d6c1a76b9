//! A budget: when tracing costs more, less is seen, and that is said; drops are seen all the same; what
//! is seen is seen whole; and afterwards everything is seen again.

use std::net::UdpSocket;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::clock::now;
use tracer_tests::trace::json::{Flow, Packet, Stage, Trace, Verdict};
use tracer_tests::trace::process::{self, Running, wait_until};

use super::flood::Exchange;

/// The servers' ports.
const FLOODED: u16 = 29_800;
const FULL: u16 = 29_801;
const TOLD: u16 = 29_802;
/// More than a socket has room for.
const FILLING: u64 = 4000;
/// How many come to the full socket while others are let go.
const REFUSED: u64 = 8;

/// Takes what comes to a socket, so that it never has no room, until this is dropped.
struct Reader {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn of(server: UdpSocket) -> anyhow::Result<Self> {
        server.set_read_timeout(Some(Duration::from_millis(20)))?;
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 64];
            while !ends.load(Ordering::Relaxed) {
                let _ = server.recv(&mut buffer);
            }
        });
        Ok(Self {
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What is let go, as it was told last.
fn told(watch: &Running) -> anyhow::Result<Option<u32>> {
    let output = watch.output();
    let of_stats = |line: &&str| line.starts_with("{\"type\":\"stats\"");
    let Some(line) = output.lines().rev().find(of_stats) else {
        return Ok(None);
    };
    let trace = Trace::read([line])?;
    let shedding = trace.totals()?.shedding;
    Ok(shedding.map(|shedding| shedding.one_in.unwrap_or(0)))
}

/// The packets that were shown after packets began to be let go, and before none was any more.
fn while_shedding(output: &str) -> anyhow::Result<Vec<Packet>> {
    let begins = |line: &&str| line.contains("\"shedding\":{");
    let from = output.lines().position(|line| begins(&line));
    let lines = output.lines().skip(from.context("nothing was let go")?);
    let until = |line: &&str| !line.contains("\"shedding\":null");
    Ok(Trace::read(lines.take_while(until))?.packets)
}

#[test]
fn a_flood_beyond_the_budget_is_sampled_and_all_is_seen_again_after_it() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let (flooded, full) = (Exchange::new(&lab, FLOODED)?, Exchange::new(&lab, FULL)?);
    flooded.arrives()?;
    full.send(FILLING)?;
    let reader = Reader::of(flooded.server()?)?;
    // What holds where a packet is dropped: of a flow of which nothing was chosen yet, nothing else is known.
    let filter = format!("udp portrange {FLOODED}-{FULL}");
    let words = ["--json", "--max-overhead", "2000/s", "--ring-size", "64M"];
    let watch = Running::watch(words.into_iter().chain([filter.as_str()]))?;
    // It is let go, and goes on.
    wait_until(|| {
        flooded.send(400)?;
        Ok(told(&watch)?
            .is_none()
            .then(|| "nothing is let go".to_owned()))
    })?;
    for _ in 0..20 {
        flooded.send(400)?;
        thread::sleep(Duration::from_millis(5));
    }
    let begin = now();
    full.send(REFUSED)?;
    // Then it ends, and everything is seen again.
    wait_until(|| Ok(told(&watch)?.map(|one_in| format!("1 in {one_in} is still seen"))))?;
    let refused = begin..now();
    full.send(1)?;
    let last = format!("\"{}\"", full.address()?);
    let whole = |line: &str| line.contains(&last) && line.contains("device.queue");
    wait_until(|| {
        full.send(1)?;
        let output = watch.output();
        let newest = output.lines().rev().take(50).any(whole);
        Ok((!newest).then(|| "what comes afterwards is not seen".to_owned()))
    })?;
    let output = watch.output();
    let trace = watch.stop()?;
    drop(reader);
    judge(&trace, &output, (&flooded, &full), refused)?;
    lab.down()
}

/// `refused` is when nothing but [`REFUSED`] came to the full socket.
fn judge(
    trace: &Trace,
    output: &str,
    (flooded, full): (&Exchange, &Exchange),
    refused: Range<u64>,
) -> anyhow::Result<()> {
    let totals = trace.totals()?;
    ensure!(totals.shed > 0 && totals.lost == 0, "{totals:?}");
    ensure!(totals.emitted == totals.matched, "{totals:?}");
    ensure!(totals.shedding.is_none(), "{totals:?}");
    for hook in &totals.hooks {
        ensure!(hook.shed + hook.matched <= hook.seen, "{hook:?}");
        ensure!(hook.hook != "drop" || hook.shed == 0, "{hook:?}");
    }
    let flooded = trace.flow("udp", flooded.address()?)?;
    ensure!(flooded.sampled, "{flooded:?}");
    ensure!(flooded.holes == 0, "what is let go is no hole: {flooded:?}");
    // Where nothing but its drops is seen of a flow, nobody knows that it is the one that is seen whole later.
    let client = full.address()?;
    let full = trace.flows.iter().filter(|flow| flow.client.addr == client);
    let full: Vec<&Flow> = full.collect();
    ensure!(full.iter().any(|flow| flow.sampled), "{full:?}");
    let of_full = |packet: &&Packet| full.iter().any(|flow| flow.id == packet.flow);
    let dropped = trace.packets.iter().filter(of_full);
    let dropped = dropped
        .filter(|packet| packet.verdict == Verdict::Dropped && refused.contains(&packet.began()))
        .count();
    ensure!(dropped as u64 >= REFUSED, "{dropped} drops: {full:?}");
    // What is chosen is seen from its first hop to its last; but for what was under way at a change. Of
    // what the reader was too slow for, the drop is seen, chosen or not.
    let packets = while_shedding(output)?;
    let sampled = packets
        .iter()
        .filter(|packet| packet.flow == flooded.id && packet.verdict != Verdict::Dropped);
    let is_whole = |packet: &&Packet| {
        let stages = |at: Option<&tracer_tests::trace::json::Hop>| at.map(|hop| hop.stage);
        stages(packet.hops.first()) == Some(Stage::Queue)
            && stages(packet.hops.last()) == Some(Stage::Socket)
    };
    let (whole, cut): (Vec<&Packet>, Vec<&Packet>) = sampled.partition(is_whole);
    eprintln!("{} packets whole, {} cut", whole.len(), cut.len());
    ensure!(!whole.is_empty(), "none of the flood is seen");
    ensure!(cut.len() * 20 <= whole.len() + 60, "{cut:?}");
    Ok(())
}

#[test]
fn people_are_told_that_a_budget_is_kept() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let exchange = Exchange::new(&lab, TOLD)?;
    let reader = Reader::of(exchange.server()?)?;
    let filter = format!("netns {} and udp port {TOLD}", lab.netns("a1"));
    // So little that looking for it is too much.
    let words = [
        "watch",
        "--summary",
        "--color=never",
        "--max-overhead=0.001%",
    ];
    let mut watch = Running::start(process::command(
        words.into_iter().chain([filter.as_str()]),
    )?)?;
    watch.wait_for("tracer: watching")?;
    wait_until(|| {
        exchange.send(100)?;
        let told = watch.output().contains("to keep --max-overhead");
        Ok((!told).then(|| watch.output()))
    })?;
    let ended = watch.interrupt()?;
    drop(reader);
    ensure!(ended.status.success(), "{ended:?}");
    ensure!(
        ended.stdout.contains("passed a hook unseen"),
        "{}",
        ended.stdout
    );
    let flow = ended.stdout.lines().find(|line| line.starts_with("flow "));
    let flow = flow.context("no flow")?;
    ensure!(
        flow.split(':').next().is_some_and(|id| id.ends_with('~')),
        "{flow}"
    );
    lab.down()
}
