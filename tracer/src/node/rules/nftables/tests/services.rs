//! Services read back from kube-proxy's rules.

use std::collections::BTreeMap;

use super::{super::RuleSet, PROXY_1_30, PROXY_1_36, fixture};
use crate::node::services::{Frontend, Refusal, Service, TrafficPolicy};

fn services(text: &str) -> BTreeMap<String, Service> {
    let services = RuleSet::parse(text).unwrap().services().into_iter();
    let named = services.map(|service| (service.name.as_ref().unwrap().to_string(), service));
    named.collect()
}

#[test]
fn they_are_those_of_the_cluster() {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded {
        ns: String,
        name: String,
        port: String,
        proto: String,
        ip: std::net::IpAddr,
        sport: u16,
        node_port: Option<u16>,
        affinity: Option<u32>,
        #[serde(default)]
        ext_local: bool,
        eps: Vec<std::net::SocketAddr>,
    }
    let recorded: Vec<Recorded> =
        serde_json::from_str(fixture!("kube-proxy/services.json")).unwrap();
    let node = "192.168.77.11".parse().unwrap();
    for text in [PROXY_1_36, PROXY_1_30] {
        let services = services(text);
        assert_eq!(services.len(), recorded.len());
        for expected in &recorded {
            let port = if expected.port.is_empty() { "" } else { ":" };
            let name = format!("{}/{}{port}{}", expected.ns, expected.name, expected.port);
            let service = &services[&name];
            let protocol = if expected.proto == "udp" { 17 } else { 6 };
            assert_eq!(service.protocol, protocol, "{name}");
            let cluster_ip = Frontend::ClusterIp((expected.ip, expected.sport).into());
            let node_port = expected
                .node_port
                .map(|port| Frontend::NodePort(Some(node), port));
            let mut frontends = vec![cluster_ip];
            frontends.extend(node_port);
            assert_eq!(service.frontends, frontends, "{name}");
            let endpoints: Vec<_> = service.endpoints.iter().map(|e| e.address).collect();
            assert_eq!(endpoints, expected.eps, "{name}");
            assert_eq!(service.affinity, expected.affinity, "{name}");
            let external = node_port.map(|_| match expected.ext_local {
                true => TrafficPolicy::Local,
                false => TrafficPolicy::Cluster,
            });
            assert_eq!(service.external_policy, external, "{name}");
            let refusals = match (&*expected.eps, expected.ext_local) {
                ([], _) => vec![(cluster_ip, Refusal::NoEndpoints)],
                (_, true) => vec![(node_port.unwrap(), Refusal::NoLocalEndpoints)],
                _ => vec![],
            };
            assert_eq!(service.refusals, refusals, "{name}");
        }
    }
}

#[test]
fn what_is_on_this_node_is_known_from_1_36_on() {
    let local = |text| {
        let services = services(text);
        let endpoints = services["default/nginx-service:http"].endpoints.clone();
        endpoints.iter().map(|e| e.local).collect::<Vec<_>>()
    };
    assert_eq!(local(PROXY_1_36), [Some(true), Some(false)]);
    assert_eq!(local(PROXY_1_30), [None, None]);
}

#[test]
fn only_kube_proxys_tables_are_read() {
    let other = PROXY_1_36.replace(r#""kube-proxy""#, r#""other""#);
    assert_eq!(RuleSet::parse(&other).unwrap().services(), []);
}
