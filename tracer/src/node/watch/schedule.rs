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
/// The same for a number that no namespace had.
const QUIET_UNKNOWN: Duration = Duration::from_secs(2);
/// Least time between two batches of requests.
const BATCH: Duration = Duration::from_millis(50);
/// Requests kept; a flood of them can name only so many namespaces that exist.
const MAX_PENDING: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Schedule {
    young: BTreeMap<u32, u8>,
    /// The last of the others that was read.
    last: u32,
    pending: BTreeSet<u32>,
    /// When a namespace that was asked for may be served again.
    not_before: BTreeMap<u32, Instant>,
    next_batch: Option<Instant>,
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
        if self.next_batch.is_some_and(|next| now < next) {
            return BTreeSet::new();
        }
        self.not_before.retain(|_, at| *at > now);
        let free = |inode: &&u32| !self.not_before.contains_key(inode);
        let ready: BTreeSet<u32> = self.pending.iter().filter(free).copied().collect();
        for &inode in &ready {
            self.pending.remove(&inode);
            self.not_before.insert(inode, now + QUIET);
        }
        if !ready.is_empty() {
            self.next_batch = Some(now + BATCH);
        }
        ready
    }

    /// No namespace had this number.
    pub(super) fn unknown(&mut self, inode: u32, now: Instant) {
        self.not_before.insert(inode, now + QUIET_UNKNOWN);
    }

    /// How long until a request that waits can be served.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        let at = |inode| self.not_before.get(inode).copied().unwrap_or(now);
        let first = self.pending.iter().map(at).min()?;
        let first = self.next_batch.map_or(first, |next| first.max(next));
        Some(first.saturating_duration_since(now))
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
        assert!(schedule.ready(start).is_empty(), "of the next batch");
        assert_eq!(schedule.next(start), Some(BATCH));
        assert_eq!(schedule.ready(start + BATCH), BTreeSet::from([7]));
        assert_eq!(schedule.next(start + BATCH), Some(QUIET - BATCH));
        assert_eq!(schedule.ready(start + QUIET), BTreeSet::from([5]));
    }

    #[test]
    fn a_number_without_a_namespace_is_not_looked_for_all_the_time() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.request([1]);
        assert_eq!(schedule.ready(start), BTreeSet::from([1]));
        schedule.unknown(1, start);
        schedule.request([1]);
        assert_eq!(schedule.next(start), Some(QUIET_UNKNOWN));
        assert!(schedule.ready(start + QUIET).is_empty());
        assert_eq!(schedule.ready(start + QUIET_UNKNOWN), BTreeSet::from([1]));
    }

    #[test]
    fn a_flood_of_requests_is_bounded() {
        let mut schedule = Schedule::default();
        schedule.request(0..100_000);
        assert_eq!(schedule.pending.len(), MAX_PENDING);
    }
}
