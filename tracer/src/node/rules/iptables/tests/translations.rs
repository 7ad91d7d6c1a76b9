//! Which rules translated a connection.

use super::evaluate::{only, packet, rules, socket, steps, to, why};
use crate::node::rules::{
    evaluate::explain,
    outcome::{Observed, Outcome},
    path::Certainty,
    subject::{Bits, Elsewhere, Hook, States, Subject},
};

#[test]
fn a_cluster_ips_translation_is_explained() {
    let syn = packet(Hook::Prerouting, 6, "10.244.1.2:4000", "10.96.0.80:80");
    for fixture in [
        "1.30-iptables-nft",
        "1.36-iptables-legacy",
        "large-cluster-iptables-nft",
    ] {
        let rules = rules(fixture);
        let number = |ip: &str, suffix: &str| {
            // KUBE-SERVICES has the order of a Go map.
            let nat = rules.tables().table("nat").unwrap();
            let chain = &nat.chains[nat.chain("KUBE-SERVICES").unwrap()];
            let position = chain.rules.iter().position(|rule| {
                rule.in_chain("")
                    .to_string()
                    .contains(&format!("-d {ip}/32"))
                    && rule.comment().unwrap().ends_with(suffix)
            });
            position.unwrap() + 1
        };
        let first = Observed::Destination(socket("10.244.1.3:8080"));
        let expected = (
            format!(
                "PREROUTING 1, KUBE-SERVICES {}, KUBE-SVC-6IM33IEVEEV7U3GP 2, KUBE-SEP-T3KWDSV4GTJTD3AF 2",
                number("10.96.0.80", "cluster IP")
            ),
            to("10.244.1.3:8080"),
            "default/nginx-service:http 1 of 2".to_owned(),
        );
        assert_eq!(only(&why(&rules, &syn, first)), expected, "{fixture}");
        let second = Observed::Destination(socket("10.244.2.2:8080"));
        let (path, _, service) = only(&why(&rules, &syn, second));
        assert!(
            path.ends_with("KUBE-SVC-6IM33IEVEEV7U3GP 3, KUBE-SEP-FEXSHUBQLMXICQJ4 2"),
            "{path}"
        );
        assert_eq!(service, "default/nginx-service:http 2 of 2");
        let other = Observed::Destination(socket("10.244.2.9:8080"));
        assert_eq!(why(&rules, &syn, other).paths, []);
    }
}

#[test]
fn a_translation_is_explained_by_the_connections_first_packet() {
    let mut ack = packet(Hook::Prerouting, 6, "10.244.1.2:4000", "10.96.0.81:80");
    ack.connection.states = States::ESTABLISHED;
    let seen = Observed::Destination(socket("10.244.1.3:8080"));
    let (_, outcome, service) = only(&why(&rules("1.36-iptables-nft"), &ack, seen));
    assert_eq!(
        (outcome, &*service),
        (to("10.244.1.3:8080"), "default/solo 1 of 1")
    );
}

#[test]
fn from_the_node_itself_it_is_output() {
    let dns = packet(Hook::Output, 17, "192.168.77.11:5000", "10.96.0.10:53");
    let seen = Observed::Destination(socket("10.244.1.3:5353"));
    let (path, _, service) = only(&why(&rules("1.36-iptables-nft"), &dns, seen));
    assert!(path.starts_with("OUTPUT 1, KUBE-SERVICES 1, "), "{path}");
    assert_eq!(service, "kube-system/kube-dns:dns 1 of 1");
}

#[test]
fn node_ports_need_an_address_of_the_node() {
    let rules = rules("1.36-iptables-nft");
    let seen = Observed::Destination(socket("10.244.2.2:8080"));
    let syn = packet(
        Hook::Prerouting,
        6,
        "192.168.77.1:4000",
        "192.168.77.11:30080",
    );
    let (path, _, service) = only(&why(&rules, &syn, seen));
    assert_eq!(
        path,
        "PREROUTING 1, KUBE-SERVICES 6, KUBE-NODEPORTS 2, KUBE-EXT-6IM33IEVEEV7U3GP 2, KUBE-SVC-6IM33IEVEEV7U3GP 3, KUBE-SEP-FEXSHUBQLMXICQJ4 2"
    );
    assert_eq!(service, "default/nginx-service:http 2 of 2");
    let elsewhere = packet(
        Hook::Prerouting,
        6,
        "192.168.77.1:4000",
        "192.168.77.12:30080",
    );
    assert_eq!(why(&rules, &elsewhere, seen).paths, []);
    // Where addresses are not known, it was this rule all the same, since it was seen.
    let unknown = explain(&[&rules], &elsewhere, &Elsewhere, seen);
    assert_eq!(only(&unknown).0, path);
}

#[test]
fn with_affinity_there_are_two_ways_to_an_endpoint() {
    let syn = packet(Hook::Prerouting, 6, "10.244.1.2:4000", "10.96.0.83:80");
    let seen = Observed::Destination(socket("10.244.2.2:8080"));
    let explanation = why(&rules("1.36-iptables-nft"), &syn, seen);
    let ways: Vec<_> = explanation
        .paths
        .iter()
        .map(|(_, path)| steps(path))
        .collect();
    let way = |rule: u8| {
        format!(
            "PREROUTING 1, KUBE-SERVICES 4, KUBE-SVC-T2ECBIYT2WDZZK45 {rule}, KUBE-SEP-ACTH2TXPKCSKM6J7 2"
        )
    };
    assert_eq!(ways, [way(3), way(5)]);
    for (_, path) in &explanation.paths {
        assert!(matches!(path.certainty, Certainty::Candidate(_)));
        assert_eq!(path.service.as_ref().unwrap().endpoint, Some((2, 2)));
    }
}

#[test]
fn ipv6_is_explained_alike() {
    let syn = packet(
        Hook::Prerouting,
        6,
        "[fd00:10:244:1::2]:4000",
        "[2001:db8:1::9]:443",
    );
    let seen = Observed::Destination(socket("[fd00:10:244:2::6]:8443"));
    let rules = rules("frontends-ip6tables-legacy");
    assert_eq!(why(&rules, &syn, seen).paths, []);
    let mut allowed = syn;
    allowed.source = "2001:db8:2::1".parse().unwrap();
    let (path, _, service) = only(&why(&rules, &allowed, seen));
    assert!(
        path.contains("KUBE-FW-VPWLIZ4UCZR3AVHA 1, KUBE-EXT-VPWLIZ4UCZR3AVHA 2"),
        "{path}"
    );
    assert_eq!(service, "shop/front:https 2 of 3");
}

#[test]
fn a_masquerade_needs_the_mark() {
    let rules = rules("1.36-iptables-nft");
    let mut syn = packet(Hook::Postrouting, 6, "10.244.1.3:4000", "10.244.1.3:8080");
    let seen = Observed::Source(socket("10.244.1.1:4000"));
    assert_eq!(why(&rules, &syn, seen).paths, []);
    let masqueraded = |subject: &Subject| {
        let (path, outcome, _) = only(&why(&rules, subject, seen));
        assert_eq!(path, "POSTROUTING 1, KUBE-POSTROUTING 3");
        assert!(matches!(outcome, Outcome::Masquerade(_)));
    };
    syn.mark = Bits::exactly(0x4000);
    masqueraded(&syn);
    syn.mark = Bits::UNKNOWN;
    masqueraded(&syn);
}
