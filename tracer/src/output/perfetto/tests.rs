//! Timelines of the scenarios, held against the rules of the format.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::*;
use crate::{
    journey::model::FlowId,
    report::scenarios::{self, Scenario},
};

fn written(scenarios: &[Scenario]) -> String {
    let mut out = Vec::new();
    let mut sink = PerfettoSink::new(&mut out, Origin::of_scenarios());
    for scenario in scenarios {
        for packet in &scenario.packets {
            sink.packet(packet).unwrap();
        }
        sink.flow(&scenario.flow).unwrap();
    }
    sink.finish(&StatsReport::default()).unwrap();
    String::from_utf8(out).unwrap()
}

/// Nanoseconds of a time that is written in microseconds.
fn nanoseconds(value: &Value) -> u64 {
    let duration = Duration::from_secs_f64(value.as_f64().unwrap() / 1e6);
    u64::try_from(duration.as_nanos()).unwrap()
}

/// Which end of an arrow, when, and in which thread.
type ArrowEnd<'a> = (&'a str, u64, (u64, u64));

/// What a viewer takes for granted.
fn check(text: &str) {
    let trace: Value = serde_json::from_str(text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut named = HashSet::new();
    let mut slices: HashMap<(u64, u64), Vec<(u64, u64)>> = HashMap::new();
    let mut arrows: HashMap<u64, Vec<ArrowEnd<'_>>> = HashMap::new();
    for event in events {
        let thread = (
            event["pid"].as_u64().unwrap(),
            event["tid"].as_u64().unwrap(),
        );
        assert!(event["name"].is_string());
        match event["ph"].as_str().unwrap() {
            "M" if event["name"] == "process_name" => {
                named.insert((thread.0, 0));
            }
            "M" if event["name"] == "thread_name" => {
                named.insert(thread);
            }
            "M" => assert_eq!(event["name"], "thread_sort_index"),
            "X" => {
                let begin = nanoseconds(&event["ts"]);
                let end = begin + nanoseconds(&event["dur"]);
                slices.entry(thread).or_default().push((begin, end));
            }
            kind @ ("s" | "f") => {
                assert_eq!((kind == "f").then(|| "e".into()), event.get("bp").cloned());
                let id = event["id"].as_u64().unwrap();
                let end = (kind, nanoseconds(&event["ts"]), thread);
                arrows.entry(id).or_default().push(end);
            }
            other => panic!("{other}"),
        }
    }
    let mut threads: HashMap<u64, u64> = HashMap::new();
    for ((process, thread), slices) in &slices {
        assert!(named.contains(&(*process, 0)) && named.contains(&(*process, *thread)));
        assert_eq!(*threads.entry(*thread).or_insert(*process), *process);
        check_nesting(slices);
    }
    for ends in arrows.values() {
        let [("s", tail, from), ("f", head, to)] = ends[..] else {
            panic!("{ends:?}");
        };
        assert!(tail <= head);
        for (time, thread) in [(tail, from), (head, to)] {
            let within = |(begin, end): &(u64, u64)| (*begin..=*end).contains(&time);
            assert!(slices[&thread].iter().any(within));
        }
    }
}

/// Of two slices of a thread, either one holds the other or they have nothing in common.
fn check_nesting(slices: &[(u64, u64)]) {
    for (a, b) in slices {
        for (c, d) in slices {
            let apart = b <= c || d <= a;
            let nested = (a <= c && d <= b) || (c <= a && b <= d);
            assert!(apart || nested, "{a}-{b} and {c}-{d}");
        }
    }
}

#[test]
fn a_call_is_a_timeline() {
    let text = written(&[scenarios::cluster_ip(), scenarios::forward_drop()]);
    insta::assert_snapshot!(text);
}

#[test]
fn every_scenario_keeps_the_rules_and_the_same_makes_the_same() {
    let all = || scenarios::all().map(|(_, scenario)| scenario);
    for scenario in all() {
        check(&written(&[scenario]));
    }
    let mut several = all();
    for (number, scenario) in (1..).zip(&mut several) {
        scenario.flow.id = FlowId(number);
        for packet in &mut scenario.packets {
            (packet.flow, packet.id.0) = (FlowId(number), packet.id.0 + 100 * number);
        }
    }
    let text = written(&several);
    check(&text);
    assert_eq!(text, written(&several));
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
}

#[test]
fn packets_that_pass_each_other_have_tracks_of_their_own() {
    let mut scenario = scenarios::cluster_ip();
    let packet = scenario.packets[0].clone();
    for number in 1..40 {
        let mut other = packet.clone();
        other.id.0 += 100 * number;
        for hop in &mut other.hops {
            // Times of two processors: not quite in order.
            hop.time = hop.time + 7_000 * number - 900 * (hop.time % 3);
        }
        scenario.packets.push(other);
    }
    check(&written(&[scenario]));
}

#[test]
fn nothing_recorded_is_a_timeline_too() {
    check(&written(&[]));
}
