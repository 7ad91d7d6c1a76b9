//! The rules of real kube-proxies.

use insta::assert_snapshot;

use super::{
    super::{super::RuleSet, PROXY_1_30, PROXY_1_36},
    first, seen, to, written,
};
use crate::node::rules::{
    outcome::Observed,
    subject::{Bits, Hook, status},
};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn way(rules: &str, hook: Hook, protocol: u8, ends: &str, observed: Observed) -> String {
    let rules = RuleSet::parse(rules).unwrap();
    written(&seen(&rules, &first(hook, protocol, ends), observed)).join("\n---\n")
}

#[test]
fn the_endpoint_of_a_cluster_ip_1_36() {
    let ends = "10.244.1.2:40000 -> 10.96.0.80:80";
    assert_snapshot!(way(
        PROXY_1_36,
        Hook::Prerouting,
        TCP,
        ends,
        to("10.244.2.2:8080")
    ));
}

#[test]
fn the_endpoint_of_a_cluster_ip_1_30() {
    let ends = "10.244.1.2:40000 -> 10.96.0.80:80";
    assert_snapshot!(way(
        PROXY_1_30,
        Hook::Prerouting,
        TCP,
        ends,
        to("10.244.2.2:8080")
    ));
}

#[test]
fn an_endpoint_that_is_none_of_the_rules_is_nobodys() {
    let ends = "10.244.1.2:40000 -> 10.96.0.80:80";
    assert_eq!(
        way(
            PROXY_1_36,
            Hook::Prerouting,
            TCP,
            ends,
            to("10.244.2.9:8080")
        ),
        ""
    );
    assert_eq!(
        way(PROXY_1_36, Hook::Prerouting, TCP, ends, Observed::Dropped),
        ""
    );
}

#[test]
fn a_udp_service_without_choice() {
    let ends = "10.244.1.2:40000 -> 10.96.0.10:53";
    let way = |rules| way(rules, Hook::Output, UDP, ends, to("10.244.1.3:5353"));
    assert_snapshot!(way(PROXY_1_36));
    assert_snapshot!(way(PROXY_1_30));
}

#[test]
fn a_node_port_from_outside() {
    let ends = "172.16.0.9:40000 -> 192.168.77.11:30080";
    let way = |rules| way(rules, Hook::Prerouting, TCP, ends, to("10.244.1.3:8080"));
    assert_snapshot!(way(PROXY_1_36));
    assert_snapshot!(way(PROXY_1_30));
}

#[test]
fn a_local_node_port_without_a_local_endpoint_is_dropped() {
    let ends = "172.16.0.9:40000 -> 192.168.77.11:30084";
    assert_snapshot!(way(PROXY_1_36, Hook::Input, TCP, ends, Observed::Dropped));
}

#[test]
fn clients_that_stay_have_two_ways_to_their_endpoint() {
    let ends = "10.244.1.2:40000 -> 10.96.0.83:80";
    assert_snapshot!(way(
        PROXY_1_36,
        Hook::Prerouting,
        TCP,
        ends,
        to("10.244.2.2:8080")
    ));
}

#[test]
fn a_service_without_endpoints_is_rejected() {
    let ends = "10.244.1.2:40000 -> 10.96.0.82:80";
    let way = |rules| way(rules, Hook::Forward, TCP, ends, Observed::Dropped);
    assert_snapshot!(way(PROXY_1_36));
    assert_snapshot!(way(PROXY_1_30));
}

#[test]
fn addresses_and_ports_of_no_service_are_refused() {
    let way = |to| {
        let ends = format!("10.244.1.2:40000 -> {to}");
        way(PROXY_1_36, Hook::Forward, TCP, &ends, Observed::Dropped)
    };
    assert_snapshot!(way("10.96.0.80:81"));
    assert_snapshot!(way("10.96.7.7:80"));
    assert_eq!(way("10.244.2.2:8080"), "");
}

#[test]
fn a_mark_that_is_known_decides_over_masquerading() {
    let masqueraded = |rules: &str, mark: Bits, hairpin: bool| {
        let rules = RuleSet::parse(rules).unwrap();
        let source = if hairpin { "10.244.1.3" } else { "10.244.1.2" };
        let ends = format!("{source}:40000 -> 10.244.1.3:8080");
        let mut subject = first(Hook::Postrouting, TCP, &ends);
        subject.mark = mark;
        let dnat = Bits::exactly(status::DST_NAT);
        subject.connection.status = dnat;
        let observed = Observed::Source("10.244.1.1:40000".parse().unwrap());
        written(&seen(&rules, &subject, observed)).join("\n---\n")
    };
    let (marked, unmarked) = (Bits::exactly(0x4000), Bits::exactly(0));
    assert_snapshot!(masqueraded(PROXY_1_36, marked, false));
    assert_snapshot!(masqueraded(PROXY_1_30, marked, false));
    assert_eq!(masqueraded(PROXY_1_36, unmarked, false), "");
    assert_eq!(masqueraded(PROXY_1_30, unmarked, false), "");
    assert_snapshot!(masqueraded(PROXY_1_36, unmarked, true));
    assert_snapshot!(masqueraded(PROXY_1_36, Bits::UNKNOWN, true));
}

#[test]
fn ipv6_rules_are_for_ipv6() {
    let ends = "[fd00::2]:40000 -> [fd00::80]:80";
    let observed = Observed::Passed;
    let way = way(PROXY_1_36, Hook::Forward, TCP, ends, observed);
    assert!(
        way.contains("ip6 kube-proxy") && !way.contains("ip kube-proxy"),
        "{way}"
    );
}
