//! A packet or a flow joined with what the node knows: the one structure that every sink shows.
//!
//! The journey engine gives numbers; [`Knowledge`] puts names to them. Pure: it asks values only,
//! so that a recording's own names serve as well as the running node's. A report owns what it
//! holds and can outlive the snapshot that named it.
//!
//! Names are as the system has them: sinks strip control characters. What is not known is `None`,
//! never guessed; what was concluded instead of observed says so.

pub mod diagnosis;
mod join;
pub mod listening;
pub mod lookups;
mod recent;
mod room;
mod rules;
#[cfg(test)]
pub(crate) mod scenarios;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

pub use diagnosis::{Diagnosis, Evidence, Layer, Seen};
pub use join::Knowledge;
pub use lookups::{Asked, Lookup};
pub use rules::{Awaited, Candidate, RuleReport, services_of};

use crate::{
    event::{Endpoint, Tuple},
    journey::model::{
        Direction, Encapsulation, FlowId, Hole, PacketId, Stage, State, Transport, Verdict,
    },
    node::services::ServiceName,
    source::{NodeClock, Shedding},
};

/// Both directions of one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowReport {
    /// Its number.
    pub id: FlowId,
    /// The IP protocol number.
    pub protocol: u8,
    /// Who began, as it calls itself.
    pub client: Party,
    /// Whom the client called.
    pub destination: Endpoint,
    /// The Service that the client called.
    pub service: Option<ServiceName>,
    /// The name that the client looked up and that had the destination's address, by the DNS answers
    /// that it got before: concluded.
    pub asked: Option<Asked>,
    /// What was asked of a name server in this flow, and what it answered: hostile text that is plain.
    pub lookups: Vec<Lookup>,
    /// Of these, those that have no answer.
    pub unanswered: usize,
    /// It was not over when it was shown, and will be shown again if anything more comes.
    pub ongoing: bool,
    /// Who got the packets; `None` while nobody is known to.
    pub backend: Option<Party>,
    /// How the original direction is rewritten, in order.
    pub translations: Vec<PlacedTranslation>,
    /// What its packets say of it.
    pub state: State,
    /// Packets seen in the original direction and in the reply direction.
    pub packets: [u64; 2],
    /// Their IP bytes.
    pub bytes: [u64; 2],
    /// Packets dropped.
    pub drops: u64,
    /// Holes in their journeys.
    pub holes: u64,
    /// Events were lost while it was under way, so that something of it may be missing.
    pub affected_by_loss: bool,
    /// Packets were let go unseen while it was under way, so that its counts are those of a sample.
    pub sampled: bool,
    /// The first event, nanoseconds of `CLOCK_MONOTONIC`.
    pub first: u64,
    /// The last event.
    pub last: u64,
    /// What is wrong with it; `None` where nothing is known to be.
    pub diagnosis: Option<Diagnosis>,
}

impl FlowReport {
    /// Nanoseconds from the first event to the last.
    #[must_use]
    pub fn duration(&self) -> u64 {
        self.last.saturating_sub(self.first)
    }
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Its address and port.
    pub endpoint: Endpoint,
    /// Its namespace's name; `None` when it is elsewhere or not known.
    pub netns: Option<String>,
    /// The pod that it is, as `NAMESPACE/NAME`; `None` when it is none or not known.
    pub pod: Option<String>,
    /// The process at its socket; `None` when it is not known.
    pub process: Option<ProcessReport>,
}

/// A process at a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessReport {
    /// Its id, as the node's own pid namespace has it.
    pub pid: u32,
    /// Its name.
    pub comm: String,
}

impl Party {
    /// What to call it: its pod, else its namespace.
    #[must_use]
    pub fn called(&self) -> Option<&str> {
        self.pod.as_deref().or(self.netns.as_deref())
    }
}

/// What was rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rewriting {
    /// The destination of a packet in the original direction.
    Dnat,
    /// The source of a packet in the original direction.
    Snat,
    /// The source, to an address of the namespace that did it.
    Masquerade,
    /// The source of a reply, back to what the client had asked.
    UnDnat,
    /// The destination of a reply, back to who had asked.
    UnSnat,
}

impl Rewriting {
    /// The name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dnat => "dnat",
            Self::Snat => "snat",
            Self::Masquerade => "masquerade",
            Self::UnDnat => "un-dnat",
            Self::UnSnat => "un-snat",
        }
    }

    /// Whether the kind was concluded, not observed: a masquerade is told from other source
    /// translations by its address alone.
    #[must_use]
    pub const fn inferred(self) -> bool {
        matches!(self, Self::Masquerade)
    }
}

/// One end of a packet rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranslationReport {
    /// What was rewritten.
    pub kind: Rewriting,
    /// The end before.
    pub from: Endpoint,
    /// The end after.
    pub to: Endpoint,
    /// The rules that did it; `None` where they are not known, and where conntrack did it by what
    /// they had said of an earlier packet.
    pub rule: Option<RuleReport>,
}

