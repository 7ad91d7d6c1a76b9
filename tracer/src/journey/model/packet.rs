//! A packet: what it carries, its hops, and how its journey ended.

use std::sync::Arc;

use super::{Direction, FlowId, Hop, NetnsId, PacketId, Stage};
use crate::event::Tuple;

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
