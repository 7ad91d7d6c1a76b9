//! Playing recordings into a sink.

mod introduction;
mod playing;
mod subject;

use std::{fs::File, io::BufReader, process::ExitCode};

use jiff::tz::TimeZone;

use super::{memory::Room, moment::Moment};
use crate::{
    filter::ResolvedFilter,
    output::Sink,
    pipeline::{When, Window},
    trace::{About, Nodes},
};

pub(super) use self::{playing::Playing, subject::SubjectArgs};

/// How long before the asked-for time reading begins, in nanoseconds: what began then and is still
/// under way is shown whole.
const LEAD: u64 = 5_000_000_000;

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
        let (timeline, filter) = subject.open()?;
        Ok(Self {
            timeline,
            filter,
            window: Window::ALWAYS,
            names,
            room: subject.memory().room(),
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
        introduction::introduce(&self.timeline);
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
            if went_on && enough(playing.progress()) {
                playing.finish()?;
            } else if went_on {
                continue;
            }
            for problem in playing.take_problems() {
                eprintln!("tracer: {problem}");
            }
            return Ok(End {
                damaged: playing.is_damaged(),
            });
        }
    }
}
