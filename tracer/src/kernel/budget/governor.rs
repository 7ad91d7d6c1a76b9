//! Measures what tracing costs, and has the BPF programs let packets go when that is too much.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracer_common::cpu::CpuState;

use super::{Budget, Controller, Load, PERIOD, meter::Meter};
use crate::{
    kernel::load::{LoadError, Shed},
    source::Shedding,
};

/// Where the kernel does not measure: nanoseconds for a packet that a hook looks at, and for an event more.
const SEEN: f64 = 80e-9;
const MATCHED: f64 = 200e-9;
/// How much of a budget may be taken up by what has nothing to do with packets.
const ASIDE: f64 = 0.5;
/// How much of what is measured is believed at once, so that a moment's work is no reason to see less.
const NEW: f64 = 0.5;

/// What was counted when it was looked last.
#[derive(Clone, Copy, Debug)]
struct Before {
    time: u64,
    /// Of the whole process, and of the thread that takes the records.
    own: Duration,
    thread: Duration,
    seen: u64,
    matched: u64,
}

/// Keeps a budget.
#[derive(Debug)]
pub(in crate::kernel) struct Governor {
    budget: Budget,
    controller: Controller,
    shed: Shed,
    /// Of a budget in processor time.
    meter: Option<Meter>,
    processors: f64,
    before: Option<Before>,
    used: Option<f64>,
}

impl Governor {
    /// Of the programs that are attached by now.
    pub(in crate::kernel) fn new(budget: Budget, shed: Shed) -> Self {
        let processors = aya::util::online_cpus().map_or(1, |processors| processors.len());
        let by_time = matches!(budget, Budget::Share(_));
        Self {
            budget,
            controller: Controller::new(budget),
            shed,
            meter: by_time.then(Meter::start).flatten(),
            processors: f64::from(u32::try_from(processors).unwrap_or(1).max(1)),
            before: None,
            used: None,
        }
    }

    /// What is let go now.
    pub(in crate::kernel) fn shedding(&self) -> Shedding {
        self.controller.shedding()
    }

    /// Whether it is time to look.
    pub(in crate::kernel) fn is_due(&self, now: u64) -> bool {
        let passed =
            |before: Before| u128::from(now.saturating_sub(before.time)) >= PERIOD.as_nanos();
        self.before.is_none_or(passed)
    }

    /// Looks; whether something else is let go from now on.
    ///
    /// # Errors
    /// When the map refuses the word.
    pub(in crate::kernel) fn look(
        &mut self,
        now: u64,
        cpus: &[CpuState],
    ) -> Result<bool, LoadError> {
        let hooks = || cpus.iter().flat_map(|cpu| &cpu.hooks);
        let used = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        let after = Before {
            time: now,
            own: used(ClockId::ProcessCPUTime),
            thread: used(ClockId::ThreadCPUTime),
            seen: hooks().map(|hook| hook.seen).sum(),
            matched: hooks().map(|hook| hook.matched).sum(),
        };
        let Some(before) = self.before.replace(after) else {
            return Ok(false);
        };
        let seconds = Duration::from_nanos(now.saturating_sub(before.time)).as_secs_f64();
        let rate =
            |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds.max(1e-3);
        let seen = rate(after.seen, before.seen);
        let matched = rate(after.matched, before.matched);
        let used = match self.budget {
            Budget::Events(_) => matched,
            Budget::Share(limit) => {
                let measured = self.meter.as_ref().and_then(Meter::part);
                let programs = measured.unwrap_or(seen * SEEN + matched * MATCHED);
                let part =
                    |time: Duration| time.as_secs_f64() / seconds.max(1e-3) / self.processors;
                let own = after.own.saturating_sub(before.own);
                let thread = after.thread.saturating_sub(before.thread);
                // What it takes to know the node is not less when fewer packets are seen.
                let aside = part(own.saturating_sub(thread)).min(limit * ASIDE);
                part(thread) + programs / self.processors + aside
            }
        };
        let used = self.used.map_or(used, |last| last + (used - last) * NEW);
        self.used = Some(used);
        let load = Load {
            time: now,
            used,
            demand: seen,
        };
        let Some(shedding) = self.controller.look(load) else {
            return Ok(false);
        };
        // What was used before says nothing of what is from now on.
        self.used = None;
        self.shed.set(shedding.word())?;
        Ok(true)
    }
}
