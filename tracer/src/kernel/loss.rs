//! Finding out what was lost, from the numbers that each CPU gives its records (pure).
//!
//! A CPU counts the records that it writes or loses, and each record carries the count before it.
//! So the highest number seen, plus one, less the records received, is what is missing. It is not
//! lost at once: an interrupt's record overtakes that of the hook it interrupted, and the two can
//! carry the same number. Both put themselves right within a few records, so only what stays
//! missing for a while is called lost.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::source::Loss;

/// A missing record is lost when so many more of its CPU have come without it: more than can be
/// nested in each other (a process, a softirq, an interrupt, each under br_netfilter).
const PATIENCE: u32 = 16;

/// The accounts of all CPUs.
#[derive(Debug, Default)]
pub(super) struct LossMeter {
    cpus: BTreeMap<u16, Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// One more than the highest number seen; numbers are followed beyond their 32 bits.
    expected: u64,
    received: u64,
    /// How much was reported as lost.
    reported: i64,
    last_time: u64,
    suspicion: Option<Suspicion>,
}

/// More is missing than was reported.
#[derive(Debug)]
struct Suspicion {
    after: u64,
    before: u64,
    /// Records since.
    age: u32,
    /// The least that was missing since.
    least: i64,
    /// The most, and the time of the record that showed it: what is missing beyond the least went
    /// between `after` and then.
    most: i64,
    grown: u64,
}

impl LossMeter {
    /// Takes a record. Returns what is now known to be lost.
    pub(super) fn record(&mut self, cpu: u16, order: u32, time: u64) -> Option<Loss> {
        self.cpus
            .entry(cpu)
            .or_default()
            .record(order, time)
            .map(|loss| Loss { cpu, ..loss })
    }

    /// Nothing has come for a while, so nothing is on its way: what is missing is lost.
    pub(super) fn settle(&mut self) -> impl Iterator<Item = Loss> {
        self.cpus.iter_mut().filter_map(|(&cpu, account)| {
            Some(Loss {
                cpu,
                ..account.settle()?
            })
        })
    }

    /// The end, at `now`: each CPU wrote or lost `orders` records in all.
    pub(super) fn finish(&mut self, orders: &[u64], now: u64) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (cpu, &order) in (0..=u16::MAX).zip(orders) {
            if order == 0 {
                continue;
            }
            let account = self.cpus.entry(cpu).or_default();
            losses.extend(account.settle().map(|loss| Loss { cpu, ..loss }));
            account.expected = order;
            account.look(now);
            losses.extend(account.settle().map(|loss| Loss { cpu, ..loss }));
        }
        losses
    }

    /// Records received.
    pub(super) fn received(&self) -> u64 {
        self.cpus.values().map(|account| account.received).sum()
    }
}

impl Account {
    fn record(&mut self, order: u32, time: u64) -> Option<Loss> {
        // How far ahead of what was expected, or behind it.
        let ahead = order
            .wrapping_sub(
                self.expected
                    .to_le_bytes()
                    .first_chunk()
                    .map_or(0, |low| u32::from_le_bytes(*low)),
            )
            .cast_signed();
        if let Ok(ahead) = u64::try_from(ahead) {
            self.expected += ahead + 1;
        }
        self.received += 1;
        self.look(time);
        self.last_time = self.last_time.max(time);
        let ripe = self.suspicion.as_ref()?.age >= PATIENCE;
        if ripe { self.settle() } else { None }
    }

    /// Compares what is missing with what was reported.
    fn look(&mut self, time: u64) {
        let missing = self.expected.cast_signed() - self.received.cast_signed();
        if missing <= self.reported {
            self.suspicion = None;
            return;
        }
        let suspicion = self.suspicion.get_or_insert(Suspicion {
            after: self.last_time,
            before: time,
            age: 0,
            least: missing,
            most: missing,
            grown: time,
        });
        suspicion.age += 1;
        suspicion.least = suspicion.least.min(missing);
        if missing > suspicion.most {
            suspicion.most = missing;
            suspicion.grown = time;
        }
    }

    fn settle(&mut self) -> Option<Loss> {
        let suspicion = self.suspicion.take()?;
        let records = u64::try_from(suspicion.least - self.reported).ok()?;
        self.reported = suspicion.least;
        // More may be missing by now than was all the while. It went before now, not after.
        self.look(self.last_time);
        if let Some(rest) = &mut self.suspicion {
            rest.after = suspicion.after;
            rest.before = suspicion.grown.max(suspicion.before);
        }
        Some(Loss {
            cpu: 0,
            records,
            after: suspicion.after,
            before: suspicion.before,
        })
    }
}
