//! On the real kernel: needs root.

mod anew;
mod pair;
mod remains;

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tracer_common::hook;

use super::*;
use crate::{
    event::{Event, Record},
    node::{
        pods::HostRoot,
        testing::{Named, root, wait_until},
    },
    privilege::Capability,
    source::Loss,
};
use pair::Pair;

/// Longer than anything takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn start(filter: &Program) -> Live {
    let node = Node::watch(HostRoot::default()).unwrap();
    Live::start(Options::of(filter), node).unwrap()
}

/// Everything up to the end.
#[derive(Default)]
struct Seen {
    notices: Vec<Notice>,
    events: Vec<Event>,
}

impl Seen {
    fn add(&mut self, batch: Batch) {
        self.notices.extend(batch.notices);
        let events = batch.records.into_iter().filter_map(|record| match record {
            Record::Event(event) => Some(event),
            Record::Conntrack(_) => None,
        });
        self.events.extend(events);
    }

    /// Reads until something was seen.
    async fn until(&mut self, live: &mut Live, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < LIMIT, "waited in vain: {what}");
            let next = tokio::time::timeout(LIMIT, live.next());
            self.add(next.await.unwrap().unwrap().unwrap());
        }
    }

    async fn rest(&mut self, live: &mut Live) {
        live.finish();
        while let Some(batch) = live.next().await.unwrap() {
            self.add(batch);
        }
    }

    fn at(&self, hook: u8) -> usize {
        let here = |event: &&Event| event.record.hook == hook;
        self.events.iter().filter(here).count()
    }

    fn attached(&self, netns: u32) -> bool {
        let this =
            |n: &Notice| matches!(n, Notice::NetfilterAttached { netns: n, .. } if *n == netns);
        self.notices.iter().any(this)
    }

    fn losses(&self) -> Vec<Loss> {
        let loss = |notice: &Notice| match notice {
            Notice::Loss(loss) => Some(*loss),
            _ => None,
        };
        self.notices.iter().filter_map(loss).collect()
    }

    fn statistics(&self) -> Statistics {
        let statistics = |notice: &Notice| match notice {
            Notice::Statistics(statistics) => Some(**statistics),
            _ => None,
        };
        self.notices.iter().rev().find_map(statistics).unwrap()
    }
}

#[test]
fn every_hop_of_a_connection_is_seen_and_counted() {
    if !root() {
        return;
    }
    let pair = Pair::new(1);
    runtime().block_on(async {
        let mut live = start(&pair.filter());
        println!("{:#?}", live.plan());
        pair.talk();
        let mut seen = Seen::default();
        seen.rest(&mut live).await;
        assert!(live.next().await.unwrap().is_none());
        let end = seen.statistics();
        assert_eq!(end.total.matched, end.total.emitted);
        assert_eq!(end.total.lost, 0);
        assert!(seen.losses().is_empty(), "{:?}", seen.losses());
        assert_eq!(end.total.emitted, u64::try_from(seen.events.len()).unwrap());
        // SYN, SYN-ACK, ACK, two with data, FINs: each is queued, sent and received.
        assert!(seen.at(hook::DEVICE_QUEUE) >= 7);
        assert_eq!(seen.at(hook::DEVICE_QUEUE), seen.at(hook::DEVICE_TRANSMIT));
        assert_eq!(seen.at(hook::DEVICE_QUEUE), seen.at(hook::DEVICE_RECEIVE));
        assert!(seen.at(hook::SOCKET_DELIVER) > 0);
        // Where a packet is freed, its device may be gone.
        let netns = [pair.client.inode(), pair.server.inode(), 0];
        for event in &seen.events {
            assert!(netns.contains(&event.record.netns), "{event:?}");
        }
    });
}

#[test]
fn a_namespace_that_gets_rules_while_tracing_gets_links() {
    if !root() {
        return;
    }
    let pair = Pair::new(2);
    runtime().block_on(async {
        let mut live = start(&pair.filter());
        let mut seen = Seen::default();
        pair.talk();
        seen.until(&mut live, "the first connection", |seen| {
            seen.at(hook::SOCKET_DELIVER) > 0
        })
        .await;
        assert_eq!(seen.at(hook::NETFILTER_ENTER), 0);
        if !pair.server.run("nft add table inet t") {
            return println!("skipped: nft does not work here");
        }
        let netns = pair.server.inode();
        seen.until(&mut live, "links in the server's namespace", |seen| {
            seen.attached(netns)
        })
        .await;
        pair.talk();
        seen.rest(&mut live).await;
        let (enter, leave) = (
            seen.at(hook::NETFILTER_ENTER),
            seen.at(hook::NETFILTER_LEAVE),
        );
        assert!(enter >= 7 * 2, "{enter}");
        assert_eq!(enter, leave);
        let at_netfilter = seen.events.iter().filter(|event| {
            [hook::NETFILTER_ENTER, hook::NETFILTER_LEAVE].contains(&event.record.hook)
        });
        assert!(at_netfilter.map(|e| e.record.netns).all(|n| n == netns));
        assert!(!seen.attached(pair.client.inode()));
    });
}

