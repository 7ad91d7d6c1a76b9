//! Durations in little room: how many were about how long.

/// Buckets of each power of two: a duration is known to an eighth of itself.
const PARTS: usize = 8;
/// Powers of two, from 128 ns: the last one's durations are 18 minutes and more.
const POWERS: usize = 34;
/// Shorter durations count as this, in nanoseconds.
const LEAST: u64 = 128;

/// Durations, in nanoseconds. Takes some 300 bytes while they are below a millisecond, 1 KiB at most.
#[derive(Clone, Debug, Default)]
pub struct Times {
    counts: Vec<u32>,
    total: u32,
}

impl Times {
    /// Counts a duration.
    pub fn add(&mut self, nanoseconds: u64) {
        let bucket = bucket(nanoseconds);
        if self.counts.len() <= bucket {
            // Most durations of a flow are short.
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
    }

    /// The duration that so many of a hundred do not exceed; `None` while there are none.
    #[must_use]
    pub fn percentile(&self, percent: u32) -> Option<u64> {
        let wanted = u64::from(self.total) * u64::from(percent);
        let mut below = 0;
        let index = self.counts.iter().position(|count| {
            below += u64::from(*count) * 100;
            below > 0 && below >= wanted
        });
        index.map(middle)
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let value = nanoseconds.max(LEAST);
    let power = value.ilog2() - LEAST.ilog2();
    // The three bits below the highest one.
    let part = (value >> (value.ilog2() - PARTS.ilog2())) as usize % PARTS;
    (power as usize * PARTS + part).min(PARTS * POWERS - 1)
}

/// The middle of a bucket's durations.
fn middle(bucket: usize) -> u64 {
    let [power, part] = [bucket / PARTS, bucket % PARTS].map(|part| part as u64);
    let unit = (LEAST << power) / PARTS as u64;
    (LEAST << power) + unit * part + unit / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_of_what_was_counted() {
        let mut times = Times::default();
        assert_eq!(times.percentile(50), None);
        for thousand in 1..=100 {
            times.add(thousand * 1000);
        }
        let near = |percent, expected: u64| {
            let found = times.percentile(percent).unwrap();
            assert!(
                found.abs_diff(expected) <= expected / 7,
                "{percent}: {found}"
            );
        };
        near(1, 1_000);
        near(50, 50_000);
        near(99, 99_000);
        near(100, 100_000);
    }

    proptest! {
        #[test]
        fn a_duration_is_known_to_an_eighth(nanoseconds in 128u64..1 << 41) {
            let mut times = Times::default();
            times.add(nanoseconds);
            let found = times.percentile(50).unwrap();
            prop_assert!(found.abs_diff(nanoseconds) <= nanoseconds / 8, "{found}");
        }

        #[test]
        fn any_duration_is_counted(nanoseconds: u64) {
            let mut times = Times::default();
            times.add(nanoseconds);
            prop_assert!(times.percentile(0).is_some());
        }
    }
}
