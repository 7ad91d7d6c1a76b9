//! Recordings that are being played, step by step.

use std::{fs::File, io::BufReader, mem, sync::Arc};

use super::Playback;
use crate::{
    cli::resolution::Followed,
    journey::{Journeys, Patience, Reasons},
    node::{reasons::DropReasons, snapshot::Snapshot},
    output::{Sink, sanitize},
    pipeline::{Pipeline, When, Window},
    report::Knowledge,
    trace::{About, Nodes, Step},
};

/// Recordings that are being played.
pub(in crate::cli) struct Playing<K> {
    timeline: Nodes<BufReader<File>>,
    pipeline: Pipeline<K>,
    window: Window,
    names: bool,
    reasons: DropReasons,
    /// The filter's names as they change, where they were followed while it was recorded.
    followed: Option<Followed>,
    /// What the node knew at the step that was shown last.
    node: Arc<Snapshot>,
    /// The next step, if it was looked at already, with what the node knew then.
    ahead: Option<(Option<Step>, Arc<Snapshot>)>,
    problems: Vec<String>,
    /// Whether something could not be read.
    damaged: bool,
    finished: bool,
}

impl Playback {
    /// Begins to play it.
    pub(in crate::cli) fn begin<K: Sink>(self, when: When, sink: K) -> Playing<K> {
        let About {
            reasons, command, ..
        } = self.about().clone();
        let (limits, held) = if self.to_file {
            self.room.file(when)
        } else {
            self.room.of(when)
        };
        let journeys = Journeys::new(
            limits,
            Patience::default(),
            Reasons::by_name(|name| reasons.number(name)),
        );
        // `tracer run` goes by the command, and keeps to what names meant when it began.
        let follows = !self.about().at_the_end;
        let program = self.filter.compile().program;
        let followed = follows.then(|| Followed::new(&self.filter, &program));
        Playing {
            followed,
            pipeline: Pipeline::new(journeys, self.filter, when, sink)
                .caused_by(command)
                .within(self.window)
                .holding(held)
                .on_clocks(self.timeline.clocks().to_vec()),
            node: Arc::clone(self.timeline.node()),
            timeline: self.timeline,
            window: self.window,
            names: self.names,
            reasons,
            ahead: None,
            problems: Vec::new(),
            damaged: false,
            finished: false,
        }
    }
}

impl<K: Sink> Playing<K> {
    /// Shows the next step; at the end, what was held for it. Says whether there was one.
    ///
    /// # Errors
    /// When the file cannot be read, and the sink's.
    pub(in crate::cli) fn step(&mut self) -> anyhow::Result<bool> {
        if self.finished {
            return Ok(false);
        }
        let (step, node) = match self.ahead.take() {
            Some(ahead) => ahead,
            None => self.read()?,
        };
        self.node = node;
        let now = step.as_ref().and_then(|step| step.now);
        let over = now.is_some_and(|now| self.window.is_over(now));
        let Some(step) = step.filter(|_| !over) else {
            self.finish()?;
            return Ok(false);
        };
        let followed = self.followed.as_mut();
        if let Some((filter, _)) = followed.and_then(|followed| followed.again(&self.node)) {
            self.pipeline.set_filter(filter);
        }
        let timeline = &self.timeline;
        let function_at = |address| timeline.function_at(address).map(str::to_owned);
        let known = Knowledge {
            node: &self.node,
            names: self.names,
            reasons: &self.reasons,
            function_at: &function_at,
        };
        self.pipeline.batch(&step.batch, &known)?;
        if let Some(now) = now {
            self.pipeline.advance(now, &known)?;
        }
        self.pipeline.take_unknown();
        self.problems.extend(self.pipeline.take_problems());
        Ok(true)
    }

    /// Lets who looks have what was shown up to now.
    ///
    /// # Errors
    /// The sink's.
    pub(in crate::cli) fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.pipeline.flush()?)
    }

    /// Shows what was held for the end.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.finished = true;
        let timeline = &self.timeline;
        let function_at = |address| timeline.function_at(address).map(str::to_owned);
        let known = Knowledge {
            node: &self.node,
            names: self.names,
            reasons: &self.reasons,
            function_at: &function_at,
        };
        self.pipeline.finish(&known)?;
        self.problems.extend(self.pipeline.take_problems());
        Ok(())
    }

    fn read(&mut self) -> anyhow::Result<(Option<Step>, Arc<Snapshot>)> {
        let step = self.timeline.next_step()?;
        let damages = damages(&mut self.timeline);
        self.damaged |= !damages.is_empty();
        self.problems.extend(damages);
        Ok((step, Arc::clone(self.timeline.node())))
    }

    /// When the next step is, if the recording says so; nanoseconds of its clock.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(in crate::cli) fn next_time(&mut self) -> anyhow::Result<Option<u64>> {
        let ahead = match self.ahead.take() {
            Some(ahead) => ahead,
            None if self.finished => return Ok(None),
            None => self.read()?,
        };
        let time = ahead.0.as_ref().and_then(|step| step.now);
        self.ahead = Some(ahead);
        Ok(time)
    }

    /// How many bytes of how many were read.
    pub(super) fn progress(&self) -> (u64, u64) {
        self.timeline.progress()
    }

    /// Whether something could not be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Up to then everything was shown.
    pub(in crate::cli) fn now(&self) -> u64 {
        self.pipeline.now()
    }

    /// What the node knew then.
    pub(in crate::cli) fn node(&self) -> &Arc<Snapshot> {
        &self.node
    }

    /// What a person should know.
    pub(in crate::cli) fn take_problems(&mut self) -> Vec<String> {
        let problems = mem::take(&mut self.problems).into_iter();
        let plain = problems.map(|problem| sanitize::plain(&problem).into_owned());
        plain.collect()
    }
}

/// What could not be read, with the recording's name where there are several.
fn damages(timeline: &mut Nodes<BufReader<File>>) -> Vec<String> {
    let damages = timeline.take_damages();
    let several = timeline.count() > 1;
    let said = damages.into_iter().map(|(name, damage)| {
        if several {
            format!("{name}: {damage}")
        } else {
            damage.to_string()
        }
    });
    said.collect()
}
