//! One JSON object a line, for programs: the contract of docs/json.md.
//!
//! The shapes are written down here and nowhere else: the contract's members first, in its order,
//! then those that were added. Every member is always there; what is not known is `null`. Members
//! may be added in a later version, none is renamed or removed while `schema` is 1.

mod flow;
mod packet;
mod rule;
#[cfg(test)]
mod tests;

use std::{
    fmt::Display,
    io::{self, Write},
};

use serde::{Serialize, Serializer};

use flow::FlowObject;
use packet::PacketObject;

use super::{Sink, sanitize};
use crate::{
    report::{Counts, FlowReport, PacketReport, StatsReport},
    source::Shedding,
};

/// The version of these objects' form, as everywhere in the program's JSON.
const SCHEMA: u32 = 1;

/// Writes JSON lines.
#[derive(Debug)]
pub struct JsonSink<W> {
    out: W,
}

impl<W: Write> JsonSink<W> {
    /// A sink that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    fn line(&mut self, object: &impl Serialize) -> io::Result<()> {
        let mut line = sanitize::json(&serde_json::to_string(object)?).into_owned();
        line.push('\n');
        self.out.write_all(line.as_bytes())
    }
}

impl<W: Write> Sink for JsonSink<W> {
    fn packet(&mut self, packet: &PacketReport) -> io::Result<()> {
        self.line(&PacketObject::new(packet))
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        self.line(&FlowObject::new(flow))
    }

    fn takes_ongoing(&self) -> bool {
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn stats(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.line(&StatsObject::new(stats))?;
        self.out.flush()
    }

    fn finish(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.stats(stats)
    }
}

fn shown<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[derive(Serialize)]
struct StatsObject<'a> {
    r#type: &'static str,
    schema: u32,
    seen: u64,
    matched: u64,
    emitted: u64,
    lost: u64,
    hooks: Vec<HookObject>,
    shed: u64,
    shedding: Option<SheddingObject>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clocks: Vec<ClockObject<'a>>,
}

/// How a node's clock stands to the first node's.
#[derive(Serialize)]
struct ClockObject<'a> {
    node: &'a str,
    ahead_ns: i64,
    error_ns: Option<u64>,
    packets: DirectionsObject,
}

#[derive(Serialize)]
struct DirectionsObject {
    there: u64,
    back: u64,
}

#[derive(Serialize)]
struct HookObject {
    hook: &'static str,
    seen: u64,
    matched: u64,
    emitted: u64,
    lost: u64,
    shed: u64,
}

/// What is let go unseen.
#[derive(Serialize)]
struct SheddingObject {
    /// `null`: all but drops.
    one_in: Option<u32>,
}

impl SheddingObject {
    fn new(shedding: Shedding) -> Option<Self> {
        match (shedding, shedding.one_in()) {
            (Shedding::None, _) => None,
            (_, 0) => Some(Self { one_in: None }),
            (_, one_in) => Some(Self {
                one_in: Some(one_in),
            }),
        }
    }
}

impl<'a> StatsObject<'a> {
    fn new(stats: &'a StatsReport) -> Self {
        let Counts {
            seen,
            matched,
            emitted,
            lost,
            shed,
        } = stats.total;
        let hooks = stats.hooks.iter().map(|&(hook, counts)| HookObject {
            hook,
            seen: counts.seen,
            matched: counts.matched,
            emitted: counts.emitted,
            lost: counts.lost,
            shed: counts.shed,
        });
        let clocks = stats.clocks.iter().map(|clock| ClockObject {
            node: &clock.node,
            ahead_ns: clock.ahead,
            error_ns: clock.error,
            packets: DirectionsObject {
                there: clock.packets[0],
                back: clock.packets[1],
            },
        });
        Self {
            r#type: "stats",
            schema: SCHEMA,
            seen,
            matched,
            emitted,
            lost,
            hooks: hooks.collect(),
            shed,
            shedding: SheddingObject::new(stats.shedding),
            clocks: clocks.collect(),
        }
    }
}
