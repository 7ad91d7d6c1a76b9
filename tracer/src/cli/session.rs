//! Tracing live, from the kernel to standard output.

mod kept;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use super::{
    arguments::{AlsoRecordArgs, LiveArgs, Output, OutputArgs},
    interrupts,
    memory::{self, Room},
    recording,
    resolution::Followed,
};
use crate::{
    event::Record,
    filter::ResolvedFilter,
    journey::{Journeys, Limits, Patience, Reasons, model::Ends},
    kernel::{
        clock,
        coverage::Node,
        live::{Live, Options},
        plan::Plan,
        symbols::LazySymbols,
    },
    node::{
        cluster::Cluster,
        reasons::DropReasons,
        snapshot::Snapshot,
        sockets::{PortQuestion, Question},
    },
    output::{Sink, pipe::Closed},
    pipeline::{Held, Pipeline, When},
    privilege::{self, Capabilities, Capability, Role},
    report::Knowledge,
    source::{Batch, Source as _, TracedCommand},
    trace::recorder::{self, Recorder, Taken, Written},
};
use tracer_common::filter::Program;

pub(super) use self::kept::Kept;

/// How often what is over is looked for while nothing comes.
const LOOK: Duration = Duration::from_millis(50);
/// The same while there is nothing that could be over soon, and at least.
const LOOK_RARELY: Duration = Duration::from_millis(250);
const LOOK_SOON: Duration = Duration::from_millis(1);

/// How long the end waits for rules that are still being read.
const RULES: Duration = Duration::from_secs(5);

/// How many different things are said of the Kubernetes API.
const MOST_SAID: usize = 16;

/// Says something to the user.
pub(super) type Say = Box<dyn FnMut(&str)>;

/// On standard error.
pub(super) fn on_stderr() -> Say {
    Box::new(|text| eprintln!("tracer: {}", crate::output::sanitize::plain(text)))
}

/// A live source with the pipeline behind it.
pub(super) struct Session<K> {
    live: Live,
    pipeline: Pipeline<K>,
    closed: Closed,
    recorder: Option<Recorder>,
    reasons: DropReasons,
    symbols: LazySymbols,
    /// Whether names are shown.
    names: bool,
    followed: Option<Followed>,
    /// The last while, for a recording that is asked for.
    keep: Option<Kept>,
    filter: String,
    say: Say,
    /// What was said of the Kubernetes API.
    said: BTreeSet<String>,
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

/// What a session traces.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    /// The filter's text.
    pub(super) text: &'a str,
    /// What the kernel is asked for.
    pub(super) program: &'a Program,
    /// Whether that is the filter's, whose names are followed as they change.
    pub(super) by_filter: bool,
    /// What is shown.
    pub(super) filter: ResolvedFilter,
    /// Only what this command caused is shown.
    pub(super) command: Option<TracedCommand>,
}

/// Where a session's findings go.
pub(super) struct Target<K> {
    pub(super) sink: K,
    /// Whether the sink's reader went away.
    pub(super) closed: Closed,
    pub(super) when: When,
    /// Whether names are asked for.
    pub(super) names: bool,
    /// Whether and how all is recorded as well.
    pub(super) record: Option<recorder::Options>,
    /// Whether the last while is kept, for a recording that is asked for.
    pub(super) keep: Option<Kept>,
    /// What the user should know goes there.
    pub(super) say: Say,
    /// How many bytes of each packet are kept; `None`: of DNS answers only.
    pub(super) bytes: Option<u32>,
    /// How much of flows and packets under way is kept.
    pub(super) limits: Limits,
    /// How much is held for the end.
    pub(super) held: Held,
}

impl Target<Output> {
    /// Standard output.
    pub(super) fn output(
        output: &OutputArgs,
        record: &AlsoRecordArgs,
        when: When,
        room: Room,
    ) -> Self {
        let (sink, closed) = output.sink();
        let (limits, held) = room.of(when);
        Self {
            sink,
            closed,
            when,
            names: output.names(),
            record: record.options(),
            keep: None,
            say: on_stderr(),
            bytes: None,
            limits,
            held,
        }
    }
}

