//! Writing a recording.
//!
//! Records are collected into chunks of tens of thousands, or of a second, whichever comes first:
//! the second is what a crash can cost. A chunk that cannot be written whole (a full disk) is taken
//! back, so that what is on the disk is always a recording.

use std::{
    fs::File,
    io::{self, Write},
};

use bytes::{BufMut as _, BytesMut};

use super::{
    About,
    chunk::{self, ChunkKind, PREAMBLE},
    events::Encoder,
    index::{self, IndexEntry},
    standing::Standing,
};
use crate::{
    node::snapshot::Snapshot,
    source::{Batch, Notice},
};

/// Records of a full chunk.
const RECORDS: u32 = 1 << 15;
/// Bytes of a full chunk, before compression.
const BYTES: usize = 4 << 20;
/// A chunk with records is written after this time, in nanoseconds.
const PATIENCE: u64 = 1_000_000_000;
/// So many chunks a reader goes through to know what holds.
const STANDS: usize = 64;
/// Saying it is at most this part of a recording: a thirtieth.
const STANDS_SHARE: u64 = 30;
/// A chunk without records is written after this time, in nanoseconds.
const IDLE_PATIENCE: u64 = 10_000_000_000;

/// Where a recording goes.
pub trait Storage: Write {
    /// Takes back everything beyond so many bytes.
    ///
    /// # Errors
    /// The storage's.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Storage for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        use std::io::{Seek as _, SeekFrom};
        self.set_len(length)?;
        self.seek(SeekFrom::Start(length)).map(drop)
    }
}

impl Storage for Vec<u8> {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<S: Storage> {
    storage: S,
    encoder: Encoder,
    entries: Vec<IndexEntry>,
    /// Whole chunks on the storage, in bytes.
    length: u64,
    /// Whether the storage may hold more than that.
    torn: bool,
    records: u64,
    number: u32,
    /// The time covered last.
    time: u64,
    standing: Standing,
    /// How many chunks there were, and bytes, when that was written last, and how long it was.
    stood: (usize, u64, u64),
}

impl<S: Storage> Writer<S> {
    /// Begins a recording on an empty storage.
    ///
    /// # Errors
    /// The storage's.
    pub fn new(mut storage: S, about: &About) -> io::Result<Self> {
        let mut preamble = BytesMut::with_capacity(PREAMBLE);
        preamble.put_slice(&chunk::SIGNATURE);
        for number in chunk::VERSION {
            preamble.put_u16_le(number);
        }
        storage.write_all(&preamble)?;
        let mut writer = Self {
            storage,
            encoder: Encoder::default(),
            entries: Vec::new(),
            length: PREAMBLE as u64,
            torn: false,
            records: 0,
            number: 0,
            time: about.clock.monotonic,
            standing: Standing::default(),
            stood: (0, 0, 0),
        };
        let about = serde_json::to_vec(about)?;
        writer.chunk(ChunkKind::ABOUT, &about)?;
        Ok(writer)
    }

    /// What the node knows from here on.
    ///
    /// # Errors
    /// The storage's.
    pub fn node(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.flush()?;
        let snapshot = serde_json::to_vec(snapshot)?;
        self.chunk(ChunkKind::NODE, &snapshot)
    }

    /// What a source gave.
    ///
    /// # Errors
    /// The storage's.
    pub fn batch(&mut self, batch: &Batch) -> io::Result<()> {
        for notice in &batch.notices {
            self.notice(notice)?;
        }
        for record in &batch.records {
            self.encoder.record(record);
            if self.encoder.records() >= RECORDS {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn notice(&mut self, notice: &Notice) -> io::Result<()> {
        self.standing.note(notice);
        self.encoder.notice(&serde_json::to_vec(notice)?);
        self.cut_when_full()
    }

    /// Everything up to that time was looked at.
    ///
    /// # Errors
    /// The storage's.
    pub fn clock(&mut self, now: u64) -> io::Result<()> {
        self.encoder.clock(now);
        self.time = self.time.max(now);
        let patience = if self.encoder.records() > 0 {
            PATIENCE
        } else {
            IDLE_PATIENCE
        };
        match self.encoder.times() {
            Some((first, _)) if now.saturating_sub(first) >= patience => self.flush(),
            _ => self.cut_when_full(),
        }
    }

    /// What function drops packets at a kernel address; to be told before the journey ends there.
    ///
    /// # Errors
    /// The storage's.
    pub fn location(&mut self, address: u64, function: &str) -> io::Result<()> {
        self.standing.function(address, function);
        self.encoder.location(address, function);
        self.cut_when_full()
    }

    fn cut_when_full(&mut self) -> io::Result<()> {
        if self.encoder.size() >= BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes what was collected.
    ///
    /// # Errors
    /// The storage's; what was collected is lost then, what was written before is not.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.encoder.is_empty() {
            return Ok(());
        }
        self.stand()?;
        let (first, last) = self.encoder.times().unwrap_or((self.time, self.time));
        let records = self.encoder.records();
        let content = self.encoder.take();
        self.time = self.time.max(last);
        self.write(ChunkKind::EVENTS, (first, last), records, &content)?;
        self.records += u64::from(records);
        Ok(())
    }

    /// Says again what holds on, for readers that begin behind it: now and then, and not so often that it is
    /// more than a small part of the recording. What is collected and not written yet may say some of it
    /// again.
    fn stand(&mut self) -> io::Result<()> {
        let (chunks, at, length) = self.stood;
        let due = self.entries.len() >= chunks + STANDS
            && self.length >= at + length.saturating_mul(STANDS_SHARE);
        if !due || self.standing.is_empty() {
            return Ok(());
        }
        let standing = serde_json::to_vec(&self.standing)?;
        let before = self.length;
        self.chunk(ChunkKind::STANDING, &standing)?;
        self.stood = (self.entries.len(), self.length, self.length - before);
        Ok(())
    }

    /// Writes what is left, and the index.
    ///
    /// # Errors
    /// The storage's: what was written before can be read, with or without the index.
    pub fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        let offset = self.length;
        let index = index::encode(&self.entries);
        self.chunk(ChunkKind::INDEX, &index)?;
        let trailer = index::trailer(offset);
        self.append(&trailer)?;
        self.storage.flush()
    }

    /// Bytes written.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that wait to be written, before compression.
    pub fn waiting(&self) -> usize {
        self.encoder.size()
    }

    /// Records written.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Ends without an index, and gives the storage back.
    pub fn into_storage(self) -> S {
        self.storage
    }

    fn chunk(&mut self, kind: ChunkKind, content: &[u8]) -> io::Result<()> {
        self.write(kind, (self.time, self.time), 0, content)
    }

    fn write(
        &mut self,
        kind: ChunkKind,
        times: (u64, u64),
        records: u32,
        content: &[u8],
    ) -> io::Result<()> {
        let chunk = chunk::encode(kind, times, records, self.number, content)?;
        let entry = IndexEntry {
            offset: self.length,
            kind,
            first: times.0,
            last: times.1,
            records,
        };
        self.append(&chunk)?;
        self.entries.push(entry);
        self.number += 1;
        Ok(())
    }

    /// All of it or nothing.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.storage.cut(self.length)?;
            self.torn = false;
        }
        self.torn = true;
        if let Err(error) = self.storage.write_all(bytes) {
            self.torn = self.storage.cut(self.length).is_err();
            return Err(error);
        }
        self.torn = false;
        self.length += bytes.len() as u64;
        Ok(())
    }
}
