//! The filter set anew while it traces: from one that takes glances at packets to one that does not, and back.
//!
//! What a CPU remembers of a glance must not outlive the filter that it was taken by, and a flow that is
//! followed stays followed under any filter.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;
use crate::{
    filter::Filter,
    node::{netns, testing::Named},
};

/// Questions with their answers between two changes of the filter.
const EACH: usize = 20;

/// A filter that takes glances, by which the pair's packets are nobody's.
fn others() -> Program {
    let filter = Filter::parse("host 192.0.2.1 and udp port 7").unwrap();
    let names = BTreeMap::<String, Vec<u32>>::new();
    let program = filter.resolve(&names).unwrap().compile().program;
    assert!(program.glancing != 0, "it takes none");
    program
}

/// One that takes none, by which all of them match.
fn closely(pair: &Pair) -> Program {
    let program = pair.filter();
    assert!(program.glancing == 0, "it takes some");
    program
}

/// Two sockets, with one question at a time between them.
struct Exchange {
    client: UdpSocket,
    server: UdpSocket,
}

impl Exchange {
    fn new(pair: &Pair, port: u16) -> Self {
        let bound = |netns: &Named, address| {
            let path = format!("/run/netns/{}", netns.name);
            let bind = || UdpSocket::bind((address, port)).unwrap();
            netns::in_netns_at(path.as_ref(), bind).unwrap()
        };
        let exchange = Self {
            client: bound(&pair.client, pair.addresses[0]),
            server: bound(&pair.server, pair.addresses[1]),
        };
        for (socket, other) in [(&exchange.client, 1), (&exchange.server, 0)] {
            socket.connect((pair.addresses[other], port)).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
        }
        exchange
    }

    fn ask(&self, times: usize) {
        for _ in 0..times {
            for (from, to) in [(&self.client, &self.server), (&self.server, &self.client)] {
                from.send(b"datagram").unwrap();
                assert_eq!(to.recv(&mut [0; 16]).unwrap(), 8);
            }
        }
    }
}

/// How many events of that port a hook has had.
fn of(seen: &Seen, port: u16, hook: u8) -> usize {
    let events = seen.events.iter().map(|event| &event.record);
    let ports = |record: &tracer_common::record::Event| record.source_port == port;
    events
        .filter(|record| record.hook == hook && ports(record))
        .count()
}

/// Each packet of that port was seen at each hook, and nothing was lost.
fn all_seen(seen: &Seen, port: u16, packets: usize) {
    assert!(seen.losses().is_empty(), "{:?}", seen.losses());
    let hooks = [
        hook::DEVICE_QUEUE,
        hook::DEVICE_TRANSMIT,
        hook::DEVICE_RECEIVE,
        hook::SOCKET_DELIVER,
    ];
    let counts = hooks.map(|hook| of(seen, port, hook));
    assert_eq!(counts, [packets; 4], "of port {port}");
}

#[test]
fn no_glance_of_a_former_filter_lets_a_packet_go() {
    if !root() {
        return;
    }
    let pair = Pair::new(8);
    let (followed, later) = (Exchange::new(&pair, 7001), Exchange::new(&pair, 7002));
    runtime().block_on(async {
        let mut live = start(&others());
        let mut seen = Seen::default();
        // Every CPU that they come to remembers the last of them as nobody's.
        followed.ask(EACH);
        live.set_filter(&closely(&pair)).unwrap();
        followed.ask(EACH);
        // Followed by now: also by a filter that would let them go at the first glance.
        live.set_filter(&others()).unwrap();
        followed.ask(EACH);
        // Not followed: nothing of these is to be seen, beside the others.
        later.ask(EACH);
        followed.ask(EACH);
        live.set_filter(&closely(&pair)).unwrap();
        followed.ask(EACH);
        later.ask(EACH);
        seen.rest(&mut live).await;
        all_seen(&seen, 7001, 2 * 4 * EACH);
        all_seen(&seen, 7002, 2 * EACH);
    });
}

#[test]
fn a_followed_flow_is_whole_however_often_the_filter_changes() {
    if !root() {
        return;
    }
    let pair = Pair::new(9);
    let exchange = Exchange::new(&pair, 7003);
    let over = AtomicBool::new(false);
    runtime().block_on(async {
        let mut live = start(&closely(&pair));
        let mut seen = Seen::default();
        exchange.ask(1);
        let mut changes = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                exchange.ask(100 * EACH);
                over.store(true, Ordering::Relaxed);
            });
            while !over.load(Ordering::Relaxed) {
                live.set_filter(&others()).unwrap();
                live.set_filter(&closely(&pair)).unwrap();
                changes += 2;
            }
        });
        println!("{changes} changes");
        seen.rest(&mut live).await;
        all_seen(&seen, 7003, 2 * (1 + 100 * EACH));
    });
}
