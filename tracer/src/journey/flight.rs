//! Which packet is this? Packets under way, by the `sk_buff`'s address and by fingerprint.
//!
//! The address stays the same from the sending process through veth pairs, bridges, NAT and tunnels
//! to the receiving socket, and is used again soon after. So it names a packet only while the
//! packet lives, and every event is checked against a fingerprint that NAT and routing leave alone.
//! The end of a packet is not always seen (TCP frees what it merges without a word), so a first
//! hop seen again, or another fingerprint at the address, begins another packet. The fingerprint
//! also joins what the address cannot: a packet that went on as a copy (`copies`), in a larger
//! buffer, or in segments (`train`).

mod captured;
mod copies;
mod fingerprint;
mod packet;
mod spare;
mod spent;
mod train;

use std::collections::{VecDeque, hash_map::Entry};

use foldhash::HashMap;

use super::{
    model::{FlowId, NetnsId, Packet, PacketId},
    path,
};
use crate::event::{Event, Tuple};
use copies::Copies;
use fingerprint::{TCP, UDP};
use spent::Spent;

pub(super) use captured::Captured;
pub(super) use copies::telling;
pub use fingerprint::Fingerprint;
pub(super) use packet::InFlight;
pub(super) use spare::Spare;
pub(super) use train::Segment;

/// How many packets with one fingerprint are looked at for the one that an event is a copy of.
const TWINS: usize = 16;

/// How many packets that are gone may stand in a queue beside as many as there are.
const SLACK: usize = 1024;

/// How many rooms of streams that ended are kept for others, and how large ones.
const ROWS: usize = 512;
const ROW: usize = 64;

/// Where packets follow each other: a namespace, and a tuple in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stream {
    netns: NetnsId,
    tuple: Tuple,
}

impl Stream {
    /// That of an event whose packet may be merged with others, or cut.
    fn of(event: &Event) -> Option<Self> {
        let r = &event.record;
        let has_order = matches!(r.protocol, TCP | UDP) && r.payload > 0 && r.source_port != 0;
        has_order.then(|| Self {
            netns: NetnsId(r.netns),
            tuple: event.tuple(),
        })
    }
}

/// The packets with the same fingerprint that came before and after, by address.
#[derive(Clone, Copy, Debug, Default)]
struct Twins {
    older: Option<u64>,
    newer: Option<u64>,
}

/// When to look whether a packet is over.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    time: u64,
    skb: u64,
    id: PacketId,
}

impl Deadline {
    fn is_in(&self, by_skb: &HashMap<u64, Box<InFlight>>) -> bool {
        by_skb
            .get(&self.skb)
            .is_some_and(|packet| packet.packet.id == self.id)
    }
}

/// The packets under way.
#[derive(Debug, Default)]
pub(super) struct Flight {
    copies: Copies,
    by_skb: HashMap<u64, Box<InFlight>>,
    /// How many of them are of a flow.
    by_flow: HashMap<FlowId, u32>,
    /// The newest of that fingerprint; each knows its neighbours in the row.
    by_fingerprint: HashMap<Fingerprint, u64>,
    /// In order of their coming there.
    streams: HashMap<Stream, VecDeque<u64>>,
    /// Empty ones with room, for those to come.
    rows: Vec<VecDeque<u64>>,
    spent: Spent,
    /// How many packets ride in other packets' buffers.
    riders: usize,
    /// Bytes of memory of all of them.
    room: usize,
    /// How many packets were without an address so far.
    adrift: u64,
    /// In order of time: a packet once delivered, and every packet by its last event.
    delivered: VecDeque<Deadline>,
    waiting: VecDeque<Deadline>,
}

impl Flight {
    pub(super) fn len(&self) -> usize {
        self.by_skb.len() + self.riders
    }

    /// How many bytes of memory they take.
    pub(super) fn room(&self) -> usize {
        self.room + self.copies.room()
    }

