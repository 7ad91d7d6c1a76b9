//! Packets' first bytes, and which packets they are of.
//!
//! They come beside the events, not in them: of a packet that a socket sends before its first event,
//! of one that a socket takes after its last. So they are known by what is in them, the fingerprint that
//! the events have too, and by their time. Payloads are the same wherever the packet is; addresses and
//! ports are those of the place where they were taken.

use std::{collections::VecDeque, sync::Arc};

use foldhash::HashMap;

use super::Fingerprint;

/// What a packet's bytes cost beside themselves: two places in tables that may be half empty.
const BESIDE: usize = 256;
/// How far from the packet's events they may have been taken, in nanoseconds.
const MOMENT: u64 = 10_000_000;

/// Packets' first bytes that were taken lately.
#[derive(Debug, Default)]
pub(in crate::journey) struct Captured {
    by_fingerprint: HashMap<Fingerprint, (u64, Arc<[u8]>)>,
    order: VecDeque<(Fingerprint, u64)>,
    size: usize,
}

impl Captured {
    /// Takes bytes of a packet of that length. No more than fits into the room is kept in mind.
    pub(in crate::journey) fn take(&mut self, time: u64, bytes: &[u8], length: u32, room: usize) {
        let Some(fingerprint) = Fingerprint::of_bytes(bytes, length) else {
            return;
        };
        self.size += BESIDE + bytes.len();
        self.order.push_back((fingerprint, time));
        if let Some((_, before)) = self
            .by_fingerprint
            .insert(fingerprint, (time, bytes.into()))
        {
            self.size -= before.len();
        }
        while self.size > room
            && let Some((oldest, time)) = self.order.pop_front()
        {
            self.forget(&oldest, time);
        }
    }

    fn forget(&mut self, fingerprint: &Fingerprint, time: u64) {
        self.size -= BESIDE;
        let is_it = |(known, _): &(u64, Arc<[u8]>)| *known == time;
        if self.by_fingerprint.get(fingerprint).is_some_and(is_it)
            && let Some((_, bytes)) = self.by_fingerprint.remove(fingerprint)
        {
            self.size -= bytes.len();
        }
    }

    /// Those of the packet with that fingerprint, of which events came from the first of these times to the
    /// last.
    pub(in crate::journey) fn of(
        &self,
        fingerprint: &Fingerprint,
        (first, last): (u64, u64),
    ) -> Option<Arc<[u8]>> {
        if self.by_fingerprint.is_empty() {
            return None;
        }
        let (time, bytes) = self.by_fingerprint.get(fingerprint)?;
        let when = first.saturating_sub(MOMENT)..=last.saturating_add(MOMENT);
        when.contains(time).then(|| Arc::clone(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: usize = 8 << 20;

    /// An IPv4 TCP segment of twelve bytes, of which the first two are there.
    fn segment(id: u8) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 52, 0, id, 0x40, 0, 64, 6, 0, 0];
        bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([
            0x80, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 24, 0, 0, 0, 0, 0, 0,
        ]);
        bytes.extend(b"GE");
        bytes
    }

    #[test]
    fn bytes_are_found_by_what_is_in_them_and_by_their_time() {
        let mut captured = Captured::default();
        captured.take(5 * MOMENT, &segment(1), 52, ROOM);
        let fingerprint = Fingerprint::of_bytes(&segment(1), 52).unwrap();
        let found = |times| captured.of(&fingerprint, times).map(|bytes| bytes.to_vec());
        assert_eq!(found((5 * MOMENT + 1, 6 * MOMENT)), Some(segment(1)));
        assert_eq!(found((4 * MOMENT, 5 * MOMENT - 1)), Some(segment(1)));
        assert_eq!(found((7 * MOMENT, 8 * MOMENT)), None);
        let other = Fingerprint::of_bytes(&segment(2), 52).unwrap();
        assert_eq!(captured.of(&other, (0, u64::MAX)), None);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut captured = Captured::default();
        let mut bytes = segment(0);
        bytes.resize(640, 0);
        for number in 0..40_000_u32 {
            bytes[24..28].copy_from_slice(&number.to_be_bytes());
            captured.take(u64::from(number), &bytes, 640, ROOM);
            assert!(captured.size <= ROOM);
        }
        let kept: usize = captured
            .by_fingerprint
            .values()
            .map(|(_, it)| it.len())
            .sum();
        assert_eq!(kept + captured.order.len() * BESIDE, captured.size);
        assert!(captured.size > ROOM - 1000);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80), length: u32) {
            Fingerprint::of_bytes(&bytes, length);
        }
    }
}
