//! A packet passes a hook: which packet it is, what is missing before the hop, and what it shows of
//! the packet's flow.

use tracer_common::{
    hook,
    record::{FLAG_FRAGMENT, FLAG_HAS_PREROUTING},
};

use super::{
    Journeys,
    flight::{Fingerprint, InFlight, Segment},
    flows::Membership,
    hop::{add_hop, transport_of},
    model::{Direction, Hole, NetnsId, Packet, PacketId, Stage, Transport, Verdict},
    path::{self, Before, Step},
    state,
};
use crate::event::Event;

/// How many hooks of namespaces are kept in mind.
const HOOKS_SEEN: usize = 1 << 14;

impl Journeys {
    /// The packet at the event's address, when the event is of it; what else was there is over.
    fn current(&mut self, event: &Event) -> Option<u64> {
        let skb = event.record.skb;
        let goes_on = self.flight.get_mut(skb)?.goes_on_with(event);
        if goes_on || self.flight.merge(skb, event) {
            return Some(skb);
        }
        if let Some(packet) = self.flight.remove(skb) {
            if packet.is_kept_fragment() {
                self.flight.drift(packet);
            } else {
                self.complete(packet);
            }
        }
        None
    }

    /// A copy or a segment of a packet under way, which goes on at an address of its own.
    fn joined(&mut self, event: &Event) -> Option<u64> {
        let skb = event.record.skb;
        let id = PacketId(self.packets + 1);
        let packet = if let Some(packet) = self.flight.crossed(event) {
            packet
        } else if let Some(fragment) = self.flight.drifted(event) {
            fragment
        } else if let Some(copy) = self.flight.copy(event, id) {
            copy
        } else {
            self.segment(event, id)?
        };
        self.packets += 1;
        self.flight.insert(skb, packet);
        self.make_room(0);
        Some(skb)
    }

    /// A segment of a large packet; the first takes its place in the flow's count.
    pub(super) fn segment(&mut self, event: &Event, id: PacketId) -> Option<InFlight> {
        let Segment { packet, more } = self.flight.segment(event, id, self.limits.hops)?;
        if more {
            let of = (packet.packet.flow, packet.packet.direction);
            self.flows.one_more(of, event.record.length);
        }
        Some(packet)
    }

    /// Another socket takes a packet that one has taken.
    fn is_taken_again(&mut self, event: &Event) -> bool {
        Step::of(event) == Step::Socket
            && match self.flight.get_mut(event.record.skb) {
                Some(packet) => packet.is_taken_again(event),
                None => self.flight.is_spent(event),
            }
    }

    pub(super) fn passed(&mut self, event: &Event) {
        if self.is_taken_again(event) {
            return;
        }
        let observed = self.is_observed(event);
        self.note_hook(event);
        let known = self.current(event).or_else(|| self.joined(event));
        let (skb, hole) = match known {
            Some(skb) => {
                let packet = self.flight.get_mut(skb);
                if packet
                    .as_ref()
                    .is_some_and(|packet| packet.runs_prerouting_again(event))
                {
                    return;
                }
                let before = packet.map(|packet| packet.before);
                let hole = before.and_then(|before| path::between(&before, event));
                (
                    skb,
                    hole.filter(|hole| !self.is_queued(*hole, before.as_ref())),
                )
            }
            None => {
                self.begin(event, observed);
                let hole = path::beginning(event);
                let seen = event.record.time >= self.under_way_until;
                (event.record.skb, hole.filter(|_| seen))
            }
        };
        let hole =
            hole.filter(|hole| self.is_hole(*hole, event) && !self.may_be_shed(*hole, event));
        let Some(packet) = self.flight.get_mut(skb) else {
            return;
        };
        let mut member = Membership {
            flow: packet.packet.flow,
            direction: packet.packet.direction,
        };
        let translated = add_hop(&mut packet.packet, event, hole, self.limits.hops);
        let moved = packet.came_through(event, observed);
        self.flows.seen(&mut member, event, moved);
        if event.record.time <= self.lost_before {
            self.flows.mark_lost(member.flow);
        }
        if member.direction != packet.packet.direction {
            packet.packet.direction = member.direction;
        }
        if let Some(hop) = translated {
            for translation in hop.translations() {
                self.flows.translated(member, &hop, &translation);
            }
        }
        if known.is_none() {
            self.note_sender(member, event);
        }
        if let Some(end) = self.place_ends(member, event, known.is_none()) {
            self.ask_for_process(member, end, event);
        }
        self.flight.is_at(skb, event);
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
            || event.has(FLAG_HAS_PREROUTING);
        seen && any
    }

