//! Playing a recording into a sink.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    mem,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use jiff::tz::TimeZone;

use super::{
    Usage, arguments,
    memory::{MemoryArgs, Room},
    moment::{self, Moment},
    resolution::{self, Followed},
};
use crate::{
    filter::{Filter, Meanings, ResolvedFilter},
    journey::{Journeys, Patience, Reasons},
    node::{reasons::DropReasons, snapshot::Snapshot},
    output::{Sink, sanitize},
    pipeline::{Pipeline, When, Window},
    report::Knowledge,
    source::NodeClock,
    trace::{self, About, Nodes, NodesError, Reader, Step},
};

/// How long before the asked-for time reading begins, in nanoseconds: what began then and is still
/// under way is shown whole.
const LEAD: u64 = 5_000_000_000;

/// What is played.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SubjectArgs {
    /// The recording
    file: PathBuf,
    /// More recordings of the same node, as the parts of a rotation, which are shown as one; and then
    /// which flows, in the words of docs/filter.md; without, all
    #[arg(value_name = "FILE|FILTER")]
    rest: Vec<String>,
    #[command(flatten)]
    memory: MemoryArgs,
}

impl SubjectArgs {
    /// The recordings, and the filter's words: those from the first one on that is no recording.
    fn split(&self) -> (Vec<&Path>, &[String]) {
        let is_recording = |word: &&String| trace::is_recording(Path::new(word));
        let count = self.rest.iter().take_while(is_recording).count();
        let (files, filter) = self.rest.split_at(count);
        let files = files.iter().map(Path::new);
        (
            [self.file.as_path()].into_iter().chain(files).collect(),
            filter,
        )
    }

    /// The memory that the tracer may take.
    pub(super) fn memory(&self) -> MemoryArgs {
        self.memory
    }

    /// The filter's text.
    pub(super) fn filter(&self) -> String {
        self.split().1.join(" ")
    }

    /// The recordings' files.
    pub(super) fn files(&self) -> Vec<&Path> {
        self.split().0
    }
}

/// Recordings about to be played.
pub(super) struct Playback {
    timeline: Nodes<BufReader<File>>,
    filter: ResolvedFilter,
    window: Window,
    names: bool,
    room: Room,
    /// Whether a file is made of it, which takes a share of the room.
    to_file: bool,
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
    /// Opens recordings.
    ///
    /// # Errors
    /// A wrong filter, a file that is no recording, or recordings that do not belong together.
    pub(super) fn open(subject: &SubjectArgs, names: bool) -> anyhow::Result<Self> {
        let room = subject.memory().room();
        let (files, filter) = subject.split();
        check(filter)?;
        let filter = arguments::filter(filter)?;
        let mut readers = files
            .iter()
            .map(|file| reader(file))
            .collect::<Result<Vec<_>, _>>()?;
        let first = readers.remove(0);
        let timeline = Nodes::new(first, readers).map_err(|error| match error {
            NodesError::Read(_) => anyhow::Error::from(error),
            _ => Usage(error.into()).into(),
        })?;
        let nodes = known(&files, &timeline);
        Ok(Self {
            filter: resolve(&filter, timeline.about(), nodes)?,
            timeline,
            window: Window::ALWAYS,
            names,
            room,
            to_file: false,
        })
    }

    /// A file is made of it; gives what memory there is for that, in bytes.
    pub(super) fn make_file(&mut self) -> usize {
        self.to_file = true;
        self.room.sink()
    }

    /// The first and the last event, nanoseconds of the first node's clock.
    pub(super) fn times(&self) -> (u64, u64) {
        self.timeline.times().unwrap_or_default()
    }

    /// What the recording is.
    pub(super) fn about(&self) -> &About {
        self.timeline.about()
    }

