//! What can be said of any machine, and of this one.

use tracer_common::filter;

use super::{attempt::nothing, findings::listed, *};
use crate::{
    kernel::btf::{KernelBtf, fixture},
    node::testing::root,
};

#[test]
fn nothing_matches_nothing() {
    assert!(!nothing().matches(&filter::Subject::default()));
}

#[test]
fn long_lists_are_cut() {
    let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    assert_eq!(listed(&names[..2]), " (n0, n1)");
    assert_eq!(listed(&names), " (n0, n1, n2, n3, n4, n5, n6, n7, ...)");
    assert_eq!(listed(&[]), "");
}

/// A real kernel's BTF, in which one name is another.
#[test]
fn what_the_running_kernel_would_lack_is_said() {
    let Ok(captured) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        return println!("skipped: no BTF here");
    };
    for (name, readiness, said) in [
        ("sk_buff", Readiness::Impossible, "struct sk_buff"),
        (
            "network_header",
            Readiness::Impossible,
            "no member network_header",
        ),
        (
            "BPF_MAP_TYPE_RINGBUF",
            Readiness::Impossible,
            "no BPF ring buffer",
        ),
        (
            "btf_trace_net_dev_queue",
            Readiness::Impossible,
            "no tracepoint net_dev_queue",
        ),
        ("rtnl_link_ops", Readiness::Degraded, "no rtnl_link_ops"),
        (
            "btf_trace_consume_skb",
            Readiness::Degraded,
            "no tracepoint consume_skb",
        ),
        ("nf_hook_state", Readiness::Degraded, "struct nf_hook_state"),
    ] {
        let altered = fixture::without_name(captured.clone(), name);
        let found = cases::of_kernel(KernelBtf::from_bytes(&altered));
        let shown = serde_json::to_string(&found).unwrap();
        assert_eq!(found.readiness, readiness, "{name}: {shown}");
        assert!(shown.contains(said), "{name}: {shown}");
    }
}

#[test]
fn this_machine_is_looked_at() {
    let found = checkup();
    println!("{found:#?}");
    let attach = found.findings.last().unwrap();
    assert_eq!(attach.subject, Subject::Attach);
    if !root() {
        assert_eq!(found.readiness, Readiness::Impossible);
        assert!(found.timing.is_none());
        return;
    }
    assert_ne!(found.readiness, Readiness::Impossible);
    let timing = found.timing.unwrap();
    assert!(timing.attach_us > 0 && timing.attach_cpu_us > 0);
    assert_eq!(attach.readiness, Readiness::Ready);
}
