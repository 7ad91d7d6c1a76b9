//! What doctor prints, of machines of all kinds.

use super::*;
use crate::kernel::checkup::cases;
use crate::kernel::plan::{Facts, Kind, Plan, TRACEPOINTS};

fn old_kernel() -> Checkup {
    let facts = Facts {
        release: "6.1.0-40-amd64".to_owned(),
        tracepoints: TRACEPOINTS.map(|name| (name.to_owned(), 3)).into(),
        netfilter_state: true,
        conntrack: true,
        ..Facts::default()
    };
    let mut plan = Plan::new(&facts, None);
    let attached = Outcome::Attached {
        load_us: 123_456,
        attach_us: 200,
    };
    plan.note("device_queue", attached);
    let reason = "the verifier says no: Permission denied (os error 13): \u{1b}[2J".to_owned();
    plan.note("consume", Outcome::Failed { reason });
    Checkup {
        readiness: plan.readiness(),
        findings: vec![
            Finding {
                subject: Subject::Kernel,
                readiness: Readiness::Ready,
                text: "6.1.0-40-amd64".to_owned(),
                remedy: None,
            },
            Finding {
                subject: Subject::Symbols,
                readiness: Readiness::Degraded,
                text: "the kernel hides its addresses".to_owned(),
                remedy: Some("run with CAP_SYSLOG".to_owned()),
            },
            Finding {
                subject: Subject::Attach,
                readiness: Readiness::Ready,
                text: "everything was attached and detached again".to_owned(),
                remedy: None,
            },
        ],
        plan: Some(plan),
        timing: Some(Timing {
            attach_us: 412_345,
            detach_us: 1_234,
            attach_cpu_us: 398_765,
            detach_cpu_us: 987,
        }),
    }
}

