//! What was traced in the last while, for a recording that is asked for afterwards.

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use crate::{
    node::snapshot::Snapshot,
    source::{Batch, Notice},
    trace::{
        About,
        recorder::{Options, RecordError, Recorder, Taken},
    },
};

/// Records that are kept: some 60 MB.
const RECORDS: usize = 250_000;
/// Snapshots of the node that are kept: one can take megabytes where there are many rules.
const SNAPSHOTS: usize = 32;
/// Notices that are kept of what went out.
const NOTICES: usize = 20_000;

/// A step of the session.
#[derive(Debug)]
struct Step {
    batch: Batch,
    node: Arc<Snapshot>,
    now: u64,
}

/// The last steps.
#[derive(Debug, Default)]
pub(in crate::cli) struct Kept {
    steps: VecDeque<Step>,
    records: usize,
    /// How many different snapshots they have.
    snapshots: usize,
    /// Of steps that went out: what holds on. Losses and counters of before do not.
    before: VecDeque<Notice>,
}

impl Kept {
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
        self.records += batch.records.len();
        self.steps.push_back(Step {
            batch,
            node: Arc::clone(node),
            now,
        });
        while (self.records > RECORDS || self.snapshots > SNAPSHOTS)
            && let Some(step) = self.steps.pop_front()
        {
            self.records -= step.batch.records.len();
            let next = self.steps.front();
            let last_with_it = next.is_none_or(|next| !Arc::ptr_eq(&next.node, &step.node));
            self.snapshots -= usize::from(last_with_it);
            let holds_on =
                |notice: &Notice| !matches!(notice, Notice::Loss(_) | Notice::Statistics(_));
            self.before
                .extend(step.batch.notices.into_iter().filter(holds_on));
        }
        while self.before.len() > NOTICES {
            self.before.pop_front();
        }
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
        let before = Batch {
            notices: self.before.iter().cloned().collect(),
            records: Vec::new(),
        };
        let mut step = |batch: &Batch, node: &Arc<Snapshot>, now| {
            recorder.step(Taken { batch, node, now }, function_at)
        };
        if !before.is_empty() {
            let begin = first
                .batch
                .records
                .first()
                .map_or(first.now, crate::event::Record::time);
            step(&before, &first.node, begin)?;
        }
        for Step { batch, node, now } in &self.steps {
            step(batch, node, *now)?;
        }
        recorder.finish(&last.node)?;
        Ok(self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Batch {
        Batch {
            notices: vec![Notice::Problem("x".to_owned())],
            records: Vec::new(),
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        for now in 0..100 {
            kept.take(notice(), &Arc::new(Snapshot::default()), now);
        }
        assert_eq!((kept.steps.len(), kept.snapshots), (SNAPSHOTS, SNAPSHOTS));
        assert_eq!(kept.before.len(), 100 - SNAPSHOTS);
        // A clock that goes on takes no room.
        let node = Arc::new(Snapshot::default());
        for now in 100..1_000_100 {
            kept.take(Batch::default(), &node, now);
        }
        assert!(kept.steps.len() <= SNAPSHOTS + 1, "{}", kept.steps.len());
        assert_eq!(kept.steps.back().map(|step| step.now), Some(1_000_099));
    }
}
