//! Two nodes recorded separately and shown together.
//!
//! Both nodes of the lab are on one kernel, so they are recorded at once and the recording is split: what
//! was seen in the namespaces of a node and of its pods is that node's. Each half is made what it would be
//! on a node of its own: another host and boot, its own clock, which is set wrong on purpose, buffers at
//! addresses of its own, and an uplink that leads out of the node. The switch between them is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tracer::event::Record;
use tracer::node::snapshot::{Contents, Snapshot};
use tracer::source::{Batch, Notice};
use tracer::trace::{Entry, Reader, Writer};
use tracer_common::hook;
use tracer_common::record::FLAG_PHYSICAL;
use tracer_tests::lab::{Config, Fabric, Lab};
use tracer_tests::trace::json::{Packet, Trace, Verdict};
use tracer_tests::trace::process::{Ended, Running, command, whole_lab};

/// By how much the second node's clock is set wrong, in nanoseconds.
const AHEAD: u64 = 3_700_000_000;

/// A node's half of a recording.
struct Half<'a> {
    lab: &'a Lab,
    node: &'a str,
    ahead: u64,
    /// The namespaces that are its own, and its own network's.
    inodes: BTreeSet<u32>,
    host: u32,
}

impl<'a> Half<'a> {
    fn new(lab: &'a Lab, node: &'a str, ahead: u64) -> Self {
        let (inodes, host) = (BTreeSet::new(), 0);
        Self {
            lab,
            node,
            ahead,
            inodes,
            host,
        }
    }

    /// What the node would know of itself.
    fn known(&mut self, all: &Snapshot) -> Snapshot {
        let host = &self.lab.node(self.node).netns;
        let pods = self.lab.pods().iter().filter(|pod| pod.node == self.node);
        let names: BTreeSet<&String> = pods.map(|pod| &pod.netns).chain([host]).collect();
        let contents = all.contents().clone();
        let mut namespaces = contents.namespaces;
        namespaces.retain(|namespace| namespace.names.iter().any(|name| names.contains(name)));
        for namespace in &mut namespaces {
            self.inodes.insert(namespace.inode);
            if namespace.names.contains(host) {
                self.host = namespace.inode;
            }
            namespace.since += self.ahead;
            namespace.rules.on_clock(|time| time + self.ahead);
        }
        Snapshot::from(Contents {
            namespaces,
            ..Contents::default()
        })
    }

    /// The record as this node's kernel would have given it; `None` where it saw nothing of it.
    fn record(&self, record: &Record) -> Option<Record> {
        let mut record = *record;
        match &mut record {
            Record::Event(event) => {
                let event = &mut event.record;
                self.inodes.contains(&event.netns).then_some(())?;
                event.time += self.ahead;
                event.skb ^= self.ahead << 8;
                let uplink = event.device_name[0].to_ne_bytes().starts_with(b"eth0\0");
                let device = matches!(event.hook, hook::DEVICE_TRANSMIT | hook::DEVICE_RECEIVE);
                if event.netns == self.host && uplink && device {
                    event.flags |= FLAG_PHYSICAL;
                }
            }
            Record::Conntrack(tuples) => {
                self.inodes.contains(&tuples.netns).then_some(())?;
                tuples.time += self.ahead;
            }
        }
        Some(record)
    }

    fn notice(&self, notice: &Notice) -> Option<Notice> {
        Some(match *notice {
            Notice::Began { time } => Notice::Began {
                time: time + self.ahead,
            },
            Notice::NetfilterEverywhere { time } => Notice::NetfilterEverywhere {
                time: time + self.ahead,
            },
            Notice::NetfilterAttached { netns, time } if self.inodes.contains(&netns) => {
                Notice::NetfilterAttached {
                    netns,
                    time: time + self.ahead,
                }
            }
            _ => return None,
        })
    }

    fn write(mut self, whole: &Path, to: &Path) -> anyhow::Result<()> {
        let mut reader = Reader::open(BufReader::new(File::open(whole)?))?;
        let mut about = reader.about().clone();
        about.clock.monotonic += self.ahead;
        about.filter = String::new();
        for name in [&mut about.host, &mut about.boot, &mut about.recording] {
            self.node.clone_into(name);
        }
        let mut writer = Writer::new(File::create(to)?, &about)?;
        while let Some(entries) = reader.next_part()? {
            for entry in entries {
                let mut batch = Batch::default();
                match entry {
                    Entry::Node(node) => writer.node(&self.known(&node))?,
                    Entry::Records(all) => {
                        batch.records = all.iter().filter_map(|it| self.record(it)).collect();
                    }
                    Entry::Notice(notice) => batch.notices.extend(self.notice(&notice)),
                    Entry::Clock(now) => writer.clock(now + self.ahead)?,
                    Entry::Location { address, function } => writer.location(address, &function)?,
                    Entry::Damage(damage) => anyhow::bail!("{damage}"),
                }
                writer.batch(&batch)?;
            }
        }
        Ok(writer.finish()?)
    }
}

