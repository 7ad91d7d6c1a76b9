//! Flows that nobody answers, shown before they are over.
//!
//! Such a flow is over after minutes of silence only, and is then no news. So it is shown once as soon as
//! it is clear that nothing comes, by the records' clock: when its first packet has been given up as
//! well, whatever became of it. At its end it is shown again if a packet came since.

use std::{collections::HashMap, io};

use super::Pipeline;
use crate::{
    journey::model::{Flow, FlowId, State},
    output::Sink,
    report::{FlowReport, Knowledge},
};

/// After how long it is clear that nothing comes, in nanoseconds: a packet is given up after four seconds.
const CLEAR: u64 = 5_000_000_000;
/// Between two looks at all flows, in nanoseconds.
const LOOK: u64 = 250_000_000;

/// What was looked at.
#[derive(Debug, Default)]
pub(super) struct Silence {
    flows: HashMap<FlowId, Looked>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Looked {
    /// Its age when it was looked at last.
    age: u64,
    /// Its packets when it was shown.
    shown: Option<[u64; 2]>,
}

impl Silence {
    /// Whether it is time to look at all flows again.
    pub(super) fn is_due(&mut self, now: u64) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.saturating_add(LOOK);
        }
        due
    }

    /// Whether the flow may have to be shown. One that nothing was found wrong with is looked at
    /// again when it is twice as old.
    pub(super) fn concerns(&self, flow: &Flow, now: u64) -> bool {
        let waits = matches!(
            flow.state,
            State::SynSent | State::SynReceived | State::Unreplied
        );
        let age = now.saturating_sub(flow.first);
        let later = match self.flows.get(&flow.id) {
            None => age >= CLEAR,
            Some(looked) => looked.shown.is_none() && age >= looked.age.saturating_mul(2),
        };
        waits && later
    }

    /// Takes note of a flow that was looked at.
    pub(super) fn looked_at(&mut self, flow: &Flow, now: u64, shown: bool) {
        let looked = Looked {
            age: now.saturating_sub(flow.first),
            shown: shown.then_some(flow.packets),
        };
        self.flows.insert(flow.id, looked);
    }

    /// Whether a flow that is over is to be shown: nothing came since it was.
    pub(super) fn is_news(&mut self, flow: &Flow) -> bool {
        let shown = self.flows.remove(&flow.id).and_then(|looked| looked.shown);
        shown != Some(flow.packets)
    }
}

impl<K: Sink> Pipeline<K> {
    /// Shows the flows that nobody answers.
    pub(super) fn show_silent(&mut self, known: &Knowledge<'_>) -> io::Result<()> {
        let now = self.now;
        let concerns = |flow: &&Flow| {
            self.silence.concerns(flow, now) && !flow.may_miss() && !self.waiting.has(flow.id)
        };
        let flows = self.journeys.flows().into_iter().filter(concerns);
        let ids: Vec<FlowId> = flows.map(|flow| flow.id).collect();
        for id in ids {
            let Some(flow) = self.journeys.flow(id).cloned() else {
                continue;
            };
            let mut report = None;
            if self.asked.wants(&flow, known) {
                let told = self.flow_report(&flow, known);
                report = Some(told).filter(|report| report.diagnosis.is_some());
            }
            self.silence.looked_at(&flow, now, report.is_some());
            if let Some(report) = report {
                self.sink.flow(&FlowReport {
                    ongoing: true,
                    ..report
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scenarios;

    const SECOND: u64 = 1_000_000_000;

    fn flow(state: State) -> Flow {
        scenarios::flows::flow(6, "10.0.0.1:1", "10.0.0.2:2", state)
    }

    #[test]
    fn a_silent_flow_is_shown_once_and_again_if_anything_comes() {
        let mut silence = Silence::default();
        let mut flow = flow(State::SynSent);
        let at = |seconds| scenarios::START + seconds * SECOND;
        assert!(!silence.concerns(&flow, at(4)));
        assert!(silence.concerns(&flow, at(5)));
        silence.looked_at(&flow, at(5), true);
        assert!(!silence.concerns(&flow, at(60)));
        assert!(!silence.is_news(&flow), "nothing came");
        silence.looked_at(&flow, at(5), true);
        flow.packets[0] += 1;
        assert!(silence.is_news(&flow));
        assert!(silence.flows.is_empty());
    }

    #[test]
    fn a_flow_that_is_well_is_shown_at_its_end() {
        let mut silence = Silence::default();
        let at = |seconds| scenarios::START + seconds * SECOND;
        let unreplied = flow(State::Unreplied);
        silence.looked_at(&unreplied, at(5), false);
        assert!(!silence.concerns(&unreplied, at(9)) && silence.concerns(&unreplied, at(10)));
        assert!(silence.is_news(&unreplied));
        for state in [
            State::Established,
            State::Replied,
            State::Refused,
            State::Closed,
        ] {
            assert!(!silence.concerns(&flow(state), at(60)), "{state:?}");
        }
    }

    #[test]
    fn all_flows_are_looked_at_a_few_times_a_second() {
        let mut silence = Silence::default();
        assert!(silence.is_due(SECOND) && !silence.is_due(SECOND));
        assert!(!silence.is_due(SECOND + LOOK - 1) && silence.is_due(SECOND + LOOK));
    }
}
