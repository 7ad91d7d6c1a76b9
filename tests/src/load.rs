//! Load for the benchmarks: what sends, what answers, and what counts.
//!
//! A [server](serve) runs in one pod, a client in another ([`ask`], [`connect`], [`send`], [`flood`]); both
//! are the program `lab-load`, which needs nothing but the sockets, so that it also runs in a virtual
//! machine. Each end is pinned to a processor that it is told: where both ends of request and response
//! wander, waking an idle processor decides the figure, and a tracer that keeps processors awake looks
//! faster than none.
//!
//! Limits: one client at a time, and IPv4.

mod ask;
mod flood;
mod serve;

use std::io;
use std::time::Instant;

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

pub use ask::{ask, connect, send};
pub use flood::{Spread, flood};
pub use serve::serve;

/// How long a request, an answer and a datagram's payload are, in bytes.
pub const SIZE: usize = 64;
/// The first byte of a connection whose bytes are counted; of all others requests are answered.
const BULK: u8 = b'b';

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// How many requests were answered, datagrams sent, bytes taken by the other end.
    pub count: u64,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// The time that half of the answers took at most, in nanoseconds; 0 where nothing answers.
    pub p50_ns: u64,
    /// The same for 99 of 100 answers.
    pub p99_ns: u64,
}

impl Done {
    /// Of what was counted, and the times of answers in any order.
    fn new(count: u64, since: Instant, times: &mut [u32]) -> Self {
        let seconds = since.elapsed().as_secs_f64();
        times.sort_unstable();
        Self {
            count,
            seconds,
            p50_ns: percentile(times, 50),
            p99_ns: percentile(times, 99),
        }
    }

    /// How many a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        per_second(self.count, self.seconds)
    }
}

/// So many in so many seconds, a second.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
pub fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// What so many of a hundred of the sorted times do not exceed; 0 of none.
fn percentile(sorted: &[u32], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default().into()
}

/// Keeps this thread on one processor.
fn pin(processor: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set)
        .with_context(|| format!("cannot keep to the processor {processor}"))
}

/// What a peer that has gone away makes of a call is an end, not a failure.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_of_what_there_is() {
        assert_eq!(percentile(&[], 99), 0);
        assert_eq!(percentile(&[7], 50), 7);
        let times: Vec<u32> = (1..=200).collect();
        assert_eq!(percentile(&times, 50), 100);
        assert_eq!(percentile(&times, 99), 198);
        assert_eq!(percentile(&times, 100), 200);
    }
}
