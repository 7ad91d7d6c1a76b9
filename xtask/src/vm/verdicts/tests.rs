//! The judges on made-up results: traces as they must be, and one thing wrong at a time.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::vm::{
    made_up::{self, packet, translation},
    paths,
};

const OLD: &[u32] = &[5, 10, 262];
const NEW: &[u32] = &[6, 12, 117];

fn path(name: &str) -> Traced {
    let all = paths::all();
    let found = all.iter().find(|traced| traced.to_string() == name);
    *found.unwrap()
}

/// What a machine writes: a path walked, and what each tracer said of it.
#[derive(Clone)]
struct Machine {
    path: &'static str,
    /// The command's exit status.
    status: i32,
    best: Vec<Value>,
    link: Vec<Value>,
    /// The exit status of the tracer of the links.
    link_status: i32,
    link_message: &'static str,
}

impl Machine {
    fn log(&self) -> String {
        let (path, status) = (self.path, self.status);
        let form = path.split('/').next().unwrap();
        let mut log = format!("@@ path {path} 0.00\n@@ status {path} {status}\n");
        let link = (format!("{form}+link"), self.link_status, &self.link);
        // Kprobes see what the best way sees.
        let kprobe = (format!("{form}+kprobe"), 0, &self.best);
        for (session, status, objects) in [(form.to_owned(), 0, &self.best), link, kprobe] {
            let _ = writeln!(log, "@@ begin {session}");
            for object in objects {
                let _ = writeln!(log, "{object}");
            }
            let _ = writeln!(log, "! {}\n@@ end {session} {status}", self.link_message);
        }
        log + "@@ done\n"
    }

    /// How the path came out, and the best way and links.
    fn judged(&self, version: &[u32]) -> [Judgement; 3] {
        let rows = of(&[path(self.path)], version, &Results::parse(&self.log()));
        let judgements = rows.into_iter().map(|(_, judgement)| judgement);
        let judgements: Vec<Judgement> = judgements.take(3).collect();
        judgements.try_into().unwrap()
    }
}

fn is_good(judgement: &Judgement) -> bool {
    matches!(judgement, Judgement::Good { .. })
}

fn why(judgement: &Judgement) -> &str {
    match judgement {
        Judgement::Fail(why) => why,
        Judgement::Good { .. } => panic!("{judgement:?}"),
    }
}

fn but(judgement: &Judgement) -> &[&'static str] {
    match judgement {
        Judgement::Good { but, .. } => but,
        Judgement::Fail(why) => panic!("{why}"),
    }
}

fn hop(place: &str, stage: &str, translation: Option<Value>) -> Value {
    let (netns, dev) = place.split_once('/').unwrap();
    let translations: Vec<Value> = translation.into_iter().collect();
    made_up::hop(stage, (netns, dev), &translations)
}

fn flow() -> Value {
    json!({"type": "flow", "schema": 1, "id": 1, "proto": "udp",
        "client": {"addr": "10.244.1.2:40000", "netns": "pod-a", "pod": null, "process": null},
        "destination": {"addr": "10.96.0.10:53", "service": null, "asked": null, "lookup": null},
        "answers": [],
        "backend": {"addr": "10.244.1.3:5353", "netns": "pod-b", "pod": null,
            "process": null},
        "translations": [{"kind": "dnat", "stage": "prerouting", "netns": "node",
            "from": "10.96.0.10:53", "to": "10.244.1.3:5353", "rule": null,
            "rule_info": null, "kind_inferred": false}],
        "state": "replied", "packets": {"original": 1, "reply": 1}, "drops": 0, "holes": 0,
        "first_ns": 1, "last_ns": 2, "diagnosis": null, "diagnosis_info": null, "protocol": 17,
        "bytes": {"original": 60, "reply": 60}, "affected_by_loss": false,
        "unanswered": 0, "ongoing": false, "sampled": false})
}

fn stats(lost: u64) -> Value {
    json!({"type": "stats", "schema": 1, "seen": 9, "matched": 9, "emitted": 9, "lost": lost,
        "hooks": [], "shed": 0, "shedding": null})
}

/// There and back, by a way that sees the hooks of every namespace or by one that does not.
fn packets(everywhere: bool) -> [Value; 2] {
    let dnat = translation("dnat", "10.96.0.10:53", "10.244.1.3:5353");
    let undone = translation("un-dnat", "10.244.1.3:5353", "10.96.0.10:53");
    let way = |from: &str, to: &str, before: Option<Value>, after: Option<Value>| {
        let (pod, veth) = (format!("pod-{from}/eth0"), format!("node/veth{from}"));
        let (other, out) = (format!("pod-{to}/eth0"), format!("node/veth{to}"));
        let hooks = everywhere.then(|| hop(&pod, "postrouting", None));
        let hops = [
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
        ];
        hooks.into_iter().chain(hops).collect::<Vec<_>>()
    };
    let mut original = packet("original", &way("a", "b", Some(dnat), None));
    ends(
        &mut original,
        ("10.244.1.2:40000", "10.96.0.10:53"),
        "10.244.1.3:5353",
    );
    let mut reply = packet("reply", &way("b", "a", None, Some(undone)));
    ends(
        &mut reply,
        ("10.244.1.3:5353", "10.244.1.2:40000"),
        "10.244.1.2:40000",
    );
    reply["hops"].as_array_mut().unwrap().last_mut().unwrap()["src"] = "10.96.0.10:53".into();
    [original, reply]
}

