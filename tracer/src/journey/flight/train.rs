//! Buffers that are merged, and buffers that are cut.
//!
//! What arrives in a row for one connection is merged into one buffer (GRO); a buffer larger than
//! what a device sends is cut into segments (GSO). Either way the packets stay the packets that
//! they are on the wire: one that was merged rides in the buffer of the first, and has that
//! buffer's hops from then on; one that is cut off goes on with the hops that the buffer had. A
//! buffer that nobody saw cut, a connection's bytes as the sender's host has them, is one packet.

use super::{Fingerprint, Flight, InFlight, fingerprint::UDP};
use crate::{
    event::Event,
    journey::{
        flows::Membership,
        model::{Packet, PacketId, Transport, Verdict},
        path,
    },
};

/// How far back in a stream the buffer is looked for that a segment was cut from.
const RECENT: usize = 64;

/// A packet that was merged into the buffer of another.
#[derive(Clone, Debug)]
pub(super) struct Rider {
    pub(super) packet: Packet,
    pub(super) origin: PacketId,
    /// How many hops the buffer had: those from there on are also this packet's.
    pub(super) boarded: usize,
    /// How much of its payload did not go on in segments.
    pub(super) rest: u32,
}

/// A segment that was cut off.
#[derive(Debug)]
pub(in crate::journey) struct Segment {
    pub(in crate::journey) packet: InFlight,
    /// A packet more than there were: the buffer's bytes went on as one before.
    pub(in crate::journey) more: bool,
}

/// What of a buffer a segment is of.
#[derive(Clone, Copy, Debug)]
enum Of {
    First,
    Rider(usize),
}

impl InFlight {
    /// How many packets were merged into the buffer behind the first.
    pub(super) fn riders(&self) -> usize {
        self.riders.len()
    }

    /// Where the packets behind the first come from.
    pub(super) fn origins(&self) -> impl Iterator<Item = PacketId> {
        self.riders.iter().map(|rider| rider.origin)
    }

    /// The first packet in the buffer, with its end. `None` for one that went on in segments. It is not in
    /// the buffer any more then.
    pub(in crate::journey) fn take_first(&mut self) -> Option<Packet> {
        let whole = self.rest == self.packet.payload;
        let hops = std::mem::take(&mut self.packet.hops);
        let bytes = self.packet.bytes.take();
        whole.then_some(Packet {
            hops,
            bytes,
            ..self.packet
        })
    }

    /// The packets behind the first, each with all its hops and the buffer's end; to be taken before the
    /// first. `None` for one that went on in segments.
    pub(in crate::journey) fn take_riders(
        &mut self,
        limit: usize,
    ) -> Vec<(PacketId, Option<Packet>)> {
        let riders = std::mem::take(&mut self.riders);
        let each = riders.into_iter().map(|rider| {
            let whole = rider.rest == rider.packet.payload;
            let packet = whole.then(|| rider.with_hops(&self.packet, limit));
            (rider.origin, packet)
        });
        each.collect()
    }

    /// What was not cut off is a packet where it arrived: of what a socket takes in pieces, only
    /// those are seen that it drops. Gives what is to be counted for it.
    pub(in crate::journey) fn keep_rest(&mut self) -> Option<(Membership, u32)> {
        let member = self.member();
        let packet = &mut self.packet;
        let arrived = packet.verdict == Verdict::Delivered;
        if !arrived || self.rest == 0 || self.rest == packet.payload {
            return None;
        }
        packet.length = packet.length.saturating_sub(packet.payload - self.rest);
        packet.payload = self.rest;
        Some((member, packet.length))
    }

    /// Whether all of it went on in segments.
    fn is_gone(&self) -> bool {
        self.rest == 0 && self.riders.iter().all(|rider| rider.rest == 0)
    }

    /// Takes another packet's buffer behind what is there.
    fn take(&mut self, other: Self) {
        let boarded = self.packet.hops.len();
        let Self {
            packet,
            riders,
            origin,
            rest,
            ..
        } = other;
        for rider in &riders {
            self.riders.push(Rider {
                packet: rider.with_hops(&packet, usize::MAX),
                boarded,
                ..*rider
            });
        }
        let at = self.riders.len() - riders.len();
        let first = Rider {
            packet,
            origin,
            boarded,
            rest,
        };
        self.riders.insert(at, first);
    }

    /// What the segment is of.
    fn owner(&self, segment: &Fingerprint) -> Option<Of> {
        let has = |rest: u32, packet: &Packet| {
            let fits = rest >= segment.payload;
            match packet.transport {
                Transport::Tcp { sequence, .. } => {
                    fits && segment.sequence.wrapping_sub(sequence) < packet.payload
                }
                // One after the other.
                _ => fits,
            }
        };
        if has(self.rest, &self.packet) {
            return Some(Of::First);
        }
        let rider = self
            .riders
            .iter()
            .position(|rider| has(rider.rest, &rider.packet));
        rider.map(Of::Rider)
    }

