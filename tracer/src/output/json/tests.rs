//! The contract, held against every scenario.

use serde_json::{Map, Value};

use super::*;
use crate::report::scenarios::{self, Scenario};

/// The members of the contract, and those that were added to them.
const CONTRACT: [(&str, &[&str], &[&str]); 16] = [
    (
        "flow",
        &[
            "type",
            "schema",
            "id",
            "proto",
            "client",
            "destination",
            "backend",
            "translations",
            "state",
            "packets",
            "drops",
            "holes",
            "first_ns",
            "last_ns",
            "diagnosis",
        ],
        &[
            "protocol",
            "bytes",
            "affected_by_loss",
            "answers",
            "diagnosis_info",
            "unanswered",
            "ongoing",
            "sampled",
        ],
    ),
    ("client", &["addr", "netns", "pod", "process"], &[]),
    ("destination", &["addr", "service"], &["asked", "lookup"]),
    ("backend", &["addr", "netns", "pod"], &["process"]),
    (
        "flow translation",
        &["kind", "stage", "netns", "from", "to", "rule"],
        &["kind_inferred", "rule_info"],
    ),
    ("packets", &["original", "reply"], &[]),
    (
        "diagnosis",
        &["layer", "cause", "culprit", "evidence", "look"],
        &[],
    ),
    (
        "packet",
        &[
            "type",
            "schema",
            "flow",
            "direction",
            "tcp",
            "len",
            "verdict",
            "hops",
            "drop",
        ],
        &[
            "id",
            "proto",
            "protocol",
            "icmp",
            "payload",
            "verdict_observed",
            "holes",
            "hops_cut",
        ],
    ),
    ("tcp", &["flags", "seq", "ack"], &[]),
    (
        "hop",
        &["t", "dt", "stage", "netns", "dev", "dev_kind", "src", "dst"],
        &["spent_ns", "translations", "encapsulation", "hole", "pod"],
    ),
    (
        "drop",
        &["reason", "at", "rule"],
        &["reason_number", "netns", "function", "pod", "rule_info"],
    ),
    (
        "step",
        &[
            "source", "table", "chain", "kind", "number", "handle", "text", "comment",
        ],
        &[],
    ),
    (
        "info",
        &[
            "inferred",
            "certain",
            "service",
            "endpoint",
            "candidates",
            "more",
        ],
        &[],
    ),
    ("endpoint", &["index", "of"], &[]),
    (
        "stats",
        &["type", "schema", "seen", "matched", "emitted", "lost"],
        &["hooks", "shed", "shedding"],
    ),
    (
        "hook",
        &["hook", "seen", "matched", "emitted", "lost"],
        &["shed"],
    ),
];

fn stats() -> StatsReport {
    let counts = |seen, lost| Counts {
        seen,
        matched: 60,
        emitted: 60 - lost,
        lost,
        ..Counts::default()
    };
    StatsReport {
        total: counts(412, 2),
        hooks: vec![("device.queue", counts(400, 2)), ("drop", counts(12, 0))],
        ..StatsReport::default()
    }
}

fn written(scenario: &Scenario) -> String {
    let mut out = Vec::new();
    let mut sink = JsonSink::new(&mut out);
    for packet in &scenario.packets {
        sink.packet(packet).unwrap();
    }
    sink.flow(&scenario.flow).unwrap();
    sink.finish(&stats()).unwrap();
    String::from_utf8(out).unwrap()
}

fn lines(scenario: &Scenario) -> Vec<Value> {
    let parsed = written(scenario);
    let parsed = parsed.lines().map(serde_json::from_str);
    parsed.collect::<Result<_, _>>().unwrap()
}

/// Holds an object, unless it is null, against the contract.
fn check(name: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    let object: &Map<String, Value> = value.as_object().unwrap();
    let (_, contract, added) = CONTRACT.iter().find(|(known, ..)| *known == name).unwrap();
    let mut expected: Vec<&str> = contract.iter().chain(*added).copied().collect();
    expected.sort_unstable();
    let members: Vec<&str> = object.keys().map(String::as_str).collect();
    assert_eq!(members, expected, "{name}");
}

fn check_all(name: &str, values: &Value) {
    for value in values.as_array().unwrap() {
        check(name, value);
    }
}

/// Holds the rules of translations or a drop against the contract.
fn check_rules(parts: &[Value]) {
    for part in parts.iter().filter(|part| !part.is_null()) {
        if !part["rule"].is_null() {
            check_all("step", &part["rule"]);
        }
        let info = &part["rule_info"];
        check("info", info);
        if !info.is_null() {
            check("endpoint", &info["endpoint"]);
        }
    }
}

