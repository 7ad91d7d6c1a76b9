//! The machines of one run: each kernel booted once, some at the same time, and judged by what it
//! writes.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::kernel::Kernel;
use super::machine::Machine;
use super::paths::Traced;
use super::results::Results;
use super::table::Outcome;
use super::{Arguments, doctor, image, likeness, verdicts};

/// What is the same for each machine.
pub(crate) struct Bench<'a> {
    /// Where what they write is kept.
    pub(crate) directory: PathBuf,
    /// The tracer that is tested.
    pub(crate) tracer: PathBuf,
    /// The lab's server.
    pub(crate) server: PathBuf,
    /// What is walked.
    pub(crate) paths: Vec<Traced>,
    /// What was asked for.
    pub(crate) arguments: &'a Arguments,
}

impl Bench<'_> {
    /// Runs every kernel, some at once.
    ///
    /// # Errors
    /// When something is missing to do that; what comes out wrong is in the outcomes.
    pub(crate) fn all(&self, kernels: &[Kernel]) -> anyhow::Result<Vec<Outcome>> {
        let waiting = Mutex::new(kernels.iter().enumerate());
        let outcomes = Mutex::new(Vec::new());
        let worker = || -> anyhow::Result<()> {
            loop {
                let next = waiting.lock().map_or(None, |mut waiting| waiting.next());
                let Some((number, kernel)) = next else {
                    return Ok(());
                };
                let outcome = self.one(kernel)?;
                if let Ok(mut outcomes) = outcomes.lock() {
                    outcomes.push((number, outcome));
                }
            }
        };
        thread::scope(|scope| {
            let jobs = 0..self.arguments.jobs.max(1);
            let workers: Vec<_> = jobs.map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(_) => bail!("a thread that runs machines panicked"),
                })
        })?;
        let mut outcomes = outcomes.into_inner().unwrap_or_default();
        outcomes.sort_by_key(|(number, _)| *number);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    /// Boots one kernel and judges what it says.
    fn one(&self, kernel: &Kernel) -> anyhow::Result<Outcome> {
        let directory = self.directory.join(&kernel.version);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let options = self.arguments.options.join(" ");
        let initramfs = image::build(kernel, &self.tracer, &self.server, &self.paths, &options)
            .with_context(|| format!("the initramfs for {}", kernel.version))?;
        let machine = Machine {
            kernel,
            initramfs: &initramfs,
            accelerator: self.arguments.accel,
            directory: &directory,
            limit: Duration::from_secs(self.arguments.limit),
        };
        let begin = Instant::now();
        let mut failures = Vec::new();
        if !self.arguments.again {
            if let Err(error) = machine.run() {
                failures.push(format!("{error:#}"));
            }
            let seconds = begin.elapsed().as_secs();
            println!("{}: the machine ran for {seconds} s", kernel.version);
        }
        let results = Results::parse(&machine.results());
        failures.extend(results.failures.iter().cloned());
        if !results.complete {
            let console = machine.console();
            failures.push(format!(
                "the machine did not come to its end: see {}",
                console.display()
            ));
        }
        Ok(self.judge(kernel, &results, failures))
    }

    fn judge(&self, kernel: &Kernel, results: &Results, failures: Vec<String>) -> Outcome {
        Outcome {
            version: kernel.version.clone(),
            choices: doctor::Choices::read(results.section("doctor")),
            rows: verdicts::of(&self.paths, &kernel.numbers, results),
            likenesses: likeness::of(&self.paths, &kernel.numbers, results),
            failures,
        }
    }
}
