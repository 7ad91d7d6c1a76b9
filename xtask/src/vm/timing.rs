//! What timing makes of a TCP connection, and what of that is no fault of the tracer's.
//!
//! An emulated machine on a busy host is slow at any point. TCP then sends again what was not
//! acknowledged in time, and a closing end may be in TIME-WAIT already when the other end's FIN
//! comes. Both are as they should be; what a packet's journey ends with differs then.

use tracer_tests::trace::json::{Hop, Packet, Stage};

use super::hops::Expected;

/// Why a packet may end otherwise than its like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Excuse {
    /// All that it brings came with others as well: the socket may drop it.
    repeated: bool,
    /// Its receiver had sent a FIN: it may be in TIME-WAIT, where no socket is.
    closing: bool,
}

impl Excuse {
    /// Of a packet among all of its flow.
    pub(crate) fn of(packet: &Packet, all: &[&Packet]) -> Self {
        if packet.tcp.is_none() {
            return Self::default();
        }
        let others = || all.iter().filter(|other| other.id != packet.id);
        let like = others().filter(|other| other.direction == packet.direction);
        let mut back = others().filter(|other| other.direction != packet.direction);
        Self {
            repeated: repeats(packet, like.copied()),
            closing: back.any(|other| other.has_flag('F') && other.began() < end(packet)),
        }
    }

    /// Whether there is any.
    pub(crate) fn is_any(self) -> bool {
        self != Self::default()
    }

    /// Its hops without the drop that it may end with.
    pub(crate) fn without_drop(self, hops: &[Hop]) -> &[Hop] {
        match hops {
            [before @ .., last]
                if self.repeated
                    && last.stage == Stage::Drop
                    && before.last().is_some_and(|hop| hop.stage == Stage::Socket) =>
            {
                before
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
        match expected {
            [same @ .., last] if self.closing && lacks && last.is_at(Stage::Socket) => same,
            _ => expected,
        }
    }
}

/// Whether what the packet brings, others bring as well.
fn repeats<'a>(packet: &Packet, others: impl Iterator<Item = &'a Packet>) -> bool {
    let Some(tcp) = &packet.tcp else {
        return false;
    };
    let mut others = others.filter_map(|other| Some((other.tcp.as_ref()?, other)));
    if packet.payload == 0 {
        let signs = packet.has_flag('S') || packet.has_flag('F');
        return signs && others.any(|(of, _)| (of.seq, &of.flags) == (tcp.seq, &tcp.flags));
    }
    // From where to where in this packet the others' bytes lie; sequence numbers wrap.
    let spans = others.map(|(of, other)| {
        let from = i64::from(of.seq.wrapping_sub(tcp.seq).cast_signed());
        (from, from + i64::from(other.payload))
    });
    let mut spans: Vec<(i64, i64)> = spans.collect();
    spans.sort_unstable();
    let mut covered = 0;
    for (from, to) in spans {
        if from <= covered {
            covered = covered.max(to);
        }
    }
    covered >= i64::from(packet.payload)
}

fn end(packet: &Packet) -> u64 {
    packet.hops.last().map_or(0, |hop| hop.t)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vm::{hops, made_up};

    const REPLY: &str = "node/vetha transmit, pod-a/eth0 receive socket";

    /// A packet of the reply that ends so, with sequence number, flags and payload.
    fn packet(id: u64, (seq, flags, payload): (u32, &str, u32), stages: &[&str]) -> Packet {
        let hops = stages.iter().map(|stage| {
            let mut hop = made_up::hop(stage, ("pod-a", "eth0"), &[]);
            hop["t"] = id.into();
            hop
        });
        let mut object = made_up::packet("reply", &hops.collect::<Vec<_>>());
        object["tcp"] = json!({"flags": flags, "seq": seq, "ack": 0});
        (object["proto"], object["protocol"]) = ("tcp".into(), 6.into());
        (object["id"], object["payload"]) = (id.into(), payload.into());
        serde_json::from_value(object).unwrap()
    }

    const TAKEN: &[&str] = &["device.receive", "socket"];

    #[test]
    fn what_came_twice_may_be_dropped_by_its_socket() {
        let first = packet(1, (100, "PA", 50), TAKEN);
        let again = packet(2, (120, "A", 30), &["device.receive", "socket", "drop"]);
        let more = packet(3, (120, "A", 31), TAKEN);
        let all = [&first, &again, &more];
        let repeated = Excuse {
            repeated: true,
            closing: false,
        };
        assert_eq!(Excuse::of(&again, &all[..2]), repeated);
        assert!(!Excuse::of(&more, &all).is_any());
        assert!(!Excuse::of(&first, &all).is_any());
        let rest = packet(4, (150, "PA", 1), TAKEN);
        assert_eq!(Excuse::of(&more, &[&first, &more, &rest]), repeated);
        assert_eq!(repeated.without_drop(&again.hops).len(), 2);
        let elsewhere = packet(5, (100, "PA", 50), &["device.receive", "drop"]);
        let dropped = repeated.without_drop(&elsewhere.hops);
        assert_eq!(dropped.len(), 2, "only by its socket");
    }

    #[test]
    fn who_has_sent_a_fin_may_have_no_socket_any_more() {
        let mut fin = packet(1, (7, "FA", 0), TAKEN);
        fin.direction = tracer_tests::trace::json::Direction::Original;
        let late = packet(2, (9, "FA", 0), &["device.receive"]);
        let closing = Excuse::of(&late, &[&fin, &late]);
        assert!(closing.closing && !closing.repeated);
        assert!(!Excuse::of(&late, &[&late]).is_any());
        let early = packet(0, (9, "A", 0), &["device.receive"]);
        assert!(!Excuse::of(&early, &[&fin, &early]).is_any());
        let expected = hops::parse(REPLY).unwrap();
        let without = |packet: &Packet| {
            let expected = closing.without_socket(&packet.hops, &expected);
            expected.len()
        };
        assert_eq!(without(&late), 2);
        let taken = packet(3, (9, "FA", 0), TAKEN);
        assert_eq!(without(&taken), 3);
    }
}