    /// Counts the memory of a packet that became larger.
    pub(super) fn count_again(&mut self, skb: u64) {
        if let Some(packet) = self.by_skb.get_mut(&skb) {
            let now = packet.room();
            self.room = self.room + now - packet.counted;
            packet.counted = now;
        }
    }

    /// Whether packets of the flow are under way.
    pub(super) fn has_flow(&self, id: FlowId) -> bool {
        self.by_flow.contains_key(&id)
    }

    pub(super) fn get_mut(&mut self, skb: u64) -> Option<&mut InFlight> {
        self.by_skb.get_mut(&skb).map(|packet| &mut **packet)
    }

    /// The packets under way with that fingerprint, the newest first, and their addresses.
    fn twins(&self, fingerprint: &Fingerprint) -> impl Iterator<Item = (u64, &InFlight)> {
        let mut next = self.by_fingerprint.get(fingerprint).copied();
        let twins = std::iter::from_fn(move || {
            let skb = next?;
            let packet = &**self.by_skb.get(&skb)?;
            next = packet.twins.older;
            Some((skb, packet))
        });
        twins.take(TWINS)
    }

    /// Whether any packet under way has that event's fingerprint.
    pub(super) fn has_twin(&self, event: &Event) -> bool {
        self.by_fingerprint.contains_key(&Fingerprint::of(event))
    }

    /// The address of a packet under way with that fingerprint.
    pub(super) fn twin(&self, fingerprint: &Fingerprint) -> Option<u64> {
        self.twins(fingerprint).next().map(|(skb, _)| skb)
    }

    pub(super) fn insert(&mut self, skb: u64, mut packet: Box<InFlight>) {
        // Whoever was there must have been taken away; if not, it must not stay in the row.
        drop(self.remove(skb));
        self.spent.forget(skb);
        let older = self.by_fingerprint.insert(packet.fingerprint, skb);
        packet.twins.older = older;
        if let Some(older) = older.and_then(|at| self.by_skb.get_mut(&at)) {
            older.twins.newer = Some(skb);
        }
        self.riders += packet.riders();
        packet.counted = packet.room();
        self.room += packet.counted;
        *self.by_flow.entry(packet.packet.flow).or_default() += 1;
        self.waiting.push_back(Deadline {
            time: packet.last,
            skb,
            id: packet.packet.id,
        });
        self.by_skb.insert(skb, packet);
        self.forget_deadlines();
    }

    /// Most packets are over long before they would be given up.
    fn forget_deadlines(&mut self) {
        if self.waiting.len() > 2 * self.by_skb.len() + SLACK {
            let by_skb = &self.by_skb;
            self.waiting.retain(|deadline| deadline.is_in(by_skb));
        }
        if self.delivered.len() > 2 * self.by_skb.len() + SLACK {
            let by_skb = &self.by_skb;
            self.delivered.retain(|deadline| deadline.is_in(by_skb));
        }
    }

    pub(super) fn remove(&mut self, skb: u64) -> Option<Box<InFlight>> {
        let mut packet = self.by_skb.remove(&skb)?;
        self.leave_twins(&packet);
        if let Some(stream) = packet.stream.take() {
            self.leave(stream, skb);
        }
        self.riders -= packet.riders();
        self.room -= packet.counted;
        if let Entry::Occupied(mut of_flow) = self.by_flow.entry(packet.packet.flow) {
            *of_flow.get_mut() -= 1;
            if *of_flow.get() == 0 {
                of_flow.remove();
            }
        }
        packet.twins = Twins::default();
        Some(packet)
    }

    /// Takes the packet out of the row of those with its fingerprint.
    fn leave_twins(&mut self, packet: &InFlight) {
        let Twins { older, newer } = packet.twins;
        if let Some(older) = older.and_then(|at| self.by_skb.get_mut(&at)) {
            older.twins.newer = newer;
        }
        match (newer, older) {
            (Some(newer), _) => {
                if let Some(newer) = self.by_skb.get_mut(&newer) {
                    newer.twins.older = older;
                }
            }
            (None, Some(older)) => {
                self.by_fingerprint.insert(packet.fingerprint, older);
            }
            (None, None) => {
                self.by_fingerprint.remove(&packet.fingerprint);
            }
        }
    }