    /// Gives a packet out when there is no room for so many more: one that a socket took, or else
    /// the oldest.
    pub(super) fn make_room(&mut self, more: usize) {
        if self.flight.len() + more <= self.limits.packets {
            return;
        }
        // Nothing is missing of what was delivered, but for its being dropped yet.
        if let Some((skb, delivered)) = self.flight.pop_over(u64::MAX, 0) {
            self.over(skb, delivered);
        } else if let Some((skb, oldest)) = self.flight.pop_oldest() {
            self.overflow.packets += 1;
            self.over(skb, oldest);
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

    /// With everything observed, a hook is not seen left when it gave the packet to a process, which
    /// gave it back (NFQUEUE).
    fn is_queued(&self, hole: Hole, before: Option<&Before>) -> bool {
        let entered = |before: &Before| match hole {
            Hole::Missing(stage) => before.step == Step::Enter(stage),
            _ => false,
        };
        self.observed_everywhere.is_some() && before.is_some_and(entered)
    }

    fn begin(&mut self, event: &Event, observed: bool) {
        self.make_room(1);
        let looped_back = self.flight.looped_back(event);
        let packet = self.new_packet(event);
        let (of, length) = ((packet.flow, packet.direction), packet.length);
        let mut packet = InFlight::new(packet, event, observed, self.spare.trail());
        if let Some(origin) = looped_back {
            // Its copy for the own host came before it, and was counted.
            packet.origin = origin;
            self.flows.one_less(of, length);
        }
        self.flight.insert(event.record.skb, packet);
    }

    pub(super) fn new_packet(&mut self, event: &Event) -> Packet {
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
        self.packets += 1;
        let transport = transport_of(event);
        let member = self.flows.join(event, &transport);
        let time = event.record.time;
        if time <= self.sampled_until {
            self.flows.mark_sampled(member.flow);
        }
        if self.may_miss(member, event, &transport) {
            self.flows.mark_lost(member.flow);
        }
        Packet {
            id: PacketId(self.packets),
            flow: member.flow,
            direction: member.direction,
            protocol: event.record.protocol,
            transport,
            length: event.record.length,
            payload: event.record.payload,
            hops: self.spare.hops(),
            verdict: Verdict::Unknown,
            verdict_observed: false,
            dropped: None,
            hops_cut: 0,
            bytes: self.captured.of(&Fingerprint::of(event), (time, time)),
        }
    }

    /// While packets are let go unseen, a packet whose beginning is missing may have been in a larger buffer
    /// that was let go, as one in the middle of its way: what carries data is merged with others and cut.
    fn may_be_shed(&self, hole: Hole, event: &Event) -> bool {
        let whole = event.record.payload == 0 && matches!(hole, Hole::Missing(_));
        event.record.time <= self.sampled_until && !whole
    }

    /// Whether something of the flow may have been lost before this packet of it: it passes while
    /// something was lost, or it is the flow's first, after a loss, and not how a flow begins. What began in
    /// the middle longer after a loss than flows are silent was under way before tracing began.
    fn may_miss(&self, member: Membership, event: &Event, transport: &Transport) -> bool {
        let time = event.record.time;
        if self.lost_before == 0 || time <= self.lost_before {
            return self.lost_before > 0;
        }
        let flow = self.flows.get(member.flow);
        let first = flow.is_some_and(|flow| flow.packets.iter().sum::<u64>() == 1);
        if !first || time - self.lost_before > self.patience.silent {
            return false;
        }
        let begins = match transport {
            Transport::Tcp { .. } => state::begins(transport),
            _ => member.direction == Direction::Original,
        };
        !begins || Step::of(event) == Step::Freed || path::beginning(event).is_some()
    }

    /// Where the flow's two ends are. Returns the end that is seen for the first time: that which
    /// sends packets of the direction.
    fn place_ends(&mut self, member: Membership, event: &Event, first: bool) -> Option<Direction> {
        let flow = self.flows.get_mut(member.flow)?;
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
        let time = event.record.time;
        match (member.direction, step) {
            (Direction::Original, _) if starts_here && flow.client_netns.is_none() => {
                (flow.client_netns, flow.client_seen) = (Some(netns), time);
                Some(Direction::Original)
            }
            (Direction::Reply, _) if starts_here && own_word && flow.backend_netns.is_none() => {
                flow.backend = Some(tuple.source);
                (flow.backend_netns, flow.backend_seen) = (Some(netns), time);
                Some(Direction::Reply)
            }
            (Direction::Original, Step::Socket) if own_word => {
                flow.backend = Some(tuple.destination);
                if flow.backend_netns == Some(netns) {
                    return None;
                }
                (flow.backend_netns, flow.backend_seen) = (Some(netns), time);
                Some(Direction::Reply)
            }
            (Direction::Reply, Step::Socket) if flow.client_netns.is_none() => {
                (flow.client_netns, flow.client_seen) = (Some(netns), time);
                Some(Direction::Original)
            }
            _ => None,
        }
    }
}
