//! How a namespace's rules changed, so that a packet is judged by those of its own time.
//!
//! Rules are read some time after they changed. So a version is known to hold when it was read, and
//! what happened since the one before was last seen to hold belongs to either: who explains a packet asks both.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        self, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use super::held::Rules;
use crate::node::services::Services;

/// Versions that are kept.
const VERSIONS: usize = 16;
/// Rules that are kept in older versions: some 100 MB.
const RULES: usize = 100_000;

/// Versions are saved that are older than the last by no more than this, in nanoseconds.
const SAVED: u64 = 5_000_000_000;
/// And no more rules of them than this.
const SAVED_RULES: usize = 10_000;

/// Rules as they were read at one time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Version {
    /// When they were read, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// When the version before was still seen to hold; 0 where nobody looked again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub former: u64,
    /// The rules.
    pub rules: Arc<Rules>,
    /// The Services that they make; made when first asked for.
    #[serde(skip)]
    services: Arc<OnceLock<Services>>,
}

impl Version {
    /// The Services that the rules make; `own` says which addresses are the namespace's.
    pub fn services(&self, own: impl Fn(IpAddr) -> bool) -> &Services {
        self.services.get_or_init(|| self.rules.services(own))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A namespace's rules, the last versions.
///
/// Saved are the last version and those read just before: a recording has the others where they were the
/// last, but one that was replaced before anybody looked stands nowhere else.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The oldest first.
    versions: Vec<Version>,
}

impl History {
    /// The rules were read. Returns whether they are others than before.
    pub fn read(&mut self, time: u64, rules: Arc<Rules>) -> bool {
        self.read_after(0, time, rules)
    }

    /// The rules were read, and those of before were seen to hold at the time `former`.
    pub fn read_after(&mut self, former: u64, time: u64, rules: Arc<Rules>) -> bool {
        let known = self.versions.last();
        if known.map_or(rules.is_empty(), |known| same(&known.rules, &rules)) {
            return false;
        }
        self.versions.push(Version {
            time,
            former,
            rules,
            services: Arc::default(),
        });
        self.forget();
        true
    }

    /// Puts its times on another clock, which goes as fast.
    pub fn on_clock(&mut self, clock: impl Fn(u64) -> u64) {
        for version in &mut self.versions {
            version.time = clock(version.time);
            if version.former > 0 {
                version.former = clock(version.former);
            }
        }
    }

    /// Versions that were known before the first one here, from an earlier snapshot.
    pub fn follows(&mut self, earlier: &Self) {
        let first = self.versions.first().map_or(u64::MAX, |first| first.time);
        let before = earlier.versions.iter().filter(|known| known.time < first);
        let mut versions: Vec<_> = before.cloned().collect();
        versions.append(&mut self.versions);
        self.versions = versions;
        self.forget();
    }

    fn forget(&mut self) {
        let mut rules = 0;
        let enough = self.versions.iter().rev().skip(1).position(|version| {
            rules += version.rules.size();
            rules > RULES
        });
        let keep = enough.map_or(VERSIONS, |enough| (enough + 1).min(VERSIONS));
        let excess = self.versions.len().saturating_sub(keep);
        self.versions.drain(..excess);
    }

    /// The last version.
    #[must_use]
    pub fn last(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The versions that may have held at a time, the likelier one first.
    pub fn around(&self, time: u64) -> impl Iterator<Item = &Version> {
        let next = self
            .versions
            .partition_point(|version| version.time <= time);
        let first = next.saturating_sub(1);
        let later = self.versions.get(next);
        // Before the first there was none that could have held as well.
        let alone = next == 0 || later.is_some_and(|later| later.former >= time);
        self.versions
            .iter()
            .skip(first)
            .take(if alone { 1 } else { 2 })
    }
}

fn same(one: &Arc<Rules>, other: &Arc<Rules>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        let versions = self.versions.iter().zip(&other.versions);
        self.versions.len() == other.versions.len()
            && versions
                .into_iter()
                .all(|(a, b)| a.time == b.time && same(&a.rules, &b.rules))
    }
}

impl Eq for History {}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((last, earlier)) = self.versions.split_last() else {
            return serializer.serialize_none();
        };
        let mut rules = 0;
        let saved = earlier.iter().rev().take_while(|version| {
            rules += version.rules.size();
            rules <= SAVED_RULES && last.time.saturating_sub(version.time) <= SAVED
        });
        let first = earlier.len() - saved.count();
        serializer.collect_seq(&self.versions[first..])
    }
}

impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut versions = deserializer.deserialize_any(Saved)?;
        versions.sort_by_key(|version| version.time);
        let mut history = Self { versions };
        history.forget();
        Ok(history)
    }
}