#[test]
fn rules_are_named_with_what_they_are_part_of() {
    let flow = &lines(&scenarios::cluster_ip())[4];
    assert_eq!(flow["destination"]["service"], "default/web:http");
    let dnat = &flow["translations"][0];
    let chains = dnat["rule"].as_array().unwrap().iter();
    let chains: Vec<_> = chains.map(|step| step["chain"].as_str().unwrap()).collect();
    assert_eq!(chains[..2], ["PREROUTING", "KUBE-SERVICES"]);
    assert_eq!(chains.len(), 4);
    let info = &dnat["rule_info"];
    assert_eq!(
        (&info["certain"], &info["inferred"]),
        (&true.into(), &true.into())
    );
    assert_eq!(info["endpoint"], serde_json::json!({"index": 1, "of": 2}));
    let drop = &lines(&scenarios::forward_drop())[0]["drop"];
    assert_eq!(drop["rule"][0]["comment"], "quarantine");
    assert_eq!(drop["rule"][0]["number"], 1);
}

#[test]
fn every_line_has_exactly_the_members_of_the_contract() {
    for (_, scenario) in scenarios::all() {
        for line in lines(&scenario) {
            assert_eq!(line["schema"], 1);
            let kind = line["type"].as_str().unwrap();
            check(kind, &line);
            match kind {
                "flow" => {
                    for part in ["client", "destination", "backend", "packets"] {
                        check(part, &line[part]);
                    }
                    check("packets", &line["bytes"]);
                    check("diagnosis", &line["diagnosis_info"]);
                    check_all("flow translation", &line["translations"]);
                    check_rules(line["translations"].as_array().unwrap());
                }
                "packet" => {
                    check("tcp", &line["tcp"]);
                    check("drop", &line["drop"]);
                    check_rules(std::slice::from_ref(&line["drop"]));
                    check_all("hop", &line["hops"]);
                }
                _ => check_all("hook", &line["hooks"]),
            }
        }
    }
}

#[test]
fn members_stand_in_the_contracts_order() {
    let scenario = scenarios::forward_drop();
    let text = written(&scenario);
    for (name, contract, _) in CONTRACT {
        let line = match name {
            "flow" | "packet" | "stats" => text
                .lines()
                .find(|line| line.starts_with(&format!("{{\"type\":\"{name}\"")))
                .unwrap(),
            _ => continue,
        };
        // The first of the name is the line's own or before any deeper one of that name.
        let places: Vec<usize> = contract
            .iter()
            .map(|member| line.find(&format!("\"{member}\":")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{name}");
    }
}

#[test]
fn each_scenario_as_lines() {
    for (name, scenario) in scenarios::all() {
        insta::assert_snapshot!(name, written(&scenario));
    }
}

#[test]
fn a_hostile_name_is_escaped_and_kept() {
    let scenario = scenarios::hostile();
    let text = written(&scenario);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'));
    let netns = scenario.flow.client.netns.as_deref();
    let flow = &lines(&scenario)[1];
    assert_eq!(flow["client"]["netns"].as_str(), netns);
}

#[test]
fn numbers_keep_their_64_bits() {
    let mut scenario = scenarios::echo();
    scenario.flow.first = u64::MAX;
    let flow = &lines(&scenario)[2];
    assert_eq!(flow["first_ns"].as_u64(), Some(u64::MAX));
}

/// The JSON blocks of the documentation.
fn documented() -> Vec<Value> {
    let text = include_str!("../../../../docs/json.md");
    let blocks = text.split("```json\n").skip(1);
    blocks
        .map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap())
        .collect()
}

#[test]
fn the_documentations_examples_are_what_is_written() {
    let all: Vec<Value> = scenarios::all()
        .iter()
        .flat_map(|(_, scenario)| lines(scenario))
        .collect();
    let examples = documented();
    assert!(examples.len() >= 4);
    for example in examples {
        let is_part = |whole: &Value| *whole == example || has_hop(whole, &example);
        assert!(all.iter().any(is_part), "{example:#}");
    }
}

fn has_hop(packet: &Value, hop: &Value) -> bool {
    let hops = packet["hops"].as_array();
    hops.is_some_and(|hops| hops.contains(hop))
}

#[test]
fn the_documentation_names_every_member() {
    let text = include_str!("../../../../docs/json.md");
    for (name, contract, added) in CONTRACT {
        for member in contract.iter().chain(added) {
            assert!(text.contains(&format!("`{member}`")), "{name}: {member}");
        }
    }
}
