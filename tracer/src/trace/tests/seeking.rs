//! What holds at a place in a recording, and at the begin of each part.

use super::*;
use crate::trace::{
    ChunkKind, IndexEntry,
    recorder::{Options, Recorder, Rotation, Taken},
};

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
    let entries = reader.next_part().unwrap().unwrap();
    assert_eq!(all_records(&entries), records(60)[20..40]);
    assert!(reader.seek(5_000).unwrap().len() == 3);
    assert_eq!(reader.next_part().unwrap(), None);
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
    let said = |entry: &&IndexEntry| entry.kind == ChunkKind::STANDING;
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
        let next = reader.next_part().unwrap().unwrap();
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
    let written = recorder.finish(&node).unwrap();
    assert_eq!(written.records, 3);
    let files = std::fs::read_dir(directory.path()).unwrap();
    let lengths = files.map(|file| file.unwrap().metadata().unwrap().len());
    assert_eq!(written.length, lengths.sum::<u64>());
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
