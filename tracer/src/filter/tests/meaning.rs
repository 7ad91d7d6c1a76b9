//! Which flows match.

use super::subjects::{BACKEND, hop, namespaces, resolved, through_cluster_ip};
use crate::filter::{Filter, Subject};

#[track_caller]
fn judges(text: &str, hops: &[Subject], expected: bool) {
    assert_eq!(resolved(text).matches_flow(hops), expected, "{text}");
}

#[test]
fn a_flow_through_a_cluster_ip_is_one_flow() {
    let hops = through_cluster_ip();
    for text in [
        "",
        "host 10.96.0.10",
        "host 10.244.0.3",
        "host 10.244.0.2 and port 80",
        "host 10.244.0.3 and port 8080",
        "dst host 10.244.0.2",
        "src port 8080 and dst host 10.244.0.2",
        "net 10.96.0.0/12 and net 10.244.0.0/16",
        "tcp dst port 80",
        "ip",
        "netns backend and dev eth0",
        "netns pods and port 8080",
        "dev veths and port 8080",
        "port 53 or dev cni0",
    ] {
        judges(text, &hops, true);
    }
    for text in [
        "host 10.244.0.4",
        "udp",
        "ip6",
        "net ::/0",
        "port 53",
        "dev eth1",
    ] {
        judges(text, &hops, false);
    }
}

#[test]
fn tests_joined_by_and_hold_at_one_hop() {
    let hops = through_cluster_ip();
    judges("port 80 and port 8080", &hops, false);
    judges("host 10.96.0.10 and host 10.244.0.3", &hops, false);
    judges("dev vethc and port 8080", &hops, false);
    judges("netns pod and host 10.244.0.3", &hops, false);
    judges("netns pod or host 10.244.0.3", &hops, true);
}

#[test]
fn not_holds_at_every_hop() {
    let hops = through_cluster_ip();
    for text in [
        "not host 10.96.0.10",
        "not port 8080",
        "not netns backend",
        "not dev cni0",
        "host 10.244.0.3 and not port 80",
        "not (host 10.96.0.10 and host 10.244.0.2)",
        "not src host 10.244.0.3",
        "not tcp",
        "not ip",
        "not (udp or host 10.96.0.10)",
    ] {
        judges(text, &hops, false);
    }
    for text in [
        "not port 22",
        "host 10.96.0.10 and not port 22",
        "host 10.244.0.3 and not host 10.244.0.9",
        "not udp",
        "not ip6 and not net ::/0",
        "not not host 10.96.0.10",
        "not (host 10.96.0.10 and udp)",
        "not netns backend or port 80",
    ] {
        judges(text, &hops, true);
    }
}

#[test]
fn only_a_negation_of_what_changes_needs_all_hops() {
    for (text, expected) in [
        ("host 10.0.0.1", false),
        ("not udp and not ip6", false),
        ("not port 22", true),
        ("tcp or not dev eth0", true),
        ("not not port 22", false),
    ] {
        assert_eq!(resolved(text).needs_all_hops(), expected, "{text}");
    }
}

#[test]
fn a_flow_without_hops_matches_only_everything() {
    judges("", &[], true);
    judges("not port 80", &[], false);
    judges("ip", &[], false);
}

#[test]
fn networks_of_one_family_do_not_hold_the_other() {
    let v4 = [hop(("10.0.0.1", 1), ("10.0.0.2", 2), BACKEND, "eth0")];
    let v6 = [hop(("2001:db8::1", 1), ("2001:db8::2", 2), BACKEND, "eth0")];
    for (text, in_v4, in_v6) in [
        ("net 0.0.0.0/0", true, false),
        ("net ::/0", false, true),
        ("not net ::/0", true, false),
        ("net ::/64", false, false),
        ("net 2001:db8::/32", false, true),
        ("src net 2001:db8::/127", false, true),
        ("dst host 2001:db8::2", false, true),
        ("net 10.0.0.0/30", true, false),
    ] {
        judges(text, &v4, in_v4);
        judges(text, &v6, in_v6);
    }
}

#[test]
fn a_port_is_of_a_protocol_that_has_ports() {
    let mut echo = hop(("10.0.0.1", 80), ("10.0.0.2", 80), BACKEND, "eth0");
    echo.protocol = 1;
    judges("port 80", &[echo], false);
    judges("icmp and not port 80", &[echo], true);
}

#[test]
fn an_unknown_namespace_is_an_error_with_similar_names() {
    let filter = Filter::parse("tcp and not netns bakend").unwrap();
    let error = filter.resolve(&namespaces()).unwrap_err();
    assert_eq!(error.name(), "bakend");
    assert_eq!(error.similar(), ["backend"]);
    insta::assert_snapshot!(error, @"no network namespace is called `bakend`; similar: `backend`; `tracer names` lists those of this node");
    let filter = Filter::parse("netns zzz").unwrap();
    insta::assert_snapshot!(filter.resolve(&namespaces()).unwrap_err(), @"no network namespace is called `zzz`; `tracer names` lists those of this node");
}

#[test]
fn a_resolved_filter_is_written_with_its_names() {
    assert_eq!(
        resolved("netns pods or port http").to_string(),
        "netns pods or port 80"
    );
}
