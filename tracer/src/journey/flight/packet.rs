//! A packet under way: the buffer at one address, and all that travels in it.

use tracer_common::record::PACKET_LOOPBACK;

use super::{Fingerprint, Stream, Twins, fingerprint::UDP, train::Rider};
use crate::{
    event::{Event, Tuple},
    journey::{
        flows::{Membership, Moved, Seat},
        model::{Hop, Packet, PacketId, Stage},
        path::{self, Before, Step},
    },
};

/// How many events of a packet are kept for copies to branch off.
const TRAIL: usize = 128;

/// No buffer with less payload is cut: the least that an IPv4 host must take, less headers of 40
/// bytes.
const SEGMENT: u32 = 536;

/// `PACKET_BROADCAST` and `PACKET_MULTICAST` (uapi).
const TO_MANY: [u8; 3] = [1, 2, PACKET_LOOPBACK];

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

    /// Whether the event is the same once more.
    #[inline]
    fn is(&self, event: &Event) -> bool {
        let r = &event.record;
        // Most events are of another step, so that is looked at alone first.
        self.step == Step::of(event)
            && (self.netns, self.ifindex, self.ttl) == (r.netns, r.ifindex, r.ttl)
            && *self == Self::of(event)
    }
}

/// What became of the packet at sockets.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::journey) struct Sockets {
    /// How many took it.
    taken: u32,
    /// How many of them dropped it then.
    refused: u32,
}

/// The events so far, each with the number of hops after it: where a copy may branch off.
pub(super) type Trail = Vec<(Before, usize)>;

/// A packet under way.
#[derive(Clone, Debug)]
pub(in crate::journey) struct InFlight {
    /// The packet; with others merged into it, the first of them, and the hops are those of all.
    pub(in crate::journey) packet: Packet,
    /// Where the first packet's flow is.
    seat: Seat,
    /// The bytes of memory that it is counted with.
    pub(super) counted: usize,
    /// The packets that were merged into the buffer behind the first.
    pub(super) riders: Vec<Rider>,
    /// How much of the first packet's payload did not go on in segments of its own.
    pub(super) rest: u32,
    pub(in crate::journey) fingerprint: Fingerprint,
    pub(in crate::journey) before: Before,
    /// The time of the last event.
    pub(in crate::journey) last: u64,
    /// When a socket took it.
    pub(in crate::journey) delivered: Option<u64>,
    pub(in crate::journey) sockets: Sockets,
    /// The last event was by a device that leads out of the node.
    pub(in crate::journey) at_physical: bool,
    /// The packet that this one and its copies come from: copies share it.
    pub(in crate::journey) origin: PacketId,
    /// The kernel used it and said so by freeing it.
    pub(in crate::journey) taken: bool,
    /// Freed, where its segments may yet go on.
    pub(in crate::journey) used: bool,
    /// Some of it went on in segments.
    pub(in crate::journey) is_cut: bool,
    /// The event of its end as a drop, where that may be the end of the uncut buffer only.
    pub(in crate::journey) freed: Option<Box<Event>>,
    /// The link layer's word that it is for several.
    to_many: bool,
    /// The namespace and tuple that it was seen with last.
    pub(super) stream: Option<Stream>,
    /// Those with the same fingerprint.
    pub(super) twins: Twins,
    first: First,
    trail: Trail,
    /// Where it was last, as flows are known by it.
    place: Option<Place>,
}

/// A place, as flows are known by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    netns: u32,
    tuple: Tuple,
    device: [u64; 2],
}

impl InFlight {
    pub(in crate::journey) fn new(
        (packet, seat): (Packet, Seat),
        event: &Event,
        observed: bool,
        trail: Trail,
    ) -> Self {
        Self {
            seat,
            counted: 0,
            origin: packet.id,
            riders: Vec::new(),
            rest: packet.payload,
            taken: false,
            used: false,
            is_cut: false,
            freed: None,
            to_many: false,
            stream: None,
            twins: Twins::default(),
            trail,
            place: None,
            packet,
            fingerprint: Fingerprint::of(event),
            before: Before::new(event, observed),
            last: event.record.time,
            delivered: None,
            sockets: Sockets::default(),
            at_physical: false,
            first: First::of(event),
        }
    }

