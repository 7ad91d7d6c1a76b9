//! What TCP sends again and again because nobody acknowledges it.
//!
//! Of each direction one segment is kept in mind: the last, or the one that is sent again. What was seen
//! to arrive is not lost, whatever becomes of its acknowledgement. Packets are over in another order
//! than they were sent, so what is acknowledged by then does not count.

use crate::journey::model::{Direction, Packet, Transport, Verdict};

const ACK: u8 = 16;

/// A segment that was sent several times, and never seen to arrive.
#[derive(Clone, Debug)]
pub struct Resent {
    sequence: u32,
    /// How often it was sent.
    pub times: u32,
    /// When it was sent first, nanoseconds of `CLOCK_MONOTONIC`.
    pub first: u64,
    /// When it was sent last.
    pub last: u64,
    /// The smallest of the IP packets with it, in bytes: what is sent first may be many segments.
    pub length: u32,
    /// The last of them; `None` while there is one only.
    pub sample: Option<Box<Packet>>,
}

/// One direction's.
#[derive(Clone, Debug, Default)]
struct Side {
    segment: Option<Resent>,
    /// Up to where the other end has acknowledged.
    acknowledged: Option<u32>,
    /// The largest IP packet with data that arrived.
    largest: u32,
}

/// Both directions'.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent([Side; 2]);

/// Whether a sequence number comes after another: they go round.
fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

impl Sent {
    pub(super) fn packet(&mut self, packet: &Packet) {
        let Transport::Tcp {
            flags,
            sequence,
            acknowledgement,
        } = packet.transport
        else {
            return;
        };
        let (own, other) = match packet.direction {
            Direction::Original => (0, 1),
            Direction::Reply => (1, 0),
        };
        // What never arrives acknowledges nothing.
        if flags & ACK != 0 && packet.verdict != Verdict::Dropped {
            self.0[other].acknowledged_to(acknowledgement);
        }
        if packet.payload > 0 {
            self.0[own].segment(packet, sequence);
        }
    }

    /// How many bytes of memory the packets take that are kept.
    pub(super) fn room(&self) -> usize {
        let samples = self.0.iter().filter_map(|side| {
            let segment = side.segment.as_ref()?;
            Some(segment.sample.as_ref()?.room())
        });
        samples.sum()
    }

    /// Forgets what is sent again.
    pub(super) fn let_go(&mut self) {
        for side in &mut self.0 {
            side.segment = None;
        }
    }

    pub(super) fn of(&self, direction: Direction) -> Option<&Resent> {
        let segment = self.0[direction as usize].segment.as_ref();
        segment.filter(|segment| segment.times > 1)
    }

    pub(super) fn largest(&self, direction: Direction) -> u32 {
        self.0[direction as usize].largest
    }
}

impl Side {
    fn acknowledged_to(&mut self, number: u32) {
        if self
            .acknowledged
            .is_none_or(|known| is_after(number, known))
        {
            self.acknowledged = Some(number);
        }
        let done = |segment: &mut Resent| is_after(number, segment.sequence);
        if let Some(segment) = self.segment.take_if(done) {
            self.largest = self.largest.max(segment.length);
        }
    }

    fn segment(&mut self, packet: &Packet, sequence: u32) {
        let sent = packet.hops.first().map_or(0, |hop| hop.time);
        if packet.verdict == Verdict::Delivered {
            self.largest = self.largest.max(packet.length);
            self.segment.take_if(|known| known.sequence == sequence);
            return;
        }
        if self
            .acknowledged
            .is_some_and(|known| is_after(known, sequence))
        {
            return;
        }
        match &mut self.segment {
            Some(known) if known.sequence == sequence => {
                known.times += 1;
                known.first = known.first.min(sent);
                known.last = known.last.max(sent);
                known.length = known.length.min(packet.length);
                known.sample = Some(Box::new(packet.clone()));
            }
            Some(known) if known.times > 1 => {}
            segment => {
                *segment = Some(Resent {
                    sequence,
                    times: 1,
                    first: sent,
                    last: sent,
                    length: packet.length,
                    sample: None,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scenarios::faults;

    const ORIGINAL: Direction = Direction::Original;

    #[test]
    fn what_is_sent_again_and_not_acknowledged_is_kept() {
        let mut sent = Sent::default();
        for (number, time) in [
            (1000, 0),
            (2000, 10),
            (1000, 200),
            (1000, 600),
            (1000, 1400),
        ] {
            sent.packet(&faults::segment(
                ORIGINAL,
                time,
                number,
                1448,
                Verdict::Left,
            ));
        }
        let kept = sent.of(ORIGINAL).unwrap();
        assert_eq!((kept.times, kept.last - kept.first), (3, 1200));
        assert_eq!((kept.length, sent.largest(ORIGINAL)), (1508, 0));
        // Acknowledged in part, it is there.
        sent.packet(&faults::acknowledgement(Direction::Reply, 2000, 1001));
        assert!(sent.of(ORIGINAL).is_none());
        assert_eq!(sent.largest(ORIGINAL), 1508);
        // What was given up since is no news.
        for time in [2100, 2200] {
            sent.packet(&faults::segment(
                ORIGINAL,
                time,
                1000,
                1448,
                Verdict::Unknown,
            ));
        }
        assert!(sent.of(ORIGINAL).is_none());
    }

    #[test]
    fn what_arrives_is_not_lost() {
        let mut sent = Sent::default();
        for time in [0, 200, 600, 1400] {
            sent.packet(&faults::segment(
                ORIGINAL,
                time,
                1000,
                1448,
                Verdict::Delivered,
            ));
        }
        assert!(sent.of(ORIGINAL).is_none());
        assert_eq!(sent.largest(ORIGINAL), 1508);
    }

    #[test]
    fn sequence_numbers_go_round() {
        assert!(is_after(1, 0) && is_after(5, u32::MAX - 5));
        assert!(!is_after(0, 1) && !is_after(7, 7));
    }
}
