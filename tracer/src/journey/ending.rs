//! A packet ends: freed as dropped, freed as used up, or given up.

use tracer_common::record::FLAG_FRAGMENT;

use super::{
    Journeys,
    flight::{Fingerprint, InFlight},
    hop::note_drop,
    model::{Direction, FlowId, Stage, Transport, Verdict},
    path::Step,
};
use crate::event::Event;

/// `SKB_DROP_REASON_NOT_SPECIFIED` and `SKB_CONSUMED` below it: numbers that every kernel shares.
const NOT_SPECIFIED: u32 = 2;

impl Journeys {
    pub(super) fn dropped(&mut self, event: &Event) {
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

    pub(super) fn consumed(&mut self, event: &Event) {
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

    pub(super) fn complete(&mut self, in_flight: InFlight) {
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
