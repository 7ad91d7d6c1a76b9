//! Which observers, of what traffic, and what is aimed at.

use std::net::SocketAddr;

use crate::bench::observer::{EVERYTHING, NO_ADDRESS, NO_MATCH, Observer};
use crate::bench::stage::Load;

/// An observer of kinds of traffic.
pub(super) struct Case {
    /// As the table calls it.
    pub(super) name: &'static str,
    /// What is started.
    pub(super) observer: Observer,
    /// What it looks at.
    pub(super) loads: &'static [Load],
    /// The least ratio that is aimed at.
    pub(super) aim: fn(Load) -> Option<f64>,
    /// Whether what it says of itself at its end belongs to the figures.
    pub(super) speaks: bool,
}

const ALL: &[Load] = &[Load::Flood, Load::Ask, Load::Connect, Load::Send];

/// Those of the tracer and of the others, with the same filters.
pub(super) fn all(service: SocketAddr) -> Vec<Case> {
    let flow = format!("host {} and tcp port {}", service.ip(), service.port());
    let mut cases = vec![
        Case {
            name: "tracer, nothing matches",
            observer: Observer::Record(NO_MATCH),
            loads: ALL,
            aim: |load| match load {
                Load::Flood => Some(0.95),
                Load::Ask | Load::Connect => Some(0.97),
                _ => None,
            },
            speaks: false,
        },
        Case {
            name: "tracer, one flow",
            observer: Observer::Flow(flow),
            loads: &[Load::FloodBeside],
            aim: |_| Some(0.93),
            speaks: true,
        },
        Case {
            name: "tracer, everything",
            observer: Observer::Record(EVERYTHING),
            loads: ALL,
            aim: |load| match load {
                Load::Flood => Some(0.75),
                Load::Ask | Load::Connect => Some(0.85),
                _ => None,
            },
            speaks: true,
        },
        Case {
            name: "tracer watch, everything",
            ..other("", Observer::Watch(EVERYTHING))
        },
    ];
    cases.extend([
        other("programs that do nothing", Observer::Empty),
        other("tcpdump, nothing matches", Observer::Tcpdump(NO_MATCH)),
        other("tcpdump, everything", Observer::Tcpdump(EVERYTHING)),
        other(
            "nft trace, nothing matches",
            Observer::Nft(Some(NO_ADDRESS)),
        ),
        other("nft trace, everything", Observer::Nft(None)),
        other("bpftrace, 5 tracepoints", Observer::Bpftrace),
        other("retis, nothing matches", Observer::Retis(NO_MATCH)),
        other("retis, everything", Observer::Retis(EVERYTHING)),
    ]);
    cases
}

const fn other(name: &'static str, observer: Observer) -> Case {
    Case {
        name,
        observer,
        loads: ALL,
        aim: |_| None,
        speaks: false,
    }
}