    /// The segment that the event is of.
    fn cut(&mut self, event: &Event, id: PacketId, limit: usize) -> Option<Segment> {
        let length = event.record.payload;
        let owner = self.owner(&Fingerprint::of(event))?;
        let (mut packet, mut origin, rest) = match owner {
            Of::First => (self.packet.clone(), self.origin, &mut self.rest),
            Of::Rider(at) => {
                let rider = self.riders.get_mut(at)?;
                let packet = rider.with_hops(&self.packet, limit);
                (packet, rider.origin, &mut rider.rest)
            }
        };
        let untouched = *rest == packet.payload;
        *rest -= length;
        self.is_cut = true;
        if untouched && length == packet.payload {
            // What was merged is apart again: it goes on as itself.
            match owner {
                Of::First => self.origin = PacketId(0),
                Of::Rider(at) => drop(self.riders.remove(at)),
            }
        } else {
            (packet.id, origin) = (id, id);
            (packet.payload, packet.length) = (length, event.record.length);
            packet.bytes = None;
            if let Transport::Tcp {
                flags, sequence, ..
            } = &mut packet.transport
            {
                (*flags, *sequence) = (event.record.tcp_flags, event.record.sequence);
            }
        }
        let packet = self.part(packet, origin, event);
        Some(Segment {
            packet,
            more: !untouched,
        })
    }
}

impl Rider {
    /// How many bytes of memory it takes.
    pub(super) fn room(&self) -> usize {
        size_of::<Self>() + self.packet.room()
    }

    /// The packet with the hops of the buffer from where it got on, and its end.
    fn with_hops(&self, buffer: &Packet, limit: usize) -> Packet {
        let mut packet = self.packet.clone();
        let more = buffer.hops.get(self.boarded..).unwrap_or_default();
        let room = limit.saturating_sub(packet.hops.len());
        packet.hops.extend(more.iter().take(room));
        let cut = more.len().saturating_sub(room);
        packet.hops_cut += u32::try_from(cut).unwrap_or(u32::MAX);
        packet.verdict = buffer.verdict;
        packet.verdict_observed = buffer.verdict_observed;
        packet.dropped = buffer.dropped;
        packet
    }
}

impl Flight {
    /// Whether the event, at that address, is of the packet there with others merged into it; then
    /// these get on.
    pub(in crate::journey) fn merge(&mut self, skb: u64, event: &Event) -> bool {
        if !self
            .by_skb
            .get(&skb)
            .is_some_and(|packet| packet.grows_by(event))
        {
            return false;
        }
        let behind = self.behind(skb);
        let Some(mut first) = self.remove(skb) else {
            return false;
        };
        let merged = event.record.payload;
        let mut have = first.fingerprint.payload;
        for other in behind {
            if have >= merged {
                break;
            }
            let next = first.fingerprint.sequence.wrapping_add(have);
            let fits = |packet: &InFlight| {
                let order =
                    packet.fingerprint.protocol == UDP || packet.fingerprint.sequence == next;
                order
                    && packet.before.is_at(&first.before)
                    && packet.fingerprint.payload <= merged - have
            };
            if self.by_skb.get(&other).is_some_and(|packet| fits(packet))
                && let Some(packet) = self.remove(other)
            {
                have += packet.fingerprint.payload;
                self.spent.note(other, packet.fingerprint);
                first.take(*packet);
            }
        }
        first.fingerprint = Fingerprint::of(event);
        self.insert(skb, first);
        true
    }

    /// What came after the packet in its stream, in order.
    fn behind(&self, skb: u64) -> Vec<u64> {
        let stream = self.by_skb.get(&skb).and_then(|packet| packet.stream);
        let all = stream.and_then(|stream| self.streams.get(&stream));
        let after = all.into_iter().flatten().copied();
        after.skip_while(|other| *other != skb).skip(1).collect()
    }

    /// The segment that the event, at an address of its own, is of.
    pub(in crate::journey) fn segment(
        &mut self,
        event: &Event,
        id: PacketId,
        limit: usize,
    ) -> Option<Segment> {
        let fingerprint = Fingerprint::of(event);
        let stream = self.streams.get(&super::Stream::of(event)?)?;
        let is_of = |skb: &&u64| {
            self.by_skb.get(skb).is_some_and(|packet| {
                packet.fingerprint.holds(&fingerprint)
                    && path::may_cut(&packet.before, event)
                    && packet.owner(&fingerprint).is_some()
            })
        };
        let skb = *stream.iter().rev().take(RECENT).find(is_of)?;
        let buffer = self.by_skb.get_mut(&skb)?;
        let riders = buffer.riders();
        let segment = buffer.cut(event, id, limit);
        self.riders -= riders - buffer.riders();
        self.count_again(skb);
        let buffer = self.by_skb.get_mut(&skb)?;
        if buffer.is_gone()
            && let Some(mut buffer) = self.remove(skb)
        {
            self.spent.note(skb, buffer.fingerprint);
            self.copies.settle(buffer.origin, None, |_| 0);
            for (origin, _) in buffer.take_riders(limit) {
                self.copies.settle(origin, None, |_| 0);
            }
        }
        segment
    }
}
