//! Several recordings of one node as one timeline: the parts of a rotation, or what a tracer recorded
//! that was started again.
//!
//! Their records are of one clock, so the steps of one follow those of another. Where something is
//! missing between two of them, that is a loss like any other.

use std::{
    collections::VecDeque,
    io::{Read, Seek},
    mem,
    sync::Arc,
};

use super::{About, Damage, ReadError, Reader, Step, Steps};
use crate::{
    node::snapshot::Snapshot,
    source::{Batch, Loss, Notice},
};

/// Why recordings are no timeline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimelineError {
    /// The same part of the same recording.
    #[error("{0} and {1} are the same part of one recording: give each once")]
    Twice(String, String),
    /// Their clocks have nothing to do with each other.
    #[error(
        "{0} and {1} are of different nodes, or of one that was started anew in between: their clocks \
         cannot be compared, so look at them one by one"
    )]
    Boot(String, String),
    /// They hold the same time.
    #[error("{0} and {1} were recorded at the same time: look at them one by one")]
    Overlap(String, String),
    /// They hold other flows.
    #[error(
        "{0} and {1} were recorded with different filters or ways of showing: look at them one by one"
    )]
    Filter(String, String),
}

/// Reads recordings step by step, one after the other.
#[derive(Debug)]
pub struct Timeline<R> {
    /// Those that are not read to their end yet; always one at least.
    parts: VecDeque<Part<R>>,
    count: usize,
    /// What is to be told before the next step.
    gap: Vec<Notice>,
    damages: Vec<(String, Damage)>,
    /// Where reading was to begin.
    from: u64,
    /// Bytes of the recordings that were read, and of all.
    read: u64,
    length: u64,
}

#[derive(Debug)]
struct Part<R> {
    name: String,
    steps: Steps<R>,
    times: Option<(u64, u64)>,
}

impl<R: Read + Seek> Part<R> {
    fn about(&self) -> &About {
        self.steps.reader().about()
    }

    /// What makes their order: when the recording began, and which part it is.
    fn key(&self) -> (u64, String, u32) {
        let about = self.about();
        (about.clock.monotonic, about.recording.clone(), about.part)
    }

    /// Why another one cannot come next.
    fn refuses(&self, next: &Self) -> Option<TimelineError> {
        let (one, other) = (self.about(), next.about());
        let names = || (self.name.clone(), next.name.clone());
        let refusal = if one.boot != other.boot {
            TimelineError::Boot
        } else if (&one.recording, one.part) == (&other.recording, other.part) {
            TimelineError::Twice
        } else if (&one.filter, one.at_the_end) != (&other.filter, other.at_the_end) {
            TimelineError::Filter
        } else if one.recording != other.recording && self.is_under_way_in(next) {
            TimelineError::Overlap
        } else {
            return None;
        };
        let (one, other) = names();
        Some(refusal(one, other))
    }

    fn is_under_way_in(&self, next: &Self) -> bool {
        let times = self.times.zip(next.times);
        times.is_some_and(|((_, last), (first, _))| first < last)
    }

    /// What is missing between this and the next one.
    fn gap(&self, next: &Self) -> Vec<Notice> {
        let (one, other) = (self.about(), next.about());
        let follows =
            one.recording == other.recording && one.part.checked_add(1) == Some(other.part);
        let (Some((_, after)), Some((before, _))) = (self.times, next.times) else {
            return Vec::new();
        };
        if follows && self.steps.reader().ended_well() {
            return Vec::new();
        }
        let loss = Loss {
            cpu: 0,
            records: 0,
            after,
            before,
        };
        let between = before.saturating_sub(after) / 1_000_000;
        let problem = format!(
            "between {} and {} something is missing: {between} ms",
            self.name, next.name
        );
        vec![Notice::Loss(loss), Notice::Problem(problem)]
    }
}