/// Sets where a packet begins, as its first namespace sees it, and where it arrives.
fn ends(packet: &mut Value, (src, dst): (&str, &str), arrives: &str) {
    let hops = packet["hops"].as_array_mut().unwrap();
    let netns = hops[0]["netns"].clone();
    for hop in hops.iter_mut().filter(|hop| hop["netns"] == netns) {
        (hop["src"], hop["dst"]) = (src.into(), dst.into());
    }
    hops.last_mut().unwrap()["dst"] = arrives.into();
}

/// A DNS lookup as it must be seen.
fn lookup() -> Machine {
    let objects = |everywhere| {
        let [original, reply] = packets(everywhere);
        vec![original, reply, flow(), stats(0)]
    };
    Machine {
        path: "nftables/udp",
        status: 0,
        best: objects(true),
        link: objects(false),
        link_status: 0,
        link_message: "a message",
    }
}

type Change = fn(&mut Value, &mut Value);

const CHANGES: &[Change] = &[
    |packet, _| packet["holes"] = 1.into(),
    |packet, _| packet["verdict"] = "unknown".into(),
    |packet, _| packet["verdict_observed"] = false.into(),
    |packet, _| {
        let mut hops = packet["hops"].as_array_mut().unwrap().iter_mut();
        let hop = hops.find(|hop| hop["stage"] == "prerouting").unwrap();
        hop["translations"][0]["to"] = "10.244.1.3:99".into();
    },
    |packet, _| packet["hops"][0]["dst"] = "10.96.0.10:54".into(),
    |packet, _| packet["flow"] = 2.into(),
    |packet, _| packet["len"] = 61.into(),
    |_, flow| flow["state"] = "unreplied".into(),
    |_, flow| flow["backend"] = Value::Null,
    |_, flow| flow["backend"]["netns"] = "pod-a".into(),
    |_, flow| flow["client"]["netns"] = Value::Null,
    |_, flow| flow["destination"]["addr"] = "10.96.0.10:54".into(),
    |_, flow| flow["translations"] = json!([]),
    |_, flow| flow["translations"][0]["stage"] = "output".into(),
    |_, flow| flow["translations"][0]["netns"] = "pod-a".into(),
    |_, flow| flow["packets"]["reply"] = 2.into(),
    |_, flow| flow["drops"] = 1.into(),
    |_, flow| flow["holes"] = 1.into(),
    |_, flow| flow["affected_by_loss"] = true.into(),
    |_, flow| flow["first_ns"] = u64::MAX.into(),
];

fn change(objects: &mut [Value], change: Change) {
    let [packet, _, flow, _] = objects else {
        unreachable!()
    };
    change(packet, flow);
}

#[test]
fn a_trace_as_it_must_be_is_complete_and_alike() {
    let [path, best, link] = lookup().judged(NEW);
    assert!(but(&path).is_empty() && but(&best).is_empty());
    assert_eq!(but(&link), degradations::differences(Way::Link));
    assert!(matches!(&link, Judgement::Good { word, .. } if word == "2 packets"));
}

#[test]
fn one_hop_less_fails_and_shows_the_way() {
    let mut machine = lookup();
    machine.best[0]["hops"].as_array_mut().unwrap().remove(4);
    let [path, _, link] = machine.judged(NEW);
    let said = why(&path);
    assert!(
        said.contains("node/vetha receive, node/cni0 prerouting(dnat)"),
        "{said}"
    );
    assert!(said.contains("must be"), "{said}");
    assert!(why(&link).contains("by the best way"));
}

#[test]
fn each_wrong_member_fails_by_each_way() {
    for (number, change) in CHANGES.iter().enumerate() {
        let mut machine = lookup();
        self::change(&mut machine.best, *change);
        assert!(!is_good(&machine.judged(NEW)[0]), "{number}");
        let mut machine = lookup();
        self::change(&mut machine.link, *change);
        let [path, best, link] = machine.judged(NEW);
        assert!(
            !is_good(&path) && is_good(&best) && !is_good(&link),
            "{number}"
        );
    }
}