    fn leave(&mut self, stream: Stream, skb: u64) {
        let Entry::Occupied(mut all) = self.streams.entry(stream) else {
            return;
        };
        if let Some(at) = all.get().iter().position(|other| *other == skb) {
            all.get_mut().remove(at);
        }
        if all.get().is_empty() {
            let row = all.remove();
            if self.rows.len() < ROWS && row.capacity() <= ROW {
                self.rows.push(row);
            }
        }
    }

    /// Notes where the packet is now.
    pub(super) fn is_at(&mut self, skb: u64, event: &Event) {
        let Some(packet) = self.by_skb.get_mut(&skb) else {
            return;
        };
        let stream = Stream::of(event);
        if packet.stream == stream {
            return;
        }
        let before = std::mem::replace(&mut packet.stream, stream);
        if let Some(before) = before {
            self.leave(before, skb);
        }
        if let Some(stream) = stream {
            let rows = &mut self.rows;
            let row = || rows.pop().unwrap_or_default();
            self.streams
                .entry(stream)
                .or_insert_with(row)
                .push_back(skb);
        }
    }

    /// A copy, with an address of its own, of a packet under way.
    pub(super) fn copy(&mut self, event: &Event, id: PacketId) -> Option<Box<InFlight>> {
        let fingerprint = Fingerprint::of(event);
        let mut twins = self.twins(&fingerprint);
        let copy = twins.find_map(|(_, twin)| twin.branch(event, id))?;
        drop(twins);
        self.copies.add(copy.origin);
        for rider in copy.origins() {
            self.copies.add(rider);
        }
        Some(Box::new(copy))
    }

    /// The packet that left its node by a device, and that the event sees coming into another one.
    pub(super) fn crossed(&mut self, event: &Event) -> Option<Box<InFlight>> {
        if !path::comes_in(event) {
            return None;
        }
        let fingerprint = Fingerprint::of(event);
        let left = |(_, packet): &(u64, &InFlight)| {
            packet.before.leads_out() && packet.before.netns.0 != event.record.netns
        };
        let (skb, _) = self.twins(&fingerprint).find(left)?;
        self.remove(skb)
    }

    /// A fragment that lost its address to the whole packet, and has another one now.
    pub(super) fn drifted(&mut self, event: &Event) -> Option<Box<InFlight>> {
        let fingerprint = Fingerprint::of(event);
        let is_adrift = |(skb, packet): &(u64, &InFlight)| {
            is_adrift(*skb) && path::may_branch(&packet.before, event)
        };
        let (skb, _) = self.twins(&fingerprint).find(is_adrift)?;
        self.remove(skb)
    }

    /// Keeps a packet whose address is another's now.
    pub(super) fn drift(&mut self, packet: Box<InFlight>) {
        self.adrift += 1;
        // Buffers are aligned, so no event has such an address.
        self.insert(self.adrift << 1 | 1, packet);
    }

    /// The packet of which the event's packet, beginning there, was sent back to the own host a
    /// moment before.
    pub(super) fn looped_back(&mut self, event: &Event) -> Option<PacketId> {
        let fingerprint = Fingerprint::of(event);
        let mut twins = self.twins(&fingerprint);
        let origin =
            twins.find_map(|(_, twin)| twin.looped_back_from(event).then_some(twin.origin))?;
        drop(twins);
        self.copies.add(origin);
        Some(origin)
    }

    /// Whether there are copies of that origin.
    pub(super) fn has_copies(&self, origin: PacketId) -> bool {
        self.copies.has(origin)
    }

