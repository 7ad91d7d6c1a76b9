//! The ways to see netfilter's hooks, and how it stands with each.

use std::fmt;

use serde::{Deserialize, Serialize};

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