#[test]
fn what_no_expectation_mentions_must_be_alike_all_the_same() {
    let mut machine = lookup();
    machine.link[0]["hops"][3]["dev_kind"] = "veth".into();
    let [path, _, link] = machine.judged(NEW);
    assert!(is_good(&path));
    assert!(why(&link).contains("a packet is"));
    let mut machine = lookup();
    let hook = hop("pod-a/eth0", "postrouting", None);
    let hops = machine.link[0]["hops"].as_array_mut().unwrap();
    hops.insert(0, hook);
    assert!(why(&machine.judged(NEW)[0]).contains("links: "));
}

#[test]
fn what_is_lost_or_absent_fails() {
    type Break = fn(&mut Vec<Value>);
    let breaks: &[Break] = &[
        |objects| objects[3] = stats(1),
        |objects| drop(objects.pop()),
        |objects| drop(objects.drain(..3)),
        Vec::clear,
        |objects| objects[2] = json!({"type": "flow"}),
    ];
    for (number, broken) in breaks.iter().enumerate() {
        let mut machine = lookup();
        broken(&mut machine.best);
        assert!(!is_good(&machine.judged(NEW)[0]), "{number}");
    }
    let mut machine = lookup();
    machine.status = 1;
    assert!(!is_good(&machine.judged(NEW)[0]));
    let nothing = of(&[path("nftables/udp")], NEW, &Results::default());
    assert!(nothing.iter().all(|(_, judgement)| !is_good(judgement)));
}

/// A connection that the node drops.
fn dropped(reason: &Value) -> Machine {
    let dnat = || translation("dnat", "10.96.0.81:80", "10.244.1.3:8080");
    let objects = |everywhere: bool| {
        let hook = everywhere.then(|| hop("pod-a/eth0", "postrouting", None));
        let hops = [
            hop("pod-a/eth0", "device.queue", None),
            hop("pod-a/eth0", "device.transmit", None),
            hop("node/vetha", "device.receive", None),
            hop("node/cni0", "bridge", None),
            hop("node/cni0", "prerouting", Some(dnat())),
            hop("node/cni0", "forward", None),
            hop("node/vethb", "drop", None),
        ];
        let hops: Vec<Value> = hook.into_iter().chain(hops).collect();
        let mut packet = packet("original", &hops);
        ends(
            &mut packet,
            ("10.244.1.2:40000", "10.96.0.81:80"),
            "10.244.1.3:8080",
        );
        packet["tcp"] = json!({"flags": "S", "seq": 1, "ack": 0});
        packet["verdict"] = "dropped".into();
        packet["drop"] = json!({"reason": reason, "at": "forward", "rule": null, "rule_info": null,
            "reason_number": 0, "netns": "node", "function": "nf_hook_slow"});
        let mut flow = flow();
        flow["proto"] = "tcp".into();
        flow["state"] = "syn-sent".into();
        flow["destination"]["addr"] = "10.96.0.81:80".into();
        flow["backend"] = Value::Null;
        flow["translations"][0]["from"] = "10.96.0.81:80".into();
        flow["translations"][0]["to"] = "10.244.1.3:8080".into();
        flow["packets"] = json!({"original": 1, "reply": 0});
        flow["bytes"] = json!({"original": 60, "reply": 0});
        flow["drops"] = 1.into();
        vec![packet, flow, stats(0)]
    };
    Machine {
        path: "nftables/drop",
        status: 28,
        best: objects(true),
        link: objects(false),
        ..lookup()
    }
}

/// The tracer where links do not exist.
fn without_links(machine: Machine) -> Machine {
    Machine {
        link: Vec::new(),
        link_status: 1,
        link_message: "error: --netfilter link does not work here: too old",
        ..machine
    }
}

#[test]
fn only_old_kernels_may_give_no_reason() {
    let known = dropped(&"NETFILTER_DROP".into());
    assert!(but(&known.judged(NEW)[0]).is_empty());
    let unknown = dropped(&Value::Null);
    assert!(!is_good(&unknown.judged(NEW)[0]));
    let [path, ..] = without_links(unknown).judged(OLD);
    assert_eq!(but(&path).len(), 1);
}

#[test]
fn a_way_that_does_not_exist_must_be_refused_with_the_reason() {
    let machine = without_links(lookup());
    let [path, _, link] = machine.judged(OLD);
    assert!(but(&path).is_empty(), "one way is enough");
    assert_eq!(but(&link).len(), 1);
    let [path, _, link] = machine.judged(NEW);
    assert!(!is_good(&path) && !is_good(&link), "a new kernel has links");
    let silent = Machine {
        link_message: "error: no",
        ..machine.clone()
    };
    assert!(!is_good(&silent.judged(OLD)[2]));
    let [_, _, link] = lookup().judged(OLD);
    assert!(why(&link).contains("must be refused"));
    let talking = Machine {
        link: vec![stats(0)],
        ..machine
    };
    assert!(!is_good(&talking.judged(OLD)[2]));
}
