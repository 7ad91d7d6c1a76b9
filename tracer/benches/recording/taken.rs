//! What a benchmark takes: processor time and memory of this process.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Processor time of all threads so far.
pub(crate) fn used() -> Duration {
    // It is not negative.
    clock_gettime(ClockId::ProcessCPUTime)
        .try_into()
        .unwrap_or_default()
}

/// The most memory that this process had, in MB.
pub(crate) fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}