impl<K: Sink> Session<K> {
    /// Attaches; what happens from its return on is seen.
    ///
    /// # Errors
    /// Why tracing cannot start, or that a recording's file cannot be made.
    pub(super) fn start(
        node: Node,
        subject: Subject<'_>,
        args: &LiveArgs,
        mut target: Target<K>,
    ) -> anyhow::Result<Self> {
        let live = Live::start(
            Options {
                filter: subject.program,
                sizes: args.sizes(),
                netfilter: args.netfilter(),
                bytes: target.bytes,
                budget: args.budget(),
            },
            node,
        )?;
        // From here on there is something to report, and a recording to conclude.
        interrupts::notice();
        if args.verbose() {
            eprintln!("{:#?}", live.plan());
        }
        say_what_is_not_seen(&mut target.say);
        let reasons = live.reasons().clone();
        let about = || {
            let (text, command) = (subject.text, subject.command);
            recording::about(text, target.when, command, live.plan(), &reasons)
        };
        let recorder = target
            .record
            .map(|options| Recorder::create(options, about()?).map_err(anyhow::Error::from))
            .transpose()?;
        let journeys = Journeys::new(
            target.limits,
            Patience::default(),
            Reasons::by_name(|name| reasons.number(name)),
        );
        let followed = Followed::new(&subject.filter, subject.program);
        memory::give_back();
        let pipeline = Pipeline::new(journeys, subject.filter, target.when, target.sink)
            .caused_by(subject.command)
            .holding(target.held);
        Ok(Self {
            live,
            pipeline,
            closed: target.closed,
            recorder,
            reasons,
            symbols: LazySymbols::open(),
            names: target.names,
            followed: subject.by_filter.then_some(followed),
            keep: target.keep,
            filter: subject.text.to_owned(),
            say: target.say,
            said: BTreeSet::new(),
        })
    }

    /// Gives up what the rest of the session does not need, for good. Not before the traced command
    /// was started, which would begin with as little.
    pub(super) fn give_up_privileges(&mut self, role: Role) {
        let mut kept = role.needs().to_vec();
        kept.extend(self.live.needs_bpf().then_some(Capability::Bpf));
        if let Err(errno) = privilege::keep_only(&kept) {
            let text = format!("it goes on with all its privileges: giving them up fails: {errno}");
            (self.say)(&text);
        }
    }

    /// Takes the next batch, or notices that there is none. May be dropped while it waits.
    ///
    /// # Errors
    /// The source's or the sink's.
    pub(super) async fn step(&mut self) -> anyhow::Result<Step> {
        // Where records come faster than they are taken nothing below ever waits, and without that the
        // runtime would not hear of signals.
        tokio::task::coop::consume_budget().await;
        let begin = clock::now();
        let batch = match tokio::time::timeout(self.patience(begin), self.live.next()).await {
            Ok(batch) => batch?,
            Err(_) => Some(Batch::default()),
        };
        let Some(batch) = batch else {
            return Ok(Step::Over);
        };
        let node = self.live.node().snapshot();
        self.follow_names(&node)?;
        // Up to then everything was read. What a process sees of the clock afterwards it may see
        // late, with records of before waiting in the ring.
        let now = batch.records.last().map_or(begin, Record::time);
        let room = self.record(&batch, &node, now)?;
        let function_at = |address| self.symbols.name(address);
        let known = Knowledge {
            node: &node,
            names: self.names,
            reasons: &self.reasons,
            function_at: &function_at,
        };
        self.pipeline.batch(&batch, &known)?;
        self.pipeline.advance(now, &known)?;
        self.pipeline.flush()?;
        for netns in self.pipeline.take_unknown() {
            self.live.node().requests().request(netns);
        }
        for port in self.pipeline.take_ports() {
            self.live.ask_port(PortQuestion {
                netns: port.netns.0,
                protocol: port.protocol,
                port: port.port,
            });
        }
        for ends in self.pipeline.take_sockets() {
            if self.names {
                self.live.ask(question(&ends));
            }
        }
        self.say_problems();
        self.say_what_is_missing(&node);
        let came = !batch.records.is_empty();
        if let Some(keep) = &mut self.keep {
            keep.take(batch, &node, now);
        }
        if self.closed.get() || room == recorder::Room::Full {
            return Ok(Step::Over);
        }
        Ok(if came { Step::Busy } else { Step::Idle })
    }

