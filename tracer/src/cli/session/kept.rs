//! What was traced in the last while, for a recording that is asked for afterwards.

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use crate::{
    node::snapshot::Snapshot,
    source::{Batch, ListeningSocket, Notice, Statistics},
    trace::{
        About, Standing,
        recorder::{Options, RecordError, Recorder, Taken},
    },
};

/// Snapshots of the node that are kept: one can take megabytes where there are many rules.
const SNAPSHOTS: usize = 32;
/// Steps that are kept: also where little happens in each, they go out some time.
const STEPS: usize = 20_000;

/// A step of the session.
#[derive(Debug)]
struct Step {
    batch: Batch,
    node: Arc<Snapshot>,
    now: u64,
}

/// The last steps.
#[derive(Debug)]
pub(in crate::cli) struct Kept {
    steps: VecDeque<Step>,
    records: usize,
    /// Bytes of memory of all steps, and how many there may be.
    room: usize,
    most: usize,
    /// How many different snapshots they have.
    snapshots: usize,
    /// Of steps that went out: what holds on.
    before: Standing,
    /// Whether any did.
    went_out: bool,
}

impl Kept {
    /// Keeps what takes so many bytes of memory.
    pub(in crate::cli) fn of(most: usize) -> Self {
        Self {
            steps: VecDeque::new(),
            records: 0,
            room: 0,
            most,
            snapshots: 0,
            before: Standing::default(),
            went_out: false,
        }
    }

    /// Keeps a step.
    pub(in crate::cli) fn take(&mut self, batch: Batch, node: &Arc<Snapshot>, now: u64) {
        let last = self.steps.back();
        let same_node = last.is_some_and(|last| Arc::ptr_eq(&last.node, node));
        self.snapshots += usize::from(!same_node);
        if batch.is_empty() && same_node {
            // The clock goes on.
            if let Some(last) = self.steps.back_mut().filter(|last| last.batch.is_empty()) {
                last.now = now;
                return;
            }
        }
        let mut batch = batch;
        batch.records.shrink_to_fit();
        self.records += batch.records.len();
        self.room += room(&batch);
        self.steps.push_back(Step {
            batch,
            node: Arc::clone(node),
            now,
        });
        while self.is_too_much()
            && let Some(step) = self.steps.pop_front()
        {
            self.records -= step.batch.records.len();
            self.room -= room(&step.batch);
            let next = self.steps.front();
            let last_with_it = next.is_none_or(|next| !Arc::ptr_eq(&next.node, &step.node));
            self.snapshots -= usize::from(last_with_it);
            self.went_out = true;
            for notice in &step.batch.notices {
                self.before.note(notice);
            }
        }
    }

    fn is_too_much(&self) -> bool {
        self.room > self.most || self.snapshots > SNAPSHOTS || self.steps.len() > STEPS
    }

    /// Writes everything into a recording; says how many events.
    ///
    /// # Errors
    /// Why there is none, or not all of it.
    pub(in crate::cli) fn save(
        &self,
        path: PathBuf,
        about: About,
        function_at: &dyn Fn(u64) -> Option<String>,
    ) -> Result<usize, RecordError> {
        let options = Options {
            path,
            overwrite: false,
            max_size: None,
            rotation: None,
        };
        let mut recorder = Recorder::create(options, about)?;
        let Some((first, last)) = self.steps.front().zip(self.steps.back()) else {
            recorder.finish(&Arc::default())?;
            return Ok(0);
        };
        let mut step = |batch: &Batch, node: &Arc<Snapshot>, now| {
            recorder.step(Taken { batch, node, now }, function_at)
        };
        if self.went_out {
            let records = &first.batch.records;
            let time = records
                .first()
                .map_or(first.now, crate::event::Record::time);
            // What is under way there is seen from its middle on.
            let began = Notice::Began { time };
            let notices = self.before.clone().into_notices().chain([began]);
            let before = Batch {
                notices: notices.collect(),
                records: Vec::new(),
            };
            step(&before, &first.node, time)?;
        }
        for Step { batch, node, now } in &self.steps {
            step(batch, node, *now)?;
        }
        recorder.finish(&last.node)?;
        Ok(self.records)
    }
}

/// How many bytes of memory a step takes, about; without what the node knows.
fn room(batch: &Batch) -> usize {
    let notices = batch.notices.iter().map(|notice| {
        size_of::<Notice>()
            + match notice {
                Notice::Owner { process, .. } | Notice::Socket { process, .. } => {
                    process.comm.capacity()
                }
                Notice::Listeners { sockets, .. } => {
                    sockets.len() * 2 * size_of::<ListeningSocket>()
                }
                Notice::Bytes(bytes) => bytes.bytes.capacity(),
                Notice::Statistics(_) => size_of::<Statistics>(),
                Notice::Problem(problem) => problem.capacity(),
                _ => 0,
            }
    });
    2 * size_of::<Step>() + size_of_val(batch.records.as_slice()) + notices.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 16 << 20;

    fn notice(time: u64) -> Batch {
        let netns = u32::try_from(time).unwrap();
        Batch {
            notices: vec![Notice::NetfilterAttached { netns, time }],
            records: Vec::new(),
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::of(ROOM);
        for now in 0..100 {
            kept.take(notice(now), &Arc::new(Snapshot::default()), now);
        }
        assert_eq!((kept.steps.len(), kept.snapshots), (SNAPSHOTS, SNAPSHOTS));
        let before = kept.before.clone().into_notices();
        assert_eq!(before.count(), 100 - SNAPSHOTS);
        // A clock that goes on takes no room.
        let node = Arc::new(Snapshot::default());
        for now in 100..1_000_100 {
            kept.take(Batch::default(), &node, now);
        }
        assert!(kept.steps.len() <= SNAPSHOTS + 1, "{}", kept.steps.len());
        assert_eq!(kept.steps.back().map(|step| step.now), Some(1_000_099));
    }

    #[test]
    fn steps_in_which_little_happens_are_bounded_too() {
        let mut kept = Kept::of(ROOM);
        let node = Arc::new(Snapshot::default());
        for now in 0..STEPS as u64 + 500 {
            kept.take(notice(now), &node, now);
        }
        assert_eq!((kept.steps.len(), kept.snapshots), (STEPS, 1));
        assert!(kept.went_out);
    }

    #[test]
    fn what_is_large_makes_room_for_itself() {
        let mut kept = Kept::of(ROOM);
        let node = Arc::new(Snapshot::default());
        let large = || Batch {
            notices: vec![Notice::Problem("x".repeat(1 << 20))],
            records: Vec::new(),
        };
        for now in 0..100 {
            kept.take(large(), &node, now);
            assert!(kept.room <= ROOM);
        }
        assert_eq!(kept.steps.len(), 15);
        let all: usize = kept.steps.iter().map(|step| room(&step.batch)).sum();
        assert_eq!(all, kept.room);
    }
}