    /// Notes that the packet came through the event, and has its hops. Says what of its place is another
    /// than at the event before.
    pub(in crate::journey) fn came_through(&mut self, event: &Event, observed: bool) -> Moved {
        let before = Before::new(event, observed);
        self.before = before;
        self.last = event.record.time;
        self.at_physical = self.before.leads_out();
        if self.before.step == Step::Receive {
            self.to_many = TO_MANY.contains(&event.record.packet_type);
        }
        if self.trail.len() < TRAIL {
            self.trail.push((before, self.packet.hops.len()));
        }
        let place = Place {
            netns: event.record.netns,
            tuple: event.tuple(),
            device: event.record.device_name,
        };
        let moved = match &self.place {
            Some(last) => Moved {
                place: (last.netns, last.tuple) != (place.netns, place.tuple),
                device: last.device != place.device,
            },
            None => Moved {
                place: true,
                device: true,
            },
        };
        if moved.place || moved.device {
            self.place = Some(place);
        }
        moved
    }

    /// The packet's place in its flow.
    pub(in crate::journey) fn member(&self) -> Membership {
        Membership {
            seat: self.seat,
            direction: self.packet.direction,
        }
    }

    /// Whether the event is at the place where packets before and behind it are looked for.
    pub(in crate::journey) fn is_in_stream_of(&self, event: &Event) -> bool {
        self.stream == Stream::of(event)
    }

    /// How many bytes of memory it takes, with its places in the tables.
    pub(super) fn room(&self) -> usize {
        /// Places in tables and queues, which may be half empty, and a copy of an event.
        const BESIDE: usize = 768;
        let trail = self.trail.capacity() * size_of::<(Before, usize)>();
        let riders: usize = self.riders.iter().map(Rider::room).sum();
        let spare = (self.riders.capacity() - self.riders.len()) * size_of::<Rider>();
        // Each that was merged is given out with the hops of the buffer.
        let shared = self.riders.len() * self.packet.hops.capacity() * size_of::<Hop>();
        BESIDE + size_of::<Self>() + self.packet.room() + trail + riders + spare + shared
    }

    /// Whether another event makes it larger.
    #[inline]
    pub(in crate::journey) fn is_full(&self) -> bool {
        // A hop inside a bridge comes with that of the hook.
        self.packet.hops.capacity() - self.packet.hops.len() < 2
            || self.trail.capacity() == self.trail.len()
    }

    /// Whether its room is that of a usual packet.
    pub(super) fn has_room(&self) -> bool {
        (1..=TRAIL / 2).contains(&self.trail.capacity())
    }

    /// The room of its trail, when it is over.
    pub(super) fn take_trail(&mut self) -> Trail {
        self.trail.clear();
        std::mem::take(&mut self.trail)
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
        let on_board = |rider: &&Rider| rider.boarded <= hops;
        let riders = self.riders.iter().filter(on_board).cloned().collect();
        let trail = self.trail.get(..=at)?.to_vec();
        let mut copy = self.derive(packet, event, (before, trail));
        copy.riders = riders;
        Some(copy)
    }

    /// The packet, which was a part of this one, at an address of its own.
    pub(super) fn part(&self, packet: Packet, origin: PacketId, event: &Event) -> Self {
        let trail = match self.trail.last() {
            Some((before, _)) => vec![(*before, packet.hops.len())],
            None => Vec::new(),
        };
        let mut part = self.derive(packet, event, (self.before, trail));
        part.origin = origin;
        part.fingerprint = Fingerprint::of(event);
        part
    }

