//! What tracing costs on this node now: everything is attached for a few seconds, and the kernel measures
//! each program meanwhile.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tracer_common::filter::Program;

use super::{
    cost::{Cost, Metering},
    coverage::Node,
    live::{Live, LiveError, Options},
    plan::Plan,
};
use crate::source::Source as _;

/// How much of a program's name the kernel keeps (`BPF_OBJ_NAME_LEN`, less its end).
const NAME: usize = 15;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum ExpenseError {
    /// Tracing did not work.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The kernel does not measure.
    #[error("the kernel does not measure BPF programs (5.8 and later do, for CAP_SYS_ADMIN): {0}")]
    Metering(#[from] aya::sys::SyscallError),
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expense {
    /// For how long.
    pub measured_ns: u64,
    /// How many processors the node has.
    pub processors: usize,
    /// Each program that was attached.
    pub programs: Vec<Spent>,
    /// Processor time of the tracer itself meanwhile.
    pub tracer_ns: u64,
}

/// What a program took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Its name.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// How long in all.
    pub time_ns: u64,
    /// How long each time; `None` where it did not run.
    pub run_ns: Option<u64>,
}

impl Expense {
    /// All programs' runs.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.programs.iter().map(|spent| spent.runs).sum()
    }

    /// All programs' time.
    #[must_use]
    pub fn programs_ns(&self) -> u64 {
        self.programs.iter().map(|spent| spent.time_ns).sum()
    }

    /// Which percentage of one processor's time that much is.
    #[must_use]
    pub fn of_a_processor(&self, nanoseconds: u64) -> f64 {
        nanoseconds as f64 * 100.0 / (self.measured_ns.max(1) as f64)
    }

    /// Which percentage of all processors' time the programs and the tracer take.
    #[must_use]
    pub fn of_the_node(&self) -> f64 {
        let all = self.of_a_processor(self.programs_ns() + self.tracer_ns);
        all / (self.processors.max(1) as f64)
    }
}

/// What the plan's programs took between two readings.
fn spent(plan: &Plan, before: &[Cost], after: &[Cost]) -> Vec<Spent> {
    let of = |costs: &[Cost], program: &str| {
        // Several programs never have a name that begins alike.
        let kept = program.get(..NAME).unwrap_or(program);
        let mut costs = costs.iter();
        costs
            .find(|cost| cost.program == kept)
            .map(|cost| (cost.runs, cost.time))
    };
    let programs = plan.steps().map(|step| step.program.clone());
    let spent = programs.filter_map(|program| {
        let (runs, time) = of(after, &program)?;
        let (runs_before, time_before) = of(before, &program).unwrap_or_default();
        let runs = runs.saturating_sub(runs_before);
        let time = time.saturating_sub(time_before).as_nanos();
        let time_ns = u64::try_from(time).unwrap_or(u64::MAX);
        Some(Spent {
            program,
            runs,
            time_ns,
            run_ns: time_ns.checked_div(runs),
        })
    });
    spent.collect()
}

/// Traces what the filter matches for so long, and says what it took. In a tokio runtime.
///
/// # Errors
/// [`ExpenseError`], or why tracing cannot start.
pub async fn measure(
    node: Node,
    filter: &Program,
    period: Duration,
) -> Result<Expense, Box<dyn std::error::Error + Send + Sync>> {
    let mut live = Live::start(Options::of(filter), node)?;
    let metering = Metering::begin().map_err(ExpenseError::from)?;
    let (before, own) = (metering.read(), processor_time());
    let begin = Instant::now();
    let over = tokio::time::sleep(period);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => break,
            batch = live.next() => drop(batch.map_err(ExpenseError::from)?),
        }
    }
    let measured = begin.elapsed();
    let (after, own) = (metering.read(), processor_time().saturating_sub(own));
    let programs = spent(live.plan(), &before, &after);
    live.finish();
    while live.next().await?.is_some() {}
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Ok(Expense {
        measured_ns: nanoseconds(measured),
        processors: aya::util::online_cpus().map_or(1, |processors| processors.len()),
        programs,
        tracer_ns: nanoseconds(own),
    })
}

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::plan::{Facts, TRACEPOINTS};

    fn cost(program: &str, runs: u64, nanoseconds: u64) -> Cost {
        Cost {
            program: program.to_owned(),
            runs,
            time: Duration::from_nanos(nanoseconds),
        }
    }

    #[test]
    fn programs_have_their_whole_names_and_what_they_took_meanwhile() {
        let facts = Facts {
            tracepoints: TRACEPOINTS.map(|name| (name.to_owned(), 3)).into(),
            ..Facts::default()
        };
        let plan = Plan::new(&facts, None);
        let before = [
            cost("device_queue", 10, 1000),
            cost("drop_with_reaso", 5, 50),
        ];
        let after = [
            cost("device_queue", 30, 3000),
            cost("drop_with_reaso", 5, 50),
        ];
        let programs = spent(&plan, &before, &after);
        let named = |name: &str| programs.iter().find(|spent| spent.program == name).unwrap();
        assert_eq!(named("device_queue").run_ns, Some(100));
        assert_eq!(named("device_queue").runs, 20);
        // It did not run: nothing is known of how long it takes.
        assert_eq!(named("drop_with_reason").run_ns, None);
        assert_eq!(programs.len(), 2, "{programs:?}");
        let expense = Expense {
            measured_ns: 1_000_000,
            processors: 2,
            programs,
            tracer_ns: 8_000,
        };
        assert!((expense.of_the_node() - 0.5).abs() < 1e-9);
    }
}