impl<R: Read + Seek> Timeline<R> {
    /// Puts recordings, with their names for people, into one timeline; in which order they are given
    /// is the same.
    ///
    /// # Errors
    /// [`TimelineError`].
    pub fn new(
        first: (String, Reader<R>),
        further: Vec<(String, Reader<R>)>,
    ) -> Result<Self, TimelineError> {
        let part = |(name, reader): (String, Reader<R>)| Part {
            name,
            times: reader.times(),
            steps: Steps::new(reader),
        };
        let mut parts: Vec<Part<R>> = [first].into_iter().chain(further).map(part).collect();
        parts.sort_by_cached_key(Part::key);
        for pair in parts.windows(2) {
            if let Some(refusal) = pair[0].refuses(&pair[1]) {
                return Err(refusal);
            }
        }
        let lengths = parts.iter().map(|part| part.steps.reader().progress().1);
        Ok(Self {
            length: lengths.sum(),
            count: parts.len(),
            parts: parts.into(),
            gap: Vec::new(),
            damages: Vec::new(),
            from: 0,
            read: 0,
        })
    }

    /// The recordings, to be read for something else.
    pub(super) fn into_readers(self) -> Vec<Reader<R>> {
        let parts = self.parts.into_iter();
        parts.map(|part| part.steps.into_reader()).collect()
    }

    fn part(&self) -> &Part<R> {
        &self.parts[0]
    }

    /// What the recording being read is.
    pub fn about(&self) -> &About {
        self.part().about()
    }

    /// The recordings to be read yet.
    pub fn readers(&self) -> impl Iterator<Item = (&str, &Reader<R>)> {
        let parts = self.parts.iter();
        parts.map(|part| (part.name.as_str(), part.steps.reader()))
    }

    /// How many recordings it is made of.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What the node knew at the step given last.
    pub fn node(&self) -> &Arc<Snapshot> {
        self.part().steps.node()
    }

    /// The functions that drop packets, by address, as far as was read.
    pub fn function_at(&self, address: u64) -> Option<&str> {
        self.part().steps.function_at(address)
    }

    /// What could not be read since this was asked last, with the recording's name.
    pub fn take_damages(&mut self) -> Vec<(String, Damage)> {
        mem::take(&mut self.damages)
    }

    /// Where reading stands and where it ends, in bytes of all recordings.
    pub fn progress(&self) -> (u64, u64) {
        let (at, _) = self.part().steps.reader().progress();
        (self.read + at, self.length)
    }