    /// What is to be given out when a packet of that origin has ended: see [`Copies::settle`].
    pub(super) fn settle(
        &mut self,
        origin: PacketId,
        packet: Option<Packet>,
        telling: impl Fn(&Packet) -> u8,
    ) -> Option<Packet> {
        self.copies.settle(origin, packet, telling)
    }

    /// Whether the event, at that address, is of what was there and is over.
    pub(super) fn is_spent(&self, event: &Event) -> bool {
        self.spent.is(event.record.skb, &Fingerprint::of(event))
    }

    /// The packet at that address is over, but its buffer may be seen once more.
    pub(super) fn note_spent(&mut self, skb: u64, fingerprint: Fingerprint) {
        self.spent.note(skb, fingerprint);
    }

    /// Notes that a packet was freed where its segments may go on, or what it was put together to:
    /// they are waited for as long as for any packet when it is `large`, else shortly.
    pub(super) fn used(&mut self, skb: u64, time: u64, large: bool) {
        if let Some(packet) = self.by_skb.get_mut(&skb) {
            packet.used = true;
            if !large {
                self.delivered.push_back(Deadline {
                    time,
                    skb,
                    id: packet.packet.id,
                });
            }
        }
    }

    /// Notes that a socket took the packet, so that it is over soon.
    pub(super) fn deliver(&mut self, skb: u64, time: u64) {
        if let Some(packet) = self.by_skb.get_mut(&skb) {
            packet.delivered = Some(time);
            self.delivered.push_back(Deadline {
                time,
                skb,
                id: packet.packet.id,
            });
        }
    }

    /// Whether there may be packets for [`Self::pop_over`].
    #[inline]
    pub(super) fn is_any_over(&self, delivered_before: u64, seen_before: u64) -> bool {
        let due = |queue: &VecDeque<Deadline>, before| {
            let first = queue.front();
            first.is_some_and(|deadline| deadline.time < before)
        };
        due(&self.delivered, delivered_before) || due(&self.waiting, seen_before)
    }

    /// When the next packet was delivered of which it is awaited whether that is all.
    pub(super) fn next_delivered(&self) -> Option<u64> {
        self.delivered.front().map(|deadline| deadline.time)
    }

    /// The next packet that was delivered before `delivered_before` or whose last event was before
    /// `seen_before`.
    pub(super) fn pop_over(
        &mut self,
        delivered_before: u64,
        seen_before: u64,
    ) -> Option<(u64, Box<InFlight>)> {
        while let Some(deadline) = self
            .delivered
            .front()
            .copied()
            .filter(|d| d.time < delivered_before)
        {
            self.delivered.pop_front();
            if self.is(&deadline) {
                return self.pop(deadline.skb);
            }
        }
        while let Some(deadline) = self
            .waiting
            .front()
            .copied()
            .filter(|d| d.time < seen_before)
        {
            self.waiting.pop_front();
            match self
                .by_skb
                .get(&deadline.skb)
                .filter(|p| p.packet.id == deadline.id)
                .map(|p| p.last)
            {
                Some(last) if last >= seen_before => self.waiting.push_back(Deadline {
                    time: last,
                    ..deadline
                }),
                Some(_) => return self.pop(deadline.skb),
                None => {}
            }
        }
        None
    }

    /// The packet that has been under way the longest, for when there are too many.
    pub(super) fn pop_oldest(&mut self) -> Option<(u64, Box<InFlight>)> {
        while let Some(deadline) = self.waiting.pop_front() {
            if self.is(&deadline) {
                return self.pop(deadline.skb);
            }
        }
        None
    }

    fn pop(&mut self, skb: u64) -> Option<(u64, Box<InFlight>)> {
        self.remove(skb).map(|packet| (skb, packet))
    }

    fn is(&self, deadline: &Deadline) -> bool {
        deadline.is_in(&self.by_skb)
    }
}

fn is_adrift(skb: u64) -> bool {
    skb & 1 == 1
}
