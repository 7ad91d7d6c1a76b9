//! Events become packets, packets become flows.
//!
//! Pure: no clock, no I/O, no names. Time is what the events carry and what
//! [`Journeys::advance`] is told. Which packet an event belongs to is decided in `flight`, which
//! flow a packet belongs to in `flows`, what must lie between two events in `path`.
//!
//! Memory is bounded by [`Limits`]: the oldest is given out unfinished and counted.

mod flight;
mod flows;
mod hop;
pub mod model;
mod path;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use tracer_common::{
    hook,
    record::{Conntrack, FLAG_FRAGMENT, FLAG_HAS_NETFILTER},
};

use crate::event::{Event, Record};
use flight::{Fingerprint, Flight, InFlight};
use flows::{Flows, Membership};
use hop::{add_hop, ip_length, note_drop, transport_of};
use model::{
    Direction, Flow, FlowId, Hole, NetnsId, Packet, PacketId, Stage, State, Transport, Verdict,
};
use path::Step;

/// How much is kept at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Packets under way.
    pub packets: usize,
    /// Hops of one packet.
    pub hops: usize,
    /// Flows.
    pub flows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packets: 1 << 12,
            hops: 256,
            flows: 1 << 14,
        }
    }
}

/// How long things are waited for, in nanoseconds of the events' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From a socket taking a packet to the packet being over: within it the protocol may drop it.
    pub delivered: u64,
    /// From a packet's last event to giving it up. A packet may wait that long for ARP.
    pub packet: u64,
    /// From a closed flow's last event to giving it out.
    pub closed: u64,
    /// From another flow's last event to giving it out.
    pub silent: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            delivered: 2_000_000,
            packet: 4_000_000_000,
            closed: 1_000_000_000,
            silent: 120_000_000_000,
        }
    }
}

/// Which of this kernel's drop reasons mean something to a journey's end. Numbers differ by kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// What is freed with these after a socket took it was not dropped: a closing socket empties
    /// its queue.
    pub after_delivery: Vec<u32>,
}

impl Reasons {
    /// Those of a kernel, by the names of its `enum skb_drop_reason`.
    #[must_use]
    pub fn by_name(number: impl Fn(&str) -> Option<u32>) -> Self {
        let numbers = |names: &[&str]| names.iter().filter_map(|name| number(name)).collect();
        Self {
            // A raw socket takes a copy, and no other socket wants the packet.
            after_delivery: numbers(&["QUEUE_PURGE", "SOCKET_CLOSE", "NO_SOCKET"]),
        }
    }
}

/// What was let go because of [`Limits`], and what could not be placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// Packets given out before they were over.
    pub packets: u64,
    /// Flows given out before they were over.
    pub flows: u64,
}

/// The engine.
#[derive(Debug, Default)]
pub struct Journeys {
    limits: Limits,
    patience: Patience,
    reasons: Reasons,
    flight: Flight,
    flows: Flows,
    /// Since when netfilter's hooks are observed in a namespace.
    observed: HashMap<NetnsId, u64>,
    observed_everywhere: Option<u64>,
    /// The hooks that some packet ran through: with everything observed, those that there are.
    hooks_seen: HashSet<(NetnsId, Stage)>,
    /// Something was lost before that time.
    lost_before: u64,
    done: VecDeque<Packet>,
    given_up: VecDeque<Flow>,
    overflow: Overflow,
    next_packet: u64,
}

impl Journeys {
    /// An engine with those bounds.
    #[must_use]
    pub fn new(limits: Limits, patience: Patience, reasons: Reasons) -> Self {
        Self {
            limits,
            patience,
            reasons,
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

    /// Netfilter's hooks are observed in the namespace from that time on; `None`: no longer.
    pub fn netfilter_observed(&mut self, netns: NetnsId, since: Option<u64>) {
        match since {
            Some(time) => self.observed.insert(netns, time),
            None => self.observed.remove(&netns),
        };
    }

    /// Netfilter's hooks are observed in every namespace from that time on.
    pub fn netfilter_observed_everywhere(&mut self, since: u64) {
        self.observed_everywhere = Some(since);
    }

    /// Events between those times were lost: what was under way then may lack something.
    pub fn lost(&mut self, after: u64, before: u64) {
        self.lost_before = self.lost_before.max(before);
        let under_way = |flow: &&Flow| {
            let over = matches!(flow.state, State::Closed | State::Refused | State::Reset);
            !over || flow.last >= after
        };
        let ids: Vec<FlowId> = self
            .flows
            .iter()
            .filter(under_way)
            .map(|flow| flow.id)
            .collect();
        for id in ids {
            self.flows.mark_lost(id);
        }
    }

    /// Ends what is over at that time.
    pub fn advance(&mut self, now: u64) {
        let delivered = now.saturating_sub(self.patience.delivered);
        let seen = now.saturating_sub(self.patience.packet);
        while let Some(packet) = self.flight.pop_over(delivered, seen) {
            self.complete(packet);
        }
    }

    /// Gives out the flows that are over at that time; they are forgotten.
    pub fn take_flows_over(&mut self, now: u64) -> Vec<Flow> {
        let closed = now.saturating_sub(self.patience.closed);
        let silent = now.saturating_sub(self.patience.silent);
        let over = self.flows.over(closed, silent);
        self.given_up
            .drain(..)
            .chain(over.into_iter().filter_map(|id| self.flows.remove(id)))
            .collect()
    }

    /// Ends everything: no event will come any more.
    pub fn finish(&mut self) {
        while let Some(packet) = self.flight.pop_oldest() {
            self.complete(packet);
        }
    }

    /// The packets that are over, in order of their end; each is given out once.
    pub fn take_packets(&mut self) -> impl Iterator<Item = Packet> + '_ {
        self.done.drain(..)
    }

    /// A flow under way.
    #[must_use]
    pub fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(id)
    }

