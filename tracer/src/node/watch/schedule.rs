//! Which namespaces are read again, and when.
//!
//! A new namespace gets its devices, addresses and rules over its first seconds, so it is read
//! again in each round for a while. So are the largest, where devices come and go as pods do. The
//! others take turns. Requests are served at once, but not again and again for one namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Rounds in which a new namespace is read again.
const YOUNG: u8 = 10;
/// How many of the largest namespaces are read in each round.
const LARGEST: usize = 8;
/// How many of the others are read in each round.
const OTHERS: usize = 8;
/// Least time between two readings of one namespace on request.
const QUIET: Duration = Duration::from_millis(200);
/// Requests kept; a flood of them can name only so many namespaces that exist.
const MAX_PENDING: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Schedule {
    young: BTreeMap<u32, u8>,
    /// The last of the others that was read.
    last: u32,
    pending: BTreeSet<u32>,
    served: BTreeMap<u32, Instant>,
}

impl Schedule {
    pub(super) fn appeared(&mut self, inode: u32) {
        self.young.insert(inode, YOUNG);
    }

    pub(super) fn vanished(&mut self, inode: u32) {
        self.young.remove(&inode);
        self.pending.remove(&inode);
    }

    /// The namespaces of this round, from all with their numbers of devices, in order of inode.
    pub(super) fn round(&mut self, all: &[(u32, usize)]) -> BTreeSet<u32> {
        let mut round: BTreeSet<u32> = self.young.keys().copied().collect();
        self.young.retain(|_, rounds| {
            *rounds -= 1;
            *rounds > 0
        });
        let mut by_size = all.to_vec();
        by_size.sort_by_key(|&(_, size)| std::cmp::Reverse(size));
        round.extend(by_size.iter().take(LARGEST).map(|&(inode, _)| inode));
        let start = all.partition_point(|&(inode, _)| inode <= self.last);
        let turns = all[start..]
            .iter()
            .chain(&all[..start])
            .map(|&(inode, _)| inode);
        for inode in turns.take(OTHERS) {
            round.insert(inode);
            self.last = inode;
        }
        round
    }

    pub(super) fn request(&mut self, inodes: impl IntoIterator<Item = u32>) {
        self.pending.extend(inodes);
        while self.pending.len() > MAX_PENDING {
            self.pending.pop_first();
        }
    }

    /// The requests to serve now.
    pub(super) fn ready(&mut self, now: Instant) -> BTreeSet<u32> {
        self.served
            .retain(|_, served| now.duration_since(*served) < QUIET);
        let served = &self.served;
        let ready = |inode: &&u32| !served.contains_key(inode);
        let ready: BTreeSet<u32> = self.pending.iter().filter(ready).copied().collect();
        for &inode in &ready {
            self.pending.remove(&inode);
            self.served.insert(inode, now);
        }
        ready
    }

    /// How long until a request that waits can be served.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        let waits = self.pending.iter().map(|inode| {
            let served = self.served.get(inode);
            served.map_or(Duration::ZERO, |served| {
                (*served + QUIET).saturating_duration_since(now)
            })
        });
        waits.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_take_turns_and_the_largest_are_always_there() {
        let all: Vec<(u32, usize)> = (0..100).map(|i| (i, usize::from(i == 50))).collect();
        let mut schedule = Schedule::default();
        let mut seen = BTreeSet::new();
        for _ in 0..100usize.div_ceil(OTHERS) {
            let round = schedule.round(&all);
            assert!(round.contains(&50));
            assert!(round.len() <= LARGEST + OTHERS);
            seen.extend(round);
        }
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn the_new_are_read_for_a_while() {
        let all: Vec<(u32, usize)> = (0..1000).map(|i| (i, 5)).collect();
        let mut schedule = Schedule::default();
        schedule.appeared(900);
        schedule.appeared(901);
        schedule.vanished(901);
        for _ in 0..YOUNG {
            let round = schedule.round(&all);
            assert!(round.contains(&900) && !round.contains(&901));
        }
        assert!(!schedule.round(&all).contains(&900));
    }

    #[test]
    fn requests_wait_their_time_and_are_not_lost() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.request([5, 6]);
        assert_eq!(schedule.next(start), Some(Duration::ZERO));
        assert_eq!(schedule.ready(start), BTreeSet::from([5, 6]));
        assert_eq!(schedule.next(start), None);
        schedule.request([5, 7]);
        assert_eq!(schedule.ready(start), BTreeSet::from([7]));
        assert_eq!(schedule.next(start), Some(QUIET));
        assert!(schedule.ready(start + QUIET / 2).is_empty());
        assert_eq!(schedule.ready(start + QUIET), BTreeSet::from([5]));
    }

    #[test]
    fn a_flood_of_requests_is_bounded() {
        let mut schedule = Schedule::default();
        schedule.request(0..100_000);
        assert_eq!(schedule.pending.len(), MAX_PENDING);
    }
}
