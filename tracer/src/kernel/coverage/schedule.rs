//! Which namespaces are looked at, and when (pure).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::node::inventory::Entry;

/// How long a namespace is young: it gets its rules in its first seconds if it ever does.
const YOUTH: Duration = Duration::from_secs(10);
/// Between two looks at old namespaces.
const OLD: Duration = Duration::from_secs(1);
/// Least time between two looks that packets cause in one namespace.
const QUIET: Duration = Duration::from_millis(100);
/// The same after a failure.
const QUIET_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// The namespaces that there are; `L` is what being linked means.
#[derive(Debug)]
pub(super) struct Schedule<L> {
    namespaces: BTreeMap<u32, State<L>>,
    urgent: BTreeSet<u32>,
    /// The last of the young and of the old ones that was looked at.
    last_young: u32,
    last_old: u32,
    /// When an old one has its turn.
    next_old: Option<Instant>,
}

#[derive(Debug)]
struct State<L> {
    entry: Entry,
    links: Option<L>,
    young_until: Instant,
    not_before: Instant,
    complained: bool,
}

impl<L> Default for Schedule<L> {
    fn default() -> Self {
        Self {
            namespaces: BTreeMap::new(),
            urgent: BTreeSet::new(),
            last_young: 0,
            last_old: 0,
            next_old: None,
        }
    }
}

impl<L> Schedule<L> {
    pub(super) fn appeared(&mut self, entry: Entry, now: Instant) {
        let inode = entry.inode;
        let state = State {
            entry,
            links: None,
            young_until: now + YOUTH,
            not_before: now,
            complained: false,
        };
        self.namespaces.insert(inode, state);
        self.urgent.insert(inode);
    }

    /// The ways into it may have changed.
    pub(super) fn revisited(&mut self, entry: Entry) {
        if let Some(state) = self.namespaces.get_mut(&entry.inode) {
            state.entry = entry;
        }
    }

    /// A packet, or who reads rules, says that there are netfilter hooks; whether the namespace is known.
    pub(super) fn flagged(&mut self, netns: u32) -> bool {
        let state = self.namespaces.get(&netns);
        if state.is_some_and(|state| state.links.is_none()) {
            self.urgent.insert(netns);
        }
        state.is_some()
    }

    /// Forgets a namespace and gives back its links.
    pub(super) fn vanished(&mut self, netns: u32) -> Option<L> {
        self.urgent.remove(&netns);
        self.namespaces.remove(&netns)?.links
    }

    /// All namespaces, of which none counts as young or urgent: they were there before.
    pub(super) fn all(&mut self, now: Instant) -> Vec<u32> {
        self.urgent.clear();
        for state in self.namespaces.values_mut() {
            state.young_until = now;
        }
        self.namespaces.keys().copied().collect()
    }

    /// The namespaces to look at now; those that have to wait stay urgent.
    pub(super) fn urgent(&mut self, now: Instant) -> Vec<u32> {
        let namespaces = &self.namespaces;
        let ready = |netns: &u32| namespaces.get(netns).is_none_or(|s| s.not_before <= now);
        let (ready, later): (BTreeSet<u32>, BTreeSet<u32>) =
            self.urgent.iter().partition(|netns| ready(netns));
        self.urgent = later;
        ready.into_iter().collect()
    }

    /// The namespaces without links in the order in which to look at them in a round: the urgent
    /// that had to wait, now and then one of the old, the young. Who looks may stop anywhere.
    pub(super) fn round(&mut self, now: Instant) -> Vec<u32> {
        let urgent = self.urgent(now);
        let due = |state: &State<L>| state.links.is_none() && state.not_before <= now;
        let (mut young, mut old) = (Vec::new(), Vec::new());
        for (netns, state) in self.namespaces.iter().filter(|(_, state)| due(state)) {
            if urgent.binary_search(netns).is_ok() {
                continue;
            } else if state.young_until > now {
                young.push(*netns);
            } else {
                old.push(*netns);
            }
        }
        let mut round = urgent;
        if self.next_old.is_none_or(|next| next <= now) {
            self.next_old = Some(now + OLD);
            round.extend(in_turn(old, self.last_old).first());
        }
        round.extend(in_turn(young, self.last_young));
        round
    }

    /// Begins a look, unless it is linked or gone.
    pub(super) fn begin(&mut self, netns: u32, now: Instant) -> Option<&Entry> {
        let state = self.namespaces.get_mut(&netns)?;
        if state.links.is_some() {
            return None;
        }
        state.not_before = now + QUIET;
        if state.young_until > now {
            self.last_young = netns;
        } else {
            self.last_old = netns;
        }
        Some(&state.entry)
    }

    pub(super) fn linked(&mut self, netns: u32, links: L) {
        if let Some(state) = self.namespaces.get_mut(&netns) {
            state.links = Some(links);
            state.complained = false;
        }
    }

