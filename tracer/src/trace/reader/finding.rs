//! Where a recording's chunks are: by its index, else by going from header to header.
//!
//! A recording that was broken off has no index. What is no chunk is looked through for the next one, and told
//! as damage.

use std::io::{self, Read, Seek, SeekFrom};

use super::Reader;
use crate::trace::{
    Damage, IndexEntry,
    chunk::{self, ChunkKind, HEADER, PREAMBLE},
    index::{self, TRAILER},
};

/// How much is looked through at once for the next chunk.
const SEARCH: usize = 1 << 16;

impl<R: Read + Seek> Reader<R> {
    /// The index; `None` where it is not there or not right.
    pub(super) fn index(&mut self) -> io::Result<Option<Vec<IndexEntry>>> {
        let Some(at) = self.length.checked_sub(TRAILER as u64) else {
            return Ok(None);
        };
        self.file.seek(SeekFrom::Start(at))?;
        let mut trailer = [0; TRAILER];
        self.file.read_exact(&mut trailer)?;
        let Some(offset) = index::find(&trailer).filter(|offset| *offset < at) else {
            return Ok(None);
        };
        let (header, content) = match self.payload(offset) {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let whole = |entries: &Vec<IndexEntry>| {
            entries.last().is_some_and(|last| last.offset < offset)
                && entries[0].offset == PREAMBLE as u64
        };
        Ok(Some(header.kind)
            .filter(|kind| *kind == ChunkKind::INDEX)
            .and_then(|_| index::decode(content))
            .filter(whole))
    }

    /// Makes the index by going from header to header.
    pub(super) fn scan(&mut self) -> io::Result<()> {
        let mut offset = PREAMBLE as u64;
        while offset < self.length {
            let header = match self.header(offset) {
                Ok(header) => header,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.torn(offset);
                    break;
                }
                Err(error) => return Err(error),
            };
            let Ok(header) = header else {
                let next = self.search(offset + 1)?;
                self.skipped(offset, next);
                offset = next.unwrap_or(self.length);
                continue;
            };
            let end = offset + (HEADER as u64) + u64::from(header.stored);
            if end > self.length {
                self.torn(offset);
                break;
            }
            if header.kind != ChunkKind::INDEX {
                self.entries.push(IndexEntry::new(offset, &header));
            }
            offset = end;
        }
        Ok(())
    }

    /// The next place where a header is, from an offset on.
    fn search(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        let mut window = vec![0; SEARCH];
        while offset < self.length {
            self.file.seek(SeekFrom::Start(offset))?;
            let mut part = (&mut self.file).take(SEARCH as u64);
            let mut filled = 0;
            loop {
                match part.read(&mut window[filled..])? {
                    0 => break,
                    read => filled += read,
                }
            }
            let Some(at) = chunk::find_marker(&window[..filled]) else {
                offset += filled.max(1) as u64;
                continue;
            };
            offset += at as u64;
            match self.header(offset) {
                Ok(Ok(_)) => return Ok(Some(offset)),
                Ok(Err(_)) => offset += 1,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => offset += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn skipped(&mut self, offset: u64, next: Option<u64>) {
        let bytes = next.unwrap_or(self.length) - offset;
        // The trailer of an index that is not to be used.
        if next.is_none() && bytes == TRAILER as u64 {
            return;
        }
        self.damages.push(Damage {
            offset,
            what: format!("{bytes} bytes are not a chunk"),
            records: None,
            times: None,
        });
    }

    fn torn(&mut self, offset: u64) {
        let bytes = self.length - offset;
        self.damages.push(Damage {
            offset,
            what: format!(
                "the recording was broken off: {bytes} bytes at its end are not a whole chunk"
            ),
            records: None,
            times: None,
        });
    }
}
