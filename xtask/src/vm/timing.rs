//! What timing makes of a TCP connection, and what of that is no fault of the tracer's.
//!
//! An emulated machine on a busy host is slow at any point. TCP then sends again what was not
//! acknowledged in time, and a closing end may be in TIME-WAIT already when the other end's FIN
//! comes. Both are as they should be; what a packet's journey ends with differs then.

use tracer_tests::trace::json::{Hop, Packet, Stage};

use super::hops::Expected;

/// Why a packet may end otherwise than its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// All its bytes came with others as well: the socket may drop them.
    Repeated,
    /// Its receiver had sent a FIN: it may be in TIME-WAIT, where no socket is.
    Closing,
}

impl Excuse {
    /// Of a packet among all of its flow.
    pub(crate) fn of(packet: &Packet, all: &[&Packet]) -> Option<Self> {
        packet.tcp.as_ref()?;
        let others = all.iter().filter(|other| other.id != packet.id);
        let (mut repeated, mut closing) = (false, false);
        for other in others {
            if other.direction == packet.direction {
                repeated |= covers(other, packet);
            } else {
                closing |= other.has_flag('F') && other.began() < end(packet);
            }
        }
        match (repeated, closing) {
            (true, _) => Some(Self::Repeated),
            (false, true) => Some(Self::Closing),
            _ => None,
        }
    }

    /// Its hops without the drop that it may end with.
    pub(crate) fn without_drop(self, hops: &[Hop]) -> &[Hop] {
        match (self, hops) {
            (Self::Repeated, [same @ .., socket, last])
                if last.stage == Stage::Drop && socket.stage == Stage::Socket =>
            {
                &hops[..=same.len()]
            }
            _ => hops,
        }
    }

    /// What its like ends with, without the socket that it may lack.
    pub(crate) fn without_socket<'a>(
        self,
        hops: &[Hop],
        expected: &'a [Expected],
    ) -> &'a [Expected] {
        let lacks = hops.last().is_some_and(|last| last.stage != Stage::Socket);
        match (self, expected) {
            (Self::Closing, [same @ .., last]) if lacks && last.is_at(Stage::Socket) => same,
            _ => expected,
        }
    }
}

/// Whether what one packet brings, another brings as well.
fn covers(other: &Packet, packet: &Packet) -> bool {
    let (Some(of_other), Some(tcp)) = (&other.tcp, &packet.tcp) else {
        return false;
    };
    if packet.payload == 0 {
        let signs = packet.has_flag('S') || packet.has_flag('F');
        return signs && (of_other.seq, &of_other.flags) == (tcp.seq, &tcp.flags);
    }
    let from = u64::from(tcp.seq.wrapping_sub(of_other.seq));
    from + u64::from(packet.payload) <= u64::from(other.payload)
}

fn end(packet: &Packet) -> u64 {
    packet.hops.last().map_or(0, |hop| hop.t)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vm::hops;

    const REPLY: &str = "node/vetha transmit, pod-a/eth0 receive socket";

    /// A packet of the reply that ends so, with sequence number, flags and payload.
    fn packet(id: u64, (seq, flags, payload): (u32, &str, u32), stages: &[&str]) -> Packet {
        let hops = stages.iter().map(|stage| {
            json!({"t": id, "dt": 0, "stage": stage, "netns": "pod-a", "dev": "eth0",
                "dev_kind": null, "src": "10.0.0.1:1", "dst": "10.0.0.2:2", "spent_ns": null,
                "translations": [], "encapsulation": null, "hole": null})
        });
        let hops: Vec<_> = hops.collect();
        let object = json!({"schema": 1, "flow": 1, "direction": "reply",
            "tcp": {"flags": flags, "seq": seq, "ack": 0}, "len": 60, "verdict": "delivered",
            "hops": hops, "drop": null, "id": id, "proto": "tcp", "protocol": 6, "icmp": null,
            "payload": payload, "verdict_observed": true, "holes": 0, "hops_cut": 0});
        serde_json::from_value(object).unwrap()
    }

    const TAKEN: &[&str] = &["device.receive", "socket"];

    #[test]
    fn what_came_twice_may_be_dropped_by_its_socket() {
        let first = packet(1, (100, "PA", 50), TAKEN);
        let again = packet(2, (120, "A", 30), &["device.receive", "socket", "drop"]);
        let more = packet(3, (120, "A", 31), TAKEN);
        let all = [&first, &again, &more];
        assert_eq!(Excuse::of(&again, &all[..2]), Some(Excuse::Repeated));
        assert_eq!(Excuse::of(&more, &all), None);
        assert_eq!(Excuse::of(&first, &all), None);
        let excused = Excuse::Repeated.without_drop(&again.hops);
        assert_eq!(excused.len(), 2);
        let elsewhere = packet(4, (100, "PA", 50), &["device.receive", "drop"]);
        let dropped = Excuse::Repeated.without_drop(&elsewhere.hops);
        assert_eq!(dropped.len(), 2, "only by its socket");
    }

    #[test]
    fn who_has_sent_a_fin_may_have_no_socket_any_more() {
        let mut fin = packet(1, (7, "FA", 0), TAKEN);
        fin.direction = tracer_tests::trace::json::Direction::Original;
        let late = packet(2, (9, "FA", 0), &["device.receive"]);
        assert_eq!(Excuse::of(&late, &[&fin, &late]), Some(Excuse::Closing));
        assert_eq!(Excuse::of(&late, &[&late]), None);
        let early = packet(0, (9, "A", 0), &["device.receive"]);
        assert_eq!(Excuse::of(&early, &[&fin, &early]), None);
        let expected = hops::parse(REPLY).unwrap();
        let without = |packet: &Packet| {
            let expected = Excuse::Closing.without_socket(&packet.hops, &expected);
            expected.len()
        };
        assert_eq!(without(&late), 2);
        let taken = packet(3, (9, "FA", 0), TAKEN);
        assert_eq!(without(&taken), 3);
    }
}
