//! Events become packets, packets become flows.
//!
//! Pure: no clock, no I/O, no names. Time is what the events carry and what
//! [`Journeys::advance`] is told. Which packet an event belongs to is decided in `flight`, which
//! flow a packet belongs to in `flows`, what must lie between two events in `path`; `passing` and
//! `ending` put that together for a packet on its way and at its end.
//!
//! Memory is bounded by [`Limits`]: the oldest is given out unfinished and counted.

mod bounds;
mod ending;
mod flight;
mod flows;
mod hooks;
mod hop;
pub mod model;
mod passing;
mod path;
mod processes;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use tracer_common::{hook, record::Conntrack};

pub use bounds::{Limits, Overflow, Patience, Reasons};

pub use flight::Fingerprint;

use crate::event::{Event, Record};
use flight::{Captured, Flight, Spare};
use flows::Flows;
use model::{Flow, FlowId, NetnsId, Packet};

/// What is first seen within this time after tracing began, in nanoseconds, may have been under way: far
/// longer than packets take, even where a processor is late with what it has queued.
const UNDER_WAY: u64 = 100_000_000;

/// So many flows that had to make room are a crowd.
const CROWD: usize = 256;

/// The engine.
#[derive(Debug, Default)]
pub struct Journeys {
    limits: Limits,
    patience: Patience,
    reasons: Reasons,
    flight: Flight,
    flows: Flows,
    processes: processes::Processes,
    hooks: hooks::Hooks,
    /// What is first seen before this time may have been under way when tracing began.
    under_way_until: u64,
    /// Something was lost before that time.
    lost_before: u64,
    /// When a flow last had to make room before its end.
    let_go_at: u64,
    /// Packets are let go unseen, or were until that time.
    sampled_until: u64,
    done: VecDeque<Packet>,
    /// Bytes of memory of those.
    done_room: usize,
    given_up: VecDeque<Flow>,
    overflow: Overflow,
    spare: Spare,
    captured: Captured,
    packets: u64,
}

impl Journeys {
    /// An engine with those bounds.
    #[must_use]
    pub fn new(limits: Limits, patience: Patience, reasons: Reasons) -> Self {
        Self {
            limits,
            patience,
            reasons,
            spare: Spare::within(limits.packet_room),
            ..Self::default()
        }
    }

    /// Takes a record, in the order in which the ring gave them.
    pub fn push(&mut self, record: &Record) {
        match record {
            Record::Event(event) => self.event(event),
            Record::Conntrack(conntrack) => self.conntrack(conntrack),
        }
    }

    /// Takes a packet's first bytes: of one of that length, taken at that time.
    pub fn bytes(&mut self, time: u64, bytes: &[u8], length: u32) {
        self.captured
            .take(time, bytes, length, self.limits.byte_room);
    }

    /// Tracing began at that time: what was under way then is seen from its middle on, which is no
    /// hole.
    pub fn began(&mut self, time: u64) {
        self.under_way_until = time.saturating_add(UNDER_WAY);
    }

    /// Netfilter's hooks are observed in the namespace from that time on; `None`: no longer.
    pub fn netfilter_observed(&mut self, netns: NetnsId, since: Option<u64>) {
        self.hooks.observe(netns, since);
    }

    /// Netfilter's hooks are observed in every namespace from that time on.
    pub fn netfilter_observed_everywhere(&mut self, since: u64) {
        self.hooks.observe_everywhere(since);
    }

    /// Events between those times were lost: what was under way then may lack something.
    pub fn lost(&mut self, after: u64, before: u64) {
        self.lost_before = self.lost_before.max(before);
        let under_way = |flow: &&Flow| !flow.state.is_over() || flow.last >= after;
        let ids: Vec<FlowId> = self
            .flows
            .iter()
            .filter(under_way)
            .map(|flow| flow.id)
            .collect();
        for id in ids {
            if let Some(seat) = self.flows.seat(id) {
                self.flows.mark_lost(seat);
            }
        }
        for flow in self.given_up.iter_mut().filter(|flow| flow.last >= after) {
            flow.affected_by_loss = true;
        }
    }

