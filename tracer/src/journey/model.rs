//! What the journey engine gives out: packets with their hops, and flows.
//!
//! Numbers only, no names: names are joined in `report`, which knows the node.

use std::{fmt, sync::Arc};

use crate::{
    event::{Endpoint, Tuple},
    filter::Sighting,
};

/// A number that tells one thing of its kind from the others, in order of appearance from 1.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A flow.
    FlowId
);
id!(
    /// A packet.
    PacketId
);

/// A network namespace's inode number; 0 where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId(pub u32);

/// What a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Handed to a device's queueing discipline.
    DeviceQueue,
    /// Handed to a device's driver.
    DeviceTransmit,
    /// Taken from a device by the stack.
    DeviceReceive,
    /// Inside a bridge: taken from a port, sent into the bridge by its own host, or passed up.
    Bridge,
    /// The netfilter hook of that name.
    Prerouting,
    /// The netfilter hook of that name.
    Input,
    /// The netfilter hook of that name.
    Forward,
    /// The netfilter hook of that name.
    Output,
    /// The netfilter hook of that name.
    Postrouting,
    /// Taken by a socket.
    Socket,
    /// Freed as dropped.
    Drop,
}

impl Stage {
    /// The name in text and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeviceQueue => "device.queue",
            Self::DeviceTransmit => "device.transmit",
            Self::DeviceReceive => "device.receive",
            Self::Bridge => "bridge",
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Socket => "socket",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A device as the hook saw it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The index in its namespace.
    pub ifindex: u32,
    /// The name's sixteen bytes, NUL-padded: hostile text, see [`Device::name`].
    pub raw_name: [u8; 16],
    /// It is a bridge.
    pub bridge: bool,
    /// It is a bridge's port.
    pub bridge_port: bool,
    /// It is a loopback device.
    pub loopback: bool,
}

impl Device {
    /// The name, with anything that is not a printable ASCII character replaced.
    #[must_use]
    pub fn name(&self) -> String {
        let printable = |b: &u8| {
            if b.is_ascii_graphic() {
                char::from(*b)
            } else {
                '?'
            }
        };
        self.raw_name
            .iter()
            .take_while(|b| **b != 0)
            .map(printable)
            .collect()
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.ifindex)
    }
}

/// What kind of rewriting a translation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TranslationKind {
    /// The destination of a packet in the original direction.
    Dnat,
    /// The source of a packet in the original direction.
    Snat,
    /// The source of a reply, back to what the client had asked.
    UnDnat,
    /// The destination of a reply, back to who had asked.
    UnSnat,
}

/// The tuple before and after a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// What changed; where both ends did, the first of the two in this order: Dnat, Snat.
    pub kind: TranslationKind,
    /// Before.
    pub from: Tuple,
    /// After.
    pub to: Tuple,
}

/// The tunnel around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// VXLAN or Geneve network identifier.
    pub vni: u32,
    /// The outer packet's tuple.
    pub outer: Tuple,
}

/// What a netfilter hook is told with a packet, beyond the packet itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookCall {
    /// The index of the device it came in by; 0 where there is none.
    pub input: u32,
    /// The index of the device it goes out by; 0 where there is none.
    pub output: u32,
    /// What conntrack knows of it, as far as it had looked by the hook's end.
    pub tracking: Tracking,
}

/// What conntrack says of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tracking {
    /// Nothing: it does not run there, has not run yet, or makes no sense of the packet.
    #[default]
    Nothing,
    /// It is told not to look.
    Untracked,
    /// The packet begins a connection, or repeats its beginning.
    New,
    /// It belongs to one that went both ways.
    Established(Direction),
    /// It belongs to one by another: an ICMP error, an FTP data connection.
    Related(Direction),
}

