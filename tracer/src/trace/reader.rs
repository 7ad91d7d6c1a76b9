//! Reading a recording.
//!
//! One chunk at a time is in memory, whatever the file's size, and of what it says a part (`parts`). What cannot be read is given as
//! [`Entry::Damage`] at its place, with a notice of the loss, and reading goes on behind it.

mod finding;
mod parts;

use std::{
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

use self::parts::Parts;
use super::{
    About, Damage, Entry, IndexEntry,
    chunk::{self, ChunkError, ChunkKind, HEADER, Header, PREAMBLE, SIGNATURE, VERSION},
    events::{self, Item},
    standing::Standing,
};
use crate::{
    event::Record,
    node::snapshot::Snapshot,
    source::{Loss, Notice},
};

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is something else.
    #[error("this is not a recording of the tracer: it does not begin as one")]
    Signature,
    /// It is of another version.
    #[error(
        "this recording has format {major}.{minor}, which this tracer ({}.{}) cannot read; use a newer one",
        VERSION[0],
        VERSION[1]
    )]
    Version {
        /// Incompatible with others.
        major: u16,
        /// Compatible with smaller ones.
        minor: u16,
    },
    /// It ends before anything was recorded.
    #[error("this recording ends before anything was recorded")]
    Empty,
    /// The system's error.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Why reading cannot go on. Damage is no error: it is an entry.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the recording at byte {offset}: {source}")]
pub struct ReadError {
    offset: u64,
    source: io::Error,
}

/// No more is said to hold on than takes so many bytes: what a writer keeps is far less.
const MAX_STANDING: usize = 8 << 20;

