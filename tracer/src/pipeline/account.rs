//! What is said beside packets and flows: what was counted, and what there was no room for.

use tracer_common::hook;

use super::{Pipeline, held::Holding};
use crate::{
    journey::Overflow,
    output::Sink,
    report::{Counts, StatsReport},
    source::{self, Statistics},
};

impl<K: Sink> Pipeline<K> {
    /// The counts, with how the nodes' clocks stand.
    pub(super) fn stats_report(&self, statistics: &Statistics) -> StatsReport {
        StatsReport {
            total: counts(&statistics.total),
            hooks: hook::NAMES
                .into_iter()
                .zip(statistics.hooks.iter().map(counts))
                .collect(),
            shedding: statistics.shedding,
            clocks: self.clocks.clone(),
        }
    }

    /// Says once, as soon as it is so, that there is not room for everything; how much was let go is said at
    /// the end.
    pub(super) fn say_when_full(&mut self) {
        let Overflow { packets, flows } = self.journeys.overflow();
        if !self.said_full && packets + flows + self.evidence.let_go > 0 {
            self.said_full = true;
            self.problems.push(
                "more comes than --memory has room for: flows and packets are let go before their end, flows marked ? may be incomplete"
                    .to_owned(),
            );
        }
    }

    /// Says how much was let go.
    pub(super) fn say_what_was_let_go(&mut self) {
        let Holding {
            packets_let_go,
            flows_let_go,
            ..
        } = self.held;
        if packets_let_go > 0 {
            self.problems.push(format!(
                "{packets_let_go} packets were too many to keep until the end: their flows are counted, their journeys not shown; a larger --memory holds more"
            ));
        }
        if flows_let_go > 0 {
            self.problems.push(format!(
                "{flows_let_go} flows were too many to keep until the end, and are not shown; a larger --memory holds more"
            ));
        }
        if self.evidence.let_go > 0 {
            self.problems.push(format!(
                "of {} flows what says what is wrong with them had to make room: they are marked ?, and not diagnosed; a larger --memory holds more",
                self.evidence.let_go
            ));
        }
        let Overflow { packets, flows } = self.journeys.overflow();
        if packets + flows > 0 {
            self.problems.push(format!(
                "{packets} packets and {flows} flows were given up before their end, for want of room: flows marked ? may be incomplete; a larger --memory gives more"
            ));
        }
    }
}

fn counts(counts: &source::Counts) -> Counts {
    Counts {
        seen: counts.seen,
        matched: counts.matched,
        emitted: counts.emitted,
        lost: counts.lost,
        shed: counts.shed,
    }
}
