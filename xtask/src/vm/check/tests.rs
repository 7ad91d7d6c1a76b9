//! The judge on made-up results: a trace as it must be, and one thing wrong at a time.

use serde_json::{Value, json};

use super::*;
use crate::vm::degradations;
use crate::vm::paths;

const OLD: &[u32] = &[5, 10, 262];
const NEW: &[u32] = &[6, 12, 117];

fn path(name: &str) -> Traced {
    let all = paths::all();
    let found = all.iter().find(|traced| traced.to_string() == name);
    *found.unwrap()
}

fn verdict(name: &str, version: &[u32], section: &Section) -> Judgement {
    let traced = path(name);
    check(&traced, Some(section), degradations::of(&traced, version))
}

fn hop(place: &str, stage: &str, translation: Option<Value>) -> Value {
    let (netns, dev) = place.split_once('/').unwrap();
    let translations: Vec<Value> = translation.into_iter().collect();
    json!({"t": 1, "dt": 0, "stage": stage, "netns": netns, "dev": dev, "dev_kind": null,
        "src": "10.0.0.1:1", "dst": "10.0.0.2:2", "spent_ns": null, "translations": translations,
        "encapsulation": null, "hole": null})
}

fn translation(kind: &str, from: &str, to: &str) -> Value {
    json!({"kind": kind, "from": from, "to": to, "kind_inferred": false})
}

fn packet(direction: &str, hops: &[Value]) -> Value {
    json!({"type": "packet", "schema": 1, "flow": 1, "direction": direction, "tcp": null,
        "len": 60, "verdict": "delivered", "hops": hops, "drop": null, "id": 1, "proto": "udp",
        "protocol": 17, "icmp": null, "payload": 30, "verdict_observed": true, "holes": 0,
        "hops_cut": 0})
}

fn flow() -> Value {
    json!({"type": "flow", "schema": 1, "id": 1, "proto": "udp",
        "client": {"addr": "10.244.1.2:40000", "netns": "pod-a", "pod": null, "process": null},
        "destination": {"addr": "10.96.0.10:53", "service": null},
        "backend": {"addr": "10.244.1.3:5353", "netns": "pod-b", "pod": null},
        "translations": [{"kind": "dnat", "stage": "prerouting", "netns": "node",
            "from": "10.96.0.10:53", "to": "10.244.1.3:5353", "rule": null,
            "kind_inferred": false}],
        "state": "replied", "packets": {"original": 1, "reply": 1}, "drops": 0, "holes": 0,
        "first_ns": 1, "last_ns": 2, "diagnosis": null, "protocol": 17,
        "bytes": {"original": 1, "reply": 1}, "affected_by_loss": false})
}

fn stats(lost: u64) -> Value {
    json!({"type": "stats", "schema": 1, "seen": 9, "matched": 9, "emitted": 9, "lost": lost,
        "hooks": []})
}

fn section(status: i32, objects: &[Value]) -> Section {
    Section {
        output: objects.iter().map(Value::to_string).collect(),
        messages: vec!["a message".to_owned()],
        status: Some(status),
    }
}

/// There and back.
fn packets() -> [Value; 2] {
    let dnat = translation("dnat", "10.96.0.10:53", "10.244.1.3:5353");
    let undone = translation("un-dnat", "10.244.1.3:5353", "10.96.0.10:53");
    let way = |from: &str, to: &str, before: Option<Value>, after: Option<Value>| {
        let (pod, veth) = (format!("pod-{from}/eth0"), format!("node/veth{from}"));
        let (other, out) = (format!("pod-{to}/eth0"), format!("node/veth{to}"));
        [
            hop(&pod, "device.queue", None),
            hop(&pod, "device.transmit", None),
            hop(&veth, "device.receive", None),
            hop("node/cni0", "bridge", None),
            hop("node/cni0", "prerouting", before),
            hop("node/cni0", "forward", None),
            hop("node/cni0", "postrouting", after),
            hop(&out, "device.queue", None),
            hop(&out, "device.transmit", None),
            hop(&other, "device.receive", None),
            hop(&other, "socket", None),
        ]
    };
    [
        packet("original", &way("a", "b", Some(dnat), None)),
        packet("reply", &way("b", "a", None, Some(undone))),
    ]
}

/// What the tracer must say of the DNS lookup, with `change` made to it.
fn lookup(change: impl FnOnce(&mut Value, &mut Value)) -> Section {
    let [mut original, reply] = packets();
    let mut flow = flow();
    change(&mut original, &mut flow);
    section(0, &[original, reply, flow, stats(0)])
}

