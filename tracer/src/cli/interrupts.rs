//! The signals that ask the tracer to end: SIGINT, SIGTERM and SIGHUP.
//!
//! **While it starts** they end it at once, with status 128 and the signal's number: there is nothing to report
//! yet, and everything that was attached by then hangs on descriptors that end with the process (the traced
//! command's cgroup, on the guardian). Attaching keeps its thread busy for as long as the kernel takes, so nobody
//! else could do it. **While it traces** they are noticed, and what was seen is reported. Who asks again
//! after [`AGAIN`] is not kept waiting by whatever takes so long: the process ends at once. (Not sooner, for
//! `timeout` sends each signal twice.)
//!
//! SIGINT and SIGTERM are taken over also where they are ignored: a shell's script has its background jobs ignore
//! SIGINT, and a tracer that was asked to end while it started would have gone on for ever. SIGHUP stays ignored
//! where it is: that is what `nohup` is for.

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{kernel::clock, signals::is_ignored};

/// Whoever asks again so long after the first time wants the end at once.
const AGAIN: Duration = Duration::from_secs(1);

/// Signals are noticed, instead of ending the process.
static NOTICED: AtomicBool = AtomicBool::new(false);
/// When the end was first asked for, by the records' clock; 0: it was not.
static ASKED: AtomicU64 = AtomicU64::new(0);
/// Which signals are taken over.
static TAKEN: OnceLock<Vec<SignalKind>> = OnceLock::new();

/// Takes the signals over: until [`notice`] is called, each ends the process, whatever it is at.
///
/// # Errors
/// What the system said.
pub(super) fn end_at_once() -> io::Result<()> {
    if TAKEN.get().is_some() {
        return Ok(());
    }
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    if !is_ignored(libc::SIGHUP) {
        kinds.push(SignalKind::hangup());
    }
    for kind in &kinds {
        let number = kind.as_raw_value();
        // SAFETY: the action uses atomics, reads the clock and may end the process, all of which a handler
        // may do; it neither allocates nor locks nor panics.
        unsafe { signal_hook_registry::register(number, move || asked_by(number)) }?;
    }
    // A second thread would have registered the same: both count once, by time.
    let _ = TAKEN.set(kinds);
    Ok(())
}

/// From now on the signals are noticed by [`Interrupts`], also those that come before there is one.
pub(super) fn notice() {
    NOTICED.store(true, Ordering::Relaxed);
}

/// Whether the end was asked for.
pub(super) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed) != 0
}

/// What a signal's handler does.
fn asked_by(signal: libc::c_int) {
    let now = clock::now().max(1);
    let first = ASKED.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    let again = first.is_err_and(|first| is_again(first, now));
    if again || !NOTICED.load(Ordering::Relaxed) {
        // SAFETY: ends the process, without running anything of it any more.
        unsafe { libc::_exit(128 + signal) }
    }
}

/// Whether asking now is asking again, after the first time.
fn is_again(first: u64, now: u64) -> bool {
    Duration::from_nanos(now.saturating_sub(first)) >= AGAIN
}

/// Notices the signals, in the tokio runtime that it is made in.
#[derive(Debug)]
pub(super) struct Interrupts {
    /// One came before this was there.
    early: bool,
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Interrupts {
    /// From now on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn new() -> io::Result<Self> {
        end_at_once()?;
        notice();
        let taken = |kind: &_| TAKEN.get().is_some_and(|taken| taken.contains(kind));
        let hangup = Some(SignalKind::hangup()).filter(taken);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: hangup.map(signal).transpose()?,
            // Only then: in between one would come twice rather than not at all.
            early: asked(),
        })
    }

    /// The next of them. May be dropped while it waits.
    pub(super) async fn next(&mut self) {
        if std::mem::take(&mut self.early) {
            return;
        }
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_signal_that_is_sent_twice_is_not_asking_again() {
        let second = 1_000_000_000;
        assert!(!is_again(5 * second, 5 * second));
        assert!(!is_again(5 * second, 5 * second + second / 2));
        assert!(is_again(5 * second, 6 * second));
        // Two CPUs' clocks may differ by a little.
        assert!(!is_again(5 * second, 5 * second - 1));
    }
}
