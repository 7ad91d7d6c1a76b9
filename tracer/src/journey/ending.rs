//! A packet ends: freed as dropped, freed as used up, or given up.

use tracer_common::record::FLAG_FRAGMENT;

use super::{
    Journeys,
    flight::{Fingerprint, InFlight, telling},
    flows::{Membership, Moved, Seat},
    hop::note_drop,
    model::{Packet, PacketId, Stage, Transport, Verdict},
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
            return self.dropped_elsewhere(event, &fingerprint);
        };
        let unspecified = event.record.reason <= NOT_SPECIFIED;
        let in_hook = matches!(packet.before.step, Step::Enter(_));
        if unspecified && in_hook && packet.may_go_on_in_segments() {
            // A buffer that a hook gives away in segments is freed so; whether there are any, time tells.
            packet.freed = Some(Box::new(*event));
            return self.flight.used(skb, event.record.time, true);
        }
        if packet.began_looped_back() && !packet.used {
            // The packet itself is yet to be sent.
            packet.freed = Some(Box::new(*event));
            return self.flight.used(skb, event.record.time, false);
        }
        let delivered = packet.delivered.is_some();
        let member = packet.member();
        let (step, transport) = (packet.before.step, packet.packet.transport);
        // A kernel that gives no reason frees so what a closing socket holds.
        let used = if delivered {
            unspecified
                || self.reasons.after_delivery.contains(&event.record.reason)
                || !packet.is_refused()
        } else {
            unspecified
                && (self.is_taken_by_tcp(member, step, &transport)
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

    /// A drop at an address where no such packet is under way.
    fn dropped_elsewhere(&mut self, event: &Event, fingerprint: &Fingerprint) {
        if self.flight.is_spent(event) {
            return;
        }
        // A copy of a packet that is under way elsewhere: a clone for ARP, for a capture, for a port
        // that did not want it; or for another socket.
        if let Some(skb) = self.flight.twin(fingerprint) {
            if let Some(twin) = self.flight.get_mut(skb).filter(|p| p.delivered.is_some())
                && event.record.reason > NOT_SPECIFIED
            {
                twin.is_refused();
            }
            return;
        }
        let id = PacketId(self.packets + 1);
        let purged = self.reasons.after_delivery.contains(&event.record.reason);
        let segment = (!purged).then(|| self.segment(event, id)).flatten();
        let Some(mut segment) = segment else {
            return self.dropped_unseen(event);
        };
        self.packets += 1;
        note_drop(&mut segment.packet, event, self.limits.hops);
        self.complete(segment);
    }

    /// Whether TCP used a packet that it then frees without giving a reason: what comes for a
    /// connection in TIME-WAIT is answered without a socket (`tcp_v4_rcv`, 5.10 to 6.18). The end
    /// that is there has sent its FIN before.
    fn is_taken_by_tcp(&self, member: Membership, step: Step, transport: &Transport) -> bool {
        matches!(transport, Transport::Tcp { .. })
            && matches!(step, Step::Receive | Step::Leave(Stage::Input))
            && self
                .flows
                .receiver_has_finished(member.seat, member.direction)
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
        // It was seen nowhere else: by this a filter judges the flow.
        let mut member = Membership {
            seat: packet.1,
            direction: packet.0.direction,
        };
        let everything = Moved {
            place: true,
            device: true,
        };
        self.flows.seen(&mut member, event, everything);
        let mut packet = self
            .spare
            .buffer(|trail| InFlight::new(packet, event, false, trail));
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
        let Some(packet) = here else {
            return;
        };
        let time = event.record.time;
        match packet.before.step {
            // Its segments, or the packet that it was reassembled into, may go on.
            Step::Queue | Step::Enter(_) | Step::Leave(Stage::Postrouting) => {
                let large = packet.may_go_on_in_segments();
                self.flight.used(skb, time, large);
            }
            // A socket that takes datagrams one by one has the buffer cut first.
            _ if packet.is_cut_for_socket() => self.flight.used(skb, time, false),
            _ => {
                if let Some(mut packet) = self.flight.remove(skb) {
                    packet.packet.verdict_observed = true;
                    self.complete(packet);
                }
            }
        }
    }

    /// The packet at that address is over, and nothing more of it is waited for.
    pub(super) fn over(&mut self, skb: u64, packet: Box<InFlight>) {
        if packet.delivered.is_some() {
            self.flight.note_spent(skb, packet.fingerprint);
        }
        self.complete(packet);
    }

    /// Gives out what was in the buffer.
    pub(super) fn complete(&mut self, mut buffer: Box<InFlight>) {
        let freed = buffer.freed.take().filter(|_| !buffer.is_cut);
        if let Some(event) = freed {
            note_drop(&mut buffer.packet, &event, self.limits.hops);
        }
        if buffer.packet.dropped.is_none() {
            self.conclude(&mut buffer);
        }
        if let Some((of, length)) = buffer.keep_rest() {
            self.flows.one_more(of, length);
        }
        let first = buffer.packet.hops.first().map_or(0, |hop| hop.time);
        if buffer.packet.bytes.is_none() {
            let times = (first, buffer.last);
            buffer.packet.bytes = self.captured.of(&buffer.fingerprint, times);
        }
        let riders = buffer.take_riders(self.limits.hops);
        let (origin, seat) = (buffer.origin, buffer.member().seat);
        let first = buffer.take_first();
        self.spare.take_buffer(buffer);
        self.settle(origin, first, Some(seat));
        for (origin, rider) in riders {
            self.settle(origin, rider, None);
        }
    }

    /// Gives out what is to be given out now that a packet of that origin has ended.
    fn settle(&mut self, origin: PacketId, packet: Option<Packet>, seat: Option<Seat>) {
        let bystander = |reason| self.reasons.bystander.contains(&reason);
        let given = self
            .flight
            .settle(origin, packet, |packet| telling(packet, bystander));
        if let Some(packet) = given {
            self.give_out(packet, seat);
        }
    }

    /// The verdict of what was not dropped.
    fn conclude(&self, buffer: &mut InFlight) {
        let delivered = buffer.delivered.is_some();
        let kept_for_others = self.flight.has_copies(buffer.origin);
        let kept = buffer.is_kept_fragment();
        let packet = &mut buffer.packet;
        let freed = packet.verdict_observed || buffer.used;
        packet.verdict = match buffer.before.step {
            _ if delivered => Verdict::Delivered,
            // What it was put together to, or cut to, goes on for it.
            Step::Enter(_) if kept_for_others => Verdict::Unknown,
            // A later fragment is taken for reassembly.
            _ if buffer.taken || kept => Verdict::Delivered,
            _ if buffer.at_physical => Verdict::Left,
            // What the stack takes and nobody sees dropped, forwarded or queued, it used.
            Step::Receive if !buffer.before.observed => Verdict::Delivered,
            Step::Leave(Stage::Input) => Verdict::Delivered,
            // A hook used it up: it answers in somebody's name.
            Step::Enter(_) if buffer.used => Verdict::Delivered,
            _ => Verdict::Unknown,
        };
        packet.verdict_observed = delivered || freed && packet.verdict != Verdict::Unknown;
    }

    /// Gives out a packet; `seat`: where its flow should be.
    fn give_out(&mut self, packet: Packet, seat: Option<Seat>) {
        let seat = seat
            .filter(|seat| seat.flow == packet.flow)
            .or_else(|| self.flows.seat(packet.flow));
        if let Some(flow) = seat.and_then(|seat| self.flows.at_mut(seat)) {
            let last = packet
                .hops
                .last()
                .map_or(0, |hop| hop.left.unwrap_or(hop.time));
            flow.last = flow.last.max(last);
            flow.drops += u64::from(packet.verdict == Verdict::Dropped);
            flow.holes += u64::from(packet.holes());
        }
        self.done_room += packet.room();
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
