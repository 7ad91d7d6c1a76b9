//! What the tracer itself takes.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::{
    param::page_size,
    time::{ClockId, clock_gettime},
};

use crate::tui::model::Own;

/// Between two readings.
const PERIOD: Duration = Duration::from_secs(1);

/// Measures the process.
#[derive(Debug)]
pub(super) struct Meter {
    at: Instant,
    processor: Duration,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            at: Instant::now(),
            processor: processor(),
        }
    }

    /// What it took since the last reading; `None` while that was a moment ago.
    pub(super) fn read(&mut self) -> Option<Own> {
        let passed = self.at.elapsed();
        if passed < PERIOD {
            return None;
        }
        let processor = processor();
        let used = processor.saturating_sub(self.processor);
        *self = Self {
            at: Instant::now(),
            processor,
        };
        Some(Own {
            processor: used.as_secs_f64() / passed.as_secs_f64(),
            memory: memory(),
        })
    }
}

/// Processor time of all threads.
fn processor() -> Duration {
    // It is not negative.
    clock_gettime(ClockId::ProcessCPUTime)
        .try_into()
        .unwrap_or_default()
}

/// Resident memory, in bytes; 0 where it cannot be read.
fn memory() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * page_size() as u64
}
