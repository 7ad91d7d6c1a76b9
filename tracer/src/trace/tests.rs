//! Whole recordings: what is written is read, and what is damaged is said.

mod damage;
mod seeking;

use std::{io::Cursor, sync::Arc};

use proptest::prelude::*;

use super::{
    About, Entry, OpenError, Reader, Writer,
    chunk::PREAMBLE,
    events::tests::{any_record, any_records},
};
use crate::{
    event::Record,
    node::snapshot::{Contents, Namespace, Snapshot},
    source::{Batch, Notice},
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

/// A recording with several chunks of all kinds.
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
    while let Some(more) = reader.next_part().unwrap() {
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
