//! The plans for kernels as they are.

use proptest::prelude::*;

use super::*;

fn kernel(release: &str) -> Facts {
    let arguments = |name: &&str| {
        let count = match *name {
            "net_dev_start_xmit" => 2,
            _ => 1,
        };
        ((*name).to_owned(), count)
    };
    Facts {
        release: release.to_owned(),
        tracepoints: TRACEPOINTS.iter().map(arguments).collect(),
        netfilter_function: false,
        netfilter_links: true,
        kprobes: false,
        call_registers: true,
        netfilter_state: true,
        conntrack: true,
        socket_cookie: true,
        cgroup: Some(Cgroup {
            path: PathBuf::from("/sys/fs/cgroup"),
            whole: true,
        }),
        lockdown: Some("none".to_owned()),
        notes: Vec::new(),
    }
}

fn with_drop_arguments(mut facts: Facts, count: usize) -> Facts {
    facts.tracepoints.insert("kfree_skb".to_owned(), count);
    facts
}

/// What was chosen, and what is missing, family by family.
fn shown(facts: &Facts) -> String {
    let plan = Plan::new(facts, None);
    let families = plan.families.iter().map(|family| {
        let programs: Vec<&str> = family.steps.iter().map(|s| s.program.as_str()).collect();
        let degraded = family.degraded.as_ref();
        let line = format!(
            "{:9} {} {programs:?} {}",
            family.kind,
            family.choice.as_deref().unwrap_or("-"),
            degraded.map_or("", |degraded| &degraded.remedy),
        );
        line.trim_end().to_owned() + "\n"
    });
    format!("{}{:?}", families.collect::<String>(), plan.readiness())
}