    /// It could not be looked at or linked; whether that is to be said.
    pub(super) fn failed(&mut self, netns: u32, now: Instant) -> bool {
        self.namespaces.get_mut(&netns).is_some_and(|state| {
            state.not_before = now + QUIET_AFTER_FAILURE;
            !std::mem::replace(&mut state.complained, true)
        })
    }

    /// What to call it.
    pub(super) fn name(&self, netns: u32) -> String {
        let entry = self.namespaces.get(&netns).map(|state| &state.entry);
        entry
            .and_then(|entry| entry.names.first().cloned())
            .unwrap_or_else(|| format!("net:{netns}"))
    }
}

/// Beginning behind the one that had its turn last.
fn in_turn(mut all: Vec<u32>, last: u32) -> Vec<u32> {
    let first = all.partition_point(|netns| *netns <= last);
    all.rotate_left(first);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(inode: u32) -> Entry {
        let mut entry = Entry::default();
        entry.inode = inode;
        entry
    }

    /// Namespaces 1 to `count`, looked at once and found without rules.
    fn without_rules(count: u32, now: Instant) -> Schedule<&'static str> {
        let mut schedule = Schedule::default();
        for inode in 1..=count {
            schedule.appeared(entry(inode), now);
        }
        for netns in schedule.all(now) {
            assert!(schedule.begin(netns, now).is_some());
        }
        schedule
    }

    #[test]
    fn the_new_are_looked_at_now_and_for_a_while() {
        let start = Instant::now();
        let mut schedule = Schedule::<()>::default();
        schedule.appeared(entry(7), start);
        assert_eq!(schedule.urgent(start), [7]);
        assert!(schedule.begin(7, start).is_some());
        assert!(schedule.round(start).is_empty());
        assert_eq!(schedule.round(start + QUIET), [7]);
    }

    #[test]
    fn the_linked_are_left_alone_until_they_vanish() {
        let start = Instant::now();
        let mut schedule = without_rules(2, start);
        schedule.linked(1, "links");
        assert!(schedule.flagged(1));
        let later = start + QUIET;
        assert!(schedule.urgent(later).is_empty());
        assert!(schedule.begin(1, later).is_none());
        assert_eq!(schedule.round(later), [2]);
        assert_eq!(schedule.vanished(1), Some("links"));
        assert_eq!(schedule.vanished(1), None);
        assert_eq!(schedule.vanished(2), None);
    }

    #[test]
    fn packets_cause_a_look_but_not_again_and_again() {
        let start = Instant::now();
        let mut schedule = without_rules(1, start);
        assert!(schedule.flagged(1));
        assert!(!schedule.flagged(9));
        assert!(schedule.urgent(start).is_empty());
        assert_eq!(schedule.urgent(start + QUIET), [1]);
        assert!(schedule.urgent(start + QUIET).is_empty());
    }

    #[test]
    fn the_young_have_all_their_turns_and_one_of_the_old() {
        let start = Instant::now();
        let mut schedule = without_rules(3, start);
        for inode in [7, 8] {
            schedule.appeared(entry(inode), start);
            assert!(schedule.begin(inode, start).is_some());
        }
        schedule.urgent(start);
        let now = start + QUIET;
        // Those that are new came too soon after the last look.
        assert_eq!(schedule.round(now), [7, 8, 1]);
        for inode in [1, 7] {
            assert!(schedule.begin(inode, now).is_some());
        }
        assert_eq!(schedule.round(now + QUIET), [8, 7]);
        assert_eq!(schedule.round(now + OLD), [2, 8, 7]);
    }

    #[test]
    fn the_old_take_turns() {
        let start = Instant::now();
        let mut schedule = without_rules(500, start);
        let mut now = start + QUIET;
        let mut seen = Vec::new();
        for _ in 0..500 {
            let round = schedule.round(now);
            assert_eq!(round.len(), 1);
            assert!(schedule.begin(round[0], now).is_some());
            seen.extend(round);
            now += OLD;
        }
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(1..=500));
    }

    #[test]
    fn a_round_stops_anywhere_and_the_young_take_turns() {
        let start = Instant::now();
        let mut schedule = Schedule::<()>::default();
        for inode in 1..=50 {
            schedule.appeared(entry(inode), start);
        }
        schedule.urgent(start);
        let mut seen = Vec::new();
        for round in 1..=10 {
            let now = start + QUIET * round;
            for netns in schedule.round(now).into_iter().take(5) {
                assert!(schedule.begin(netns, now).is_some());
                seen.push(netns);
            }
        }
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(1..=50));
    }

    #[test]
    fn a_failure_is_said_once_and_tried_again_later() {
        let start = Instant::now();
        let mut schedule = without_rules(1, start);
        assert!(schedule.failed(1, start));
        assert!(!schedule.failed(1, start));
        assert!(schedule.round(start + QUIET).is_empty());
        assert_eq!(schedule.round(start + QUIET_AFTER_FAILURE), [1]);
        assert!(!schedule.failed(2, start));
        assert_eq!(schedule.name(1), "net:1");
    }
}
