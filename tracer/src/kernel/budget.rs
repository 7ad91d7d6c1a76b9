//! How much tracing may cost, and when to see less because it costs more (pure).
//!
//! Seeing less goes by steps: everything; what begins and ends connections, drops, and one packet in
//! 4, 16, ... 4096; at last drops only. What a packet is chosen by, every hop of it shows alike
//! ([`tracer_common::shed`]), so that what is seen is seen whole.
//!
//! Above the budget the next step is taken, or the one behind it, at once when the last one has had time
//! to show. Back goes one step at a time, and only when it is to be expected that the budget will do:
//! what a step cost for each packet at the hooks is remembered, and packets are counted at every step.
//! What is remembered is believed for a while only, because other traffic may cost less; and for longer
//! each time that it turns out to be true. So under a constant load the steps come to rest, and without
//! load everything is seen again.

pub(super) mod governor;
mod meter;
#[cfg(test)]
mod tests;

use std::{str::FromStr, time::Duration};

use crate::source::Shedding;

/// Between two looks at what it costs.
pub(super) const PERIOD: Duration = Duration::from_millis(500);
/// A step is given so long to show what it brings.
const SETTLE: u64 = 900_000_000;
/// So long at least a step is kept before a step back is taken.
const DWELL: u64 = 3_000_000_000;
/// What a step cost is believed for so long at first, and at most.
const BELIEF: u64 = 20_000_000_000;
const LONGEST_BELIEF: u64 = 320_000_000_000;
/// A step back is taken below this part of the budget, and when it is expected to stay below that one.
const LOW: f64 = 0.75;
const EXPECTED: f64 = 0.9;
/// So many times the budget take two steps at once.
const FAR: f64 = 4.0;

/// Halvings for each step.
const HALVINGS: u32 = 2;
/// The step at which nothing but drops is seen.
const LAST: usize = 7;

/// How much tracing may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// A part of the time of all processors, the agent's and the programs'.
    Share(f64),
    /// Events a second.
    Events(f64),
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "give a part of all processors' time, as 2%, or events a second, as 50000/s".to_owned()
        };
        let number = |text: &str| {
            let number: f64 = text.trim().parse().ok()?;
            (number.is_finite() && number > 0.0).then_some(number)
        };
        if let Some(percent) = text.strip_suffix('%') {
            let percent = number(percent).filter(|percent| *percent <= 100.0);
            return percent.map(|it| Self::Share(it / 100.0)).ok_or_else(wrong);
        }
        let rate = text.strip_suffix("/s").and_then(number);
        rate.map(Self::Events).ok_or_else(wrong)
    }
}

/// What is let go at a step.
fn at_step(step: usize) -> Shedding {
    match u32::try_from(step) {
        Ok(0) => Shedding::None,
        Ok(halvings) if step < LAST => Shedding::Halved(halvings * HALVINGS),
        _ => Shedding::Rest,
    }
}

/// What tracing costs now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// When, in nanoseconds.
    pub(super) time: u64,
    /// In what the budget is given in.
    pub(super) used: f64,
    /// Packets at the hooks a second, whether seen or let go.
    pub(super) demand: f64,
}

/// What a step cost for each packet at the hooks.
#[derive(Clone, Copy, Debug)]
struct Learned {
    each: f64,
    time: u64,
}

/// Says when to see less, and when to see more again.
#[derive(Clone, Debug)]
pub(super) struct Controller {
    limit: f64,
    step: usize,
    /// When it came to that step; `None`: at the beginning.
    since: Option<u64>,
    learned: [Option<Learned>; LAST + 1],
    belief: u64,
}

impl Controller {
    pub(super) fn new(budget: Budget) -> Self {
        let (Budget::Share(limit) | Budget::Events(limit)) = budget;
        Self {
            limit,
            step: 0,
            since: None,
            learned: [None; LAST + 1],
            belief: BELIEF,
        }
    }

    pub(super) fn shedding(&self) -> Shedding {
        at_step(self.step)
    }

    /// Takes what it costs; returns what is let go from now on, if that changes.
    pub(super) fn look(&mut self, load: Load) -> Option<Shedding> {
        let here = self
            .since
            .map_or(u64::MAX, |since| load.time.saturating_sub(since));
        if here < SETTLE {
            return None;
        }
        let step = if load.used > self.limit {
            self.learn(load);
            self.higher(load, here)
        } else if self.step > 0 && here >= DWELL && self.will_do(load) {
            self.step - 1
        } else {
            return None;
        };
        if step == self.step {
            return None;
        }
        self.step = step;
        self.since = Some(load.time);
        Some(self.shedding())
    }

    /// Notes what the step costs that is too much.
    fn learn(&mut self, load: Load) {
        if load.demand <= 0.0 {
            return;
        }
        // It was tried again because it had been believed for long enough, and it is still so.
        let known = self.learned[self.step].is_some();
        if known {
            self.belief = (self.belief * 2).min(LONGEST_BELIEF);
        }
        self.learned[self.step] = Some(Learned {
            each: load.used / load.demand,
            time: load.time,
        });
    }

    fn higher(&self, load: Load, here: u64) -> usize {
        // After a step back that was too much, one is enough.
        let far = load.used > self.limit * FAR && here > DWELL;
        (self.step + if far { 2 } else { 1 }).min(LAST)
    }

    /// Whether the budget is expected to do for the step before.
    fn will_do(&mut self, load: Load) -> bool {
        if load.used > self.limit * LOW {
            return false;
        }
        // A step that was skipped costs no more than the one before it, by a factor.
        let Some(learned) = self.learned[self.step - 1] else {
            return true;
        };
        if learned.each * load.demand <= self.limit * EXPECTED {
            return true;
        }
        load.time.saturating_sub(learned.time) >= self.belief
    }
}