#[test]
fn linux_5_10_has_device_hooks_and_bare_drops() {
    let facts = Facts {
        netfilter_links: false,
        conntrack: false,
        ..with_drop_arguments(kernel("5.10.0-35-amd64"), 2)
    };
    insta::assert_snapshot!(shown(&facts), @r#"
    devices   tp_btf tracepoints ["device_receive", "device_transmit", "device_queue"]
    drops     tp_btf kfree_skb ["drop_without_reason"] use a kernel from 5.17 on
    consume   tp_btf consume_skb ["consume"]
    netfilter - [] use a kernel that describes its functions (CONFIG_DEBUG_INFO_BTF=y), or from 6.4 on with CONFIG_NETFILTER_BPF_LINK=y, or with CONFIG_KPROBE_EVENTS=y, on x86-64 or arm64
    socket    cgroup_skb at the root of cgroup v2 ["socket_deliver"]
    conntrack - [] see netfilter
    processes cgroup/sock_create at the root of cgroup v2 ["socket_create"]
    bytes     cgroup_skb at the root of cgroup v2 ["socket_send"]
    Degraded
    "#);
}

#[test]
fn linux_6_1_has_reasons_too() {
    let facts = Facts {
        netfilter_links: false,
        ..with_drop_arguments(kernel("6.1.0-40-amd64"), 3)
    };
    insta::assert_snapshot!(shown(&facts), @r#"
    devices   tp_btf tracepoints ["device_receive", "device_transmit", "device_queue"]
    drops     tp_btf kfree_skb with reason ["drop_with_reason"]
    consume   tp_btf consume_skb ["consume"]
    netfilter - [] use a kernel that describes its functions (CONFIG_DEBUG_INFO_BTF=y), or from 6.4 on with CONFIG_NETFILTER_BPF_LINK=y, or with CONFIG_KPROBE_EVENTS=y, on x86-64 or arm64
    socket    cgroup_skb at the root of cgroup v2 ["socket_deliver"]
    conntrack - [] see netfilter
    processes cgroup/sock_create at the root of cgroup v2 ["socket_create"]
    bytes     cgroup_skb at the root of cgroup v2 ["socket_send"]
    Degraded
    "#);
}

#[test]
fn linux_6_12_has_everything() {
    let facts = with_drop_arguments(kernel("6.12.43+deb13-amd64"), 4);
    insta::assert_snapshot!(shown(&facts), @r#"
    devices   tp_btf tracepoints ["device_receive", "device_transmit", "device_queue"]
    drops     tp_btf kfree_skb with reason ["drop_with_reason"]
    consume   tp_btf consume_skb ["consume"]
    netfilter netfilter links ["netfilter_leave", "netfilter_enter"]
    socket    cgroup_skb at the root of cgroup v2 ["socket_deliver"]
    conntrack read at netfilter hooks []
    processes cgroup/sock_create at the root of cgroup v2 ["socket_create"]
    bytes     cgroup_skb at the root of cgroup v2 ["socket_send"]
    Ready
    "#);
}

#[test]
fn in_a_container_on_6_18_the_cgroup_tree_is_a_part() {
    let facts = Facts {
        cgroup: Some(Cgroup {
            path: PathBuf::from("/sys/fs/cgroup"),
            whole: false,
        }),
        ..with_drop_arguments(kernel("6.18.44"), 4)
    };
    insta::assert_snapshot!(shown(&facts), @r#"
    devices   tp_btf tracepoints ["device_receive", "device_transmit", "device_queue"]
    drops     tp_btf kfree_skb with reason ["drop_with_reason"]
    consume   tp_btf consume_skb ["consume"]
    netfilter netfilter links ["netfilter_leave", "netfilter_enter"]
    socket    cgroup_skb at the root of cgroup v2 ["socket_deliver"] run in the node's cgroup namespace, or mount the node's /sys/fs/cgroup
    conntrack read at netfilter hooks []
    processes cgroup/sock_create at the root of cgroup v2 ["socket_create"]
    bytes     cgroup_skb at the root of cgroup v2 ["socket_send"]
    Degraded
    "#);
}

#[test]
fn without_device_tracepoints_nothing_is_possible() {
    let mut facts = kernel("6.12.0");
    facts.tracepoints.remove("net_dev_queue");
    let plan = Plan::new(&facts, None);
    assert_eq!(plan.readiness(), Readiness::Impossible);
    let devices = plan.family(Kind::Devices).unwrap();
    assert_eq!(devices.why, "this kernel has no tracepoint net_dev_queue");
    assert!(plan.steps().all(|step| step.program != "device_receive"));
}

#[test]
fn a_refused_program_takes_its_family_out() {
    let mut plan = Plan::new(&with_drop_arguments(kernel("6.12.0"), 4), None);
    assert_eq!(plan.readiness(), Readiness::Ready);
    plan.note(
        "netfilter_enter",
        Outcome::Failed {
            reason: "the verifier says no".to_owned(),
        },
    );
    assert_eq!(plan.readiness(), Readiness::Degraded);
    for kind in [Kind::Netfilter, Kind::Conntrack] {
        assert_eq!(plan.family(kind).unwrap().choice, None, "{kind}");
    }
    let (step, reason) = plan.failure(Kind::Netfilter).unwrap();
    assert_eq!(
        (step.program.as_str(), reason),
        ("netfilter_enter", "the verifier says no")
    );
    assert!(
        plan.steps()
            .all(|step| step.target != Target::NetfilterHooks)
    );
    let attached = Outcome::Attached {
        load_us: 1,
        attach_us: 1,
    };
    plan.note("netfilter_leave", attached);
    assert_eq!(plan.family(Kind::Netfilter).unwrap().choice, None);
}

#[test]
fn without_the_devices_hooks_it_is_impossible() {
    let mut plan = Plan::new(&kernel("6.12.0"), None);
    let reason = String::new();
    plan.note("device_queue", Outcome::Failed { reason });
    assert_eq!(plan.readiness(), Readiness::Impossible);
}

#[test]
fn a_plan_survives_being_saved() {
    let mut plan = Plan::new(&kernel("6.12.0"), None);
    let reason = "no".to_owned();
    plan.note("consume", Outcome::Failed { reason });
    let saved = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&saved).unwrap(), plan);
}

#[test]
fn lockdown_is_noted() {
    let facts = Facts {
        lockdown: Some("confidentiality".to_owned()),
        ..kernel("6.12.0")
    };
    assert!(Plan::new(&facts, None).notes[0].contains("lockdown=integrity"));
}

#[test]
fn releases_have_versions() {
    assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
    assert_eq!(version("5.10.0-35-amd64"), Some((5, 10)));
    assert_eq!(version("7.2"), Some((7, 2)));
    assert_eq!(version("7"), None);
    assert_eq!(version(""), None);
}

proptest! {
    #[test]
    fn any_release_is_read(release in "\\PC*") {
        let _ = version(&release);
    }
}

#[test]
fn functions_come_first_and_links_take_their_place_when_refused() {
    let facts = Facts {
        netfilter_function: true,
        ..kernel("6.12.0")
    };
    let mut plan = Plan::new(&facts, None);
    assert!(plan.sees_netfilter_everywhere());
    let reason = "Operation not permitted".to_owned();
    plan.note("netfilter_end", Outcome::Failed { reason });
    assert_eq!(plan.readiness(), Readiness::Degraded);
    assert!(plan.fall_back());
    assert!(!plan.sees_netfilter_everywhere());
    let family = plan.family(Kind::Netfilter).unwrap();
    assert_eq!(family.choice.as_deref(), Some("netfilter links"));
    let refused = Standing::Refused {
        why: "netfilter_end was refused: Operation not permitted".to_owned(),
    };
    assert_eq!(family.ways[0].standing, refused);
    assert!(!plan.fall_back());
    assert!(plan.family(Kind::Conntrack).unwrap().choice.is_some());
}

#[test]
fn a_way_that_is_forced_has_no_alternative() {
    let facts = Facts {
        netfilter_function: true,
        ..kernel("6.12.0")
    };
    let mut plan = Plan::new(&facts, Some(NetfilterWay::Fentry));
    let reason = "no".to_owned();
    plan.note("netfilter_begin", Outcome::Failed { reason });
    assert!(!plan.fall_back());
    let plan = Plan::new(&facts, Some(NetfilterWay::Link));
    assert!(!plan.sees_netfilter_everywhere());
}

#[test]
fn a_way_that_a_kernel_lacks_is_not_replaced_by_another() {
    let old = Facts {
        netfilter_function: true,
        netfilter_links: false,
        ..kernel("6.1.0")
    };
    let lack = |way| Plan::new(&old, way).lack(Kind::Netfilter);
    assert_eq!(
        lack(Some(NetfilterWay::Link)).as_deref(),
        Some("this kernel does not take BPF programs as netfilter functions")
    );
    assert_eq!(lack(Some(NetfilterWay::Fentry)), None);
    assert_eq!(lack(None), None);
    let mut plan = Plan::new(&old, Some(NetfilterWay::Fentry));
    let reason = "no trampolines".to_owned();
    plan.note("netfilter_begin", Outcome::Failed { reason });
    assert_eq!(
        plan.lack(Kind::Netfilter).as_deref(),
        Some("netfilter_begin was refused: no trampolines")
    );
}

/// What there is to say of each way.
fn standings(plan: &Plan) -> Vec<String> {
    let family = plan.family(Kind::Netfilter).unwrap();
    let word = |state: &WayState| match &state.standing {
        Standing::Chosen => format!("{} chosen", state.way),
        Standing::Possible => format!("{} possible", state.way),
        Standing::Refused { why } => format!("{} refused: {why}", state.way),
        Standing::Lacking { why } => format!("{} lacking: {why}", state.way),
    };
    family.ways.iter().map(word).collect()
}

fn refuse(plan: &mut Plan, program: &str) {
    let reason = "no".to_owned();
    plan.note(program, Outcome::Failed { reason });
}

#[test]
fn probes_come_last_and_see_every_namespace() {
    let facts = Facts {
        netfilter_function: true,
        kprobes: true,
        ..kernel("6.12.0")
    };
    let mut plan = Plan::new(&facts, None);
    assert_eq!(
        standings(&plan),
        ["fentry chosen", "link possible", "kprobe possible"]
    );
    refuse(&mut plan, "netfilter_begin");
    assert!(plan.fall_back());
    refuse(&mut plan, "netfilter_enter");
    assert!(plan.fall_back());
    assert_eq!(
        standings(&plan),
        [
            "fentry refused: netfilter_begin was refused: no",
            "link refused: netfilter_enter was refused: no",
            "kprobe chosen"
        ]
    );
    assert!(plan.sees_netfilter_everywhere());
    let programs: Vec<&str> = plan.steps().map(|step| step.program.as_str()).collect();
    assert!(programs.contains(&"netfilter_call") && programs.contains(&"netfilter_return"));
    assert!(plan.family(Kind::Conntrack).unwrap().choice.is_some());
    refuse(&mut plan, "netfilter_return");
    assert!(!plan.fall_back());
    for kind in [Kind::Netfilter, Kind::Conntrack] {
        assert_eq!(plan.family(kind).unwrap().choice, None, "{kind}");
    }
    assert!(standings(&plan)[2].starts_with("kprobe refused"));
}

#[test]
fn probes_are_the_alternative_where_there_are_no_links() {
    let facts = Facts {
        netfilter_function: true,
        netfilter_links: false,
        kprobes: true,
        ..kernel("5.15.0")
    };
    let mut plan = Plan::new(&facts, None);
    refuse(&mut plan, "netfilter_end");
    assert!(plan.fall_back());
    let chosen = plan.family(Kind::Netfilter).unwrap().choice.as_deref();
    assert_eq!(chosen, Some("kprobe and kretprobe of nf_hook_slow"));
    assert_eq!(
        standings(&plan)[1],
        "link lacking: this kernel does not take BPF programs as netfilter functions"
    );
}

#[test]
fn probes_need_probes_and_registers() {
    let with = |kprobes, call_registers| Facts {
        kprobes,
        call_registers,
        ..kernel("6.12.0")
    };
    let lack = |facts| Plan::new(&facts, Some(NetfilterWay::Kprobe)).lack(Kind::Netfilter);
    assert_eq!(lack(with(true, true)), None);
    assert!(lack(with(false, true)).unwrap().contains("no kprobes"));
    assert!(lack(with(true, false)).unwrap().contains("arguments"));
    let plan = Plan::new(&with(true, true), Some(NetfilterWay::Kprobe));
    assert_eq!(standings(&plan), ["kprobe chosen"]);
}