    /// For how long nothing may come before it is looked what is over.
    fn patience(&self, now: u64) -> Duration {
        if let Some(over) = self.pipeline.next_over() {
            // One more, for it is over when the time has passed.
            let left = Duration::from_nanos(over.saturating_sub(now).saturating_add(1));
            return left.clamp(LOOK_SOON, LOOK);
        }
        if self.pipeline.is_at_rest() {
            LOOK_RARELY
        } else {
            LOOK
        }
    }

    /// Detaches, takes what was seen before, and shows everything that is left. What was recorded, where it was.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub(super) async fn finish(mut self) -> anyhow::Result<(K, Option<Written>)> {
        self.live.finish();
        while self.step().await? != Step::Over {}
        self.live.node().wait_for_present_rules(RULES);
        let node = self.live.node().snapshot();
        let recorder = self.recorder.take();
        let written = recorder
            .map(|recorder| recorder.finish(&node))
            .transpose()?;
        let function_at = |address| self.symbols.name(address);
        let known = Knowledge {
            node: &node,
            names: self.names,
            reasons: &self.reasons,
            function_at: &function_at,
        };
        self.pipeline.finish(&known)?;
        self.say_problems();
        Ok((self.pipeline.into_sink(), written))
    }

    /// Asks the kernel for what the filter's names mean by now.
    fn follow_names(&mut self, node: &Arc<Snapshot>) -> anyhow::Result<()> {
        let followed = self.followed.as_mut();
        if let Some((filter, program)) = followed.and_then(|followed| followed.again(node)) {
            self.live.set_filter(program)?;
            self.pipeline.set_filter(filter);
        }
        Ok(())
    }

    /// Records what is about to be shown.
    fn record(
        &mut self,
        batch: &Batch,
        node: &Arc<Snapshot>,
        now: u64,
    ) -> anyhow::Result<recorder::Room> {
        let Some(recorder) = &mut self.recorder else {
            return Ok(recorder::Room::Left);
        };
        let function_at = |address| self.symbols.name(address);
        let taken = Taken { batch, node, now };
        let part = recorder.part();
        let room = recorder.step(taken, &function_at)?;
        if recorder.part() != part {
            self.live.say_owners_again();
        }
        Ok(room)
    }

    /// Writes what was kept into a recording; says how many events.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(super) fn save(&self, path: PathBuf) -> anyhow::Result<usize> {
        let Some(keep) = &self.keep else {
            return Ok(0);
        };
        let about = recording::about(
            &self.filter,
            When::AsTheyChange,
            None,
            self.live.plan(),
            &self.reasons,
        )?;
        let function_at = |address| self.symbols.name(address);
        Ok(keep.save(path, about, &function_at)?)
    }

    /// How it is attached.
    pub(super) fn plan(&self) -> &Plan {
        self.live.plan()
    }

    /// What the node knows.
    pub(super) fn node(&self) -> Arc<Snapshot> {
        self.live.node().snapshot()
    }

    /// The recording, while there is one.
    pub(super) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// What came of the packets so far.
    pub(super) fn pipeline(&self) -> &Pipeline<K> {
        &self.pipeline
    }

    /// Whether no more packets are to be expected soon.
    pub(super) fn is_quiet(&self) -> bool {
        self.pipeline.is_quiet()
    }

    /// Says once what the Kubernetes API does not say, where it is asked.
    fn say_what_is_missing(&mut self, node: &Snapshot) {
        for note in node.cluster().into_iter().flat_map(Cluster::notes) {
            if self.said.len() < MOST_SAID && self.said.insert(note.clone()) {
                (self.say)(note);
            }
        }
    }

    fn say_problems(&mut self) {
        for problem in self.pipeline.take_problems() {
            (self.say)(&problem);
        }
    }
}

/// Says which capabilities are missing without which tracing shows less. That it does not start
/// without others was said before.
fn say_what_is_not_seen(say: &mut Say) {
    let wanted = Capabilities::read().map(Capabilities::wanted);
    let wanted = wanted.unwrap_or_default();
    if !wanted.is_empty() {
        let named = privilege::named(&wanted);
        say(&format!(
            "not everything is seen without {named}; `tracer doctor` says more"
        ));
    }
}

fn question(ends: &Ends) -> Question {
    Question {
        netns: ends.netns.0,
        protocol: ends.protocol,
        local: ends.local.into(),
        remote: ends.remote.into(),
    }
}
