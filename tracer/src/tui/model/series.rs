//! What there was in each of the last seconds.

const SECOND: u64 = 1_000_000_000;

/// How much there was in each of the last `SECONDS` seconds. Time is the records' clock.
#[derive(Clone, Debug)]
pub struct Series<const SECONDS: usize> {
    buckets: [u64; SECONDS],
    /// The second that the newest bucket stands for.
    newest: u64,
}

impl<const SECONDS: usize> Default for Series<SECONDS> {
    fn default() -> Self {
        Self {
            buckets: [0; SECONDS],
            newest: 0,
        }
    }
}

impl<const SECONDS: usize> Series<SECONDS> {
    /// Counts at a time (nanoseconds); what is older than what is kept is left out.
    pub fn add(&mut self, time: u64, amount: u64) {
        let second = time / SECOND;
        self.go_on(second);
        let age = self.newest - second;
        if age < SECONDS as u64
            && let Some(bucket) = self.buckets.get_mut(Self::place(second))
        {
            *bucket = bucket.saturating_add(amount);
        }
    }

    /// Each second's amount, the oldest first; the last one is of the second before `now`, which
    /// is over.
    #[must_use]
    pub fn seconds(&self, now: u64) -> [u64; SECONDS] {
        let last = (now / SECOND).saturating_sub(1);
        let mut seconds = [0; SECONDS];
        for (age, amount) in seconds.iter_mut().rev().enumerate() {
            *amount = last
                .checked_sub(age as u64)
                .map_or(0, |second| self.in_second(second));
        }
        seconds
    }

    /// The amount in the last second that is over.
    #[must_use]
    pub fn rate(&self, now: u64) -> u64 {
        (now / SECOND)
            .checked_sub(1)
            .map_or(0, |second| self.in_second(second))
    }

    fn in_second(&self, second: u64) -> u64 {
        let age = self.newest.checked_sub(second);
        let known = age.filter(|age| *age < SECONDS as u64);
        let bucket = known.and_then(|_| self.buckets.get(Self::place(second)));
        bucket.copied().unwrap_or(0)
    }

    fn go_on(&mut self, second: u64) {
        let passed = second.saturating_sub(self.newest).min(SECONDS as u64);
        for age in 0..passed {
            let index = Self::place(second - age);
            if let Some(bucket) = self.buckets.get_mut(index) {
                *bucket = 0;
            }
        }
        self.newest = self.newest.max(second);
    }

    const fn place(second: u64) -> usize {
        (second % SECONDS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = SECOND;

    #[test]
    fn seconds_pass() {
        let mut series = Series::<4>::default();
        series.add(100 * S, 1);
        series.add(100 * S + 1, 2);
        series.add(102 * S, 5);
        assert_eq!(series.seconds(103 * S), [0, 3, 0, 5]);
        assert_eq!(series.rate(101 * S + S / 2), 3);
        assert_eq!(series.rate(102 * S), 0);
        assert_eq!(series.rate(103 * S + 1), 5);
        // Late, but within what is kept.
        series.add(101 * S, 7);
        assert_eq!(series.seconds(103 * S), [0, 3, 7, 5]);
        // Too late, and long after.
        series.add(90 * S, 9);
        assert_eq!(series.seconds(103 * S), [0, 3, 7, 5]);
        assert_eq!(series.seconds(200 * S), [0; 4]);
        series.add(200 * S, 1);
        assert_eq!(series.seconds(201 * S), [0, 0, 0, 1]);
        assert_eq!(series.seconds(0), [0; 4]);
    }
}
