//! How far one node's clock is ahead of another's, by the packets that went between them.
//!
//! A packet that leaves a node by a device that leads out and comes into another by one is known on both
//! by its fingerprint. Of many the fastest counts: on its way `there` the clocks' difference is added to
//! what it took, on its way `back` it is taken away. So half of what the two differ by is the difference
//! of the clocks, and half of their sum bounds the error, whatever the wire is like.
//!
//! Which packets are looked at is chosen by the fingerprint itself, so that it is the same ones on both
//! nodes, and as many as there is room for, however long the recordings are. One that was seen twice
//! (sent again as it was) says nothing.
//!
//! Limit: clocks are taken to go equally fast. Two that are not kept by NTP part by some milliseconds an
//! hour, and packets are joined only while the difference is less than they take.

use std::hash::BuildHasher as _;

use foldhash::{HashMap, fast::FixedState};
use tracer_common::{hook, record::FLAG_PHYSICAL};

use crate::{
    event::{Event, Record},
    journey::Fingerprint,
    source::NodeClock,
};

/// How many packets of a direction are kept in mind.
const KEPT: usize = 1 << 16;
/// What differs by more than that from most is of another packet that looks the same, in nanoseconds.
const ODD: i128 = 1_000_000_000;

/// Times by fingerprint; `None` for what was seen more than once.
#[derive(Debug, Default)]
struct Sample {
    times: HashMap<u64, Option<u64>>,
    /// Of which fingerprints: whose hash has none of these bits.
    mask: u64,
}

impl Sample {
    fn note(&mut self, key: u64, time: u64) {
        if key & self.mask != 0 {
            return;
        }
        self.times
            .entry(key)
            .and_modify(|known| *known = None)
            .or_insert(Some(time));
        while self.times.len() > KEPT {
            self.mask = self.mask << 1 | 1;
            let mask = self.mask;
            self.times.retain(|key, _| key & mask == 0);
        }
    }

    fn once(&self, key: u64) -> Option<u64> {
        self.times.get(&key).copied().flatten()
    }
}

/// What went out of a node and came into it.
#[derive(Debug, Default)]
pub(super) struct Crossings {
    left: Sample,
    entered: Sample,
}

impl Crossings {
    pub(super) fn note(&mut self, record: &Record) {
        let Record::Event(event) = record else {
            return;
        };
        let sample = match event.record.hook {
            hook::DEVICE_TRANSMIT => &mut self.left,
            hook::DEVICE_RECEIVE => &mut self.entered,
            _ => return,
        };
        if event.has(FLAG_PHYSICAL) && tells_apart(event) {
            let key = FixedState::default().hash_one(Fingerprint::of(event));
            sample.note(key, event.record.time);
        }
    }
}

/// Whether the fingerprint has numbers of the packet's own.
fn tells_apart(event: &Event) -> bool {
    event.record.sequence != 0 || event.record.acknowledgement != 0
}

/// The differences of what left one node and entered the other: how many, and the least.
fn fastest(left: &Sample, entered: &Sample) -> (u64, Option<i128>) {
    let keys = left.times.keys();
    let difference = |key: &u64| {
        let (left, entered) = (left.once(*key)?, entered.once(*key)?);
        Some(i128::from(entered) - i128::from(left))
    };
    let mut all: Vec<i128> = keys.filter_map(difference).collect();
    all.sort_unstable();
    let Some(middle) = all.get(all.len() / 2).copied() else {
        return (0, None);
    };
    all.retain(|difference| (difference - middle).abs() < ODD);
    (all.len() as u64, all.first().copied())
}

/// How far the second node's clock is ahead of the first one's; `None` where no packet went between them.
pub(super) fn difference(first: &Crossings, second: &Crossings) -> Option<NodeClock> {
    let (there, fastest_there) = fastest(&first.left, &second.entered);
    let (back, fastest_back) = fastest(&second.left, &first.entered);
    let (ahead, error) = match (fastest_there, fastest_back) {
        (Some(there), Some(back)) => (
            (there - back) / 2,
            Some(((there + back) / 2).unsigned_abs()),
        ),
        (Some(there), None) => (there, None),
        (None, Some(back)) => (-back, None),
        (None, None) => return None,
    };
    Some(NodeClock {
        node: String::new(),
        ahead: i64::try_from(ahead).ok()?,
        error: error.and_then(|error| u64::try_from(error).ok()),
        packets: [there, back],
    })
}

