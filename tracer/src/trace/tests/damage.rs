//! Recordings that are cut, changed, or on a disk that is full or fails.

use std::io::{self, Cursor, Write};

use super::*;
use crate::{
    source::Loss,
    trace::{ChunkKind, IndexEntry, Storage},
};

#[test]
fn a_recording_cut_anywhere_gives_its_whole_chunks_and_says_what_is_missing() {
    let bytes = recording();
    let whole = Reader::open(Cursor::new(&bytes)).unwrap();
    let chunks: Vec<_> = whole.entries().to_vec();
    let all = all_records(&read(&bytes).unwrap());
    for length in 0..bytes.len() {
        let cut = &bytes[..length];
        let entries = match read(cut) {
            Ok(entries) => entries,
            Err(OpenError::Signature) => {
                assert!(length < PREAMBLE);
                continue;
            }
            Err(OpenError::Empty) => {
                assert!(length < chunks[1].offset as usize, "{length}");
                continue;
            }
            Err(other) => panic!("{length}: {other}"),
        };
        // A chunk ends where the next begins.
        let ends = chunks[1..].iter().map(|chunk| chunk.offset as usize);
        let kept: u32 = chunks
            .iter()
            .zip(ends.chain([bytes.len()]))
            .filter(|(_, end)| *end <= length)
            .map(|(chunk, _)| chunk.records)
            .sum();
        let got = all_records(&entries);
        assert!(got.len() >= kept as usize, "{length}");
        assert_eq!(got[..], all[..got.len()], "{length}");
        let reader = Reader::open(Cursor::new(cut)).unwrap();
        assert!(!reader.ended_well(), "{length}");
        let at_an_end = chunks.iter().any(|chunk| chunk.offset as usize == length);
        let said = damages(&entries);
        let index = chunks.last().unwrap().offset as usize;
        if !at_an_end && length < index {
            assert_eq!(said.len(), 1, "{length}: {said:?}");
            assert!(said[0].contains("broken off"), "{length}: {said:?}");
        }
    }
}

#[test]
fn a_flipped_bit_costs_one_chunk_at_most() {
    let bytes = recording();
    let all = all_records(&read(&bytes).unwrap());
    for bit in (PREAMBLE * 8..bytes.len() * 8).step_by(7) {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Of three chunks with twenty records each.
        let entries = match read(&bad) {
            Ok(entries) => entries,
            Err(error) => panic!("bit {bit}: {error}"),
        };
        let got = all_records(&entries);
        assert!(got.len() >= 40, "bit {bit}: {} records", got.len());
        if got.len() < all.len() {
            assert!(!damages(&entries).is_empty(), "bit {bit}");
            let lost = |entry: &Entry| matches!(entry, Entry::Notice(Notice::Loss(_)));
            assert!(entries.iter().any(lost), "bit {bit}");
        }
    }
}

#[test]
fn a_damaged_chunk_is_a_loss_of_its_times() {
    let mut bytes = recording();
    let reader = Reader::open(Cursor::new(&bytes)).unwrap();
    let events = |entry: &&IndexEntry| entry.kind == ChunkKind::EVENTS;
    let second = *reader.entries().iter().filter(events).nth(1).unwrap();
    bytes[second.offset as usize + 60] ^= 1;
    let entries = read(&bytes).unwrap();
    let loss = Loss {
        cpu: 0,
        records: 20,
        after: 1_020,
        before: 1_039,
    };
    assert!(entries.contains(&Entry::Notice(Notice::Loss(loss))));
    let said = damages(&entries);
    assert_eq!(said.len(), 1);
    assert!(
        said[0].ends_with("its checksum is wrong; 20 records are missing"),
        "{said:?}"
    );
}

/// A disk of some size.
struct Disk {
    bytes: Vec<u8>,
    size: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.size - self.bytes.len();
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let part = &bytes[..bytes.len().min(room)];
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Disk {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.bytes.cut(length)
    }
}

#[test]
fn a_full_disk_holds_a_recording() {
    let records = records(60);
    let whole = recording().len();
    for size in 400..whole {
        let disk = Disk {
            bytes: Vec::new(),
            size,
        };
        let Ok(mut writer) = Writer::new(disk, &about()) else {
            continue;
        };
        let mut failed = false;
        for part in records.chunks(10) {
            failed |= writer.batch(&batch(part)).is_err();
            failed |= writer.flush().is_err();
        }
        failed |= writer.finish().is_err();
        assert!(failed, "{size}");
        let bytes = writer.into_storage().bytes;
        let entries = read(&bytes).unwrap();
        assert_eq!(damages(&entries), [""; 0], "{size}");
        let got = all_records(&entries);
        assert!(got.iter().all(|record| records.contains(record)));
    }
}

/// A file on a disk that gives errors from some moment on.
struct Failing {
    file: Cursor<Vec<u8>>,
    fails: std::rc::Rc<std::cell::Cell<bool>>,
}

impl io::Read for Failing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.fails.get() {
            return Err(io::Error::other("the disk"));
        }
        self.file.read(into)
    }
}

impl io::Seek for Failing {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_disk_that_fails_is_an_error_also_where_only_records_are_asked_for() {
    let fails = std::rc::Rc::default();
    let file = Failing {
        file: Cursor::new(recording()),
        fails: std::rc::Rc::clone(&fails),
    };
    let mut reader = Reader::open(file).unwrap();
    let mut count = 0;
    reader.for_each_record(|_| count += 1).unwrap();
    assert_eq!(count, 60);
    fails.set(true);
    let error = reader.for_each_record(|_| ()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "the disk");
}
