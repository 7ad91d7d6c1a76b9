//! What holds on from what was said before: where netfilter's hooks are observed, whose sockets are, which
//! names were looked up, what functions drop packets.
//!
//! It is said once, when it comes to be known. So a reader that begins in the middle of a recording must
//! have it told again: a writer puts it into a chunk of its own now and then, and the reader adds what was
//! said since. Bounded: the latest are kept.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::source::{Notice, Shedding};

/// Notices of a kind that are kept.
const KEPT: usize = 1024;
/// Packets' bytes that are kept: those of DNS answers name addresses.
const KEPT_BYTES: usize = 256;
/// Network namespaces; a node has fewer.
const NAMESPACES: usize = 1 << 14;
/// Functions that drop packets; a kernel has fewer.
const FUNCTIONS: usize = 4096;

/// What holds at a place of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Standing {
    everywhere: Option<u64>,
    observed: BTreeMap<u32, u64>,
    /// [`Notice::Owner`], [`Notice::Socket`] and [`Notice::Listeners`].
    sockets: VecDeque<Notice>,
    bytes: VecDeque<Notice>,
    functions: BTreeMap<u64, String>,
    /// The last statistics, where packets were let go unseen.
    #[serde(skip_serializing_if = "Option::is_none")]
    shedding: Option<Notice>,
}

impl Standing {
    /// Takes what a notice says that holds on.
    pub(crate) fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Owner { .. } | Notice::Socket { .. } | Notice::Listeners { .. } => {
                keep(&mut self.sockets, notice, KEPT);
            }
            Notice::Bytes(_) => keep(&mut self.bytes, notice, KEPT_BYTES),
            _ => self.note_observation(notice),
        }
    }

    /// The same, only of how packets are observed: where hooks are, and whether some are let go unseen.
    pub(super) fn note_observation(&mut self, notice: &Notice) {
        match notice {
            Notice::NetfilterEverywhere { time } => self.everywhere = Some(*time),
            Notice::NetfilterAttached { netns, time } => {
                if self.observed.len() >= NAMESPACES && !self.observed.contains_key(netns) {
                    return;
                }
                self.observed.insert(*netns, *time);
            }
            Notice::NetfilterDetached { netns, .. } => {
                self.observed.remove(netns);
            }
            Notice::Statistics(statistics) => {
                let sheds = statistics.shedding != Shedding::None;
                self.shedding = sheds.then(|| notice.clone());
            }
            Notice::Owner { .. }
            | Notice::Socket { .. }
            | Notice::Listeners { .. }
            | Notice::Bytes(_)
            // Of the moment, or of the whole.
            | Notice::Began { .. }
            | Notice::Loss(_)
            | Notice::Problem(_) => {}
        }
    }

    pub(super) fn function(&mut self, address: u64, function: &str) {
        if self.functions.len() < FUNCTIONS {
            self.functions.insert(address, function.to_owned());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As a source would say it.
    pub(crate) fn into_notices(self) -> impl Iterator<Item = Notice> {
        let everywhere = self.everywhere.into_iter();
        let everywhere = everywhere.map(|time| Notice::NetfilterEverywhere { time });
        let observed = self.observed.into_iter();
        let observed = observed.map(|(netns, time)| Notice::NetfilterAttached { netns, time });
        everywhere
            .chain(observed)
            .chain(self.shedding)
            .chain(self.sockets)
            .chain(self.bytes)
    }

    /// As a recording would say it.
    pub(super) fn into_entries(mut self) -> Vec<Entry> {
        let functions = std::mem::take(&mut self.functions).into_iter();
        let functions = functions.map(|(address, function)| Entry::Location { address, function });
        functions
            .chain(self.into_notices().map(Entry::Notice))
            .collect()
    }
}

fn keep(kept: &mut VecDeque<Notice>, notice: &Notice, most: usize) {
    if kept.len() >= most {
        kept.pop_front();
    }
    kept.push_back(notice.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_kept_and_what_is_over_is_not() {
        let mut standing = Standing::default();
        for netns in [1, 2] {
            standing.note(&Notice::NetfilterAttached { netns, time: 5 });
        }
        standing.note(&Notice::NetfilterDetached { netns: 1, time: 9 });
        standing.note(&Notice::Began { time: 3 });
        standing.function(7, "f+0x1");
        let entries = standing.clone().into_entries();
        let function = "f+0x1".to_owned();
        let expected = [
            Entry::Location {
                address: 7,
                function,
            },
            Entry::Notice(Notice::NetfilterAttached { netns: 2, time: 5 }),
        ];
        assert_eq!(entries, expected);
        let text = serde_json::to_vec(&standing).unwrap();
        assert_eq!(serde_json::from_slice::<Standing>(&text).unwrap(), standing);
        for address in 0..10_000 {
            standing.function(address, "g");
            let process = crate::source::SocketProcess {
                pid: 1,
                comm: String::new(),
                cgroup: 0,
            };
            standing.note(&Notice::Owner {
                cookie: address,
                process,
            });
        }
        assert!(standing.into_entries().len() <= KEPT + FUNCTIONS + 1);
    }
}
