//! What is dropped: by reason, place and rule, with whom it hits.

use std::collections::{HashMap, VecDeque};

use super::series::Series;
use crate::{
    journey::model::{FlowId, Stage},
    report::{DropReport, PacketReport, RuleReport},
};

/// Kinds of drops that are told apart.
const KINDS: usize = 256;
/// Flows that are kept of a kind.
const VICTIMS: usize = 32;

/// What makes drops alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// The kernel's reason, or the function that dropped.
    pub reason: String,
    /// The stage the packets were in.
    pub stage: Stage,
    /// The namespace's name, or its pod's.
    pub place: Option<String>,
    /// The rule, in words.
    pub rule: Option<String>,
}

impl Kind {
    /// Which drops one is like; `words` says a rule in words.
    pub fn of(drop: &DropReport, words: impl Fn(&RuleReport) -> String) -> Self {
        let reason = drop.reason.clone().or_else(|| drop.function.clone());
        Self {
            reason: reason.unwrap_or_else(|| "no reason given".to_owned()),
            stage: drop.stage,
            place: drop.pod.clone().or_else(|| drop.netns.clone()),
            rule: drop.rule.as_ref().map(words),
        }
    }
}

/// Drops of one kind.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// In each of the last seconds.
    pub series: Series<60>,
    /// The last one, nanoseconds of the records' clock.
    pub last: u64,
    /// The flows hit last, the newest first.
    pub victims: VecDeque<FlowId>,
}

/// All drops.
#[derive(Clone, Debug, Default)]
pub struct Drops {
    kinds: HashMap<Kind, Tally>,
    /// Of kinds that were let go for want of room.
    pub others: u64,
}

impl Drops {
    /// Counts a packet's drop.
    pub fn add(&mut self, kind: Kind, packet: &PacketReport) {
        let time = packet.hops.last().map_or(0, |hop| hop.time);
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            self.let_one_go();
        }
        let tally = self.kinds.entry(kind).or_default();
        tally.count += 1;
        tally.series.add(time, 1);
        tally.last = tally.last.max(time);
        tally.victims.retain(|victim| *victim != packet.flow);
        tally.victims.push_front(packet.flow);
        tally.victims.truncate(VICTIMS);
    }

    /// All kinds: those hit last first.
    #[must_use]
    pub fn by_time(&self) -> Vec<(&Kind, &Tally)> {
        let mut all: Vec<_> = self.kinds.iter().collect();
        all.sort_by(|(a, one), (b, other)| other.last.cmp(&one.last).then_with(|| a.cmp(b)));
        all
    }

    /// How many packets were dropped.
    #[must_use]
    pub fn total(&self) -> u64 {
        let kept: u64 = self.kinds.values().map(|tally| tally.count).sum();
        kept + self.others
    }

    fn let_one_go(&mut self) {
        let oldest = self.kinds.iter().min_by_key(|(_, tally)| tally.last);
        if let Some(kind) = oldest.map(|(kind, _)| kind.clone())
            && let Some(tally) = self.kinds.remove(&kind)
        {
            self.others += tally.count;
        }
    }
}
