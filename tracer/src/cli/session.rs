//! Tracing live, from the kernel to standard output.

use std::{io, sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::{Output, OutputArgs};
use crate::{
    filter::ResolvedFilter,
    journey::{Journeys, Limits, Patience, Reasons},
    kernel::{
        clock,
        coverage::Node,
        live::{Live, Options},
        symbols::LazySymbols,
    },
    node::{reasons::DropReasons, snapshot::Snapshot},
    output::pipe::Closed,
    pipeline::{Pipeline, When},
    report::Knowledge,
    source::Source as _,
};
use tracer_common::filter::Program;

/// How often what is over is looked for while nothing comes.
const LOOK: Duration = Duration::from_millis(50);

/// A live source with the pipeline behind it.
pub(super) struct Session {
    live: Live,
    pipeline: Pipeline<Output>,
    closed: Closed,
    reasons: DropReasons,
    symbols: LazySymbols,
    /// With `--no-names`: nothing is known.
    nameless: Option<Arc<Snapshot>>,
}

/// What a step of a session came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Records came.
    Busy,
    /// Nothing came for a while.
    Idle,
    /// Nothing will come any more, or nobody reads any more.
    Over,
}

impl Session {
    /// Attaches; what happens from its return on is seen.
    ///
    /// # Errors
    /// Why tracing cannot start.
    pub(super) fn start(
        node: Node,
        program: &Program,
        filter: ResolvedFilter,
        when: When,
        args: &OutputArgs,
    ) -> anyhow::Result<Self> {
        let live = Live::start(
            Options {
                filter: program,
                sizes: args.sizes(),
                netfilter: args.netfilter(),
            },
            node,
        )?;
        if args.verbose() {
            eprintln!("{:#?}", live.plan());
        }
        let reasons = live.reasons().clone();
        let journeys = Journeys::new(
            Limits::default(),
            Patience::default(),
            Reasons::by_name(|name| reasons.number(name)),
        );
        let (sink, closed) = args.sink();
        let nameless = (!args.names()).then(|| Arc::new(Snapshot::default()));
        let pipeline = Pipeline::new(journeys, filter, when, sink);
        Ok(Self {
            live,
            pipeline,
            closed,
            reasons,
            symbols: LazySymbols::new(),
            nameless,
        })
    }

    /// Takes the next batch, or notices that there is none. May be dropped while it waits.
    ///
    /// # Errors
    /// The source's or the sink's.
    pub(super) async fn step(&mut self) -> anyhow::Result<Step> {
        let batch = match tokio::time::timeout(LOOK, self.live.next()).await {
            Ok(batch) => batch?,
            Err(_) => Some(crate::source::Batch::default()),
        };
        let node = self.snapshot();
        let symbols = &self.symbols;
        let function_at = |address| symbols.locate(address).map(|location| location.to_string());
        let known = Knowledge {
            node: &node,
            reasons: &self.reasons,
            function_at: &function_at,
        };
        let Some(batch) = batch else {
            return Ok(Step::Over);
        };
        self.pipeline.batch(&batch, &known)?;
        self.pipeline.advance(clock::now(), &known)?;
        self.pipeline.flush()?;
        for netns in self.pipeline.take_unknown() {
            self.live.node().requests().request(netns);
        }
        self.say_problems();
        if self.closed.get() {
            return Ok(Step::Over);
        }
        Ok(if batch.records.is_empty() {
            Step::Idle
        } else {
            Step::Busy
        })
    }

    /// Detaches, takes what was seen before, and shows everything that is left.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub(super) async fn finish(mut self) -> anyhow::Result<()> {
        self.live.finish();
        while self.step().await? != Step::Over {}
        let node = self.snapshot();
        let symbols = &self.symbols;
        let function_at = |address| symbols.locate(address).map(|location| location.to_string());
        let known = Knowledge {
            node: &node,
            reasons: &self.reasons,
            function_at: &function_at,
        };
        self.pipeline.finish(&known)?;
        self.say_problems();
        Ok(())
    }

    /// Whether no more packets are to be expected soon.
    pub(super) fn is_quiet(&self) -> bool {
        self.pipeline.is_quiet()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.nameless
            .clone()
            .unwrap_or_else(|| self.live.node().snapshot())
    }

    fn say_problems(&mut self) {
        for problem in self.pipeline.take_problems() {
            eprintln!("tracer: {}", crate::output::sanitize::plain(&problem));
        }
    }
}

/// The signals that ask the process to end: from the time that this is made on they are noticed,
/// and do not end it by themselves.
#[derive(Debug)]
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next of them. May be dropped while it waits.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
