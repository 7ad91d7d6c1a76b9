//! A packet's hops: where it was, and what became of it there.

use std::fmt;

use super::{Direction, NetnsId};
use crate::event::Tuple;

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
