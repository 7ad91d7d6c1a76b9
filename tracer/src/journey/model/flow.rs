//! A flow: its ends, the processes there, what is rewritten between them, and how it stands.

use super::{FlowId, HookCall, NetnsId, Stage, TranslationKind};
use crate::{
    event::{Endpoint, Tuple},
    filter::Sighting,
};

/// What a flow's packets say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// TCP: only SYNs, no answer.
    SynSent,
    /// TCP: answered, not yet acknowledged.
    SynReceived,
    /// TCP: open.
    Established,
    /// TCP: one side has finished.
    Closing,
    /// TCP: both sides have finished.
    Closed,
    /// TCP: the SYN was answered by a reset, or an ICMP error said so.
    Refused,
    /// TCP: reset after it was open.
    Reset,
    /// Other protocols: packets one way.
    Unreplied,
    /// Other protocols: packets both ways.
    Replied,
}

impl State {
    /// Whether nothing more is to come, by what the packets say: TCP's connections only are ever over so.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Refused | Self::Reset)
    }

    /// The name in text and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unreplied => "unreplied",
            Self::Replied => "replied",
        }
    }
}

/// Where a flow's original direction is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTranslation {
    /// What is rewritten: [`TranslationKind::Dnat`] or [`TranslationKind::Snat`].
    pub kind: TranslationKind,
    /// At which hook; `None` where only conntrack's tuples say that it was.
    pub stage: Option<Stage>,
    /// In which namespace.
    pub netns: NetnsId,
    /// The end before: Dnat's destination, Snat's source.
    pub from: Endpoint,
    /// The end after.
    pub to: Endpoint,
    /// The packet in the original direction as it came there; `None` where only replies were seen.
    pub before: Option<Tuple>,
    /// When it was seen first, nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// What the hook was told; `None` where it was not seen.
    pub call: Option<HookCall>,
}

/// A process at a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id, as the node's own pid namespace has it.
    pub pid: u32,
    /// Its name: hostile text.
    pub comm: String,
    /// The id of the cgroup (v2) that it was in; 0 where that is not known.
    pub cgroup: u64,
}

/// A socket of a flow of which the process is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ends {
    /// The network namespace that it is in.
    pub netns: NetnsId,
    /// The IP protocol number.
    pub protocol: u8,
    /// Its own end.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
}

/// Both directions of one exchange.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its number.
    pub id: FlowId,
    /// The IP protocol number.
    pub protocol: u8,
    /// Who began, as it calls itself.
    pub client: Endpoint,
    /// Where the client is; `None` when its packets came in from outside.
    pub client_netns: Option<NetnsId>,
    /// When the client was seen there first, nanoseconds of `CLOCK_MONOTONIC`; 0 when it was not.
    pub client_seen: u64,
    /// The process at the client's socket.
    pub client_process: Option<Process>,
    /// Whom the client called.
    pub destination: Endpoint,
    /// Who got the packets; `None` while nobody is known to.
    pub backend: Option<Endpoint>,
    /// Where the backend is; `None` when it is elsewhere, or not known.
    pub backend_netns: Option<NetnsId>,
    /// When the backend was seen there first; 0 when it was not.
    pub backend_seen: u64,
    /// The process at the backend's socket.
    pub backend_process: Option<Process>,
    /// How the original direction is rewritten, in order.
    pub translations: Vec<FlowTranslation>,
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
    /// There was no room for all of it: it, or a packet of it, was given out before its end.
    pub let_go: bool,
    /// Packets were let go unseen while it was under way, so that its counts are those of a sample.
    pub sampled: bool,
    /// The first event, nanoseconds of `CLOCK_MONOTONIC`.
    pub first: u64,
    /// The last event.
    pub last: u64,
    /// The distinct places and tuples it was seen with (bounded), for filters.
    pub subjects: Vec<Sighting>,
}

impl Flow {
    /// Whether something of it may be missing.
    #[must_use]
    pub fn may_miss(&self) -> bool {
        self.affected_by_loss || self.let_go
    }

    /// How many bytes of memory it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        let names = [&self.client_process, &self.backend_process];
        let names = names.into_iter().flatten();
        size_of::<Self>()
            + self.subjects.capacity() * size_of::<Sighting>()
            + self.translations.capacity() * size_of::<FlowTranslation>()
            + names.map(|process| process.comm.capacity()).sum::<usize>()
    }
}
