//! Which flows a live view is shown again: those that changed, and those in which nothing happens, for
//! that something is missing is a symptom only after a while.

use std::{collections::HashMap, io};

use super::Pipeline;
use crate::{
    journey::model::{Flow, FlowId},
    output::Sink,
    report::Knowledge,
};

/// How often flows that changed are shown, nanoseconds of the records' clock.
const CHANGES: u64 = 100_000_000;
/// When a flow in which nothing happens is judged anew, in nanoseconds after it was shown: what
/// is missing is a symptom only after a while.
const SILENCES: [u64; 3] = [1_100_000_000, 3_000_000_000, 10_000_000_000];

/// How a flow was shown that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// When it had changed.
    changed: u64,
    /// How often it was judged since.
    judged: usize,
}

impl Standing {
    /// It has just changed.
    pub(super) fn new(now: u64) -> Self {
        Self {
            changed: now,
            judged: 0,
        }
    }
}

/// What was shown of flows under way.
#[derive(Debug, Default)]
pub(super) struct Changes {
    shown: HashMap<FlowId, Standing>,
    /// When this was looked at last.
    last: u64,
}

impl Changes {
    /// Whether it is time to show what changed.
    pub(super) fn are_due(&self, now: u64) -> bool {
        now >= self.last.saturating_add(CHANGES)
    }

    /// The flows to be shown: those that changed, and those that have been silent for so long that they
    /// are to be judged anew.
    pub(super) fn take_due(
        &mut self,
        changed: impl Iterator<Item = FlowId>,
        now: u64,
    ) -> HashMap<FlowId, Standing> {
        self.last = now;
        let mut due: HashMap<FlowId, Standing> =
            changed.map(|id| (id, Standing::new(now))).collect();
        for (id, standing) in &self.shown {
            let silence = SILENCES.get(standing.judged);
            if silence.is_some_and(|silence| now >= standing.changed.saturating_add(*silence)) {
                let judged = standing.judged + 1;
                due.entry(*id).or_insert(Standing {
                    judged,
                    ..*standing
                });
            }
        }
        due
    }

    /// A flow was shown.
    pub(super) fn shown(&mut self, id: FlowId, standing: Standing) {
        self.shown.insert(id, standing);
    }

    /// Whether a flow was shown.
    pub(super) fn was_shown(&self, id: FlowId) -> bool {
        self.shown.contains_key(&id)
    }

    /// A flow is over; says whether it was shown.
    pub(super) fn over(&mut self, id: FlowId) -> bool {
        self.shown.remove(&id).is_some()
    }
}

impl<K: Sink> Pipeline<K> {
    /// Shows the flows that changed, and those that have been silent for a while.
    pub(super) fn show_changes(&mut self, known: &Knowledge<'_>) -> io::Result<()> {
        let changed = self.journeys.take_changed().map(|flow| flow.id);
        let due = self.changes.take_due(changed, self.now);
        for (id, standing) in due {
            if let Some(flow) = self.journeys.flow(id).cloned()
                && self.asked.wants(&flow, known)
            {
                self.changes.shown(id, standing);
                self.show_now(&flow, known)?;
            }
        }
        Ok(())
    }

    /// Shows a flow of which nothing was shown yet.
    pub(super) fn show_first(&mut self, flow: &Flow, known: &Knowledge<'_>) -> io::Result<()> {
        self.changes.shown(flow.id, Standing::new(self.now));
        self.show_now(flow, known)
    }

    /// Shows a flow as it stands.
    fn show_now(&mut self, flow: &Flow, known: &Knowledge<'_>) -> io::Result<()> {
        let report = self.flow_report(flow, known);
        self.sink.flow_now(&report, known.facts(flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_silent_flow_is_judged_anew_some_times() {
        let mut changes = Changes::default();
        changes.shown(FlowId(1), Standing::new(SECOND));
        let mut judged = Vec::new();
        for tenth in 10..300 {
            let now = tenth * SECOND / 10;
            if !changes.are_due(now) {
                continue;
            }
            for (id, standing) in changes.take_due(std::iter::empty(), now) {
                changes.shown(id, standing);
                judged.push(tenth);
            }
        }
        assert_eq!(judged, [21, 40, 110]);
        // What changes begins anew.
        let due = changes.take_due(std::iter::once(FlowId(1)), 30 * SECOND);
        assert_eq!(due.get(&FlowId(1)), Some(&Standing::new(30 * SECOND)));
        changes.shown(FlowId(1), Standing::new(30 * SECOND));
        assert!(changes.over(FlowId(1)));
        assert!(changes.take_due(std::iter::empty(), 40 * SECOND).is_empty());
    }
}
