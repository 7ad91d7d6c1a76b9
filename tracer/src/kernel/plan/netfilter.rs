//! How netfilter's hooks are seen: three ways, the best that works.
//!
//! fentry and fexit of `nf_hook_slow` see every hook of every namespace at little cost; netfilter
//! links only see namespaces with rules; kprobes see what fentry sees, but each costs an exception
//! or a jump, every member a probe read, and the kernel may miss a return.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Facts, Family, HOOK_FUNCTION, Kind, Target,
    choice::{absent, family, step},
};

/// A way to see netfilter's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum NetfilterWay {
    /// Programs around `nf_hook_slow`: all namespaces at once.
    Fentry,
    /// BPF programs linked as netfilter functions, in each namespace that has rules.
    Link,
    /// Probes of `nf_hook_slow`: as fentry, where there is no fentry.
    Kprobe,
}

/// The best first.
const WAYS: [NetfilterWay; 3] = [
    NetfilterWay::Fentry,
    NetfilterWay::Link,
    NetfilterWay::Kprobe,
];

impl fmt::Display for NetfilterWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fentry => "fentry",
            Self::Link => "link",
            Self::Kprobe => "kprobe",
        })
    }
}

/// What there is to say of a way on this kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayState {
    /// Which.
    pub way: NetfilterWay,
    /// How it stands with it.
    #[serde(flatten)]
    pub standing: Standing,
}

/// How it stands with a way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "standing")]
pub enum Standing {
    /// It is what was chosen.
    Chosen,
    /// It is tried when the ones before it fail.
    Possible,
    /// The kernel seemed to allow it and refused a program.
    Refused {
        /// Which, and what the kernel said.
        why: String,
    },
    /// This kernel has no such thing.
    Lacking {
        /// What it lacks.
        why: String,
    },
}

/// Why a way is not possible, and what can be done.
struct Lack {
    why: String,
    remedy: &'static str,
}

/// The part of the plan; `way` leaves no choice.
pub(super) fn netfilter(facts: &Facts, way: Option<NetfilterWay>) -> Family {
    if !facts.netfilter_state {
        let why = "this kernel's BTF does not describe struct nf_hook_state".to_owned();
        return absent(Kind::Netfilter, why, "use a kernel with CONFIG_NETFILTER=y");
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
    absent(Kind::Netfilter, why, &remedy)
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
    Ok(family(
        Kind::Netfilter,
        "fentry and fexit of nf_hook_slow",
        "they see each hook of every network namespace, with its verdict".to_owned(),
        vec![
            step("netfilter_end", Target::FunctionEnd(function())),
            step("netfilter_begin", Target::FunctionBegin(function())),
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
    Ok(family(
        Kind::Netfilter,
        "netfilter links",
        "they see each hook before its first and after its last function, in the network \
         namespaces that have rules"
            .to_owned(),
        steps
            .map(|program| step(program, Target::NetfilterHooks))
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
    Ok(family(
        Kind::Netfilter,
        "kprobe and kretprobe of nf_hook_slow",
        "they see each hook of every network namespace, with its verdict; where more calls are \
         under way than the kernel keeps track of, one is not seen to end"
            .to_owned(),
        vec![
            step("netfilter_return", Target::Kretprobe(function())),
            step("netfilter_call", Target::Kprobe(function())),
        ],
    ))
}
