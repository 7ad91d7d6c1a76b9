//! Where an exported file comes from: what makes the times of one node's clock those of the world.

use jiff::Timestamp;

use crate::trace::{About, ClockRelation};

/// A recording, as the files that are made of it name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The node's host name: text from outside.
    pub host: String,
    /// The kernel's release: text from outside.
    pub kernel: String,
    /// The version of the tracer that recorded.
    pub tracer: String,
    /// The filter that was recorded by; empty for none.
    pub filter: String,
    /// How the records' clock and the calendar belong together.
    pub clock: ClockRelation,
}

impl From<&About> for Origin {
    fn from(about: &About) -> Self {
        Self {
            host: about.host.clone(),
            kernel: about.kernel.clone(),
            tracer: about.tracer.clone(),
            filter: about.filter.clone(),
            clock: about.clock,
        }
    }
}

impl Origin {
    /// A record's time as nanoseconds since 1970.
    #[must_use]
    pub fn realtime(&self, time: u64) -> u64 {
        self.clock.to_realtime(time)
    }

    /// A record's time as `2026-11-21T03:12:05.123456789Z`.
    #[must_use]
    pub fn date(&self, time: u64) -> String {
        // Nanoseconds of 64 bits are before the year 2555.
        let nanoseconds = i128::from(self.realtime(time));
        let at = Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
        format!("{at:.9}")
    }

    /// Where the scenarios were recorded, for tests.
    #[cfg(test)]
    pub(super) fn of_scenarios() -> Self {
        Self {
            host: "node1".to_owned(),
            kernel: "6.18".to_owned(),
            tracer: "0.1.0".to_owned(),
            filter: "host 10.96.0.81".to_owned(),
            clock: ClockRelation {
                monotonic: crate::report::scenarios::START,
                realtime: 1_795_302_030_000_000_000,
            },
        }
    }

    /// Nanoseconds since the recording began.
    #[must_use]
    pub fn since_begin(&self, time: u64) -> u64 {
        time.saturating_sub(self.clock.monotonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_calendar() {
        let origin = Origin {
            clock: ClockRelation {
                monotonic: 1_000,
                realtime: 1_795_302_030_000_000_000,
            },
            ..Origin::default()
        };
        assert_eq!(origin.date(1_000), "2026-11-21T23:00:30.000000000Z");
        assert_eq!(origin.date(2_001), "2026-11-21T23:00:30.000001001Z");
        assert_eq!(origin.since_begin(2_001), 1_001);
        assert_eq!(origin.since_begin(0), 0);
        // A recording may say anything.
        assert_eq!(origin.date(u64::MAX).len(), 30);
    }
}
