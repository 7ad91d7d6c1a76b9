//! Whole recordings: what is written is read, and what is damaged is said.

use std::{
    io::{self, Cursor, Write},
    sync::Arc,
};

use proptest::prelude::*;

use super::{
    About, ChunkKind, Entry, OpenError, Reader, Storage, Writer,
    chunk::PREAMBLE,
    events::tests::{any_record, any_records},
    recorder::{Options, Recorder, Rotation, Taken},
};
use crate::{
    event::Record,
    node::snapshot::{Contents, Namespace, Snapshot},
    source::{Batch, Loss, Notice},
};

fn about() -> About {
    About {
        recording: "0123456789abcdef0123456789abcdef".to_owned(),
        host: "node-1".to_owned(),
        ..About::default()
    }
}

fn node(inode: u32) -> Snapshot {
    Snapshot::from(Contents {
        namespaces: vec![Namespace {
            inode,
            names: vec!["host".to_owned()],
            ..Namespace::default()
        }],
        notes: Vec::new(),
        ..Contents::default()
    })
}

fn records(count: usize) -> Vec<Record> {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let strategy = any_record();
    (0..count)
        .map(|at| {
            let mut record = strategy.new_tree(&mut runner).unwrap().current();
            let time = 1_000 + at as u64;
            match &mut record {
                Record::Event(event) => event.record.time = time,
                Record::Conntrack(tuples) => tuples.time = time,
            }
            record
        })
        .collect()
}

fn batch(records: &[Record]) -> Batch {
    Batch {
        notices: vec![Notice::Problem("a problem".to_owned())],
        records: records.to_vec(),
    }
}

/// A recording with several chunks of all kinds, and where each chunk begins.
fn recording() -> Vec<u8> {
    let records = records(60);
    let mut writer = Writer::new(Vec::new(), &about()).unwrap();
    writer.node(&node(1)).unwrap();
    writer.batch(&batch(&records[..20])).unwrap();
    writer.clock(1_020).unwrap();
    writer.location(7, "f+0x1").unwrap();
    writer.node(&node(2)).unwrap();
    writer.batch(&batch(&records[20..40])).unwrap();
    writer.flush().unwrap();
    writer.batch(&batch(&records[40..])).unwrap();
    writer.finish().unwrap();
    writer.into_storage()
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, OpenError> {
    let mut reader = Reader::open(Cursor::new(bytes))?;
    let mut entries = Vec::new();
    while let Some(more) = reader.next_chunk().unwrap() {
        entries.extend(more);
    }
    Ok(entries)
}

fn all_records(entries: &[Entry]) -> Vec<Record> {
    let of = |entry: &Entry| match entry {
        Entry::Records(records) => records.clone(),
        _ => Vec::new(),
    };
    entries.iter().flat_map(of).collect()
}

fn damages(entries: &[Entry]) -> Vec<String> {
    let of = |entry: &Entry| match entry {
        Entry::Damage(damage) => Some(damage.to_string()),
        _ => None,
    };
    entries.iter().filter_map(of).collect()
}

#[test]
fn everything_comes_back_in_its_order() {
    let records = records(60);
    let problem = || Entry::Notice(Notice::Problem("a problem".to_owned()));
    let part = |range: std::ops::Range<usize>| Entry::Records(records[range].to_vec());
    let function = "f+0x1".to_owned();
    let expected = [
        Entry::Node(Arc::new(node(1))),
        problem(),
        part(0..20),
        Entry::Clock(1_020),
        Entry::Location {
            address: 7,
            function,
        },
        Entry::Node(Arc::new(node(2))),
        problem(),
        part(20..40),
        problem(),
        part(40..60),
    ];
    let bytes = recording();
    assert_eq!(read(&bytes).unwrap(), expected);

    let reader = Reader::open(Cursor::new(&bytes)).unwrap();
    assert_eq!(reader.about(), &about());
    assert!(reader.ended_well());
    assert_eq!(reader.records(), 60);
    assert_eq!(reader.times(), Some((1_000, 1_059)));
}

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
    let events = |entry: &&super::IndexEntry| entry.kind == ChunkKind::EVENTS;
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

#[test]
fn seeking_gives_what_the_node_knew_then() {
    let bytes = recording();
    let mut reader = Reader::open(Cursor::new(&bytes)).unwrap();
    let first = reader.seek(1_030).unwrap();
    let function = "f+0x1".to_owned();
    let expected = [
        Entry::Node(Arc::new(node(2))),
        Entry::Location {
            address: 7,
            function,
        },
        Entry::Notice(Notice::Began { time: 1_020 }),
    ];
    assert_eq!(first, expected);
    let entries = reader.next_chunk().unwrap().unwrap();
    assert_eq!(all_records(&entries), records(60)[20..40]);
    assert!(reader.seek(5_000).unwrap().len() == 3);
    assert_eq!(reader.next_chunk().unwrap(), None);
}

/// A recording of so many chunks of one record, in each of which a namespace's hooks begin to be observed and
/// those of the one before end.
fn many_chunks(count: u32) -> Vec<u8> {
    let records = records(1);
    let mut writer = Writer::new(Vec::new(), &about()).unwrap();
    for number in 0..count {
        let time = 1_000 + u64::from(number);
        let mut record = records[0];
        match &mut record {
            Record::Event(event) => event.record.time = time,
            Record::Conntrack(tuples) => tuples.time = time,
        }
        let attached = Notice::NetfilterAttached {
            netns: number,
            time,
        };
        let detached = number
            .checked_sub(1)
            .map(|netns| Notice::NetfilterDetached { netns, time });
        let batch = Batch {
            notices: [attached].into_iter().chain(detached).collect(),
            records: vec![record],
        };
        writer.batch(&batch).unwrap();
        writer.flush().unwrap();
    }
    writer.finish().unwrap();
    writer.into_storage()
}

#[test]
fn what_holds_at_a_place_is_known_without_reading_all_before_it() {
    let bytes = many_chunks(500);
    let mut reader = Reader::open(Cursor::new(&bytes)).unwrap();
    let said = |entry: &&super::IndexEntry| entry.kind == ChunkKind::STANDING;
    let places: Vec<usize> = (0_usize..)
        .zip(reader.entries())
        .filter_map(|(at, entry)| said(&entry).then_some(at))
        .collect();
    assert!(places.len() > 5, "{places:?}");
    assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= 80));
    for number in [0_u32, 1, 63, 64, 65, 200, 499] {
        let entries = reader.seek(1_000 + u64::from(number)).unwrap();
        let observed: Vec<u32> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Notice(Notice::NetfilterAttached { netns, .. }) => Some(*netns),
                _ => None,
            })
            .collect();
        let before: Vec<u32> = number.checked_sub(1).into_iter().collect();
        // A chunk that says what holds may have been written after the one sought was collected.
        assert!(
            observed == before || observed == [number],
            "{number}: {observed:?}"
        );
        let next = reader.next_chunk().unwrap().unwrap();
        assert_eq!(all_records(&next).len(), 1);
    }
    // Who reads it from the beginning does not see it.
    let all = read(&bytes).unwrap();
    assert_eq!(all_records(&all).len(), 500);
    assert!(damages(&all).is_empty());
    let attached =
        |entry: &&Entry| matches!(entry, Entry::Notice(Notice::NetfilterAttached { .. }));
    assert_eq!(all.iter().filter(attached).count(), 500);
}