/// What is known of a clock that was compared with that of a node between it and the first one: what both
/// may be wrong by adds up, and has a bound only where both have one.
pub(super) fn by_way_of(between: &NodeClock, clock: NodeClock) -> NodeClock {
    let error = clock.error.zip(between.error);
    NodeClock {
        ahead: clock.ahead.saturating_add(between.ahead),
        error: error.map(|(one, other)| one.saturating_add(other)),
        ..clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_common::record;

    fn packet(hook: u8, number: u32, time: u64) -> Record {
        Record::Event(Event {
            record: record::Event {
                head: record::Head {
                    time,
                    hook,
                    flags: FLAG_PHYSICAL,
                    ..record::Head::default()
                },
                protocol: 6,
                sequence: number,
                ..record::Event::default()
            },
            other: None,
        })
    }

    /// Packets both ways, the second clock ahead by so much, with these delays.
    fn crossings(ahead: i64, there: &[u64], back: &[u64]) -> [Crossings; 2] {
        let mut both = [Crossings::default(), Crossings::default()];
        let shown = |time: u64| time.checked_add_signed(ahead).unwrap();
        let begin = 1_u64 << 40;
        for (number, delay) in (1_u32..).zip(there) {
            let sent = begin + u64::from(number) * 1_000_000;
            both[0].note(&packet(hook::DEVICE_TRANSMIT, number, sent));
            both[1].note(&packet(hook::DEVICE_RECEIVE, number, shown(sent + delay)));
        }
        for (number, delay) in (1_000_000_u32..).zip(back) {
            let sent = begin + u64::from(number) * 1_000;
            both[1].note(&packet(hook::DEVICE_TRANSMIT, number, shown(sent)));
            both[0].note(&packet(hook::DEVICE_RECEIVE, number, sent + delay));
        }
        both
    }

    #[test]
    fn the_fastest_packets_both_ways_tell_the_difference() {
        for ahead in [0, 3_700_000_000, -86_400_000_000_000 / 200] {
            let [first, second] = crossings(ahead, &[90_000, 20_000, 500_000], &[30_000, 400_000]);
            let clock = difference(&first, &second).unwrap();
            // Half of what the ways differ by.
            assert_eq!(clock.ahead, ahead - 5_000);
            assert_eq!((clock.error, clock.packets), (Some(25_000), [3, 2]));
        }
    }

    #[test]
    fn one_way_gives_a_difference_without_a_bound_and_none_gives_none() {
        let [first, second] = crossings(50, &[7], &[]);
        let clock = difference(&first, &second).unwrap();
        assert_eq!((clock.ahead, clock.error), (57, None));
        assert_eq!(difference(&Crossings::default(), &second), None);
    }

    #[test]
    fn by_way_of_another_node_the_errors_add_up() {
        let clock = |ahead, error| NodeClock {
            ahead,
            error,
            packets: [3, 2],
            ..NodeClock::default()
        };
        let between = clock(1_000, Some(30));
        let far = by_way_of(&between, clock(-200, Some(5)));
        assert_eq!(far, clock(800, Some(35)));
        assert_eq!(by_way_of(&between, clock(1, None)).error, None);
        assert_eq!(by_way_of(&clock(1, None), between).error, None);
    }

    #[test]
    fn what_looks_like_another_packet_does_not_count() {
        let [mut first, mut second] = crossings(0, &[20_000, 21_000, 22_000], &[20_000]);
        // Sent again as it was, and a number that was used long ago.
        first.note(&packet(hook::DEVICE_TRANSMIT, 1, 5));
        second.note(&packet(hook::DEVICE_RECEIVE, 77, 5));
        first.note(&packet(hook::DEVICE_TRANSMIT, 77, 90_000_000_000));
        let clock = difference(&first, &second).unwrap();
        assert_eq!((clock.ahead, clock.packets), (500, [2, 1]));
    }

    #[test]
    fn the_same_packets_are_kept_of_many_on_both() {
        let mut both = [Crossings::default(), Crossings::default()];
        for number in 1..400_000_u32 {
            let time = u64::from(number) * 1_000;
            both[0].note(&packet(hook::DEVICE_TRANSMIT, number, time));
            if number % 2 == 0 {
                both[1].note(&packet(hook::DEVICE_RECEIVE, number, time + 100));
            }
        }
        assert!(both[0].left.times.len() <= KEPT && both[1].entered.times.len() <= KEPT);
        let clock = difference(&both[0], &both[1]).unwrap();
        assert!(clock.packets[0] > 1_000 && clock.ahead == 100, "{clock:?}");
    }
}