/// An event placed in a packet's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// When the packet came here, nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// When a netfilter hook let it go; `None` elsewhere, or while it has not.
    pub left: Option<u64>,
    /// What the hop is.
    pub stage: Stage,
    /// Where: the namespace.
    pub netns: NetnsId,
    /// Where: the device; `None` where there is none (a drop outside any device).
    pub device: Option<Device>,
    /// The packet's tuple as it came here.
    pub tuple: Tuple,
    /// What the hop made of the tuple; `None` where it left it alone.
    pub made: Option<Made>,
    /// The tunnel around it here.
    pub encapsulation: Option<Encapsulation>,
    /// An event should be before this hop and is not.
    pub hole: Option<Hole>,
    /// At a netfilter hook: what it was told.
    pub call: Option<HookCall>,
}

/// The tuple that a hop made of the packet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// The tuple behind the hop.
    pub to: Tuple,
    /// What was translated, in order: a hook may translate both ends.
    pub kinds: [Option<TranslationKind>; 2],
}

impl Hop {
    /// What the hop made of the packet, in order.
    pub fn translations(&self) -> impl Iterator<Item = Translation> + use<> {
        let from = self.tuple;
        let made = self.made.into_iter();
        made.flat_map(move |Made { to, kinds }| {
            let kinds = kinds.into_iter().flatten();
            kinds.map(move |kind| Translation { kind, from, to })
        })
    }
}

/// A place where an event should be and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// No event of this stage, which must come between.
    Missing(Stage),
    /// The journey begins here, and no packet does.
    Beginning,
    /// The namespace has netfilter hooks that were not observed when the packet passed.
    NetfilterUnobserved,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// As the client's first packet.
    Original,
    /// As the answer.
    Reply,
}

impl Direction {
    /// The name in text and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Reply => "reply",
        }
    }
}

/// How a journey ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// A socket, or the kernel itself, took it.
    Delivered,
    /// It was dropped.
    Dropped,
    /// A device that leads out of this node took it.
    Left,
    /// The last event is no end.
    Unknown,
}

impl Verdict {
    /// The name in text and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
            Self::Left => "left",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// `enum skb_drop_reason`; 0 where the kernel gives none. Numbers differ by kernel.
    pub reason: u32,
    /// The kernel address that freed the packet.
    pub location: u64,
    /// The stage it was in: the last hop's.
    pub stage: Stage,
    /// The namespace it was in.
    pub netns: NetnsId,
}

/// What tells a packet's kind at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// The flags byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        flags: u8,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
    },
    /// UDP.
    Udp {
        /// The first eight bytes of the payload, in network order; 0 where there are fewer.
        begin: u64,
    },
    /// ICMP or ICMPv6.
    Icmp {
        /// The message's type.
        kind: u8,
        /// The message's code.
        code: u8,
        /// An echo's sequence number.
        sequence: u16,
        /// The tuple of the packet that an error is about.
        quoted: Option<Tuple>,
    },
    /// Another protocol, or a fragment without a transport header.
    Other,
}

/// A packet's journey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
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
    pub hops: Vec<Hop>,
    /// How it ended.
    pub verdict: Verdict,
    /// Whether the end was seen, or follows from the last hop.
    pub verdict_observed: bool,
    /// The drop, where it was dropped.
    pub dropped: Option<Dropped>,
    /// How many hops were not kept because there were too many.
    pub hops_cut: u32,
    /// Its first bytes, from the IP header on, where they were kept. Addresses and ports are those of
    /// the place where they were taken, which need not be any hop's.
    pub bytes: Option<Arc<[u8]>>,
}

impl Packet {
    /// How many bytes of memory it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        let bytes = self.bytes.as_ref().map_or(0, |bytes| bytes.len());
        size_of::<Self>() + self.hops.capacity() * size_of::<Hop>() + bytes
    }

    /// How many of its hops have a hole before them.
    #[must_use]
    pub fn holes(&self) -> u32 {
        self.hops
            .iter()
            .map(|hop| u32::from(hop.hole.is_some()))
            .sum()
    }
}

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
