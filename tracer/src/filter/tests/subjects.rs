//! Hops to judge: those of the documentation's connection through a ClusterIP.

use std::{collections::BTreeMap, net::IpAddr};

use tracer_common::address::{Address, from_bytes, from_ipv4};

use crate::filter::{Filter, ResolvedFilter, Subject};

pub(super) const POD: u32 = 4_026_532_001;
pub(super) const NODE: u32 = 4_026_531_840;
pub(super) const BACKEND: u32 = 4_026_532_002;

pub(super) fn address(text: &str) -> Address {
    match text.parse().unwrap() {
        IpAddr::V4(ip) => from_ipv4(ip.octets()),
        IpAddr::V6(ip) => from_bytes(ip.octets()),
    }
}

pub(super) fn device(name: &str) -> [u64; 2] {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    from_bytes(bytes)
}

/// A TCP hop.
pub(super) fn hop(
    (source, source_port): (&str, u16),
    (destination, destination_port): (&str, u16),
    netns: u32,
    dev: &str,
) -> Subject {
    Subject {
        source: address(source),
        destination: address(destination),
        device_name: device(dev),
        cgroup: 0,
        netns,
        source_port,
        destination_port,
        protocol: 6,
        ip_version: if source.contains(':') { 6 } else { 4 },
    }
}

/// A SYN to a ClusterIP and its answer, at every device they pass.
pub(super) fn through_cluster_ip() -> Vec<Subject> {
    let client = ("10.244.0.2", 40_000);
    let service = ("10.96.0.10", 80);
    let server = ("10.244.0.3", 8080);
    vec![
        hop(client, service, POD, "eth0"),
        hop(client, service, NODE, "vethc"),
        hop(client, service, NODE, "cni0"),
        hop(client, server, NODE, "cni0"),
        hop(client, server, NODE, "veths"),
        hop(client, server, BACKEND, "eth0"),
        hop(server, client, BACKEND, "eth0"),
        hop(server, client, NODE, "veths"),
        hop(server, client, NODE, "cni0"),
        hop(service, client, NODE, "cni0"),
        hop(service, client, NODE, "vethc"),
        hop(service, client, POD, "eth0"),
    ]
}

pub(super) fn namespaces() -> BTreeMap<String, Vec<u32>> {
    BTreeMap::from([
        ("pod".to_owned(), vec![POD]),
        ("host".to_owned(), vec![NODE]),
        ("backend".to_owned(), vec![BACKEND]),
        ("pods".to_owned(), vec![POD, BACKEND]),
    ])
}

pub(super) fn resolved(text: &str) -> ResolvedFilter {
    Filter::parse(text)
        .unwrap_or_else(|error| panic!("{error}"))
        .resolve(&namespaces())
        .unwrap_or_else(|error| panic!("{error}"))
}
