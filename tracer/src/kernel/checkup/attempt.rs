//! Attaching everything for real, and what it takes.

use std::time::Instant;

use rustix::time::{ClockId, Timespec, clock_gettime};
use tracer_common::filter::{self, Program, Term};

use super::Timing;
use crate::{
    kernel::{
        coverage::Node,
        live::{Live, Options},
        load,
        plan::Plan,
    },
    node::pods::HostRoot,
    source::Source as _,
};

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Attaches everything and detaches it again, in a runtime of its own.
pub(super) fn attach() -> Result<(Plan, Timing), Failure> {
    // The caller may be in a runtime already, where another cannot be started.
    let attempt = std::thread::spawn(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build()?;
        runtime.block_on(attach_and_detach())
    });
    attempt
        .join()
        .unwrap_or_else(|_| Err("the attempt panicked".into()))
}

async fn attach_and_detach() -> Result<(Plan, Timing), Failure> {
    let node = Node::watch(HostRoot::default())?;
    let start = Moment::now();
    let nothing = nothing();
    let options = Options {
        // All that can be attached.
        bytes: Some(*load::BYTES_RANGE.start()),
        ..Options::of(&nothing)
    };
    let mut live = Live::start(options, node)?;
    let attached = Moment::now();
    live.finish();
    while live.next().await?.is_some() {}
    let detached = Moment::now();
    let (attach_us, attach_cpu_us) = attached.since(start);
    let (detach_us, detach_cpu_us) = detached.since(attached);
    let timing = Timing {
        attach_us,
        detach_us,
        attach_cpu_us,
        detach_cpu_us,
    };
    Ok((live.plan().clone(), timing))
}

/// A moment, by the clock and by the processor time of this process's threads.
#[derive(Clone, Copy)]
struct Moment {
    time: Instant,
    processor: Timespec,
}

impl Moment {
    fn now() -> Self {
        Self {
            time: Instant::now(),
            processor: clock_gettime(ClockId::ProcessCPUTime),
        }
    }

    /// Microseconds of both.
    fn since(self, before: Self) -> (u64, u64) {
        let micros = |time: Timespec| time.tv_sec * 1_000_000 + time.tv_nsec / 1000;
        let processor = micros(self.processor) - micros(before.processor);
        let time = (self.time - before.time).as_micros();
        (
            u64::try_from(time).unwrap_or(u64::MAX),
            u64::try_from(processor).unwrap_or(0),
        )
    }
}

/// A filter that no packet matches.
#[must_use]
pub fn nothing() -> Program {
    let mut program = Program {
        count: 1,
        ..Program::default()
    };
    // A kind that there is not holds never.
    program.terms[0] = Term {
        on_true: filter::REJECT,
        on_false: filter::REJECT,
        ..Term::default()
    };
    program
}