/// A translation of a flow and where it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedTranslation {
    /// The translation.
    pub translation: TranslationReport,
    /// At which hook; `None` where only conntrack's tuples say that it was.
    pub stage: Option<Stage>,
    /// The namespace's name.
    pub netns: Option<String>,
}

/// A packet's journey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketReport {
    /// Its number.
    pub id: PacketId,
    /// The flow it belongs to.
    pub flow: FlowId,
    /// Which way it goes.
    pub direction: Direction,
    /// The IP protocol number.
    pub protocol: u8,
    /// What it carries.
    pub transport: Transport,
    /// IP bytes where it was first seen.
    pub length: u32,
    /// Transport payload bytes.
    pub payload: u32,
    /// Its hops, in order.
    pub hops: Vec<HopReport>,
    /// How many hops were not kept because there were too many.
    pub hops_cut: u32,
    /// How it ended.
    pub verdict: Verdict,
    /// Whether the end was seen, or follows from the last hop.
    pub verdict_observed: bool,
    /// The drop, where it was dropped.
    pub drop: Option<DropReport>,
    /// Its first bytes, from the IP header on, as they were at some hop; `None` where they were not kept.
    pub bytes: Option<Arc<[u8]>>,
}

impl PacketReport {
    /// How many of its hops have a hole before them.
    #[must_use]
    pub fn holes(&self) -> usize {
        self.hops.iter().filter(|hop| hop.hole.is_some()).count()
    }

    /// Nanoseconds from the first hop to the last.
    #[must_use]
    pub fn duration(&self) -> u64 {
        match (self.hops.first(), self.hops.last()) {
            (Some(first), Some(last)) => last.time.saturating_sub(first.time),
            _ => 0,
        }
    }

    /// Whether something is wrong with it: dropped, or not seen everywhere it must have been.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        self.verdict == Verdict::Dropped || self.drop.is_some() || self.holes() > 0
    }
}

/// An event placed in a packet's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopReport {
    /// When the packet came here, nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Nanoseconds since the hop before; 0 at the first.
    pub since_previous: u64,
    /// Nanoseconds in a netfilter hook; `None` elsewhere, or while it has not left.
    pub spent: Option<u64>,
    /// What the hop is.
    pub stage: Stage,
    /// The namespace's name.
    pub netns: Option<String>,
    /// The pod whose the namespace is, as `NAMESPACE/NAME`.
    pub pod: Option<String>,
    /// The device; `None` where there is none.
    pub device: Option<DeviceReport>,
    /// The packet's tuple as it came here.
    pub tuple: Tuple,
    /// What the hop made of it, in order.
    pub translations: Vec<TranslationReport>,
    /// The tunnel around it here.
    pub encapsulation: Option<Encapsulation>,
    /// What should be before this hop and is not.
    pub hole: Option<Hole>,
}

impl HopReport {
    /// What to call its place: the pod, else the namespace.
    #[must_use]
    pub fn called(&self) -> Option<&str> {
        self.pod.as_deref().or(self.netns.as_deref())
    }
}

/// A device of a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// What kind it is, in the kernel's word: `veth`, `bridge`, ...; `None` when not known.
    pub kind: Option<String>,
}

/// A drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropReport {
    /// The kernel's name for the reason; `None` where it gives none.
    pub reason: Option<String>,
    /// The reason's number on this kernel; 0 where it gives none.
    pub reason_number: u32,
    /// The stage the packet was in.
    pub stage: Stage,
    /// The namespace's name.
    pub netns: Option<String>,
    /// The pod whose the namespace is.
    pub pod: Option<String>,
    /// The kernel address that freed it.
    pub address: u64,
    /// The function at that address, as `nf_hook_slow+0xa6`; `None` where the kernel hides it.
    pub function: Option<String>,
    /// The rule that did it.
    pub rule: Option<RuleReport>,
}

/// What the hooks counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets the hooks looked at.
    pub seen: u64,
    /// Of these, what the filter or a followed flow matched.
    pub matched: u64,
    /// Events given out.
    pub emitted: u64,
    /// Events that the ring buffer had no room for.
    pub lost: u64,
    /// Packets that were let go unseen, to keep a budget.
    pub shed: u64,
}

/// What the hooks counted since tracing began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsReport {
    /// All hooks together.
    pub total: Counts,
    /// Each hook by its name in `tracer_common::hook::NAMES`.
    pub hooks: Vec<(&'static str, Counts)>,
    /// What is let go unseen from now on.
    pub shedding: Shedding,
    /// Of recordings of several nodes: how the clocks of those behind the first stand to its.
    pub clocks: Vec<NodeClock>,
}

/// A protocol's name, as filters have it; the number where it has none.
#[must_use]
pub fn protocol_name(protocol: u8) -> Cow<'static, str> {
    Cow::Borrowed(match protocol {
        1 => "icmp",
        2 => "igmp",
        4 => "ipip",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmp6",
        132 => "sctp",
        number => return Cow::Owned(number.to_string()),
    })
}