/// Reads a history as it is saved, or the last version alone, as the first recordings with rules have
/// it.
struct Saved;

impl<'de> Visitor<'de> for Saved {
    type Value = Vec<Version>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("versions of rules")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Version::deserialize(MapAccessDeserializer::new(map)).map(|last| vec![last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(note: &str) -> Arc<Rules> {
        Arc::new(Rules {
            notes: vec![note.to_owned()],
            ..Rules::default()
        })
    }

    fn history(versions: &[(u64, &str)]) -> History {
        let mut history = History::default();
        for (time, note) in versions {
            history.read(*time, rules(note));
        }
        history
    }

    fn around(history: &History, time: u64) -> Vec<u64> {
        history.around(time).map(|version| version.time).collect()
    }

    #[test]
    fn a_packet_asks_the_version_before_it_and_the_one_after() {
        let history = history(&[(10, "a"), (20, "b"), (30, "c")]);
        for (time, expected) in [
            (5, &[10][..]),
            (10, &[10, 20]),
            (19, &[10, 20]),
            (25, &[20, 30]),
            (30, &[30]),
            (99, &[30]),
        ] {
            assert_eq!(around(&history, time), expected, "{time}");
        }
        assert!(around(&History::default(), 5).is_empty());
    }

    #[test]
    fn while_a_version_was_seen_to_hold_no_other_is_asked() {
        let mut history = history(&[(10, "a")]);
        assert!(!history.read_after(10, 15, rules("a")));
        assert!(history.read_after(15, 20, rules("b")));
        assert_eq!(around(&history, 5), [10]);
        assert_eq!(around(&history, 15), [10]);
        assert_eq!(around(&history, 16), [10, 20]);
        assert_eq!(around(&history, 20), [20]);
        let text = serde_json::to_string(&history).unwrap();
        let mut read: History = serde_json::from_str(&text).unwrap();
        assert_eq!(around(&read, 12), [10]);
        read.on_clock(|time| time + 100);
        assert_eq!(around(&read, 115), [110]);
        assert_eq!(around(&read, 116), [110, 120]);
    }

    #[test]
    fn what_is_the_same_is_no_new_version() {
        let mut history = History::default();
        assert!(!history.read(1, Arc::default()));
        assert!(history.read(2, rules("a")) && !history.read(3, rules("a")));
        assert!(history.read(4, Arc::default()));
        assert_eq!(around(&history, 3), [2, 4]);
    }

    #[test]
    fn few_versions_are_kept() {
        let mut history = History::default();
        for time in 0..100 {
            history.read(time, rules(&time.to_string()));
        }
        assert_eq!(history.versions.len(), VERSIONS);
        assert_eq!(history.last().unwrap().time, 99);
    }

    #[test]
    fn of_many_rules_few_versions_are_kept() {
        let text = format!("*filter\n:X - [0:0]\n{}COMMIT\n", "-A X\n".repeat(40_000));
        let tables = super::super::iptables::Tables::parse(&text).unwrap();
        let large = |note: &str| {
            use super::super::{iptables::RuleSet, path::Source, subject::Family};
            let set = RuleSet::new(Family::V4, Source::IptablesNft, tables.clone());
            Arc::new(Rules {
                iptables: vec![Arc::new(set)],
                notes: vec![note.to_owned()],
                ..Rules::default()
            })
        };
        let mut history = History::default();
        for time in 0..5 {
            history.read(time, large(&time.to_string()));
        }
        let kept: Vec<u64> = history
            .versions
            .iter()
            .map(|version| version.time)
            .collect();
        assert_eq!(kept, [2, 3, 4]);
    }

    #[test]
    fn saved_are_the_last_ones_and_what_was_before_can_be_put_back() {
        let (first, last) = (SAVED, 2 * SAVED + 20);
        let all = history(&[(10, "a"), (first, "b"), (last - 5, "c"), (last, "d")]);
        let text = serde_json::to_string(&all).unwrap();
        let mut read: History = serde_json::from_str(&text).unwrap();
        assert_eq!(read, history(&[(last - 5, "c"), (last, "d")]));
        read.follows(&history(&[(10, "a"), (first, "b")]));
        assert_eq!(read, all);
        // As the first recordings with rules have it.
        let one = serde_json::to_string(all.last().unwrap()).unwrap();
        let one: History = serde_json::from_str(&one).unwrap();
        assert_eq!(one, history(&[(last, "d")]));
        let none: History = serde_json::from_str("null").unwrap();
        assert_eq!(none, History::default());
    }
}
