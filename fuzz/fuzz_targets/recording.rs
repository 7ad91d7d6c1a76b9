//! Recordings that are none, and good ones with a few bytes changed.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tracer::{
    event::{self, Record},
    source::Batch,
    trace::{About, Entry, Reader, Writer},
};

/// More than a chunk of a small file can hold.
const MAX_RECORDS: usize = 1 << 22;

fn read(bytes: &[u8]) -> Option<Vec<Record>> {
    let mut reader = Reader::open(Cursor::new(bytes)).ok()?;
    let mut records = Vec::new();
    while let Some(entries) = reader.next_part().expect("memory can be read") {
        for entry in entries {
            if let Entry::Records(more) = entry {
                records.extend(more);
                assert!(records.len() < MAX_RECORDS);
            }
        }
    }
    Some(records)
}

fn write(records: &[Record]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &About::default()).expect("memory can be written");
    let batch = Batch {
        notices: Vec::new(),
        records: records.to_vec(),
    };
    writer.batch(&batch).expect("memory can be written");
    writer.clock(1).expect("memory can be written");
    writer.finish().expect("memory can be written");
    writer.into_storage()
}

fuzz_target!(|data: &[u8]| {
    if let Some(records) = read(data) {
        assert_eq!(read(&write(&records)), Some(records));
    }
    // Checksums keep most changes from the inner decoder: it is reached through records that the
    // data itself makes.
    let parts = [128, 144, 192].into_iter().flat_map(|length| data.chunks(length));
    let records: Vec<Record> = parts.filter_map(|part| event::decode(part).ok()).collect();
    let mut recording = write(&records);
    assert_eq!(read(&recording), Some(records));
    for change in data.chunks_exact(3).take(8) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % recording.len();
        recording[at] ^= change[2];
    }
    let _ = read(&recording);
});