    fn derive(&self, packet: Packet, event: &Event, (before, trail): (Before, Trail)) -> Self {
        Self {
            riders: Vec::new(),
            counted: 0,
            rest: packet.payload,
            packet,
            before,
            trail,
            last: event.record.time,
            delivered: None,
            sockets: Sockets::default(),
            at_physical: false,
            taken: false,
            used: false,
            is_cut: false,
            freed: None,
            stream: None,
            twins: Twins::default(),
            ..*self
        }
    }

    /// Whether it is in a place where a buffer may be cut, and is large enough for it.
    pub(in crate::journey) fn may_go_on_in_segments(&self) -> bool {
        let place = matches!(
            self.before.step,
            Step::Queue | Step::Enter(_) | Step::Leave(Stage::Postrouting)
        );
        place && self.stream.is_some() && self.fingerprint.payload > SEGMENT
    }

    /// Whether a socket may get it in pieces, of which then nothing is seen but drops.
    pub(in crate::journey) fn is_cut_for_socket(&self) -> bool {
        self.fingerprint.protocol == UDP && self.fingerprint.payload > SEGMENT
    }

    /// Whether it is a later fragment that a hook keeps until the packet is whole.
    pub(in crate::journey) fn is_kept_fragment(&self) -> bool {
        self.fingerprint.is_fragment() && matches!(self.before.step, Step::Enter(_))
    }

    /// Whether br_netfilter, which ran prerouting inside the bridge, keeps the host's own prerouting
    /// from running (`ip_sabotage_in`): the hook is entered, and does nothing.
    pub(in crate::journey) fn runs_prerouting_again(&self, event: &Event) -> bool {
        let netns = event.record.netns;
        Step::of(event) == Step::Enter(Stage::Prerouting)
            && self.before.is_from_bridge(netns)
            && self.packet.hops.iter().any(|hop| {
                hop.stage == Stage::Prerouting && hop.netns.0 == netns && hop.left.is_some()
            })
    }

    /// Whether the event, at this packet's address, is of this packet.
    pub(in crate::journey) fn goes_on_with(&self, event: &Event) -> bool {
        self.fingerprint == Fingerprint::of(event) && self.is_on_its_way() && !self.first.is(event)
    }

    /// Whether the event, at this packet's address, is of this packet with others merged into it:
    /// what receives it puts together what arrives in a row (GRO).
    pub(super) fn grows_by(&self, event: &Event) -> bool {
        let received = matches!(
            self.before.step,
            Step::Transmit | Step::Receive | Step::Leave(Stage::Input)
        );
        Step::of(event) == Step::Receive
            && received
            && self.is_on_its_way()
            && self.fingerprint.grows_to(&Fingerprint::of(event))
    }

    fn is_on_its_way(&self) -> bool {
        self.delivered.is_none() && !self.used
    }

    /// Whether it began as the copy that the sender's own host gets, at that place: the packet
    /// itself, which is sent after it, is then no other one.
    pub(super) fn looped_back_from(&self, event: &Event) -> bool {
        let begins = matches!(
            Step::of(event),
            Step::Queue | Step::Enter(Stage::Postrouting)
        );
        begins
            && self.first.step == Step::Receive
            && self.first.netns == event.record.netns
            && self.first.tuple == event.tuple()
            && self.began_looped_back()
    }

    /// Whether it began as the copy that the sender's own host gets.
    pub(in crate::journey) fn began_looped_back(&self) -> bool {
        let first = self.trail.first();
        first.is_some_and(|(before, _)| before.is_looped_back())
    }

    /// Another socket takes the packet that one has taken: raw and multicast sockets take copies.
    pub(in crate::journey) fn is_taken_again(&mut self, event: &Event) -> bool {
        let again = self.delivered.is_some() && self.fingerprint == Fingerprint::of(event);
        if again {
            self.sockets.taken += 1;
        }
        again
    }

    /// Notes that a socket dropped what it had taken; says whether none is left that has it.
    ///
    /// Of what is for one, copies that raw sockets take do not count.
    pub(in crate::journey) fn is_refused(&mut self) -> bool {
        self.sockets.refused += 1;
        !self.to_many || self.sockets.refused > self.sockets.taken
    }
}
