//! Playing a recording into a sink.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use jiff::tz::TimeZone;

use super::{
    arguments,
    moment::{self, Moment},
};
use crate::{
    filter::{Filter, ResolvedFilter},
    journey::{Journeys, Limits, Patience, Reasons},
    node::snapshot::Snapshot,
    output::{Sink, sanitize},
    pipeline::{Pipeline, When, Window},
    report::Knowledge,
    trace::{About, Reader, Steps},
};

/// How long before the asked-for time reading begins, in nanoseconds: what began then and is still
/// under way is shown whole.
const LEAD: u64 = 5_000_000_000;

/// A recording about to be played.
pub(super) struct Playback {
    steps: Steps<BufReader<File>>,
    filter: ResolvedFilter,
    window: Window,
    names: bool,
}

/// The time that is asked for: between two moments, or at one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span<'a> {
    pub(super) from: Option<&'a Moment>,
    pub(super) to: Option<&'a Moment>,
    pub(super) at: Option<&'a Moment>,
}

impl Span<'_> {
    fn window(self, about: &About) -> Window {
        let zone = TimeZone::system();
        let on_clock = |moment: &Moment| moment.on_clock(about.clock, &zone);
        let [from, to] = [self.from, self.to].map(|moment| self.at.or(moment).map(on_clock));
        Window {
            from: from.unwrap_or(0),
            to: to.unwrap_or(u64::MAX),
        }
    }
}

/// How playing ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Whether something could not be read.
    damaged: bool,
}

impl End {
    /// 1 where something could not be read.
    pub(super) fn exit_code(self) -> ExitCode {
        if self.damaged {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

impl Playback {
    /// Opens a recording, and says on stderr what it is.
    ///
    /// # Errors
    /// A wrong filter, or a file that is no recording.
    pub(super) fn open(file: &Path, filter: &[String], names: bool) -> anyhow::Result<Self> {
        let filter = arguments::filter(filter)?;
        let name = sanitize::plain(&file.to_string_lossy()).into_owned();
        let reader = || -> anyhow::Result<_> {
            let file = File::open(file).with_context(|| format!("cannot open {name}"))?;
            Reader::open(BufReader::new(file)).with_context(|| name.clone())
        };
        let recording = reader()?;
        introduce(&name, &recording);
        Ok(Self {
            filter: resolve(&filter, reader()?)?,
            steps: Steps::new(recording),
            window: Window::ALWAYS,
            names,
        })
    }

    /// What the recording is.
    pub(super) fn about(&self) -> &About {
        self.steps.reader().about()
    }

    /// Plays only what was under way at some time.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn within(mut self, span: Span<'_>) -> anyhow::Result<Self> {
        let window = span.window(self.about());
        if window.from > 0 {
            self.steps.seek(window.from.saturating_sub(LEAD))?;
        }
        self.window = window;
        Ok(self)
    }

    /// Plays it to its end, or until `enough` says so, which is told how many bytes of how many
    /// were read.
    ///
    /// # Errors
    /// When the file cannot be read, and the sink's.
    pub(super) fn play<K: Sink>(
        mut self,
        sink: K,
        mut enough: impl FnMut((u64, u64)) -> bool,
    ) -> anyhow::Result<End> {
        let reasons = self.about().reasons.clone();
        let journeys = Journeys::new(
            Limits::default(),
            Patience::default(),
            Reasons::by_name(|name| reasons.number(name)),
        );
        let when = if self.about().at_the_end {
            When::AtTheEnd
        } else {
            When::AsTheyEnd
        };
        let steps = &mut self.steps;
        let mut pipeline = Pipeline::new(journeys, self.filter, when, sink).within(self.window);
        let mut damaged = false;
        loop {
            let step = steps.next_step()?;
            damaged |= say_damages(steps);
            let node = Arc::clone(steps.node());
            let function_at = |address| steps.function_at(address).map(str::to_owned);
            let known = Knowledge {
                node: &node,
                names: self.names,
                reasons: &reasons,
                function_at: &function_at,
            };
            let now = step.as_ref().and_then(|step| step.now);
            let over = now.is_some_and(|now| self.window.is_over(now))
                || enough(steps.reader().progress());
            let Some(step) = step.filter(|_| !over) else {
                pipeline.finish(&known)?;
                say_problems(&mut pipeline);
                return Ok(End { damaged });
            };
            pipeline.batch(&step.batch, &known)?;
            if let Some(now) = now {
                pipeline.advance(now, &known)?;
            }
            pipeline.take_unknown();
            say_problems(&mut pipeline);
        }
    }
}

/// One line for people on what is going to be shown.
fn introduce<R: Read + Seek>(name: &str, reader: &Reader<R>) {
    let about = reader.about();
    let (first, last) = reader.times().unwrap_or_default();
    let begin = moment::begin(about.clock, &TimeZone::system());
    let host = sanitize::plain(&about.host);
    let kernel = sanitize::plain(&about.kernel);
    eprintln!(
        "tracer: {name}: {host}, Linux {kernel}, {}, {:.1} s, {} events",
        begin.strftime("%Y-%m-%d %H:%M:%S %Z"),
        seconds(last.saturating_sub(first)),
        reader.records(),
    );
    if !reader.ended_well() {
        eprintln!(
            "tracer: {name}: its end is missing: the tracer that recorded it did not end by itself"
        );
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// What both filters let through: that of the recording and that of the command line.
///
/// Names are looked up in what the node knew at the begin, and when there is no such name, in what
/// it knew later.
fn resolve<R: Read + Seek>(filter: &Filter, reader: Reader<R>) -> anyhow::Result<ResolvedFilter> {
    let own = &reader.about().filter;
    let both = if own.trim().is_empty() {
        filter.clone()
    } else {
        let own = Filter::parse(own).context("in the recording's own filter")?;
        own.and(filter)
    };
    let mut result = arguments::resolve(&both, &Snapshot::default());
    for node in reader.into_nodes() {
        if result.is_ok() {
            break;
        }
        result = arguments::resolve(&both, &node);
    }
    result
}

fn say_damages(steps: &mut Steps<BufReader<File>>) -> bool {
    let damages = steps.take_damages();
    for damage in &damages {
        eprintln!("tracer: {}", sanitize::plain(&damage.to_string()));
    }
    !damages.is_empty()
}

fn say_problems<K: Sink>(pipeline: &mut Pipeline<K>) {
    for problem in pipeline.take_problems() {
        eprintln!("tracer: {}", sanitize::plain(&problem));
    }
}
