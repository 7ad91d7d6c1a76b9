//! Points in time on the command line: of a recording's day, or since it began.

use std::time::Duration;

use jiff::{Timestamp, Zoned, civil, tz::TimeZone};

use crate::trace::ClockRelation;

/// A point in time as one types it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// `2026-11-21T03:12:00Z`, with an offset or `Z`.
    Instant(Timestamp),
    /// `2026-11-21 03:12:00`, local.
    Date(civil::DateTime),
    /// `03:12:00`, local: the first such time that is not before the recording.
    Time(civil::Time),
    /// `+90s`, `+1m 30s`: since the recording began.
    Since(Duration),
}

const FORMS: &str = "give a time of day (03:12:05), a date and time (2026-11-21 03:12:05, \
                     2026-11-21T03:12:05Z), or the time since the recording began (+90s)";

/// Parses one of the forms.
///
/// # Errors
/// Which forms there are.
pub(super) fn parse(text: &str) -> Result<Moment, String> {
    if let Some(since) = text.strip_prefix('+') {
        return humantime::parse_duration(since)
            .map(Moment::Since)
            .map_err(|error| format!("{error}: {FORMS}"));
    }
    if let Ok(instant) = text.parse() {
        return Ok(Moment::Instant(instant));
    }
    // A date and time must not be taken for a time: it parses as one.
    if text.contains('-') {
        return text.parse().map(Moment::Date).map_err(|_| FORMS.to_owned());
    }
    text.parse().map(Moment::Time).map_err(|_| FORMS.to_owned())
}

impl Moment {
    /// As a time of the records, nanoseconds of the recording's `CLOCK_MONOTONIC`.
    pub(super) fn on_clock(&self, clock: ClockRelation, zone: &TimeZone) -> u64 {
        let realtime = match self {
            Self::Since(since) => {
                let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
                return clock.monotonic.saturating_add(since);
            }
            Self::Instant(instant) => Some(*instant),
            Self::Date(date) => date.to_zoned(zone.clone()).ok().map(|at| at.timestamp()),
            Self::Time(time) => first_after(*time, &begin(clock, zone)),
        };
        let nanoseconds = realtime.map_or(0, Timestamp::as_nanosecond);
        clock.from_realtime(u64::try_from(nanoseconds).unwrap_or(0))
    }
}

/// When a recording began.
pub(super) fn begin(clock: ClockRelation, zone: &TimeZone) -> Zoned {
    Timestamp::from_nanosecond(i128::from(clock.realtime))
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(zone.clone())
}

fn first_after(time: civil::Time, begin: &Zoned) -> Option<Timestamp> {
    let on = |date: civil::Date| {
        date.to_datetime(time)
            .to_zoned(begin.time_zone().clone())
            .ok()
    };
    // A time without seconds names the whole minute, in which the recording may have begun.
    let today = on(begin.date())?;
    let later = if today.timestamp() < begin.timestamp() && !same_minute(&today, begin) {
        on(begin.date().tomorrow().ok()?)?
    } else {
        today
    };
    Some(later.timestamp())
}

fn same_minute(a: &Zoned, b: &Zoned) -> bool {
    (a.hour(), a.minute()) == (b.hour(), b.minute())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A recording that began at 2026-11-21 23:00:30 UTC, when the clock read 1000 s.
    const CLOCK: ClockRelation = ClockRelation {
        monotonic: 1000 * SECOND,
        realtime: 1_795_302_030 * SECOND,
    };

    fn seconds(text: &str) -> i64 {
        let at = parse(text).unwrap().on_clock(CLOCK, &TimeZone::UTC);
        i64::try_from(at / SECOND).unwrap() - 1000
    }

    #[test]
    fn all_forms_are_understood() {
        assert_eq!(
            begin(CLOCK, &TimeZone::UTC).to_string(),
            "2026-11-21T23:00:30+00:00[UTC]"
        );
        assert_eq!(seconds("+90s"), 90);
        assert_eq!(seconds("+1m 30s"), 90);
        assert_eq!(seconds("23:02"), 90);
        assert_eq!(seconds("23:02:01.5"), 91);
        assert_eq!(seconds("2026-11-21 23:02"), 90);
        assert_eq!(seconds("2026-11-21T23:02:00Z"), 90);
        assert_eq!(seconds("2026-11-22T00:02:00+01:00"), 90);
    }

    #[test]
    fn a_time_of_day_is_after_the_begin() {
        assert_eq!(seconds("01:00:30"), 2 * 3600);
        assert_eq!(seconds("23:00"), -30);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "noon", "25:00", "+soon", "2026-13-01", "-5"] {
            assert!(parse(text).unwrap_err().contains("03:12:05"), "{text}");
        }
    }
}