/// Reads a recording.
#[derive(Debug)]
pub struct Reader<R> {
    file: R,
    length: u64,
    about: About,
    entries: Vec<IndexEntry>,
    /// What is wrong with it that no chunk stands for, told when reaching it.
    damages: Vec<Damage>,
    /// The next chunk.
    next: usize,
    /// The one before it, where it was not read to its end.
    open: Option<Parts>,
    /// Whether the index was there.
    ended_well: bool,
    /// The time up to which something was read.
    time: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// Opens a recording: reads its beginning and its index, or makes the index.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(mut file: R) -> Result<Self, OpenError> {
        let length = file.seek(SeekFrom::End(0))?;
        check_preamble(&mut file)?;
        let mut reader = Self {
            file,
            length,
            about: About::default(),
            entries: Vec::new(),
            damages: Vec::new(),
            next: 0,
            open: None,
            ended_well: true,
            time: 0,
        };
        match reader.index()? {
            Some(entries) => reader.entries = entries,
            None => {
                reader.ended_well = false;
                reader.scan()?;
            }
        }
        if reader.entries.is_empty() {
            return Err(OpenError::Empty);
        }
        reader.read_about()?;
        reader.time = reader.about.clock.monotonic;
        Ok(reader)
    }

    /// What the recording is.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Where its chunks are.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Whether it was ended, and not broken off by a crash.
    pub fn ended_well(&self) -> bool {
        self.ended_well
    }

    /// The first and the last time covered by records and the clock; `None` without any.
    pub fn times(&self) -> Option<(u64, u64)> {
        let events = || self.entries.iter().filter(|e| e.kind == ChunkKind::EVENTS);
        let first = events().map(|entry| entry.first).min()?;
        let last = events().map(|entry| entry.last).max()?;
        Some((first, last))
    }

    /// How many records it holds, by its index.
    pub fn records(&self) -> u64 {
        self.entries.iter().map(|e| u64::from(e.records)).sum()
    }

    /// Where reading stands and where it ends, in bytes.
    pub fn progress(&self) -> (u64, u64) {
        let at = self.entries.get(self.next).map(|entry| entry.offset);
        (at.unwrap_or(self.length), self.length)
    }

    /// Goes on with the first chunk that covers a time or a later one, after giving what the node
    /// knew then.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn seek(&mut self, time: u64) -> Result<Vec<Entry>, ReadError> {
        let covers = |entry: &IndexEntry| entry.kind == ChunkKind::EVENTS && entry.last >= time;
        let at = self.entries.iter().position(covers);
        self.next = at.unwrap_or(self.entries.len());
        self.open = None;
        let mut entries = self.standing(self.next);
        let before = &self.entries[..self.next];
        if before.iter().any(|e| e.kind == ChunkKind::EVENTS) {
            // What is under way there is seen from its middle on.
            let first = self.entries.get(self.next);
            let time = first.map_or(time, |entry| entry.first);
            entries.push(Entry::Notice(Notice::Began { time }));
        }
        let node = before.iter().rposition(|e| e.kind == ChunkKind::NODE);
        if let Some(node) = node {
            entries.splice(0..0, self.chunk(node)?);
        }
        Ok(entries)
    }

    /// What holds where that chunk begins: what was said to hold, and what was said since. What cannot be
    /// read is left out.
    fn standing(&mut self, end: usize) -> Vec<Entry> {
        let said = |entry: &IndexEntry| entry.kind == ChunkKind::STANDING;
        let from = self.entries[..end].iter().rposition(said).unwrap_or(0);
        let mut standing = Standing::default();
        for at in from..end {
            let entry = self.entries[at];
            if !matches!(entry.kind, ChunkKind::STANDING | ChunkKind::EVENTS) {
                continue;
            }
            let Ok(Ok((_, content))) = self.payload(entry.offset) else {
                continue;
            };
            if entry.kind == ChunkKind::STANDING && content.len() <= MAX_STANDING {
                standing = serde_json::from_slice(&content).unwrap_or_default();
            }
            if entry.kind == ChunkKind::STANDING {
                continue;
            }
            let _ = events::marks(content, |item| match item {
                Item::Notice(json) => {
                    if let Ok(notice) = parts::notice(&json) {
                        standing.note(&notice);
                    }
                }
                Item::Location(address, function) => standing.function(address, &function),
                Item::Records(_) | Item::Clock(_) => {}
            });
        }
        standing.into_entries()
    }

    /// Everything that the node knew, one state after the other; what cannot be read is left out.
    pub fn into_nodes(mut self) -> impl Iterator<Item = Arc<Snapshot>> {
        let chunks = std::mem::take(&mut self.entries);
        let nodes = chunks.into_iter().filter(|e| e.kind == ChunkKind::NODE);
        nodes.filter_map(move |entry| {
            let (_, content) = self.payload(entry.offset).ok()?.ok()?;
            serde_json::from_slice(&content).ok().map(Arc::new)
        })
    }

    /// The next entries of a chunk, some megabytes at most; `None` at the end. Empty for chunks that hold none.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_part(&mut self) -> Result<Option<Vec<Entry>>, ReadError> {
        if let Some(parts) = self.open.take() {
            return Ok(Some(self.part(parts)));
        }
        let offset = self.entries.get(self.next).map(|entry| entry.offset);
        let due = |damage: &Damage| offset.is_none_or(|offset| damage.offset < offset);
        if let Some(at) = self.damages.iter().position(due) {
            let damage = self.damages.remove(at);
            return Ok(Some(self.damaged(damage)));
        }
        if offset.is_none() {
            return Ok(None);
        }
        self.next += 1;
        self.chunk(self.next - 1).map(Some)
    }

    /// Gives every record that can be read; where reading stands does not change.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn for_each_record(&mut self, mut give: impl FnMut(&Record)) -> Result<(), ReadError> {
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            if entry.kind != ChunkKind::EVENTS {
                continue;
            }
            let content = match self.payload(entry.offset) {
                Ok(Ok((_, content))) => content,
                // What is damaged, or torn off, is told when it is come to.
                Ok(Err(_)) => continue,
                Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(source) => {
                    let offset = entry.offset;
                    return Err(ReadError { offset, source });
                }
            };
            let _ = events::decode(content, |item| {
                if let Item::Records(records) = item {
                    records.iter().for_each(&mut give);
                }
            });
        }
        Ok(())
    }

    /// A chunk's entries, or the damage.
    fn chunk(&mut self, at: usize) -> Result<Vec<Entry>, ReadError> {
        let entry = self.entries[at];
        if !matches!(entry.kind, ChunkKind::NODE | ChunkKind::EVENTS) {
            return Ok(Vec::new());
        }
        let read = self.payload(entry.offset);
        let content = match read {
            Ok(Ok((_, content))) => content,
            Ok(Err(error)) => return Ok(self.unreadable(&entry, &error.to_string())),
            Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(self.unreadable(&entry, "the file ends within it"));
            }
            Err(source) => {
                let offset = entry.offset;
                return Err(ReadError { offset, source });
            }
        };
        if entry.kind == ChunkKind::NODE {
            self.time = self.time.max(entry.last);
            return Ok(match serde_json::from_slice(&content) {
                Ok(snapshot) => vec![Entry::Node(Arc::new(snapshot))],
                Err(error) => self.unreadable(&entry, &error.to_string()),
            });
        }
        match Parts::new(entry, content) {
            Ok(parts) => Ok(self.part(parts)),
            Err(error) => Ok(self.unreadable(&entry, &error.to_string())),
        }
    }

    /// The next entries of a chunk of events; the damage at its end.
    fn part(&mut self, mut parts: Parts) -> Vec<Entry> {
        let mut entries = Vec::new();
        if parts.next(&mut entries) {
            self.open = Some(parts);
            return entries;
        }
        let entry = parts.entry;
        if let Some(what) = parts.wrong() {
            entries.extend(self.unreadable(&entry, &what));
        }
        self.time = self.time.max(entry.last);
        entries
    }

    /// A chunk's header and content.
    fn payload(&mut self, offset: u64) -> io::Result<Result<(Header, bytes::Bytes), ChunkError>> {
        let header = match self.header(offset)? {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let room = self.length.saturating_sub(offset + HEADER as u64);
        if u64::from(header.stored) > room {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut payload = vec![0; header.stored as usize];
        self.file.read_exact(&mut payload)?;
        Ok(chunk::content(&header, &payload).map(|content| (header, content)))
    }

    fn header(&mut self, offset: u64) -> io::Result<Result<Header, ChunkError>> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut bytes = [0; HEADER];
        self.file.read_exact(&mut bytes)?;
        Ok(chunk::header(&bytes))
    }

    fn unreadable(&mut self, entry: &IndexEntry, what: &str) -> Vec<Entry> {
        let name = match entry.kind {
            ChunkKind::NODE => "what the node knew cannot be read",
            _ => "a chunk of events cannot be read",
        };
        let events = entry.kind == ChunkKind::EVENTS;
        self.damaged(Damage {
            offset: entry.offset,
            what: format!("{name}: {what}"),
            records: events.then_some(entry.records),
            times: events.then_some((entry.first, entry.last)),
        })
    }

    /// The damage, with the loss that it means.
    fn damaged(&mut self, damage: Damage) -> Vec<Entry> {
        let following = self.entries.get(self.next..).unwrap_or_default();
        let next = following.iter().find(|e| e.kind == ChunkKind::EVENTS);
        let (after, before) = damage.times.unwrap_or_else(|| {
            let before = next.map_or(u64::MAX, |entry| entry.first);
            (self.time.min(before), before)
        });
        let loss = Loss {
            cpu: 0,
            records: u64::from(damage.records.unwrap_or(0)),
            after,
            before,
        };
        // Nothing is missing where only a name was to be read.
        let about_records = damage.records.is_some() || damage.times.is_none();
        let mut entries = vec![Entry::Damage(damage)];
        if about_records && before != u64::MAX {
            entries.push(Entry::Notice(Notice::Loss(loss)));
        }
        entries
    }

    fn read_about(&mut self) -> io::Result<()> {
        let first = self.entries[0];
        let about = match self.payload(first.offset)? {
            Ok((header, content)) if header.kind == ChunkKind::ABOUT => {
                serde_json::from_slice(&content).map_err(|error| error.to_string())
            }
            Ok(_) => Err("it is not where it should be".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match about {
            Ok(about) => self.about = about,
            Err(error) => self.damages.insert(
                0,
                Damage {
                    offset: 0,
                    what: format!("what the recording is cannot be read: {error}"),
                    records: Some(0),
                    times: Some((0, 0)),
                },
            ),
        }
        Ok(())
    }
}

fn check_preamble(file: &mut (impl Read + Seek)) -> Result<(), OpenError> {
    file.seek(SeekFrom::Start(0))?;
    let mut preamble = [0; PREAMBLE];
    file.read_exact(&mut preamble).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            OpenError::Signature
        } else {
            error.into()
        }
    })?;
    if !preamble.starts_with(&SIGNATURE) {
        return Err(OpenError::Signature);
    }
    let number = |at: usize| u16::from_le_bytes([preamble[at], preamble[at + 1]]);
    let (major, minor) = (number(SIGNATURE.len()), number(SIGNATURE.len() + 2));
    if major == VERSION[0] {
        Ok(())
    } else {
        Err(OpenError::Version { major, minor })
    }
}
