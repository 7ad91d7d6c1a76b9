//! How netfilter's hooks are seen: three ways, the best that works.
//!
//! fentry and fexit of `nf_hook_slow` see every hook of every namespace at little cost; netfilter
//! links only see namespaces with rules; kprobes see what fentry sees, but each costs an exception
//! or a jump, every member a probe read, and the kernel may miss a return.

use super::{Facts, Family, HOOK_FUNCTION, Kind, NetfilterWay, Standing, Step, Target, WayState};

/// The best first.
const WAYS: [NetfilterWay; 3] = [
    NetfilterWay::Fentry,
    NetfilterWay::Link,
    NetfilterWay::Kprobe,
];

/// Why a way is not possible, and what can be done.
struct Lack {
    why: String,
    remedy: &'static str,
}

/// The part of the plan; `way` leaves no choice.
pub(super) fn netfilter(facts: &Facts, way: Option<NetfilterWay>) -> Family {
    if !facts.netfilter_state {
        let why = "this kernel's BTF does not describe struct nf_hook_state".to_owned();
        return Family::absent(Kind::Netfilter, why, "use a kernel with CONFIG_NETFILTER=y");
    }
    let ways = match &way {
        Some(way) => std::slice::from_ref(way),
        None => &WAYS,
    };
    let asked: Vec<_> = ways.iter().map(|way| (*way, by(facts, *way))).collect();
    let mut states = Vec::new();
    let (mut possible, mut lacks) = (Vec::new(), Vec::new());
    for (way, answer) in asked {
        let standing = match answer {
            Ok(family) => {
                possible.push(family);
                if possible.len() == 1 {
                    Standing::Chosen
                } else {
                    Standing::Possible
                }
            }
            Err(lack) => {
                let why = lack.why.clone();
                lacks.push(lack);
                Standing::Lacking { why }
            }
        };
        states.push(WayState { way, standing });
    }
    // Each has the next as its alternative.
    let chain = possible.into_iter().rev().reduce(|next, family| Family {
        otherwise: Some(Box::new(next)),
        ..family
    });
    let family = chain.unwrap_or_else(|| nothing(&lacks));
    Family {
        ways: states,
        ..family
    }
}

fn nothing(lacks: &[Lack]) -> Family {
    let why = match lacks {
        [lack] => lack.why.clone(),
        _ => "this kernel has none of the ways to see them".to_owned(),
    };
    let remedies: Vec<&str> = lacks.iter().map(|lack| lack.remedy).collect();
    let remedy = format!("use a kernel {}", remedies.join(", or "));
    Family::absent(Kind::Netfilter, why, &remedy)
}

fn by(facts: &Facts, way: NetfilterWay) -> Result<Family, Lack> {
    match way {
        NetfilterWay::Fentry => function(facts),
        NetfilterWay::Link => links(facts),
        NetfilterWay::Kprobe => probes(facts),
    }
}

fn function(facts: &Facts) -> Result<Family, Lack> {
    if !facts.netfilter_function {
        return Err(Lack {
            why: format!("this kernel's BTF does not describe {HOOK_FUNCTION}"),
            remedy: "that describes its functions (CONFIG_DEBUG_INFO_BTF=y)",
        });
    }
    let function = || HOOK_FUNCTION.to_owned();
    Ok(Family::chosen(
        Kind::Netfilter,
        "fentry and fexit of nf_hook_slow",
        "they see each hook of every network namespace, with its verdict".to_owned(),
        vec![
            Step::of("netfilter_end", Target::FunctionEnd(function())),
            Step::of("netfilter_begin", Target::FunctionBegin(function())),
        ],
    ))
}

fn links(facts: &Facts) -> Result<Family, Lack> {
    if !facts.netfilter_links {
        return Err(Lack {
            why: "this kernel does not take BPF programs as netfilter functions".to_owned(),
            remedy: "from 6.4 on with CONFIG_NETFILTER_BPF_LINK=y",
        });
    }
    let steps = ["netfilter_leave", "netfilter_enter"];
    Ok(Family::chosen(
        Kind::Netfilter,
        "netfilter links",
        "they see each hook before its first and after its last function, in the network \
         namespaces that have rules"
            .to_owned(),
        steps
            .map(|program| Step::of(program, Target::NetfilterHooks))
            .to_vec(),
    ))
}

fn probes(facts: &Facts) -> Result<Family, Lack> {
    let remedy = "with CONFIG_KPROBE_EVENTS=y, on x86-64 or arm64";
    if !facts.kprobes {
        let why = "this kernel has no kprobes, or /sys is not mounted".to_owned();
        return Err(Lack { why, remedy });
    }
    if !facts.call_registers {
        let why = "it is not known where this machine has a function's arguments".to_owned();
        return Err(Lack { why, remedy });
    }
    let function = || HOOK_FUNCTION.to_owned();
    // The end first: without the beginning it finds nothing.
    Ok(Family::chosen(
        Kind::Netfilter,
        "kprobe and kretprobe of nf_hook_slow",
        "they see each hook of every network namespace, with its verdict; where more calls are \
         under way than the kernel keeps track of, one is not seen to end"
            .to_owned(),
        vec![
            Step::of("netfilter_return", Target::Kretprobe(function())),
            Step::of("netfilter_call", Target::Kprobe(function())),
        ],
    ))
}