/// Calls from the first node's pod to the second's, recorded as by each node.
fn halves(lab: &Lab, directory: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let whole = directory.join("whole");
    let mut record = command(["record", "-o"])?;
    record.arg(&whole).arg(whole_lab(lab));
    let mut running = Running::start(record)?;
    running.wait_for("tracer: recording")?;
    let url = format!("http://{}/", lab.service("web-node2").cluster_ip);
    for _ in 0..3 {
        lab.run(lab.command("a1", "curl").args(["-sS", &url]))?;
    }
    let ended = running.interrupt()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let files = ["node1", "node2"].map(|node| directory.join(node));
    Half::new(lab, "node1", 0).write(&whole, &files[0])?;
    Half::new(lab, "node2", AHEAD).write(&whole, &files[1])?;
    Ok(files)
}

fn replayed(files: &[PathBuf]) -> anyhow::Result<(Ended, Trace)> {
    let ended: Ended = command(["replay", "--json"])?
        .args(files)
        .output()?
        .try_into()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let trace = ended.trace()?;
    Ok((ended, trace))
}

/// The nodes that a packet passed, in order, by the names of its hops.
fn nodes(packet: &Packet) -> Vec<&str> {
    let names = packet.hops.iter().filter_map(|hop| hop.netns.as_deref());
    let mut nodes: Vec<&str> = names
        .filter_map(|name| Some(name.split_once('/')?.0))
        .collect();
    nodes.dedup();
    nodes
}

fn one_journey_across(fabric: Fabric) -> anyhow::Result<()> {
    let lab = Lab::up(&Config {
        fabric,
        ..Config::default()
    })?;
    let directory = tempfile::tempdir()?;
    let files = halves(&lab, directory.path())?;
    let (ended, trace) = replayed(&files)?;

    let clock = trace.stats.last().and_then(|stats| stats.clocks.first());
    let clock = clock.context("no clock")?;
    let error = clock.error_ns.context("no bound")?;
    // Both ways through the switch take about equally long: the bound holds.
    let off = clock.ahead_ns.abs_diff(i64::try_from(AHEAD)?);
    ensure!(off <= error && error < 50_000_000, "{clock:?}");
    ensure!(clock.node == "node2" && clock.packets.there > 3 && clock.packets.back > 3);
    ensure!(
        ended.stderr.contains("node2's clock is 3."),
        "{}",
        ended.stderr
    );

    let service = lab.service("web-node2").cluster_ip;
    let flows = trace.flows.iter();
    let calls = flows.filter(|flow| flow.destination.addr.ip() == service);
    let ids: BTreeSet<u64> = calls.clone().map(|flow| flow.id).collect();
    ensure!(ids.len() == 3, "{} flows", ids.len());
    for flow in calls {
        let backend = flow.backend.as_ref().and_then(|party| party.netns.clone());
        let expected = format!("node2/{}", lab.netns("b2"));
        ensure!(backend.as_deref() == Some(&expected), "{backend:?}");
        let client = flow.client.netns.clone();
        ensure!(
            client == Some(format!("node1/{}", lab.netns("a1"))),
            "{client:?}"
        );
    }
    let mut ways: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    for packet in trace
        .packets
        .iter()
        .filter(|packet| ids.contains(&packet.flow))
    {
        ensure!(packet.verdict == Verdict::Delivered, "{packet:?}");
        ensure!(
            packet.hops.iter().all(|hop| hop.hole.is_none()),
            "{packet:?}"
        );
        *ways.entry(nodes(packet)).or_default() += 1;
    }
    ensure!(ways.len() == 2, "{ways:?}");
    for way in [["node1", "node2"], ["node2", "node1"]] {
        ensure!(
            ways.get(&way[..]).is_some_and(|count| *count >= 9),
            "{ways:?}"
        );
    }
    lab.down()
}

#[test]
fn two_recordings_are_one_journey_across_vxlan() -> anyhow::Result<()> {
    needs_a_lab!();
    one_journey_across(Fabric::Vxlan)
}

#[test]
fn two_recordings_are_one_journey_across_the_wire() -> anyhow::Result<()> {
    needs_a_lab!();
    one_journey_across(Fabric::Routed)
}
