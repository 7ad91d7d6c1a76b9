//! Where the kernel is to look for a Service's flows.
//!
//! Whether a flow is a Service's is said by the rules of its time, which the kernel does not know. But
//! every flow of a Service has hops at which its packets go to where the Service is called, or come
//! from there: before its destination is translated, and where that is undone for the answer.

use std::{collections::BTreeMap, net::IpAddr};

use tracer_common::filter as terms;

use super::{
    expression::{Direction, Network},
    normal::Node,
    service::Front,
    term::{port, within},
};

/// What holds at some hop of every flow that calls one of these; `None` where there is none.
///
/// Addresses that are called by the same ports share the tests of these.
pub(super) fn at_fronts(fronts: &[Front]) -> Option<Node> {
    let mut by_address: BTreeMap<Option<IpAddr>, Vec<(u8, u16)>> = BTreeMap::new();
    for front in fronts {
        let ports = by_address.entry(front.address).or_default();
        ports.push((front.protocol, front.port));
    }
    let mut by_ports: BTreeMap<Vec<(u8, u16)>, Vec<Option<IpAddr>>> = BTreeMap::new();
    for (address, mut ports) in by_address {
        ports.sort_unstable();
        ports.dedup();
        by_ports.entry(ports).or_default().push(address);
    }
    let called = by_ports.into_iter().map(|(ports, addresses)| {
        // Any address does: the others add nothing.
        let anywhere = addresses.contains(&None);
        let hosts = addresses.into_iter().flatten().map(host).collect();
        let mut demands = vec![at_ports(&ports)];
        if !anywhere {
            demands.insert(0, Node::any(hosts));
        }
        Node::all(demands)
    });
    let called: Vec<Node> = called.collect();
    (!called.is_empty()).then(|| Node::any(called))
}

fn at_ports(ports: &[(u8, u16)]) -> Node {
    let mut by_protocol: BTreeMap<u8, Vec<Node>> = BTreeMap::new();
    for &(protocol, number) in ports {
        let term = port(Direction::Either, number, number);
        by_protocol
            .entry(protocol)
            .or_default()
            .push(Node::Here(term));
    }
    let alternatives = by_protocol.into_iter().map(|(protocol, ports)| {
        let protocol = Node::constant(terms::PROTOCOL, u16::from(protocol), false);
        Node::all(vec![protocol, Node::any(ports)])
    });
    Node::any(alternatives.collect())
}

fn host(ip: IpAddr) -> Node {
    Node::Here(within(Direction::Either, Network::host(ip)))
}
