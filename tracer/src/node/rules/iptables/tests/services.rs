//! The Services that are read out of rules.

use std::net::SocketAddr;

use super::{super::RuleSet, fixtures};
use crate::node::{
    rules::{path::Source, subject::Family},
    services::{Frontend, Refusal, Service, TrafficPolicy},
};

fn services(fixture: &str) -> Vec<Service> {
    let family = if fixture.contains("ip6") {
        Family::V6
    } else {
        Family::V4
    };
    let rules = RuleSet::new(family, Source::IptablesNft, fixtures::tables(fixture));
    let mut services = rules.services().to_vec();
    services.sort_by_key(|service| (service.name.clone(), service.protocol));
    services
}

/// A service in a line.
fn line(service: &Service) -> String {
    let name = service.name.as_ref().map(ToString::to_string);
    let frontends = service.frontends.iter().map(|frontend| match frontend {
        Frontend::ClusterIp(address) => format!("cluster {address}"),
        Frontend::ExternalIp(address) => format!("external {address}"),
        Frontend::LoadBalancerIp(address) => format!("balancer {address}"),
        Frontend::NodePort(None, port) => format!("node {port}"),
        Frontend::NodePort(Some(ip), port) => format!("node {ip} {port}"),
    });
    let frontends: Vec<_> = frontends.collect();
    let endpoints = service.endpoints.iter().map(|endpoint| {
        let local = match endpoint.local {
            Some(true) => " here",
            Some(false) => " elsewhere",
            None => "",
        };
        format!("{}{local}", endpoint.address)
    });
    let endpoints: Vec<_> = endpoints.collect();
    let policy = |policy: Option<TrafficPolicy>| match policy {
        Some(TrafficPolicy::Cluster) => "cluster",
        Some(TrafficPolicy::Local) => "local",
        None => "-",
    };
    let mut line = format!(
        "{} {} [{}] -> [{}] in {} out {}",
        name.unwrap_or_default(),
        service.protocol,
        frontends.join(", "),
        endpoints.join(", "),
        policy(service.internal_policy),
        policy(service.external_policy),
    );
    if let Some(seconds) = service.affinity {
        line += &format!(" sticky {seconds}");
    }
    for (frontend, refusal) in &service.refusals {
        let why = match refusal {
            Refusal::NoEndpoints => "none",
            Refusal::NoLocalEndpoints => "none here",
        };
        line += &format!(" {why} at {frontend:?}");
    }
    line
}

const RECORDED: [&str; 6] = [
    "default/ghost:http 6 [cluster 10.96.0.82:80] -> [] in - out - none at ClusterIp(10.96.0.82:80)",
    "default/local-only:http 6 [cluster 10.96.0.84:80, node 30084] -> [10.244.2.2:8080 elsewhere] in cluster out local none here at NodePort(None, 30084)",
    "default/nginx-service:http 6 [cluster 10.96.0.80:80, node 30080] -> [10.244.1.3:8080, 10.244.2.2:8080] in cluster out cluster",
    "default/solo 6 [cluster 10.96.0.81:80] -> [10.244.1.3:8080] in cluster out -",
    "default/sticky:http 6 [cluster 10.96.0.83:80] -> [10.244.1.3:8080, 10.244.2.2:8080] in cluster out - sticky 10800",
    "kube-system/kube-dns:dns 17 [cluster 10.96.0.10:53] -> [10.244.1.3:5353] in cluster out -",
];

/// In all versions and back ends, with and without comments at the endpoints.
#[test]
fn a_real_kube_proxys_services_are_found() {
    for fixture in [
        "1.30-iptables-nft",
        "1.36-iptables-nft",
        "1.36-iptables-legacy",
        "large-cluster-iptables-nft",
        "large-cluster-iptables-legacy",
    ] {
        let lines: Vec<_> = services(fixture).iter().map(line).collect();
        assert_eq!(lines, RECORDED, "{fixture}");
    }
    assert!(services("no-rules-iptables-nft").is_empty());
}

#[test]
fn all_kinds_of_frontends_and_policies_are_found() {
    let expected = [
        "shop/cache:redis 6 [cluster 10.96.1.3:6379] -> [10.244.1.10:6379 here] in local out -",
        "shop/empty:http 6 [cluster 10.96.1.5:80, external 203.0.113.7:80, node 30080] -> [] in - out - none at ClusterIp(10.96.1.5:80) none at ExternalIp(203.0.113.7:80) none at NodePort(None, 30080)",
        "shop/front:https 6 [cluster 10.96.1.1:443, external 203.0.113.7:443, balancer 198.51.100.9:443, node 30443] -> [10.244.1.5:8443, 10.244.2.6:8443, 10.244.3.7:8443] in cluster out cluster",
        "shop/plain 132 [cluster 10.96.1.6:9000] -> [10.244.2.12:9000] in cluster out -",
        "shop/remote:redis 6 [cluster 10.96.1.4:6379] -> [] in local out - none here at ClusterIp(10.96.1.4:6379)",
        "shop/voice:sip 17 [cluster 10.96.1.2:5060, balancer 198.51.100.9:5060, node 30506] -> [10.244.1.8:5060 here, 10.244.2.9:5060 elsewhere] in cluster out local sticky 10800",
    ];
    let lines: Vec<_> = services("frontends-iptables-nft")
        .iter()
        .map(line)
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn ipv6_is_the_same_with_other_addresses() {
    let four = services("frontends-iptables-nft");
    for fixture in ["frontends-ip6tables-nft", "frontends-ip6tables-legacy"] {
        let six = services(fixture);
        let shape = |services: &[Service]| -> Vec<_> {
            let shape = services.iter().map(|service| {
                let policies = (service.internal_policy, service.external_policy);
                (
                    service.name.clone(),
                    service.frontends.len(),
                    service.endpoints.len(),
                    service.affinity,
                    policies,
                    service.refusals.len(),
                )
            });
            shape.collect()
        };
        assert_eq!(shape(&six), shape(&four), "{fixture}");
        let front = six.iter().find(|service| service.endpoints.len() == 3);
        let third: SocketAddr = "[fd00:10:244:3::7]:8443".parse().unwrap();
        assert_eq!(front.unwrap().endpoints[2].address, third);
    }
}
