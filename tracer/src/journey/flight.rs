//! Which packet is this? Packets under way, by the `sk_buff`'s address and by fingerprint.
//!
//! The address stays the same from the sending process through veth pairs, bridges, NAT and tunnels
//! to the receiving socket, and is used again soon after. So it names a packet only while the
//! packet lives, and every event is checked against a fingerprint that NAT and routing leave alone.
//! The end of a packet is not always seen (TCP frees what it merges without a word), so a first
//! hop seen again, or another fingerprint at the address, begins another packet. The fingerprint
//! also joins what the address cannot: a packet that went on as a copy.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{
    model::{FlowId, Packet, PacketId, Stage, Transport, Verdict},
    path::{self, Before, Step},
};
use crate::event::{Event, Tuple};

/// How many events of a packet are kept for copies to branch off.
const TRAIL: usize = 128;

/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What of a packet neither NAT nor routing changes. UDP's first payload bytes stand where TCP has
/// its numbers (see `record::Event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint {
    sequence: u32,
    acknowledgement: u32,
    ip_id: u32,
    payload: u32,
    protocol: u8,
    tcp_flags: u8,
    ip_version: u8,
    /// An echo's id, which stands in the ports' place; the ports themselves may be translated.
    fragment: bool,
}

impl Fingerprint {
    pub(super) fn of(event: &Event) -> Self {
        let r = &event.record;
        Self {
            sequence: r.sequence,
            acknowledgement: r.acknowledgement,
            ip_id: r.ip_id,
            // Where it follows from the IP length, reassembly changes it; a TCP segment that is
            // merged or cut is another one.
            payload: if matches!(r.protocol, TCP | UDP) {
                r.payload
            } else {
                0
            },
            protocol: r.protocol,
            tcp_flags: r.tcp_flags,
            ip_version: r.ip_version,
            fragment: event.has(tracer_common::record::FLAG_FRAGMENT),
        }
    }
}

/// The first event of a packet: the same once more is another packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct First {
    step: Step,
    netns: u32,
    ifindex: u32,
    ttl: u8,
    tuple: Tuple,
    /// A tunnel sends the packet through the same hooks again, with the tunnel around it.
    encapsulated: bool,
}

impl First {
    fn of(event: &Event) -> Self {
        let r = &event.record;
        Self {
            step: Step::of(event),
            netns: r.netns,
            ifindex: r.ifindex,
            ttl: r.ttl,
            tuple: event.tuple(),
            encapsulated: event.outer().is_some(),
        }
    }
}

/// A packet under way.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) packet: Packet,
    pub(super) fingerprint: Fingerprint,
    pub(super) before: Before,
    /// The time of the last event.
    pub(super) last: u64,
    /// When a socket took it.
    pub(super) delivered: Option<u64>,
    /// The last event was by a device that leads out of the node.
    pub(super) at_physical: bool,
    /// The packet that this one and its copies come from: copies share it.
    pub(super) origin: PacketId,
    /// The kernel used it and said so by freeing it.
    pub(super) taken: bool,
    /// Freed as used, where its segments may yet go on.
    pub(super) used: bool,
    /// The queue that it was handed to last.
    queue: Option<Queue>,
    first: First,
    /// The events so far, each with the number of hops after it: where a copy may branch off.
    trail: Vec<(Before, usize)>,
}

impl InFlight {
    pub(super) fn new(packet: Packet, event: &Event, observed: bool) -> Self {
        Self {
            origin: packet.id,
            taken: false,
            used: false,
            queue: None,
            trail: Vec::with_capacity(32),
            packet,
            fingerprint: Fingerprint::of(event),
            before: Before::new(event, observed),
            last: event.record.time,
            delivered: None,
            at_physical: false,
            first: First::of(event),
        }
    }

    /// Notes that the packet came through the event, and has its hops.
    pub(super) fn came_through(&mut self, event: &Event, observed: bool) {
        self.before = Before::new(event, observed);
        self.last = event.record.time;
        self.at_physical = self.before.leads_out();
        if self.trail.len() < TRAIL {
            self.trail.push((self.before, self.packet.hops.len()));
        }
    }

