//! Why the live source does not start, or breaks.

use std::io;

use crate::{
    kernel::{
        btf::BtfError,
        load::{LoadError, SizeError},
        plan::NetfilterWay,
    },
    privilege::{Capability, named},
};

/// Why tracing cannot start. Nothing stays in the kernel then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process may not do it.
    #[error("tracing needs {}; run it as root{}", list(.missing), container(*.on_node))]
    Privilege {
        /// The capabilities that are missing.
        missing: Vec<Capability>,
        /// Whether those that are there hold on the whole node.
        on_node: bool,
    },
    /// The kernel cannot do it.
    #[error("kernel {release} is too old: tracing needs Linux 5.8 or newer, with BTF")]
    Kernel {
        /// `uname -r`.
        release: String,
    },
    /// It may not read the kernel's memory.
    #[error(
        "the kernel is locked down (confidentiality): BPF programs may not read its memory; boot \
         with lockdown=integrity"
    )]
    Lockdown,
    /// The kernel has no way to hand records over.
    #[error("kernel {release} has no BPF ring buffer: tracing needs Linux 5.8 or newer")]
    RingBuffer {
        /// `uname -r`.
        release: String,
    },
    /// A size is out of range.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The kernel does not describe itself.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// aya cannot read the kernel's description of itself.
    #[error("cannot use the kernel's BTF: {0}; `tracer doctor` says more")]
    AyaBtf(#[from] aya::BtfError),
    /// The BPF object cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The device hooks cannot be attached.
    #[error("cannot attach to the devices' tracepoints: {0}; `tracer doctor` says more")]
    Devices(String),
    /// The way of seeing netfilter's hooks that was asked for does not work here.
    #[error(
        "--netfilter {way} does not work here: {reason}; without the option the best way that \
         works is taken"
    )]
    Netfilter {
        /// What was asked for.
        way: NetfilterWay,
        /// Why not.
        reason: String,
    },
    /// The system lacks something.
    #[error("cannot start reading events: {0}")]
    System(#[from] io::Error),
}

fn list(missing: &[Capability]) -> String {
    if missing.is_empty() {
        "the privileges of the node itself".to_owned()
    } else {
        named(missing)
    }
}

fn container(on_node: bool) -> &'static str {
    if on_node {
        ", or give the process these capabilities"
    } else {
        " of the node, not of a user namespace (in a container: privileged, without user namespaces)"
    }
}

/// Why the live source broke.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The counters cannot be read.
    #[error(transparent)]
    Counters(#[from] LoadError),
}