    /// Plays only what was under way at some time.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn within(mut self, span: Span<'_>) -> anyhow::Result<Self> {
        let window = span.window(self.about());
        if window.from > 0 {
            self.timeline.seek(window.from.saturating_sub(LEAD))?;
        }
        self.window = window;
        Ok(self)
    }

    /// Says on stderr what it is, and plays it to its end, or until `enough` says so, which is told
    /// how many bytes of how many were read.
    ///
    /// # Errors
    /// When the file cannot be read, and the sink's.
    pub(super) fn play<K: Sink>(
        self,
        sink: K,
        mut enough: impl FnMut((u64, u64)) -> bool,
    ) -> anyhow::Result<End> {
        introduce(&self.timeline);
        let when = if self.about().at_the_end {
            When::AtTheEnd
        } else {
            When::AsTheyEnd
        };
        let mut playing = self.begin(when, sink);
        loop {
            let went_on = playing.step()?;
            for problem in playing.take_problems() {
                eprintln!("tracer: {problem}");
            }
            if went_on && enough(playing.timeline.progress()) {
                playing.finish()?;
            } else if went_on {
                continue;
            }
            for problem in playing.take_problems() {
                eprintln!("tracer: {problem}");
            }
            return Ok(End {
                damaged: playing.damaged,
            });
        }
    }

    /// Begins to play it.
    pub(super) fn begin<K: Sink>(self, when: When, sink: K) -> Playing<K> {
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

/// Recordings that are being played.
pub(super) struct Playing<K> {
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

impl<K: Sink> Playing<K> {
    /// Shows the next step; at the end, what was held for it. Says whether there was one.
    ///
    /// # Errors
    /// When the file cannot be read, and the sink's.
    pub(super) fn step(&mut self) -> anyhow::Result<bool> {
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
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.pipeline.flush()?)
    }

    /// Shows what was held for the end.
    fn finish(&mut self) -> anyhow::Result<()> {
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
    pub(super) fn next_time(&mut self) -> anyhow::Result<Option<u64>> {
        let ahead = match self.ahead.take() {
            Some(ahead) => ahead,
            None if self.finished => return Ok(None),
            None => self.read()?,
        };
        let time = ahead.0.as_ref().and_then(|step| step.now);
        self.ahead = Some(ahead);
        Ok(time)
    }

    /// Up to then everything was shown.
    pub(super) fn now(&self) -> u64 {
        self.pipeline.now()
    }

    /// What the node knew then.
    pub(super) fn node(&self) -> &Arc<Snapshot> {
        &self.node
    }

    /// What a person should know.
    pub(super) fn take_problems(&mut self) -> Vec<String> {
        let problems = mem::take(&mut self.problems).into_iter();
        let plain = problems.map(|problem| sanitize::plain(&problem).into_owned());
        plain.collect()
    }
}

/// A filter does not begin as a path does: that is a file which was meant to be a recording.
fn check(filter: &[String]) -> anyhow::Result<()> {
    match filter.first() {
        Some(word) if word.starts_with(['/', '.']) => {
            let name = sanitize::plain(word).into_owned();
            let error = anyhow::anyhow!("{name} is not there, or is no recording");
            Err(Usage(error).into())
        }
        _ => Ok(()),
    }
}

/// A recording, with its name for people.
fn reader(file: &Path) -> anyhow::Result<(String, Reader<BufReader<File>>)> {
    let name = sanitize::plain(&file.to_string_lossy()).into_owned();
    let opened = File::open(file).with_context(|| format!("cannot open {name}"))?;
    let reader = Reader::open(BufReader::new(opened)).with_context(|| name.clone())?;
    Ok((name, reader))
}

/// What the nodes knew, read from the files once more, as far as it is asked for.
fn known(
    files: &[&Path],
    timeline: &Nodes<BufReader<File>>,
) -> Box<dyn Iterator<Item = Arc<Snapshot>>> {
    let files: Vec<PathBuf> = files.iter().map(|file| (*file).to_owned()).collect();
    if timeline.nodes() == 1 {
        let readers = files.into_iter().filter_map(|file| reader(&file).ok());
        return Box::new(readers.flat_map(|(_, reader)| reader.into_nodes()));
    }
    let together = move || {
        let mut readers = files.iter().filter_map(|file| reader(file).ok());
        let nodes = readers
            .next()
            .map(|first| Nodes::new(first, readers.collect()));
        let nodes = nodes.and_then(Result::ok);
        nodes.map(Nodes::into_nodes).unwrap_or_default()
    };
    Box::new(std::iter::once_with(together).flatten())
}

/// One line for people on what is going to be shown.
fn introduce<R: Read + Seek>(timeline: &Nodes<R>) {
    let about = timeline.about();
    let begin = moment::begin(about.clock, &TimeZone::system());
    let host = sanitize::plain(&about.host);
    let kernel = sanitize::plain(&about.kernel);
    let (first, last) = timeline.times().unwrap_or_default();
    let records: u64 = timeline.readers().map(|(_, reader)| reader.records()).sum();
    let name = match timeline.readers().next() {
        Some((name, _)) if timeline.count() == 1 => name.to_owned(),
        _ => format!("{} recordings", timeline.count()),
    };
    eprintln!(
        "tracer: {name}: {host}, Linux {kernel}, {}, {:.1} s, {records} events",
        begin.strftime("%Y-%m-%d %H:%M:%S %Z"),
        seconds(last.saturating_sub(first)),
    );
    for clock in timeline.clocks() {
        eprintln!("tracer: {}", sanitize::plain(&clock_text(clock)));
    }
    for (name, _) in timeline
        .readers()
        .filter(|(_, reader)| !reader.ended_well())
    {
        eprintln!(
            "tracer: {name}: its end is missing: the tracer that recorded it did not end by itself"
        );
    }
}

/// How a node's clock stands to the first one's, for people.
fn clock_text(clock: &NodeClock) -> String {
    let NodeClock {
        node,
        ahead,
        error,
        packets: [there, back],
    } = clock;
    let how = if *ahead < 0 { "behind" } else { "ahead" };
    let by = format!("{:?} {how}", Duration::from_nanos(ahead.unsigned_abs()));
    let known = match (error, there + back) {
        (Some(error), _) => format!(
            "give or take {:?}, by {there} packets that came to it and {back} that came from it",
            Duration::from_nanos(*error)
        ),
        (None, 0) => "by the nodes' calendars: no packet went between them".to_owned(),
        (None, _) => "at the most or the least: packets went one way only".to_owned(),
    };
    format!("{node}'s clock is {by} ({known}); times are the first node's")
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// What both filters let through: that of the recording and that of the command line.
///
/// Names are looked up in what the node knew at the begin, and when one of them is not there, in what
/// it knew later, each by itself.
fn resolve(
    filter: &Filter,
    about: &About,
    nodes: impl Iterator<Item = Arc<Snapshot>>,
) -> anyhow::Result<ResolvedFilter> {
    let own = &about.filter;
    let both = if own.trim().is_empty() {
        filter.clone()
    } else {
        let own = Filter::parse(own).context("in the recording's own filter")?;
        own.and(filter)
    };
    let mut result = resolution::resolve(&both, &Snapshot::default());
    let mut known = false;
    let mut meanings = Meanings::default();
    if result.is_ok() {
        return result;
    }
    for node in nodes {
        known = true;
        result = resolution::resolve_later(&both, &node, &mut meanings);
        if result.is_ok() {
            break;
        }
    }
    if !known {
        // Broken off before anything was known of the node: nothing is in it that a name could be of.
        return resolution::resolve(filter, &Snapshot::default());
    }
    result
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