    /// All flows under way, by number.
    #[must_use]
    pub fn flows(&self) -> Vec<&Flow> {
        let mut flows: Vec<&Flow> = self.given_up.iter().chain(self.flows.iter()).collect();
        flows.sort_unstable_by_key(|flow| flow.id);
        flows
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

    /// The packet at the event's address, when the event is of it; what else was there is over.
    fn current(&mut self, event: &Event) -> Option<u64> {
        let skb = event.record.skb;
        let goes_on = self.flight.get_mut(skb)?.goes_on_with(event);
        if goes_on {
            return Some(skb);
        }
        if let Some(packet) = self.flight.remove(skb) {
            self.complete(packet);
        }
        None
    }

    /// A copy or a segment of a packet under way, which goes on at an address of its own.
    fn copied(&mut self, event: &Event) -> Option<u64> {
        let skb = event.record.skb;
        let id = PacketId(self.next_packet + 1);
        let twin = self.flight.twin(&Fingerprint::of(event));
        let copy = twin
            .and_then(|(_, twin)| twin.branch(event, id))
            .or_else(|| self.flight.segment(event, id))?;
        self.next_packet += 1;
        self.flight.insert_copy(skb, copy);
        self.make_room(0);
        Some(skb)
    }

    /// Another socket takes a packet that one has taken: raw and multicast sockets take copies.
    fn is_taken_again(&mut self, event: &Event) -> bool {
        let taken = |packet: &mut InFlight| {
            packet.delivered.is_some() && packet.fingerprint == Fingerprint::of(event)
        };
        Step::of(event) == Step::Socket && self.flight.get_mut(event.record.skb).is_some_and(taken)
    }

    fn passed(&mut self, event: &Event) {
        if self.is_taken_again(event) {
            return;
        }
        let observed = self.is_observed(event);
        self.note_hook(event);
        let known = self.current(event).or_else(|| self.copied(event));
        let (skb, hole) = match known {
            Some(skb) => {
                let packet = self.flight.get_mut(skb);
                if packet
                    .as_ref()
                    .is_some_and(|packet| packet.runs_prerouting_again(event))
                {
                    return;
                }
                let hole = packet.and_then(|packet| path::between(&packet.before, event));
                (skb, hole)
            }
            None => {
                self.begin(event, observed);
                (event.record.skb, path::beginning(event))
            }
        };
        let hole = hole.filter(|hole| self.is_hole(*hole, event));
        let Some(packet) = self.flight.get_mut(skb) else {
            return;
        };
        let mut member = Membership {
            flow: packet.packet.flow,
            direction: packet.packet.direction,
        };
        let translated = add_hop(&mut packet.packet, event, hole, self.limits.hops);
        packet.came_through(event, observed);
        self.flows.seen(&mut member, event);
        if event.record.time <= self.lost_before {
            self.flows.mark_lost(member.flow);
        }
        if member.direction != packet.packet.direction {
            packet.packet.direction = member.direction;
        }
        let netns = NetnsId(event.record.netns);
        if let Some((stage, translations)) = translated {
            for translation in translations.into_iter().flatten() {
                self.flows.translated(member, stage, netns, &translation);
            }
        }
        self.place_ends(member, event, known.is_none());
        if Step::of(event) == Step::Queue {
            self.flight.queued(skb, event);
        }
        if Step::of(event) == Step::Socket {
            self.flight.deliver(skb, event.record.time);
        }
    }

    /// Whether netfilter's hooks, where there are any, would be seen at the event's place.
    fn is_observed(&self, event: &Event) -> bool {
        let since = self
            .observed
            .get(&NetnsId(event.record.netns))
            .or(self.observed_everywhere.as_ref());
        let seen = since.is_some_and(|since| *since <= event.record.time);
        // Seen everywhere does not mean that there is anything to see.
        let any = self.observed_everywhere.is_none()
            || event.record.hook != hook::DEVICE_RECEIVE
            || event.has(FLAG_HAS_NETFILTER);
        seen && any
    }

    /// Gives the oldest packet out when there is no room for so many more.
    fn make_room(&mut self, more: usize) {
        if self.flight.len() + more > self.limits.packets
            && let Some(oldest) = self.flight.pop_oldest()
        {
            self.overflow.packets += 1;
            self.complete(oldest);
        }
    }

    fn note_hook(&mut self, event: &Event) {
        if let Step::Enter(stage) | Step::Leave(stage) = Step::of(event)
            && self.observed_everywhere.is_some()
            && self.hooks_seen.len() < HOOKS_SEEN
        {
            self.hooks_seen.insert((NetnsId(event.record.netns), stage));
        }
    }

    /// With everything observed, a hook that no function is registered at is not run and not seen:
    /// only what was seen to be there can be missing.
    fn is_hole(&self, hole: Hole, event: &Event) -> bool {
        if self.observed_everywhere.is_none() {
            return true;
        }
        match hole {
            Hole::Missing(
                stage @ (Stage::Prerouting
                | Stage::Input
                | Stage::Forward
                | Stage::Output
                | Stage::Postrouting),
            ) => self
                .hooks_seen
                .contains(&(NetnsId(event.record.netns), stage)),
            Hole::Beginning => Step::of(event) != Step::Enter(Stage::Postrouting),
            _ => true,
        }
    }

    fn begin(&mut self, event: &Event, observed: bool) {
        self.make_room(1);
        let packet = self.new_packet(event);
        self.flight
            .insert(event.record.skb, InFlight::new(packet, event, observed));
    }

    fn new_packet(&mut self, event: &Event) -> Packet {
        while self.flows.len() >= self.limits.flows {
            let Some(flow) = self.flows.evict() else {
                break;
            };
            self.overflow.flows += 1;
            self.given_up.push_back(flow);
            if self.given_up.len() > self.limits.flows {
                self.given_up.pop_front();
            }
        }
        self.next_packet += 1;
        let transport = transport_of(event);
        let member = self.flows.join(event, &transport);
        Packet {
            id: PacketId(self.next_packet),
            flow: member.flow,
            direction: member.direction,
            protocol: event.record.protocol,
            transport,
            length: ip_length(event),
            payload: event.record.payload,
            hops: Vec::with_capacity(16),
            verdict: Verdict::Unknown,
            verdict_observed: false,
            dropped: None,
            hops_cut: 0,
        }
    }

    /// Where the flow's two ends are.
    fn place_ends(&mut self, member: Membership, event: &Event, first: bool) {
        let Some(flow) = self.flows.get_mut(member.flow) else {
            return;
        };
        let (tuple, netns, step) = (event.tuple(), NetnsId(event.record.netns), Step::of(event));
        // A reset or an ICMP error may be somebody else's word for an end that is not there.
        let own_word = event.quoted().is_none() && event.record.tcp_flags & 4 == 0;
        // A later fragment has no ports, so its flow is that of all that such fragments belong to.
        let first = first && !event.has(FLAG_FRAGMENT);
        let starts_here = first
            && matches!(
                step,
                Step::Queue | Step::Enter(Stage::Output | Stage::Postrouting)
            );
        match (member.direction, step) {
            (Direction::Original, _) if starts_here => {
                flow.client_netns = flow.client_netns.or(Some(netns));
            }
            (Direction::Reply, _) if starts_here && own_word && flow.backend_netns.is_none() => {
                flow.backend = Some(tuple.source);
                flow.backend_netns = Some(netns);
            }
            (Direction::Original, Step::Socket) if own_word => {
                flow.backend = Some(tuple.destination);
                flow.backend_netns = Some(netns);
            }
            (Direction::Reply, Step::Socket) if flow.client_netns.is_none() => {
                flow.client_netns = Some(netns);
            }
            _ => {}
        }
    }

    fn dropped(&mut self, event: &Event) {
        let skb = event.record.skb;
        let fingerprint = Fingerprint::of(event);
        let here = self
            .flight
            .get_mut(skb)
            .filter(|packet| packet.fingerprint == fingerprint);
        let Some(packet) = here else {
            // A copy of a packet that is under way elsewhere: a clone for ARP, for a capture, for a
            // port that did not want it.
            if self.flight.twin(&fingerprint).is_none() {
                self.dropped_unseen(event);
            }
            return;
        };
        let delivered = packet.delivered.is_some();
        let (flow, direction) = (packet.packet.flow, packet.packet.direction);
        let (step, transport) = (packet.before.step, packet.packet.transport);
        // A kernel that gives no reason frees so what a closing socket holds.
        let used = if delivered {
            event.record.reason <= NOT_SPECIFIED
                || self.reasons.after_delivery.contains(&event.record.reason)
        } else {
            event.record.reason <= NOT_SPECIFIED
                && (self.is_taken_by_tcp(flow, direction, step, &transport)
                    || event.has(FLAG_FRAGMENT) && is_reassembly(step))
        };
        let Some(mut packet) = self.flight.remove(skb) else {
            return;
        };
        if used {
            packet.packet.verdict_observed = true;
            packet.taken = true;
        } else {
            note_drop(&mut packet.packet, event, self.limits.hops);
        }
        self.complete(packet);
    }

    /// Whether TCP used a packet that it then frees without giving a reason: what comes for a
    /// connection in TIME-WAIT is answered without a socket (`tcp_v4_rcv`, 5.10 to 6.18). The end
    /// that is there has sent its FIN before.
    fn is_taken_by_tcp(
        &self,
        flow: FlowId,
        direction: Direction,
        step: Step,
        transport: &Transport,
    ) -> bool {
        matches!(transport, Transport::Tcp { .. })
            && matches!(step, Step::Receive | Step::Leave(Stage::Input))
            && self.flows.receiver_has_finished(flow, direction)
    }

    /// A drop of a packet without any hop before: dropped where no hook is, or the free of what a
    /// closing socket still held. Only the first is a journey, and only a kernel that gives reasons
    /// tells them apart.
    fn dropped_unseen(&mut self, event: &Event) {
        if event.record.reason <= NOT_SPECIFIED
            || self.reasons.after_delivery.contains(&event.record.reason)
        {
            return;
        }
        if let Some(packet) = self.flight.remove(event.record.skb) {
            self.complete(packet);
        }
        let packet = self.new_packet(event);
        let mut packet = InFlight::new(packet, event, false);
        note_drop(&mut packet.packet, event, self.limits.hops);
        self.complete(packet);
    }

    fn consumed(&mut self, event: &Event) {
        let skb = event.record.skb;
        let fingerprint = Fingerprint::of(event);
        let here = self
            .flight
            .get_mut(skb)
            .filter(|packet| packet.fingerprint == fingerprint);
        match here.map(|packet| packet.before.step) {
            // Its segments, or the packet that it was reassembled into, may go on.
            Some(Step::Queue | Step::Enter(_)) => self.flight.used(skb, event.record.time),
            Some(_) => {
                if let Some(mut packet) = self.flight.remove(skb) {
                    packet.packet.verdict_observed = true;
                    self.complete(packet);
                }
            }
            None => {}
        }
    }

    fn complete(&mut self, in_flight: InFlight) {
        let InFlight {
            mut packet,
            delivered,
            at_physical,
            before,
            origin,
            taken,
            ..
        } = in_flight;
        if packet.dropped.is_none() {
            let freed = packet.verdict_observed;
            packet.verdict = match before.step {
                // A later fragment is taken for reassembly.
                _ if delivered.is_some() || taken => Verdict::Delivered,
                _ if at_physical => Verdict::Left,
                // What the stack takes and nobody sees dropped, forwarded or queued, it used.
                Step::Receive if !before.observed => Verdict::Delivered,
                Step::Leave(Stage::Input) => Verdict::Delivered,
                _ => Verdict::Unknown,
            };
            packet.verdict_observed =
                delivered.is_some() || freed && packet.verdict != Verdict::Unknown;
        }
        let Some(packet) = self.flight.settle(origin, packet) else {
            return;
        };
        if let Some(flow) = self.flows.get_mut(packet.flow) {
            let last = packet
                .hops
                .last()
                .map_or(0, |hop| hop.left.unwrap_or(hop.time));
            flow.last = flow.last.max(last);
            flow.drops += u64::from(packet.verdict == Verdict::Dropped);
            flow.holes += u64::from(packet.holes());
        }
        self.done.push_back(packet);
    }
}

/// Where later fragments are kept, and freed when their packet is: by conntrack in the first hook,
/// by the host when it is for a socket.
fn is_reassembly(step: Step) -> bool {
    matches!(
        step,
        Step::Receive | Step::Enter(_) | Step::Leave(Stage::Input)
    )
}

/// How many hooks of namespaces are kept in mind.
const HOOKS_SEEN: usize = 1 << 14;

/// `SKB_DROP_REASON_NOT_SPECIFIED` and `SKB_CONSUMED` below it: numbers that every kernel shares.
const NOT_SPECIFIED: u32 = 2;