    /// From that time on packets are let go unseen, or none any more. What is under way when that changes is
    /// seen in part.
    pub fn sampled(&mut self, time: u64, sampled: bool) {
        if !sampled {
            self.sampled_until = self.sampled_until.min(time.saturating_add(UNDER_WAY));
            return;
        }
        self.sampled_until = u64::MAX;
        let under_way = self.flows.iter().filter(|flow| !flow.state.is_over());
        let ids: Vec<FlowId> = under_way.map(|flow| flow.id).collect();
        for id in ids {
            if let Some(seat) = self.flows.seat(id) {
                self.flows.mark_sampled(seat);
            }
        }
    }

    /// Ends what is over at that time.
    #[inline]
    pub fn advance(&mut self, now: u64) {
        let delivered = now.saturating_sub(self.patience.delivered);
        let seen = now.saturating_sub(self.patience.packet);
        if !self.flight.is_any_over(delivered, seen) {
            return;
        }
        while let Some((skb, packet)) = self.flight.pop_over(delivered, seen) {
            self.over(skb, packet);
        }
    }

    /// When it is time for [`Journeys::advance`], for a packet that is delivered by now.
    #[must_use]
    pub fn next_over(&self) -> Option<u64> {
        let delivered = self.flight.next_delivered()?;
        Some(delivered.saturating_add(self.patience.delivered))
    }

    /// The flows that are over at that time, and of which no packet is under way.
    pub fn flows_over(&mut self, now: u64) -> Vec<FlowId> {
        let under_way = |id| self.flight.has_flow(id);
        self.flows.over(now, &self.patience, under_way)
    }

    /// Gives a flow out; it is forgotten.
    pub fn take_flow(&mut self, id: FlowId) -> Option<Flow> {
        self.flows.remove(id)
    }

    /// Gives out the flows that had to make room, and no others; they are forgotten.
    pub fn take_given_up(&mut self) -> impl Iterator<Item = Flow> + use<> {
        std::mem::take(&mut self.given_up).into_iter()
    }

    /// Ends everything: no event will come any more.
    pub fn finish(&mut self) {
        while let Some((skb, packet)) = self.flight.pop_oldest() {
            self.over(skb, packet);
        }
    }

    /// The packets that are over, in order of their end; each is given out once.
    pub fn take_packets(&mut self) -> impl Iterator<Item = Packet> + '_ {
        self.done_room = 0;
        self.done.drain(..)
    }

    /// The packet among those that are over which ended first; it is given out once.
    pub fn next_packet(&mut self) -> Option<Packet> {
        let packet = self.done.pop_front()?;
        self.done_room -= packet.room();
        Some(packet)
    }

    /// Whether so much waits to be given out that it should be taken before more is pushed.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.done_room > self.limits.packet_room / 4 || self.given_up.len() > CROWD
    }

    /// Takes back a packet that was given out and is not needed any more: its room serves others.
    pub fn take_back(&mut self, packet: Packet) {
        self.spare.take_packet(packet);
    }

    /// A flow under way.
    #[must_use]
    pub fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(id)
    }

    /// The flows under way that changed since this was asked last, in no order.
    pub fn take_changed(&mut self) -> impl Iterator<Item = &Flow> {
        self.flows.take_changed()
    }

    /// All flows under way, by number.
    #[must_use]
    pub fn flows(&self) -> Vec<&Flow> {
        let mut flows: Vec<&Flow> = self.given_up.iter().chain(self.flows.iter()).collect();
        flows.sort_unstable_by_key(|flow| flow.id);
        flows
    }

    /// How many flows are under way.
    #[must_use]
    pub fn open_flows(&self) -> usize {
        self.given_up.len() + self.flows.len()
    }

    /// How many packets are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// What was let go for want of room.
    #[must_use]
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    fn conntrack(&mut self, record: &Conntrack) {
        self.flows.tracked(record);
    }

    fn event(&mut self, event: &Event) {
        let time = event.record.time;
        self.advance(time);
        match event.record.hook {
            hook::DROP => self.dropped(event),
            hook::CONSUME => self.consumed(event),
            _ => self.passed(event),
        }
    }
}