    /// Goes on with what covers a time and what comes later.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn seek(&mut self, time: u64) -> Result<(), ReadError> {
        self.from = time;
        for part in &mut self.parts {
            part.steps.seek(time)?;
        }
        Ok(())
    }

    /// The next step; `None` at the end of the last recording.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_step(&mut self) -> Result<Option<Step>, ReadError> {
        loop {
            let notices = mem::take(&mut self.gap);
            if !notices.is_empty() {
                let records = Vec::new();
                let batch = Batch { notices, records };
                return Ok(Some(Step { batch, now: None }));
            }
            let part = &mut self.parts[0];
            let step = part.steps.next_step();
            let name = &part.name;
            let damages = part.steps.take_damages().into_iter();
            self.damages
                .extend(damages.map(|damage| (name.clone(), damage)));
            if let Some(step) = step? {
                return Ok(Some(step));
            }
            if self.parts.len() == 1 {
                return Ok(None);
            }
            self.go_on();
        }
    }

    /// Goes over to the next recording.
    fn go_on(&mut self) {
        let Some(over) = self.parts.pop_front() else {
            return;
        };
        self.read += over.steps.reader().progress().1;
        let Some(next) = self.parts.front_mut() else {
            return;
        };
        if over.times.is_some_and(|(_, last)| last >= self.from) {
            self.gap = over.gap(next);
        }
        next.steps.go_on_from(over.steps);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{
        node::snapshot::{Contents, Namespace},
        trace::{ClockRelation, Writer},
    };

    /// A part of a recording: notices at these times, and a clock that goes on to the last.
    fn part(recording: &str, number: u32, times: &[u64]) -> (String, Reader<Cursor<Vec<u8>>>) {
        let about = About {
            recording: recording.to_owned(),
            part: number,
            boot: "boot".to_owned(),
            clock: ClockRelation {
                monotonic: 1,
                realtime: 1,
            },
            ..About::default()
        };
        written(&about, times)
    }

    fn written(about: &About, times: &[u64]) -> (String, Reader<Cursor<Vec<u8>>>) {
        let mut writer = Writer::new(Vec::new(), about).unwrap();
        let namespace = Namespace {
            inode: about.part + 1,
            ..Namespace::default()
        };
        let node = Snapshot::from(Contents {
            namespaces: vec![namespace],
            ..Contents::default()
        });
        writer.node(&node).unwrap();
        writer.location(u64::from(about.part), "f+0x0").unwrap();
        for time in times {
            let netns = about.part;
            let batch = Batch {
                notices: vec![Notice::NetfilterAttached { netns, time: *time }],
                records: Vec::new(),
            };
            writer.batch(&batch).unwrap();
            writer.clock(*time).unwrap();
        }
        writer.finish().unwrap();
        let reader = Reader::open(Cursor::new(writer.into_storage())).unwrap();
        (format!("{}.{}", about.recording, about.part), reader)
    }

    type Given = (String, Reader<Cursor<Vec<u8>>>);

    fn timeline(mut given: Vec<Given>) -> Result<Timeline<Cursor<Vec<u8>>>, TimelineError> {
        let first = given.remove(0);
        Timeline::new(first, given)
    }

    /// What a timeline says, with the namespace that the node knew then.
    fn said(mut timeline: Timeline<Cursor<Vec<u8>>>) -> Vec<(String, u32)> {
        let mut said = Vec::new();
        let mut at = 0;
        while let Some(step) = timeline.next_step().unwrap() {
            let (now, length) = timeline.progress();
            assert!(at <= now && now <= length);
            at = now;
            for notice in step.batch.notices {
                let text = match notice {
                    Notice::NetfilterAttached { time, .. } => time.to_string(),
                    Notice::Loss(loss) => format!("loss {}-{}", loss.after, loss.before),
                    Notice::Problem(problem) => problem,
                    other => panic!("{other:?}"),
                };
                said.push((text, timeline.node().namespaces()[0].inode));
            }
        }
        // What an earlier part said of functions holds on.
        assert_eq!(timeline.function_at(0), Some("f+0x0"));
        said
    }

    #[test]
    fn parts_follow_each_other_in_whatever_order_they_are_given() {
        let parts = vec![
            part("a", 2, &[50]),
            part("a", 0, &[10, 20]),
            part("a", 1, &[30, 40]),
        ];
        let said = said(timeline(parts).unwrap());
        let said: Vec<_> = said
            .iter()
            .map(|(what, node)| (what.as_str(), *node))
            .collect();
        assert_eq!(
            said,
            [("10", 1), ("20", 1), ("30", 2), ("40", 2), ("50", 3)]
        );
    }

    #[test]
    fn what_is_missing_between_them_is_a_loss() {
        let parts = vec![part("a", 0, &[10, 20]), part("a", 2, &[5_000_050])];
        let said = said(timeline(parts).unwrap());
        let said: Vec<_> = said.iter().map(|(what, _)| what.as_str()).collect();
        let problem = "between a.0 and a.2 something is missing: 5 ms";
        assert_eq!(said, ["10", "20", "loss 20-5000050", problem, "5000050"]);
    }

    #[test]
    fn a_time_can_be_sought_across_them() {
        let parts = vec![
            part("a", 0, &[10]),
            part("a", 1, &[30]),
            part("a", 3, &[50]),
        ];
        let mut timeline = timeline(parts).unwrap();
        timeline.seek(35).unwrap();
        let mut times = Vec::new();
        while let Some(step) = timeline.next_step().unwrap() {
            times.extend(step.now);
        }
        assert_eq!(times, [50]);
    }

    #[test]
    fn what_is_no_timeline_is_refused() {
        let of = |boot: &str, filter: &str| {
            let about = About {
                recording: "b".to_owned(),
                boot: boot.to_owned(),
                filter: filter.to_owned(),
                clock: ClockRelation {
                    monotonic: 1,
                    realtime: 1,
                },
                ..About::default()
            };
            written(&about, &[15, 25])
        };
        let with = |other| timeline(vec![part("a", 0, &[10, 20]), other]).unwrap_err();
        assert!(matches!(
            with(part("a", 0, &[10])),
            TimelineError::Twice(..)
        ));
        assert!(matches!(with(of("other", "")), TimelineError::Boot(..)));
        assert!(matches!(with(of("boot", "tcp")), TimelineError::Filter(..)));
        assert!(matches!(with(of("boot", "")), TimelineError::Overlap(..)));
    }
}
