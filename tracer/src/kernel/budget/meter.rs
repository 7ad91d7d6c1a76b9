//! What this process's BPF programs take, looked at now and then.
//!
//! The kernel measures runs while it is asked to (see [`crate::kernel::cost`]), which costs each run of
//! every program of the machine two looks at the clock. So it is asked for a moment at a time. Asking takes
//! a privilege that the rest of the tracer gives up: a thread of its own does it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crate::{
    kernel::cost::{Programs, ask},
    privilege::{self, Role},
};

/// For how long, and how often.
const WINDOW: Duration = Duration::from_millis(50);
const EVERY: Duration = Duration::from_millis(500);

/// Nothing was measured yet, or it cannot be.
const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
struct Shared {
    /// Nanoseconds of all programs in a second, by the last measurement.
    taken: AtomicU64,
    over: AtomicBool,
}

/// The thread, which ends with this.
#[derive(Debug)]
pub(super) struct Meter {
    shared: Arc<Shared>,
    thread: Thread,
}

impl Meter {
    /// Begins, of the programs that this process has loaded by now. `None` where no thread can be had.
    pub(super) fn start() -> Option<Self> {
        let shared = Arc::new(Shared {
            taken: AtomicU64::new(UNKNOWN),
            over: AtomicBool::new(false),
        });
        let programs = Programs::own();
        let work = {
            let shared = Arc::clone(&shared);
            move || measure(&shared, &programs)
        };
        let handle = privilege::spawn("costs", Role::Costs, work).ok()?;
        Some(Self {
            shared,
            thread: handle.thread().clone(),
        })
    }

    /// Which part of one processor's time they take; `None` where that is not known.
    pub(super) fn part(&self) -> Option<f64> {
        match self.shared.taken.load(Ordering::Relaxed) {
            UNKNOWN => None,
            taken => Some(Duration::from_nanos(taken).as_secs_f64()),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

fn measure(shared: &Shared, programs: &Programs) {
    let is_over = || shared.over.load(Ordering::Relaxed);
    while !is_over() {
        let begin = Instant::now();
        let Ok(asked) = ask() else {
            return;
        };
        let before = programs.time();
        thread::park_timeout(WINDOW);
        let took = programs.time().saturating_sub(before);
        let window = begin.elapsed();
        drop(asked);
        if !is_over() {
            let a_second = took.as_secs_f64() / window.as_secs_f64().max(1e-3);
            let a_second = Duration::try_from_secs_f64(a_second).unwrap_or_default();
            let nanoseconds = u64::try_from(a_second.as_nanos()).unwrap_or(0);
            shared.taken.store(nanoseconds, Ordering::Relaxed);
            thread::park_timeout(EVERY.saturating_sub(window));
        }
    }
}
