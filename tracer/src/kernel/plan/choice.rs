//! What is chosen for each family, why, and what to do where nothing works.

use super::{Degraded, Facts, Family, Kind, NetfilterWay, Step, Target, netfilter::netfilter};

const DEVICE_STEPS: [(&str, &str); 3] = [
    ("device_receive", "netif_receive_skb"),
    ("device_transmit", "net_dev_start_xmit"),
    ("device_queue", "net_dev_queue"),
];
const DROP: &str = "kfree_skb";
const CONSUME: &str = "consume_skb";
const NEWER: &str = "use a kernel from 5.8 on that has BTF and these tracepoints";

/// Every family, in the order of [`Kind`].
pub(super) fn families(facts: &Facts, way: Option<NetfilterWay>) -> Vec<Family> {
    let netfilter = netfilter(facts, way);
    let conntrack = conntrack(facts, &netfilter);
    vec![
        devices(facts),
        drops(facts),
        consume(facts),
        netfilter,
        socket(facts),
        conntrack,
        processes(facts),
        bytes(facts),
    ]
}

fn at(program: &str, tracepoint: &str) -> Step {
    Step::of(program, Target::Tracepoint(tracepoint.to_owned()))
}

fn devices(facts: &Facts) -> Family {
    let lacks = |name: &&str| !facts.tracepoints.contains_key(*name);
    let names = DEVICE_STEPS.map(|(_, tracepoint)| tracepoint);
    let missing: Vec<&str> = names.into_iter().filter(lacks).collect();
    if !missing.is_empty() {
        let why = format!("this kernel has no tracepoint {}", missing.join(", "));
        return Family::absent(Kind::Devices, why, NEWER);
    }
    let steps = DEVICE_STEPS.map(|(program, tracepoint)| at(program, tracepoint));
    let why = "they see every device of every network namespace".to_owned();
    Family::chosen(Kind::Devices, "tp_btf tracepoints", why, steps.to_vec())
}

fn drops(facts: &Facts) -> Family {
    match facts.tracepoints.get(DROP) {
        None => Family::absent(
            Kind::Drops,
            format!("this kernel has no tracepoint {DROP}"),
            NEWER,
        ),
        Some(3..) => Family::chosen(
            Kind::Drops,
            "tp_btf kfree_skb with reason",
            "the tracepoint gives the reason of a drop".to_owned(),
            vec![at("drop_with_reason", DROP)],
        ),
        Some(_) => Family {
            degraded: Some(Degraded {
                what: "drops have no reason, only the kernel function that dropped".to_owned(),
                remedy: "use a kernel from 5.17 on".to_owned(),
            }),
            ..Family::chosen(
                Kind::Drops,
                "tp_btf kfree_skb",
                "the tracepoint of this kernel gives no reason of a drop".to_owned(),
                vec![at("drop_without_reason", DROP)],
            )
        },
    }
}

fn consume(facts: &Facts) -> Family {
    if facts.tracepoints.contains_key(CONSUME) {
        let why = "it tells a packet's end from its address being used again".to_owned();
        let steps = vec![at("consume", CONSUME)];
        Family::chosen(Kind::Consume, "tp_btf consume_skb", why, steps)
    } else {
        let why = format!("this kernel has no tracepoint {CONSUME}");
        Family::absent(Kind::Consume, why, NEWER)
    }
}

const NO_CGROUP: &str = "no cgroup v2 tree is mounted";
const MOUNT_CGROUP: &str = "mount one: mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, \
                            mount the node's /sys/fs/cgroup";

/// Where the processes are that make sockets.
fn processes(facts: &Facts) -> Family {
    let kind = Kind::Processes;
    let Some(cgroup) = &facts.cgroup else {
        return Family::absent(kind, NO_CGROUP.to_owned(), MOUNT_CGROUP);
    };
    if !facts.socket_cookie {
        let why = "this kernel's BTF does not describe a socket's cookie".to_owned();
        return Family::absent(kind, why, "use a kernel from 5.8 on that has BTF");
    }
    let path = cgroup.path.clone();
    let why = format!(
        "it sees who makes a socket, for all processes below {}",
        path.display()
    );
    let steps = vec![Step::of("socket_create", Target::CgroupSocketCreate(path))];
    Family::chosen(
        kind,
        "cgroup/sock_create at the root of cgroup v2",
        why,
        steps,
    )
}

fn socket(facts: &Facts) -> Family {
    let kind = Kind::Socket;
    let Some(cgroup) = &facts.cgroup else {
        return Family::absent(kind, NO_CGROUP.to_owned(), MOUNT_CGROUP);
    };
    let target = Target::CgroupIngress(cgroup.path.clone());
    let why = format!(
        "it sees what sockets take, for all processes below {}",
        cgroup.path.display()
    );
    let steps = vec![Step::of("socket_deliver", target)];
    let mut family = Family::chosen(kind, "cgroup_skb at the root of cgroup v2", why, steps);
    if !cgroup.whole {
        family.degraded = Some(Degraded {
            what: format!(
                "{} is only a part of the cgroup tree: delivery to processes outside of it is \
                 not seen",
                cgroup.path.display()
            ),
            remedy: "run in the node's cgroup namespace, or mount the node's /sys/fs/cgroup"
                .to_owned(),
        });
    }
    family
}

/// What sockets send. What they take, the program of [`Kind::Socket`] keeps.
fn bytes(facts: &Facts) -> Family {
    let kind = Kind::Bytes;
    let Some(cgroup) = &facts.cgroup else {
        return Family::absent(kind, NO_CGROUP.to_owned(), MOUNT_CGROUP);
    };
    let path = cgroup.path.clone();
    let why = format!(
        "for `record --bytes` it sees what sockets send, for all processes below {}",
        path.display()
    );
    let steps = vec![Step::of("socket_send", Target::CgroupEgress(path))];
    Family::chosen(kind, "cgroup_skb at the root of cgroup v2", why, steps)
}

fn conntrack(facts: &Facts, netfilter: &Family) -> Family {
    let kind = Kind::Conntrack;
    if netfilter.choice.is_none() {
        return no_conntrack_without_netfilter();
    }
    if !facts.conntrack {
        let why = "struct nf_conn is not described by this kernel's BTF".to_owned();
        let remedy = "load the module nf_conntrack before tracing (the kernel must be 5.11 or \
                      newer for modules' BTF)";
        return Family::absent(kind, why, remedy);
    }
    Family::chosen(
        kind,
        "read at netfilter hooks",
        "the last hook of a path knows the connection".to_owned(),
        Vec::new(),
    )
}

pub(super) fn no_conntrack_without_netfilter() -> Family {
    Family::absent(
        Kind::Conntrack,
        "connections are read at netfilter hooks, which are not seen".to_owned(),
        "see netfilter",
    )
}
