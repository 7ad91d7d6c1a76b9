//! Programs: their terms, how exact they are, and how too large a filter is made to fit.

use std::fmt::Write;

use tracer_common::filter::MAX_TERMS;

use super::subjects::{hop, resolved, through_cluster_ip};
use crate::filter::{Subject, cgroup_program};

/// `host 10.0.0.1 or host 10.0.0.2 or ..`
fn hosts(count: usize) -> String {
    let mut text = "host 10.0.0.0".to_owned();
    for index in 1..count {
        write!(text, " or 10.0.{}.{}", index / 250, index % 250).unwrap();
    }
    text
}

#[test]
fn an_empty_filter_takes_no_terms() {
    let compiled = resolved("").compile();
    assert_eq!(compiled.program.count, 0);
    assert!(compiled.exact && !compiled.relaxed);
}

#[test]
fn a_test_is_a_term_and_operators_are_jumps() {
    insta::assert_snapshot!(resolved("tcp dst port 80 or 443 or host 10.96.0.10").compile(), @r"
    5 terms, exact
     0  tcp ? 1 : 2
     1  dst port 80 ? accept : 2
     2  tcp ? 3 : 4
     3  dst port 443 ? accept : 4
     4  host 10.96.0.10 ? accept : reject
    ");
    insta::assert_snapshot!(resolved("not (udp or port 22) and netns pods").compile(), @r"
    4 terms
     0  udp ? reject : 1
     1  port 22 ? reject : 2
     2  netns 4026532001 ? accept : 3
     3  netns 4026532002 ? accept : reject
    ");
    insta::assert_snapshot!(resolved("not net ::/0 or dev eth0").compile(), @r"
    3 terms
     0  ip6 ? 1 : accept
     1  net ::/0 ? 2 : accept
     2  dev eth0 ? accept : reject
    ");
}

#[test]
fn what_all_alternatives_demand_is_asked_once() {
    for (text, terms) in [
        ("tcp port 80 or 443 or 8080", 4),
        ("tcp port 80 or tcp", 1),
        ("host 10.0.0.1 or 10.0.0.1", 1),
        ("tcp and (tcp and tcp)", 1),
        ("tcp port 80 or udp port 53", 4),
    ] {
        assert_eq!(resolved(text).compile().program.count, terms, "{text}");
    }
}

#[test]
fn exactness_and_the_miss_that_decides() {
    for (text, exact, negative) in [
        ("host 10.0.0.1", true, false),
        ("not udp", true, false),
        ("host 10.0.0.1 and not ip6", true, false),
        ("not port 22", false, true),
        ("tcp and not port 22", false, true),
        ("not port 22 or udp", false, true),
        // A hop that fails the positive test says nothing of the flow's other hops.
        ("host 10.0.0.1 and not port 22", false, false),
        ("not netns pod or port 80", false, false),
    ] {
        let compiled = resolved(text).compile();
        assert_eq!(compiled.exact, exact, "{text}");
        assert_eq!(compiled.program.negative != 0, negative, "{text}");
        assert!(!compiled.relaxed, "{text}");
    }
}

#[test]
fn a_filter_of_the_largest_size_is_exact() {
    let compiled = resolved(&hosts(MAX_TERMS)).compile();
    assert_eq!(compiled.program.count, 24);
    assert!(compiled.exact);
}

#[test]
fn too_many_hosts_become_networks() {
    let compiled = resolved(&hosts(200)).compile();
    assert!(compiled.relaxed && !compiled.exact);
    assert!(compiled.program.count > 12 && compiled.program.count <= 24);
    let inside = hop(("10.0.0.199", 1), ("192.0.2.1", 2), 1, "eth0");
    let outside = hop(("10.0.2.1", 1), ("192.0.2.1", 2), 1, "eth0");
    assert!(compiled.program.matches(&inside));
    assert!(!compiled.program.matches(&outside));
}

#[test]
fn too_many_ports_become_ranges() {
    let ports: Vec<_> = (0..100)
        .map(|index| (index * 10 + 1000).to_string())
        .collect();
    let compiled = resolved(&format!("tcp port {}", ports.join(" or "))).compile();
    assert!(compiled.relaxed);
    let at = |port, protocol| Subject {
        protocol,
        ..hop(("10.0.0.1", 1), ("10.0.0.2", port), 1, "eth0")
    };
    assert!(compiled.program.matches(&at(1990, 6)));
    assert!(!compiled.program.matches(&at(1990, 17)));
    assert!(!compiled.program.matches(&at(2000, 6)));
    assert!(!compiled.program.matches(&at(999, 6)));
}

#[test]
fn too_many_demands_keep_the_most_selective() {
    let excluded: Vec<_> = (0..40).map(|index| format!("not port {index}")).collect();
    let text = format!("tcp and {} and host 10.96.0.10", excluded.join(" and "));
    let compiled = resolved(&text).compile();
    assert!(compiled.relaxed);
    assert_eq!(compiled.program.count, 24);
    for hop in through_cluster_ip() {
        let expected = resolved("host 10.96.0.10").matches_hop(&hop);
        assert_eq!(compiled.program.matches(&hop), expected);
    }
}

#[test]
fn what_cannot_be_widened_becomes_everything() {
    let devices: Vec<_> = (0..30).map(|index| format!("dev eth{index}")).collect();
    let compiled = resolved(&devices.join(" or ")).compile();
    assert!(compiled.relaxed);
    assert_eq!(compiled.program.count, 0);
    // Beside another test, only that part is dropped.
    let compiled = resolved(&format!("tcp and ({})", devices.join(" or "))).compile();
    assert_eq!(compiled.program.count, 1);
}

#[test]
fn a_cgroup_program_matches_what_the_cgroup_sends() {
    let program = cgroup_program(4711);
    let sent = Subject {
        cgroup: 4711,
        ..Subject::default()
    };
    assert!(program.matches(&sent));
    assert!(!program.matches(&Subject::default()));
    assert_eq!((program.count, program.negative), (1, 0));
}