#[test]
fn people_see_what_is_missing_and_what_to_do() {
    insta::assert_snapshot!(text(&old_kernel()), @r"
    kernel        ok          6.1.0-40-amd64
    symbols       degraded    the kernel hides its addresses
                              -> run with CAP_SYSLOG
    attach        ok          everything was attached and detached again
                              attached in 412.3 ms (398.8 ms of processor time), detached in 1.2 ms (1.0 ms)

    devices       ok          tp_btf tracepoints: they see every device of every network namespace
                              device_receive at tracepoint netif_receive_skb: not tried
                              device_transmit at tracepoint net_dev_start_xmit: not tried
                              device_queue at tracepoint net_dev_queue: loaded in 123.5 ms
    drops         ok          tp_btf kfree_skb with reason: the tracepoint gives the reason of a drop
                              drop_with_reason at tracepoint kfree_skb: not tried
    consume       degraded    nothing: it tells a packet's end from its address being used again
                              consume at tracepoint consume_skb: failed: the verifier says no: Permission denied (os error 13): [2J
                              the end of a packet that was used up is not seen
                              -> see the reason that the kernel gives for the program; report it with the output of `tracer doctor --json` if it is not clear
    netfilter     degraded    nothing: this kernel has none of the ways to see them
                              --netfilter fentry: not possible: this kernel's BTF does not describe nf_hook_slow
                              --netfilter link: not possible: this kernel does not take BPF programs as netfilter functions
                              --netfilter kprobe: not possible: this kernel has no kprobes, or /sys is not mounted
                              netfilter hooks are not seen: translations show only between devices, a drop by a rule only as a drop
                              -> use a kernel that describes its functions (CONFIG_DEBUG_INFO_BTF=y), or from 6.4 on with CONFIG_NETFILTER_BPF_LINK=y, or with CONFIG_KPROBE_EVENTS=y, on x86-64 or arm64
    socket        degraded    nothing: no cgroup v2 tree is mounted
                              delivery to a socket is not seen: a packet's last hop is its device
                              -> mount one: mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, mount the node's /sys/fs/cgroup
    conntrack     degraded    nothing: connections are read at netfilter hooks, which are not seen
                              connections' tuples are not read: a flow that was translated before tracing began has only one of its tuples
                              -> see netfilter
    processes     degraded    nothing: no cgroup v2 tree is mounted
                              the process that sends is found by looking for its socket, which short-lived ones do not wait for
                              -> mount one: mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, mount the node's /sys/fs/cgroup
    bytes         degraded    nothing: no cgroup v2 tree is mounted
                              with `record --bytes`, nothing is kept of packets that no socket of this node takes
                              -> mount one: mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, mount the node's /sys/fs/cgroup

    degraded: tracing works here, with what is missing said above
    ");
}

#[test]
fn each_way_to_see_netfilter_has_a_line() {
    let facts = Facts {
        netfilter_function: true,
        netfilter_links: true,
        kprobes: true,
        call_registers: true,
        netfilter_state: true,
        ..Facts::default()
    };
    let mut plan = Plan::new(&facts, None);
    let reason = "bpf_raw_tracepoint_open: Operation not permitted".to_owned();
    plan.note("netfilter_end", Outcome::Failed { reason });
    assert!(plan.fall_back());
    let family = plan.family(Kind::Netfilter).unwrap();
    insta::assert_snapshot!(family_lines(family, true).join("\n"), @"
    netfilter     ok          netfilter links: they see each hook before its first and after its last function, in the network namespaces that have rules
                              netfilter_leave at netfilter hooks: not tried
                              netfilter_enter at netfilter hooks: not tried
                              --netfilter fentry: netfilter_end was refused: bpf_raw_tracepoint_open: Operation not permitted
                              --netfilter kprobe: possible too
    ");
    let json = serde_json::to_value(&family.ways).unwrap();
    assert_eq!(json[0]["way"], "fentry");
    assert_eq!(json[0]["standing"], "refused");
    assert_eq!(
        json[1],
        serde_json::json!({"way": "link", "standing": "chosen"})
    );
    assert_eq!(json[2]["standing"], "possible");
    assert_eq!(
        serde_json::from_value::<Family>(serde_json::to_value(family).unwrap()).unwrap(),
        *family
    );
}

#[test]
fn programs_get_one_object() {
    let shown = json(&old_kernel()).unwrap();
    assert!(!shown.contains('\u{1b}'));
    assert_eq!(shown.lines().count(), 1);
    let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["type"], "doctor");
    assert_eq!(value["schema"], 1);
    assert_eq!(value["readiness"], "degraded");
    assert_eq!(value["findings"][1]["subject"], "symbols");
    assert_eq!(value["plan"]["families"][0]["kind"], "devices");
    assert_eq!(value["timing"]["attach_us"], 412_345);
}

/// In both forms, and by the exit status.
#[test]
fn whatever_a_machine_lacks_is_said_with_what_to_do() {
    for case in cases::all() {
        let (name, readiness, words) = (case.name, case.readiness, case.said);
        let found = case.checkup();
        let shown = text(&found);
        assert_eq!(found.readiness, readiness, "{name}: {shown}");
        let json: serde_json::Value = serde_json::from_str(&json(&found).unwrap()).unwrap();
        let (word, code) = match readiness {
            Readiness::Ready => ("ready", 0),
            Readiness::Degraded => ("degraded", 1),
            Readiness::Impossible => ("impossible", 2),
        };
        assert_eq!(
            (json["readiness"].as_str(), status(found.readiness)),
            (Some(word), code)
        );
        let conclusion = shown.lines().last().unwrap();
        assert!(
            conclusion.starts_with(&format!("{word}: ")),
            "{name}: {shown}"
        );
        let findings = json.to_string();
        for said in words {
            assert!(shown.contains(said), "{name}: {said:?} is not in {shown}");
            let escaped = said.replace('"', "\\\"");
            assert!(
                findings.contains(&escaped),
                "{name}: {said:?} is not in {findings}"
            );
        }
        let attached = found.timing.is_some();
        assert_eq!(
            attached,
            shown.contains("attached in 312.0 ms (287.0 ms of processor time)")
        );
    }
}

/// What doctor calls impossible does not start, and says the same.
#[test]
fn what_is_impossible_is_refused_by_run_and_watch() {
    for case in cases::all() {
        let error = case.start_error();
        // That a tracepoint is missing comes out when it is to be attached to.
        let expected = case.readiness == Readiness::Impossible && !case.name.contains("tracepoint");
        assert_eq!(error.is_some(), expected, "{}: {error:?}", case.name);
        for said in error.iter().flat_map(|_| case.said) {
            // Where more is to be read is doctor's to say.
            let said = said.strip_prefix("docs/").map_or(*said, |_| "CAP_BPF");
            let error = error.as_deref().unwrap_or_default();
            assert!(
                error.contains(said),
                "{}: {said:?} is not in {error:?}",
                case.name
            );
        }
    }
}
