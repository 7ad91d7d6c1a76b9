//! On the real kernel: needs root.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use tracer_common::{
    address, filter, hook,
    record::{FLAG_HAS_NETFILTER, VERDICT_ACCEPTED},
};

use super::*;
use crate::{
    event::{Event, Record},
    node::{
        netns,
        testing::{Named, root, run, wait_until},
    },
    source::{Loss, Statistics},
};

/// Longer than anything takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Two namespaces and a wire between them.
struct Pair {
    client: Named,
    server: Named,
    addresses: [Ipv4Addr; 2],
}

impl Pair {
    /// `number` keeps the tests of one process apart.
    fn new(number: u8) -> Self {
        let client = Named::new(&format!("c{number}"));
        let server = Named::new(&format!("s{number}"));
        let [high, low, ..] = std::process::id().to_be_bytes()[2..] else {
            unreachable!()
        };
        let address = |end| Ipv4Addr::new(198, 18 + (number & 1), high, low ^ number << 1 | end);
        let [a, b] = [low_even(address(0)), low_odd(address(1))];
        let (to, from) = (&client.name, &server.name);
        assert!(run(&format!(
            "ip link add e0 netns {to} type veth peer name e0 netns {from}"
        )));
        for (netns, own) in [(&client, a), (&server, b)] {
            netns.ip("link set lo up");
            netns.ip("link set e0 up");
            netns.ip(&format!("address add {own}/31 dev e0"));
        }
        Self {
            client,
            server,
            addresses: [a, b],
        }
    }

    fn path(netns: &Named) -> PathBuf {
        PathBuf::from(format!("/run/netns/{}", netns.name))
    }

    /// A request and an answer over TCP.
    fn talk(&self) {
        let server = (self.addresses[1], 8080);
        let listener = netns::in_netns_at(&Self::path(&self.server), || {
            TcpListener::bind(server).unwrap()
        })
        .unwrap();
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"pong").unwrap();
        });
        netns::in_netns_at(&Self::path(&self.client), || {
            let mut stream = TcpStream::connect(server).unwrap();
            stream.write_all(b"ping").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"pong");
        })
        .unwrap();
        serving.join().unwrap();
    }

    /// What the client sends and gets.
    fn filter(&self) -> Program {
        let mut program = Program {
            count: 1,
            ..Program::default()
        };
        program.terms[0] = filter::Term {
            kind: filter::HOST_EITHER,
            value: address::from_ipv4(self.addresses[0].octets()),
            mask: [u64::MAX; 2],
            on_true: filter::ACCEPT,
            on_false: filter::REJECT,
            ..filter::Term::default()
        };
        program
    }
}

fn low_even(a: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(a) & !1)
}

fn low_odd(a: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(a) | 1)
}

fn start(filter: &Program) -> Live {
    let options = Options {
        filter,
        sizes: Sizes::default(),
    };
    Live::start(options, Node::watch().unwrap()).unwrap()
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
