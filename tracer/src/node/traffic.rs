//! Whether anything is traced at the moment: where nothing is, nothing waits for what the node knows, and it is
//! looked at more rarely.
//!
//! With the first packet after a silence everything is as before: who looks, looks often enough to see
//! that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Without a packet for so long, nothing is traced.
const SILENCE: Duration = Duration::from_secs(2);
/// So many times as long is it between two looks then.
const SILENT: u32 = 4;

/// When something was traced last; clones share it.
#[derive(Clone, Debug)]
pub struct Traffic {
    begin: Instant,
    /// In nanoseconds since the beginning.
    last: Arc<AtomicU64>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            last: Arc::default(),
        }
    }
}

impl Traffic {
    /// Something came; whether that ends a silence. Cheap enough to be said with each batch.
    pub fn came(&self) -> bool {
        let now = Instant::now();
        let was_silent = self.is_silent(now);
        self.last.store(self.since(now), Ordering::Relaxed);
        was_silent
    }

    /// Whether nothing has come for a while. Not so soon after the beginning.
    #[must_use]
    pub fn is_silent(&self, now: Instant) -> bool {
        let last = Duration::from_nanos(self.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.begin)
            .saturating_sub(last)
            >= SILENCE
    }

    /// How long it is between two looks now, of which `period` is the usual time.
    #[must_use]
    pub fn pause(&self, now: Instant, period: Duration) -> Duration {
        if self.is_silent(now) {
            period * SILENT
        } else {
            period
        }
    }

    fn since(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begin).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_begins_some_time_after_what_came_last() {
        let traffic = Traffic::default();
        let begin = traffic.begin;
        assert!(!traffic.is_silent(begin));
        assert!(traffic.is_silent(begin + SILENCE));
        let pause = |now| traffic.pause(now, Duration::from_millis(250));
        assert_eq!(pause(begin), Duration::from_millis(250));
        assert_eq!(pause(begin + SILENCE), Duration::from_secs(1));
        let other = traffic.clone();
        assert!(!other.came());
        assert!(!traffic.is_silent(Instant::now()));
        assert!(traffic.is_silent(Instant::now() + SILENCE));
    }
}
