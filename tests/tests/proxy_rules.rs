//! The rules that the lab writes are kube-proxy's: for the Services of a recorded cluster, the
//! generators give the rules that a real kube-proxy 1.36 left there. Needs no root.
//!
//! What is normalised, besides layout (see `tracer_tests::ruleset`): the order of the rules in
//! KUBE-SERVICES and KUBE-NODEPORTS, for kube-proxy writes them in the random order of a Go map;
//! the last rule of nat's KUBE-SERVICES is checked on its own.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::Deserialize;
use tracer_tests::lab::Protocol;
use tracer_tests::lab::proxy::{self, Endpoint, Family, Node, ServicePort};
use tracer_tests::ruleset;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    ns: String,
    name: String,
    port: String,
    proto: Protocol,
    ip: IpAddr,
    sport: u16,
    node_port: Option<u16>,
    affinity: Option<u32>,
    #[serde(default)]
    ext_local: bool,
    eps: Vec<SocketAddr>,
}

fn fixture(name: &str) -> anyhow::Result<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kube-proxy");
    Ok(std::fs::read_to_string(directory.join(name))?)
}

/// The recorded cluster as kube-proxy on node1 saw it.
fn recorded() -> anyhow::Result<Node> {
    let services: Vec<Recorded> = serde_json::from_str(&fixture("services.json")?)?;
    let services = services.into_iter().map(|service| ServicePort {
        namespace: service.ns,
        name: service.name,
        port_name: service.port,
        protocol: service.proto,
        cluster_ip: service.ip,
        port: service.sport,
        node_port: service.node_port,
        external_local: service.ext_local,
        affinity: service.affinity,
        endpoints: service
            .eps
            .iter()
            .map(|address| Endpoint {
                ip: address.ip(),
                port: address.port(),
                local: address.ip().to_string().starts_with("10.244.1."),
            })
            .collect(),
    });
    Ok(Node {
        family: Family::Ipv4,
        cluster_cidr: "10.244.0.0/16".to_owned(),
        service_cidr: Some("10.96.0.0/16".to_owned()),
        node_port_ips: vec!["192.168.77.11".parse()?],
        accounting: true,
        services: services.collect(),
    })
}

fn iptables(text: &str) -> std::collections::BTreeMap<String, ruleset::Table> {
    let mut tables = ruleset::iptables(text);
    let last = tables["nat"].rules["KUBE-SERVICES"].last();
    assert!(
        last.is_some_and(|rule| rule.ends_with("-j KUBE-NODEPORTS")),
        "{last:?}"
    );
    for table in tables.values_mut() {
        for chain in ["KUBE-SERVICES", "KUBE-NODEPORTS"] {
            if let Some(rules) = table.rules.get_mut(chain) {
                rules.sort();
            }
        }
    }
    tables
}

#[test]
fn iptables_mode_is_what_iptables_nft_saved() -> anyhow::Result<()> {
    let generated = iptables(&proxy::iptables::rules(&recorded()?));
    let saved = iptables(&fixture("1.36-iptables-nft-save.txt")?);
    assert_eq!(generated, saved);
    Ok(())
}

#[test]
fn iptables_mode_is_what_iptables_legacy_saved() -> anyhow::Result<()> {
    let generated = iptables(&proxy::iptables::rules(&recorded()?));
    let saved = iptables(&fixture("1.36-iptables-legacy-save.txt")?);
    assert_eq!(generated, saved);
    Ok(())
}

#[test]
fn nftables_mode_is_what_nft_listed() -> anyhow::Result<()> {
    let generated = ruleset::nftables(&proxy::nftables::rules(&recorded()?));
    let listed = ruleset::nftables(&fixture("1.36-nft-list-ruleset.txt")?);
    assert_eq!(generated["ip kube-proxy"], listed["ip kube-proxy"]);
    Ok(())
}

/// The recorded cluster had no IPv6: the table stands, without Services.
#[test]
fn nftables_mode_without_services_is_what_nft_listed() -> anyhow::Result<()> {
    let empty = Node {
        family: Family::Ipv6,
        cluster_cidr: String::new(),
        service_cidr: None,
        node_port_ips: Vec::new(),
        accounting: false,
        services: Vec::new(),
    };
    let generated = ruleset::nftables(&proxy::nftables::rules(&empty));
    let listed = ruleset::nftables(&fixture("1.36-nft-list-ruleset.txt")?);
    assert_eq!(generated["ip6 kube-proxy"], listed["ip6 kube-proxy"]);
    Ok(())
}