fn fails(section: &Section) -> String {
    match verdict("nftables/udp", NEW, section) {
        Judgement::Fail(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_trace_as_it_must_be_passes() {
    let good = lookup(|_, _| ());
    assert!(matches!(
        verdict("nftables/udp", NEW, &good),
        Judgement::Pass
    ));
    assert!(matches!(
        verdict("nftables/udp", OLD, &good),
        Judgement::Pass
    ));
}

#[test]
fn one_hop_less_fails_and_shows_the_way() {
    let why = fails(&lookup(|packet, _| {
        packet["hops"].as_array_mut().unwrap().remove(3);
    }));
    assert!(
        why.contains("node/vetha receive, node/cni0 prerouting(dnat)"),
        "{why}"
    );
    assert!(
        why.contains("must be") && why.contains("| a message"),
        "{why}"
    );
}

#[test]
fn each_wrong_member_fails() {
    type Change = fn(&mut Value, &mut Value);
    let changes: &[Change] = &[
        |packet, _| packet["holes"] = 1.into(),
        |packet, _| packet["verdict"] = "unknown".into(),
        |packet, _| packet["verdict_observed"] = false.into(),
        |packet, _| packet["hops"][4]["translations"][0]["to"] = "10.244.1.3:99".into(),
        |packet, _| packet["flow"] = 2.into(),
        |_, flow| flow["state"] = "unreplied".into(),
        |_, flow| flow["backend"] = Value::Null,
        |_, flow| flow["backend"]["netns"] = "pod-a".into(),
        |_, flow| flow["client"]["netns"] = Value::Null,
        |_, flow| flow["translations"] = json!([]),
        |_, flow| flow["translations"][0]["stage"] = "output".into(),
        |_, flow| flow["packets"]["reply"] = 2.into(),
        |_, flow| flow["drops"] = 1.into(),
        |_, flow| flow["holes"] = 1.into(),
        |_, flow| flow["affected_by_loss"] = true.into(),
    ];
    for change in changes {
        fails(&lookup(change));
    }
}

#[test]
fn what_is_lost_or_absent_fails() {
    let [original, reply] = packets();
    fails(&section(
        0,
        &[original.clone(), reply.clone(), flow(), stats(1)],
    ));
    fails(&section(0, &[original.clone(), reply.clone(), flow()]));
    fails(&section(1, &[original, reply, flow(), stats(0)]));
    fails(&section(0, &[stats(0)]));
    fails(&Section::default());
    let traced = path("nftables/udp");
    assert!(matches!(
        check(&traced, None, Vec::new()),
        Judgement::Fail(_)
    ));
}

#[test]
fn only_old_kernels_may_give_no_reason() {
    let hops = [
        hop("pod-a/eth0", "device.queue", None),
        hop("pod-a/eth0", "device.transmit", None),
        hop("node/vetha", "device.receive", None),
        hop("node/cni0", "bridge", None),
        hop(
            "node/cni0",
            "prerouting",
            Some(translation("dnat", "10.96.0.81:80", "10.244.1.3:8080")),
        ),
        hop("node/cni0", "forward", None),
        hop("node/vethb", "drop", None),
    ];
    let dropped = |reason: Value| {
        let mut packet = packet("original", &hops);
        packet["tcp"] = json!({"flags": "S", "seq": 1, "ack": 0});
        packet["verdict"] = "dropped".into();
        packet["drop"] = json!({"reason": reason, "at": "forward", "rule": null,
            "reason_number": 0, "netns": "node", "function": "nf_hook_slow"});
        let mut flow = flow();
        flow["proto"] = "tcp".into();
        flow["state"] = "syn-sent".into();
        flow["destination"]["addr"] = "10.96.0.81:80".into();
        flow["backend"] = Value::Null;
        flow["translations"][0]["from"] = "10.96.0.81:80".into();
        flow["translations"][0]["to"] = "10.244.1.3:8080".into();
        flow["packets"] = json!({"original": 1, "reply": 0});
        flow["drops"] = 1.into();
        section(28, &[packet, flow, stats(0)])
    };
    let known = dropped("NETFILTER_DROP".into());
    let unknown = dropped(Value::Null);
    let judge = |version, section| verdict("nftables/drop", version, section);
    assert!(matches!(judge(NEW, &known), Judgement::Pass));
    assert!(matches!(judge(NEW, &unknown), Judgement::Fail(_)));
    assert!(matches!(judge(OLD, &unknown), Judgement::Degraded(_)));
}

#[test]
fn a_way_that_does_not_exist_must_be_refused_with_a_reason() {
    let refused = section(1, &[]);
    let judge = |version, section| verdict("nftables/tcp+link", version, section);
    assert!(matches!(judge(OLD, &refused), Judgement::Degraded(_)));
    assert!(matches!(judge(NEW, &refused), Judgement::Fail(_)));
    let silent = Section {
        status: Some(1),
        ..Section::default()
    };
    assert!(matches!(judge(OLD, &silent), Judgement::Fail(_)));
}