    /// The copy of this packet that the event, at another address, is of: with the hops up to
    /// where it branched off. `None` when there is no such place.
    pub(super) fn branch(&self, event: &Event, id: PacketId) -> Option<Self> {
        let at = self
            .trail
            .iter()
            .rposition(|(before, _)| path::may_branch(before, event))?;
        let (before, hops) = *self.trail.get(at)?;
        let mut packet = self.packet.clone();
        packet.id = id;
        packet.hops.truncate(hops);
        Some(Self {
            packet,
            fingerprint: self.fingerprint,
            before,
            last: event.record.time,
            delivered: None,
            at_physical: false,
            origin: self.origin,
            taken: false,
            used: false,
            queue: None,
            first: self.first,
            trail: self.trail.get(..=at)?.to_vec(),
        })
    }

    /// The segment of this large packet that the event is of: between a device's queue and its
    /// driver, what the device cannot cut itself is cut in software.
    fn segment(&self, event: &Event, id: PacketId) -> Option<Self> {
        let r = &event.record;
        let mut segment = self.branch(event, id)?;
        if let Transport::Tcp {
            flags, sequence, ..
        } = &mut segment.packet.transport
        {
            let offset = r.sequence.wrapping_sub(*sequence);
            if offset >= self.packet.payload {
                return None;
            }
            (*flags, *sequence) = (r.tcp_flags, r.sequence);
        }
        if r.payload >= self.packet.payload {
            return None;
        }
        let cut = self.packet.payload - r.payload;
        segment.packet.payload = r.payload;
        segment.packet.length = self.packet.length.saturating_sub(cut);
        segment.fingerprint = Fingerprint::of(event);
        Some(segment)
    }

    /// Whether br_netfilter, which ran prerouting inside the bridge, keeps the host's own prerouting
    /// from running (`ip_sabotage_in`): the hook is entered, and does nothing.
    pub(super) fn runs_prerouting_again(&self, event: &Event) -> bool {
        let netns = event.record.netns;
        Step::of(event) == Step::Enter(Stage::Prerouting)
            && self.before.is_from_bridge(netns)
            && self.packet.hops.iter().any(|hop| {
                hop.stage == Stage::Prerouting && hop.netns.0 == netns && hop.left.is_some()
            })
    }

    /// Whether the event, at this packet's address, is of this packet.
    pub(super) fn goes_on_with(&self, event: &Event) -> bool {
        self.fingerprint == Fingerprint::of(event)
            && self.delivered.is_none()
            && !self.used
            && self.first != First::of(event)
    }
}

/// A device's queue and what was handed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Queue {
    netns: u32,
    ifindex: u32,
    tuple: Tuple,
}

impl Queue {
    fn of(event: &Event) -> Self {
        let r = &event.record;
        Self {
            netns: r.netns,
            ifindex: r.ifindex,
            tuple: event.tuple(),
        }
    }
}

/// When to look whether a packet is over.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    time: u64,
    skb: u64,
    id: PacketId,
}

/// What became of a packet and its copies so far.
#[derive(Debug, Default)]
struct Copies {
    /// How many are under way.
    live: u32,
    /// One of them arrived, and was given out.
    arrived: bool,
    /// The first that was dropped, for when none arrives.
    dropped: Option<Box<Packet>>,
}

/// The packets under way.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// By origin, for packets that have copies.
    copies: HashMap<PacketId, Copies>,
    by_skb: HashMap<u64, InFlight>,
    by_fingerprint: HashMap<Fingerprint, u64>,
    /// What each queue was handed last, until that is over.
    by_queue: HashMap<Queue, u64>,
    /// In order of time: a packet once delivered, and every packet by its last event.
    delivered: VecDeque<Deadline>,
    waiting: VecDeque<Deadline>,
}

impl Flight {
    pub(super) fn len(&self) -> usize {
        self.by_skb.len()
    }

    /// The flows that have packets under way.
    pub(super) fn flows(&self) -> HashSet<FlowId> {
        self.by_skb.values().map(|it| it.packet.flow).collect()
    }

    pub(super) fn get_mut(&mut self, skb: u64) -> Option<&mut InFlight> {
        self.by_skb.get_mut(&skb)
    }

    /// The packet under way with that fingerprint, and its address.
    pub(super) fn twin(&self, fingerprint: &Fingerprint) -> Option<(u64, &InFlight)> {
        let skb = *self.by_fingerprint.get(fingerprint)?;
        self.by_skb
            .get(&skb)
            .filter(|p| p.fingerprint == *fingerprint)
            .map(|p| (skb, p))
    }