#[test]
fn rules_that_exist_before_are_covered_from_the_start() {
    if !root() {
        return;
    }
    let pair = Pair::new(3);
    if !pair.server.run("nft add table inet t") {
        return println!("skipped: nft does not work here");
    }
    runtime().block_on(async {
        let mut live = start(&pair.filter());
        pair.talk();
        let mut seen = Seen::default();
        seen.rest(&mut live).await;
        assert!(seen.attached(pair.server.inode()));
        let packets = seen.at(hook::DEVICE_QUEUE);
        // Each passes two hooks in the server's namespace.
        assert_eq!(seen.at(hook::NETFILTER_ENTER), packets * 2);
        assert_eq!(seen.at(hook::NETFILTER_LEAVE), packets * 2);
    });
}

#[test]
fn a_namespace_that_is_deleted_while_tracing_really_ends() {
    if !root() {
        return;
    }
    let Pair {
        client,
        server,
        addresses: _,
    } = Pair::new(4);
    if !server.run("nft add table inet t") {
        return println!("skipped: nft does not work here");
    }
    runtime().block_on(async {
        let mut live = start(&Program::default());
        let netns = server.inode();
        let mut seen = Seen::default();
        seen.until(&mut live, "links", |seen| seen.attached(netns)).await;
        server.delete();
        let detached = |notice: &Notice| {
            matches!(notice, Notice::NetfilterDetached { netns: n, .. } if *n == netns)
        };
        seen.until(&mut live, "the end of the links", |seen| {
            seen.notices.iter().any(detached)
        })
        .await;
        // With a namespace its devices end, and with them the other ends of its veths.
        wait_until("the wire's other end is gone", || {
            !client.run("ip link show e0")
        });
        live.finish();
    });
}

#[test]
fn what_the_ring_cannot_take_is_accounted_for() {
    if !root() {
        return;
    }
    let pair = Pair::new(5);
    runtime().block_on(async {
        let sizes = Sizes {
            ring: *load::RING_RANGE.start(),
            ..Sizes::default()
        };
        let filter = &pair.filter();
        let mut live = Live::start(
            Options {
                sizes,
                ..Options::of(filter)
            },
            Node::watch(HostRoot::default()).unwrap(),
        )
        .unwrap();
        pair.flood();
        let mut seen = Seen::default();
        seen.rest(&mut live).await;
        let end = seen.statistics();
        assert!(end.total.lost > 0, "{end:?}");
        assert_eq!(end.total.matched, end.total.emitted + end.total.lost);
        assert_eq!(end.total.emitted, u64::try_from(seen.events.len()).unwrap());
        let reported: u64 = seen.losses().iter().map(|loss| loss.records).sum();
        assert_eq!(reported, end.total.lost + end.tuples_lost);
        for (hook, counts) in end.hooks.iter().enumerate() {
            let sum = counts.emitted + counts.lost;
            assert_eq!(counts.matched, sum, "{}", hook::NAMES[hook]);
        }
    });
}

#[test]
fn the_filter_can_be_replaced() {
    if !root() {
        return;
    }
    let (pair, other) = (Pair::new(6), Pair::new(7));
    runtime().block_on(async {
        let mut live = start(&other.filter());
        pair.talk();
        live.set_filter(&pair.filter()).unwrap();
        let mut seen = Seen::default();
        pair.talk();
        seen.rest(&mut live).await;
        let listeners = seen.events.iter().filter(|e| e.record.tcp_flags == 2);
        let queued = listeners.filter(|e| e.record.hook == hook::DEVICE_QUEUE);
        assert_eq!(queued.count(), 1, "one SYN, of the second connection");
    });
}

#[test]
fn sizes_out_of_range_are_refused_with_the_range() {
    let sizes = Sizes {
        ring: 100_000,
        ..Sizes::default()
    };
    let error = check(sizes).unwrap_err();
    assert!(error.to_string().contains("64 KiB"), "{error}");
}

#[test]
fn without_a_runtime_it_is_an_error() {
    if !root() {
        return;
    }
    let (everything, node) = (
        Program::default(),
        Node::watch(HostRoot::default()).unwrap(),
    );
    let error = Live::start(Options::of(&everything), node).unwrap_err();
    assert!(matches!(error, StartError::System(_)), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    let error = StartError::Privilege {
        missing: vec![Capability::Bpf, Capability::Perfmon],
        on_node: true,
    };
    assert_eq!(
        error.to_string(),
        "tracing needs CAP_BPF (to load BPF programs), CAP_PERFMON (to attach to \
         tracepoints); run it as root, or give the process these capabilities"
    );
    let error = StartError::Privilege {
        missing: Vec::new(),
        on_node: false,
    };
    assert_eq!(
        error.to_string(),
        "tracing needs the privileges of the node itself; run it as root of the node, not of a \
         user namespace (in a container: privileged, without user namespaces)"
    );
}
