//! A packet passes a hook: which packet it is, what is missing before the hop, and what it shows of
//! the packet's flow.

use tracer_common::record::FLAG_FRAGMENT;

use super::{
    Journeys,
    flight::{Fingerprint, InFlight, Segment},
    flows::{Membership, Seat},
    hop::{add_hop, transport_of},
    model::{Direction, Hole, NetnsId, Packet, PacketId, Stage, Transport, Verdict},
    path::{self, Step},
    state,
};
use crate::event::Event;

/// How many flows wait to be given out that had to make room: whoever takes them looks far more often.
const GIVEN_UP: usize = 1 << 12;

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
        let flight = &mut self.flight;
        let twin = if flight.has_twin(event) {
            let other = flight.crossed(event).or_else(|| flight.drifted(event));
            other.or_else(|| flight.copy(event, id))
        } else {
            None
        };
        let packet = match twin {
            Some(twin) => twin,
            None => self.segment(event, id)?,
        };
        self.packets += 1;
        self.flight.insert(skb, packet);
        self.make_room(0);
        Some(skb)
    }

    /// A segment of a large packet; the first takes its place in the flow's count.
    pub(super) fn segment(&mut self, event: &Event, id: PacketId) -> Option<Box<InFlight>> {
        let Segment { packet, more } = self.flight.segment(event, id, self.limits.hops)?;
        if more {
            self.flows.one_more(packet.member(), event.record.length);
        }
        Some(Box::new(packet))
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
        let step = Step::of(event);
        let observed = self.hooks.observes(event);
        self.hooks.note(event);
        let known = self.current(event).or_else(|| self.joined(event));
        let begins = known.is_none();
        let skb = known.unwrap_or(event.record.skb);
        if begins {
            self.begin(event, observed);
        }
        let Some(packet) = self.flight.get_mut(skb) else {
            return;
        };
        let hole = if begins {
            let seen = event.record.time >= self.under_way_until;
            path::beginning(event).filter(|_| seen)
        } else {
            if packet.runs_prerouting_again(event) {
                return;
            }
            let hole = path::between(&packet.before, event);
            hole.filter(|hole| !self.hooks.is_queued(*hole, &packet.before))
        };
        let sampled = event.record.time <= self.sampled_until;
        let hole = hole.filter(|hole| {
            self.hooks.is_hole(*hole, event) && !(sampled && may_be_shed(*hole, event))
        });
        let mut member = packet.member();
        let grows = packet.is_full();
        let translated = add_hop(&mut packet.packet, event, hole, self.limits.hops);
        let moved = packet.came_through(event, observed);
        self.flows.seen(&mut member, event, moved);
        packet.packet.direction = member.direction;
        let rests = packet.is_in_stream_of(event);
        if event.record.time <= self.lost_before {
            self.flows.mark_lost(member.seat);
        }
        if let Some(hop) = translated {
            for translation in hop.translations() {
                self.flows.translated(member, &hop, &translation);
            }
        }
        if begins {
            self.note_sender(member, event);
        }
        if (begins || step == Step::Socket)
            && let Some(end) = self.place_ends(member, event, begins)
        {
            self.ask_for_process(member, end, event);
        }
        if !rests {
            self.flight.is_at(skb, event);
        }
        if step == Step::Socket {
            self.flight.deliver(skb, event.record.time);
        }
        if grows {
            self.flight.count_again(skb);
            self.make_room(0);
        }
        if self.flows.room() > self.limits.flow_room {
            self.let_flows_go(usize::MAX, event.record.time);
        }
    }

    /// Gives a packet out when there is no room for so many more: one that a socket took, or else
    /// the oldest.
    pub(super) fn make_room(&mut self, more: usize) {
        if self.flight.len() + more > self.limits.packets {
            self.let_packet_go();
        }
        while self.flight.room() > self.limits.packet_room && self.let_packet_go() {}
    }

    /// Says whether there was any.
    fn let_packet_go(&mut self) -> bool {
        // Nothing is missing of what was delivered, but for its being dropped yet.
        if let Some((skb, delivered)) = self.flight.pop_over(u64::MAX, 0) {
            self.over(skb, delivered);
        } else if let Some((skb, oldest)) = self.flight.pop_oldest() {
            self.overflow.packets += 1;
            self.flows.mark_let_go(oldest.member().seat);
            self.over(skb, oldest);
        } else {
            return false;
        }
        true
    }

    /// Gives flows out until there are fewer than that, and room: those that are closed, or else those in which
    /// nothing happened the longest.
    fn let_flows_go(&mut self, limit: usize, now: u64) {
        while self.flows.len() >= limit || self.flows.room() > self.limits.flow_room {
            // Nothing is missing of what is closed, but for what comes late.
            let closed = self.flows.evict_closed(|id| self.flight.has_flow(id));
            let early = closed.is_none();
            let Some(mut flow) = closed.or_else(|| self.flows.evict()) else {
                break;
            };
            if early {
                flow.let_go = true;
                self.overflow.flows += 1;
                self.let_go_at = now;
            }
            self.given_up.push_back(flow);
            if self.given_up.len() > GIVEN_UP {
                self.given_up.pop_front();
            }
        }
    }

    fn begin(&mut self, event: &Event, observed: bool) {
        self.make_room(1);
        let looped_back = self.flight.looped_back(event);
        let packet = self.new_packet(event);
        let mut packet = self
            .spare
            .buffer(|trail| InFlight::new(packet, event, observed, trail));
        if let Some(origin) = looped_back {
            // Its copy for the own host came before it, and was counted.
            packet.origin = origin;
            self.flows.one_less(packet.member(), packet.packet.length);
        }
        self.flight.insert(event.record.skb, packet);
    }

    pub(super) fn new_packet(&mut self, event: &Event) -> (Packet, Seat) {
        self.let_flows_go(self.limits.flows, event.record.time);
        self.packets += 1;
        let transport = transport_of(event);
        let member = self.flows.join(event, &transport);
        let time = event.record.time;
        if time <= self.sampled_until {
            self.flows.mark_sampled(member.seat);
        }
        if self.may_miss(self.lost_before, member, event, &transport) {
            self.flows.mark_lost(member.seat);
        }
        // It may be what goes on of a flow that had to make room.
        if time > self.let_go_at && self.may_miss(self.let_go_at, member, event, &transport) {
            self.flows.mark_let_go(member.seat);
        }
        let packet = Packet {
            id: PacketId(self.packets),
            flow: member.seat.flow,
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
        };
        (packet, member.seat)
    }

    /// Whether something of the flow may have been lost before this packet of it: it passes while
    /// something was lost, or it is the flow's first, after a loss, and not how a flow begins. What began in
    /// the middle longer after a loss than flows are silent was under way before tracing began.
    fn may_miss(
        &self,
        lost_before: u64,
        member: Membership,
        event: &Event,
        transport: &Transport,
    ) -> bool {
        let time = event.record.time;
        if lost_before == 0 || time <= lost_before {
            return lost_before > 0;
        }
        let flow = self.flows.at(member.seat);
        let first = flow.is_some_and(|flow| flow.packets.iter().sum::<u64>() == 1);
        if !first || time - lost_before > self.patience.silent {
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
        let flow = self.flows.at_mut(member.seat)?;
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

/// While packets are let go unseen, a packet whose beginning is missing may have been in a larger buffer
/// that was let go, as one in the middle of its way: what carries data is merged with others and cut.
fn may_be_shed(hole: Hole, event: &Event) -> bool {
    let whole = event.record.payload == 0 && matches!(hole, Hole::Missing(_));
    !whole
}
