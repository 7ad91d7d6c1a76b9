//! A recording as the steps that the live tracer took.
//!
//! A step is what came, what the node knew then, and the time up to which everything was looked
//! at. Giving the steps to the pipeline, one after the other, is what replay is.

use std::{
    collections::{HashMap, VecDeque},
    io::{Read, Seek},
    mem,
    sync::Arc,
};

use super::{Damage, Entry, ReadError, Reader};
use crate::{node::snapshot::Snapshot, source::Batch};

/// So many parts of chunks, some megabytes, are a step also without a tick of the clock: more than the live
/// tracer takes at once, so a recording of it is not changed by this.
const MAX_PARTS: u32 = 8;
/// How many locations of drops are kept; the kernel has far fewer places that drop packets.
const MAX_FUNCTIONS: usize = 1 << 13;

/// What the live tracer took at once.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// What came.
    pub batch: Batch,
    /// The time up to which everything was looked at; `None` where the recording does not say.
    pub now: Option<u64>,
}

/// Reads a recording step by step.
#[derive(Debug)]
pub struct Steps<R> {
    reader: Reader<R>,
    entries: VecDeque<Entry>,
    node: Arc<Snapshot>,
    functions: HashMap<u64, String>,
    damages: Vec<Damage>,
}

impl<R: Read + Seek> Steps<R> {
    /// From where the reader stands.
    pub fn new(reader: Reader<R>) -> Self {
        Self {
            reader,
            entries: VecDeque::new(),
            node: Arc::new(Snapshot::default()),
            functions: HashMap::new(),
            damages: Vec::new(),
        }
    }

    /// The recording, to be read for something else.
    pub(super) fn into_reader(self) -> Reader<R> {
        self.reader
    }

    /// The recording.
    pub fn reader(&self) -> &Reader<R> {
        &self.reader
    }

    /// What the node knew at the step given last.
    pub fn node(&self) -> &Arc<Snapshot> {
        &self.node
    }

    /// The functions that drop packets, by address, as far as was read.
    pub fn function_at(&self, address: u64) -> Option<&str> {
        self.functions.get(&address).map(String::as_str)
    }

    /// What could not be read since this was asked last.
    pub fn take_damages(&mut self) -> Vec<Damage> {
        mem::take(&mut self.damages)
    }

    /// Takes over what another recording of the same node, which was read to its end, said before.
    pub(super) fn go_on_from(&mut self, before: Self) {
        self.node = before.node;
        let mut functions = before.functions;
        functions.extend(mem::take(&mut self.functions));
        self.functions = functions;
    }

    /// Goes on with what covers a time and what comes later.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn seek(&mut self, time: u64) -> Result<(), ReadError> {
        self.entries = self.reader.seek(time)?.into();
        Ok(())
    }

    /// The next step; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_step(&mut self) -> Result<Option<Step>, ReadError> {
        let mut step = Step::default();
        let mut parts = 0;
        loop {
            parts += u32::from(self.entries.is_empty());
            if parts > MAX_PARTS && !step.batch.is_empty() {
                return Ok(Some(step));
            }
            let Some(entry) = self.next_entry(&step.batch)? else {
                return Ok((!step.batch.is_empty()).then_some(step));
            };
            match entry {
                Entry::Node(node) => {
                    let mut node = Arc::unwrap_or_clone(node);
                    node.follows(&self.node);
                    self.node = Arc::new(node);
                }
                Entry::Records(records) if step.batch.records.is_empty() => {
                    step.batch.records = records;
                }
                Entry::Records(mut records) => step.batch.records.append(&mut records),
                Entry::Notice(notice) => step.batch.notices.push(notice),
                Entry::Clock(now) => {
                    step.now = Some(now);
                    return Ok(Some(step));
                }
                Entry::Location { address, function } => {
                    if self.functions.len() < MAX_FUNCTIONS {
                        self.functions.insert(address, function);
                    }
                }
                Entry::Damage(damage) => self.damages.push(damage),
            }
        }
    }

    /// The next entry that belongs to the step; a change of what the node knows belongs to the
    /// next one when this has begun.
    fn next_entry(&mut self, begun: &Batch) -> Result<Option<Entry>, ReadError> {
        while self.entries.is_empty() {
            match self.reader.next_part()? {
                Some(entries) => self.entries = entries.into(),
                None => return Ok(None),
            }
        }
        if matches!(self.entries.front(), Some(Entry::Node(_))) && !begun.is_empty() {
            return Ok(None);
        }
        Ok(self.entries.pop_front())
    }
}