#[test]
fn each_part_says_where_hooks_are_observed() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        path: directory.path().join("recording"),
        overwrite: false,
        max_size: None,
        rotation: Some(Rotation { size: 1, keep: 9 }),
    };
    let mut recorder = Recorder::create(options, about()).unwrap();
    let node = Arc::new(node(1));
    let attached = |netns, time| Notice::NetfilterAttached { netns, time };
    let detached = Notice::NetfilterDetached { netns: 7, time: 30 };
    let everywhere = Notice::NetfilterEverywhere { time: 5 };
    let steps = [
        vec![attached(7, 10), attached(8, 20), everywhere.clone()],
        vec![detached.clone()],
        vec![],
    ];
    for (now, notices) in (1..).zip(&steps) {
        let records = records(1);
        let notices = notices.clone();
        // The chunk is written, so that the part is full.
        let batch = Batch { notices, records };
        let node = &node;
        let now = now * 10_000_000_000;
        let taken = Taken {
            batch: &batch,
            node,
            now,
        };
        recorder.step(taken, &|_| None).unwrap();
    }
    let last = recorder.part();
    recorder.finish(&node).unwrap();
    let said = |part: u32| -> Vec<Notice> {
        let path = directory.path().join(format!("recording.{part:06}"));
        let entries = read(&std::fs::read(path).unwrap()).unwrap();
        let notice = |entry| match entry {
            Entry::Notice(notice) => Some(notice),
            _ => None,
        };
        entries.into_iter().filter_map(notice).collect()
    };
    assert_eq!(last, 3);
    assert_eq!(said(0), steps[0]);
    assert_eq!(
        said(1),
        [
            everywhere.clone(),
            attached(7, 10),
            attached(8, 20),
            detached
        ]
    );
    assert_eq!(said(2), [everywhere, attached(8, 20)]);
}

#[test]
fn other_files_and_other_versions_are_refused() {
    assert!(matches!(read(b"hello"), Err(OpenError::Signature)));
    assert!(matches!(read(&[0; 100]), Err(OpenError::Signature)));
    let mut bytes = recording();
    bytes[12] = 9;
    let error = read(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "this recording has format 9.2, which this tracer (1.2) cannot read; use a newer one"
    );
    assert!(matches!(
        read(&recording()[..PREAMBLE]),
        Err(OpenError::Empty)
    ));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(parts in proptest::collection::vec(any_records(), 0..5)) {
        let mut writer = Writer::new(Vec::new(), &about()).unwrap();
        for part in &parts {
            writer.batch(&Batch { notices: Vec::new(), records: part.clone() }).unwrap();
        }
        writer.finish().unwrap();
        let entries = read(&writer.into_storage()).unwrap();
        prop_assert_eq!(all_records(&entries), parts.concat());
        prop_assert!(damages(&entries).is_empty());
    }

    #[test]
    fn any_bytes_behind_a_beginning_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        keep in 16_usize..600,
    ) {
        let mut recording = recording();
        recording.truncate(keep);
        recording.extend(bytes);
        let _ = read(&recording);
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
