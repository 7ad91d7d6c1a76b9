//! Whose the sockets at a flow's ends are.

use super::{
    walk::{CLIENT, SERVER},
    *,
};
use crate::event::Record;

fn process(pid: u32, comm: &str) -> Process {
    Process {
        pid,
        comm: comm.to_owned(),
        cgroup: 7,
    }
}

/// The records of a packet whose sender's socket has that cookie.
fn sent_by(cookie: u64, mut records: Vec<Record>) -> Vec<Record> {
    if let Some(Record::Event(first)) = records.first_mut() {
        first.record.detail = cookie;
    }
    records
}

fn processes(journeys: &Journeys) -> [Option<u32>; 2] {
    let flows = journeys.flows();
    let [flow] = &flows[..] else {
        panic!("{flows:?}")
    };
    [&flow.client_process, &flow.backend_process].map(|process| Some(process.as_ref()?.pid))
}

fn ends(netns: u32, local: Endpoint, remote: Endpoint) -> Ends {
    Ends {
        netns: NetnsId(netns),
        protocol: 6,
        local,
        remote,
    }
}

#[test]
fn a_packet_is_of_the_process_that_made_its_socket() {
    let mut journeys = engine();
    let mut walk = Walk::new();
    journeys.socket_made(5, process(100, "curl"));
    journeys.socket_made(6, process(200, "server"));
    let mut records = sent_by(5, request(&mut walk, SYN, 1));
    records.extend(sent_by(6, reply(&mut walk, SYN_ACK, 100)));
    // Whatever sends for the flow later, its process is that of its first packet.
    records.extend(sent_by(6, request(&mut walk, ACK, 2)));
    run(&mut journeys, &records);
    assert_eq!(processes(&journeys), [Some(100), Some(200)]);
    let asked = journeys.take_sockets();
    // The server had sent nothing yet when the request came to its socket.
    assert_eq!(asked, [ends(SERVER, backend(), client())]);
}

#[test]
fn what_is_not_known_is_asked_for_once_and_answered_later() {
    let mut journeys = engine();
    let mut walk = Walk::new();
    let mut records = sent_by(9, request(&mut walk, SYN, 1));
    records.extend(reply(&mut walk, SYN_ACK, 100));
    records.extend(request(&mut walk, ACK, 2));
    run(&mut journeys, &records);
    assert_eq!(processes(&journeys), [None, None], "a cookie of nobody's");
    let client_ends = ends(CLIENT, client(), service());
    let server_ends = ends(SERVER, backend(), client());
    assert_eq!(journeys.take_sockets(), [client_ends, server_ends]);
    assert!(journeys.take_sockets().is_empty());
    journeys.socket_held(&server_ends, process(200, "server"));
    assert_eq!(processes(&journeys), [None, Some(200)]);
    journeys.socket_held(&client_ends, process(100, "curl"));
    // The first answer stands, and one about nothing that is known says nothing.
    journeys.socket_held(&client_ends, process(101, "other"));
    journeys.socket_held(&ends(NODE, client(), service()), process(102, "other"));
    assert_eq!(processes(&journeys), [Some(100), Some(200)]);
}

#[test]
fn only_who_begins_a_packet_sends_it() {
    let mut journeys = engine();
    let mut walk = Walk::new();
    journeys.socket_made(5, process(100, "other"));
    let mut records = request(&mut walk, SYN, 1);
    // A later hop's socket: at a netfilter hook a receiver's, below a tunnel the tunnel's.
    for record in records.iter_mut().skip(1) {
        if let Record::Event(event) = record {
            event.record.detail = 5;
        }
    }
    run(&mut journeys, &records);
    assert_eq!(processes(&journeys), [None, None]);
}

#[test]
fn few_sockets_and_questions_are_kept() {
    let mut journeys = engine();
    for cookie in 1..=100_000 {
        journeys.socket_made(cookie, process(1, "x"));
        // Told again, it is still one.
        journeys.socket_made(cookie, process(2, "x"));
    }
    let mut walk = Walk::new();
    run(&mut journeys, &sent_by(1, request(&mut walk, SYN, 1)));
    assert_eq!(processes(&journeys), [None, None], "forgotten");
    let mut journeys = engine();
    journeys.socket_made(1, process(2, "x"));
    run(&mut journeys, &sent_by(1, request(&mut walk, SYN, 1)));
    assert_eq!(processes(&journeys), [Some(2), None]);
    for port in 0..5000 {
        walk.begin(endpoint("10.244.0.2", port), service(), SYN, 1);
        walk.pod_to_bridge(CLIENT, "veth-a", 11);
        let records = walk.take();
        run(&mut journeys, &records);
    }
    assert!(journeys.take_sockets().len() <= 1024);
}