    pub(super) fn insert(&mut self, skb: u64, packet: InFlight) {
        self.by_fingerprint.insert(packet.fingerprint, skb);
        self.waiting.push_back(Deadline {
            time: packet.last,
            skb,
            id: packet.packet.id,
        });
        self.by_skb.insert(skb, packet);
    }

    pub(super) fn remove(&mut self, skb: u64) -> Option<InFlight> {
        let packet = self.by_skb.remove(&skb)?;
        if self.by_fingerprint.get(&packet.fingerprint) == Some(&skb) {
            self.by_fingerprint.remove(&packet.fingerprint);
        }
        if let Some(queue) = &packet.queue
            && self.by_queue.get(queue) == Some(&skb)
        {
            self.by_queue.remove(queue);
        }
        Some(packet)
    }

    /// Notes that the packet was handed to a device's queue.
    pub(super) fn queued(&mut self, skb: u64, event: &Event) {
        let Some(packet) = self.by_skb.get_mut(&skb) else {
            return;
        };
        let queue = Queue::of(event);
        if let Some(before) = packet.queue.replace(queue)
            && before != queue
            && self.by_queue.get(&before) == Some(&skb)
        {
            self.by_queue.remove(&before);
        }
        self.by_queue.insert(queue, skb);
    }

    /// The segment that the event is of, when it is of one of a packet in the device's queue.
    pub(super) fn segment(&self, event: &Event, id: PacketId) -> Option<InFlight> {
        if Step::of(event) != Step::Transmit {
            return None;
        }
        let skb = self.by_queue.get(&Queue::of(event))?;
        self.by_skb.get(skb)?.segment(event, id)
    }

    /// Notes that a packet was freed in a device's queue, so that only its segments go on.
    pub(super) fn used(&mut self, skb: u64, time: u64) {
        if let Some(packet) = self.by_skb.get_mut(&skb) {
            packet.used = true;
            self.delivered.push_back(Deadline {
                time,
                skb,
                id: packet.packet.id,
            });
        }
    }

    /// Adds a copy of a packet.
    pub(super) fn insert_copy(&mut self, skb: u64, copy: InFlight) {
        let first = Copies {
            live: 1,
            ..Copies::default()
        };
        self.copies.entry(copy.origin).or_insert(first).live += 1;
        self.insert(skb, copy);
    }

    /// What is to be given out when a packet has ended. Of several copies the one that arrives is
    /// the packet. When none does, it is the first that was dropped, or else the last.
    pub(super) fn settle(&mut self, origin: PacketId, packet: Packet) -> Option<Packet> {
        let Some(copies) = self.copies.get_mut(&origin) else {
            return Some(packet);
        };
        copies.live = copies.live.saturating_sub(1);
        let over = copies.live == 0;
        let given = match packet.verdict {
            Verdict::Delivered | Verdict::Left => {
                copies.arrived = true;
                copies.dropped = None;
                Some(packet)
            }
            _ if copies.arrived => None,
            Verdict::Dropped if copies.dropped.is_none() && !over => {
                copies.dropped = Some(Box::new(packet));
                None
            }
            _ if over => Some(copies.dropped.take().map_or(packet, |dropped| *dropped)),
            _ => None,
        };
        if over {
            self.copies.remove(&origin);
        }
        given
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

    /// The next packet that was delivered before `delivered_before` or whose last event was before
    /// `seen_before`.
    pub(super) fn pop_over(&mut self, delivered_before: u64, seen_before: u64) -> Option<InFlight> {
        while let Some(deadline) = self
            .delivered
            .front()
            .copied()
            .filter(|d| d.time < delivered_before)
        {
            self.delivered.pop_front();
            if self.is(&deadline) {
                return self.remove(deadline.skb);
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
                Some(_) => return self.remove(deadline.skb),
                None => {}
            }
        }
        None
    }

    /// The packet that has been under way the longest, for when there are too many.
    pub(super) fn pop_oldest(&mut self) -> Option<InFlight> {
        while let Some(deadline) = self.waiting.pop_front() {
            if self.is(&deadline) {
                return self.remove(deadline.skb);
            }
        }
        None
    }

    fn is(&self, deadline: &Deadline) -> bool {
        self.by_skb
            .get(&deadline.skb)
            .is_some_and(|p| p.packet.id == deadline.id)
    }
}
