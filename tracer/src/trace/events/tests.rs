//! What is written comes back, whatever it is; what is not ours is refused.

use bytes::Bytes;
use proptest::prelude::*;
use tracer_common::{hook, record};

use super::{Encoder, Item, MAX_RECORDS, decode};
use crate::event::{self, Record};

/// A record of any content that the decoder of the ring lets through.
pub(in crate::trace) fn any_record() -> impl Strategy<Value = Record> {
    (
        prop_oneof![
            Just(record::KIND_EVENT),
            Just(record::KIND_WIDE_EVENT),
            Just(record::KIND_CONNTRACK)
        ],
        0..hook::COUNT,
        proptest::collection::vec(any::<u8>(), 192),
        // How much of it is zero: records that differ in everything are not what is written.
        proptest::collection::vec(0..4_u8, 192),
    )
        .prop_map(|(kind, hook, mut bytes, zeros)| {
            for (byte, zero) in bytes.iter_mut().zip(zeros) {
                if zero > 0 {
                    *byte = 0;
                }
            }
            bytes.truncate(match kind {
                record::KIND_EVENT => 144,
                record::KIND_WIDE_EVENT => 192,
                _ => 104,
            });
            bytes[8] = kind;
            if kind != record::KIND_CONNTRACK {
                bytes[9] = u8::try_from(hook).unwrap();
            }
            event::decode(&bytes).unwrap()
        })
}

/// Some records, some of them several times, as packets are seen at several hooks.
pub(in crate::trace) fn any_records() -> impl Strategy<Value = Vec<Record>> {
    (
        proptest::collection::vec(any_record(), 1..20),
        proptest::collection::vec((any::<prop::sample::Index>(), any::<u16>()), 0..60),
    )
        .prop_map(|(kinds, picks)| {
            picks
                .iter()
                .map(|(pick, later)| {
                    let mut record = *pick.get(&kinds);
                    if let Record::Event(event) = &mut record {
                        event.record.time = event.record.time.wrapping_add(u64::from(*later));
                    }
                    record
                })
                .collect()
        })
}

fn items(content: Bytes) -> Vec<Item> {
    let mut items = Vec::new();
    decode(content, |item| items.push(item)).unwrap();
    items
}

proptest! {
    #[test]
    fn records_come_back(records in any_records(), more in any_records()) {
        let mut encoder = Encoder::default();
        for part in [&records, &more] {
            for record in part {
                encoder.record(record);
            }
            prop_assert_eq!(encoder.records() as usize, part.len());
            let read = items(encoder.take().freeze());
            let expected: Vec<Item> = (!part.is_empty()).then(|| Item::Records(part.clone())).into_iter().collect();
            prop_assert_eq!(read, expected);
            prop_assert!(encoder.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(Bytes::from(bytes), |_| {});
    }

    #[test]
    fn changed_bytes_are_decoded_or_refused(
        records in any_records(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut encoder = Encoder::default();
        for record in &records {
            encoder.record(record);
        }
        let mut content = encoder.take();
        let at = at.index(content.len());
        content[at] = byte;
        let mut count = 0;
        let _ = decode(content.freeze(), |item| {
            if let Item::Records(records) = item {
                count += records.len();
            }
        });
        prop_assert!(count <= MAX_RECORDS as usize);
    }
}

#[test]
fn marks_stand_where_they_stood() {
    let record = event::decode(&{
        let mut bytes = [0; 144];
        bytes[8] = record::KIND_EVENT;
        bytes
    })
    .unwrap();
    let mut encoder = Encoder::default();
    encoder.clock(100);
    encoder.record(&record);
    encoder.record(&record);
    encoder.notice(b"{}");
    encoder.record(&record);
    encoder.location(77, "f+0x1");
    encoder.clock(90);
    assert_eq!(encoder.times(), Some((0, 100)));
    assert_eq!(
        items(encoder.take().freeze()),
        [
            Item::Clock(100),
            Item::Records(vec![record; 2]),
            Item::Notice(Bytes::from_static(b"{}")),
            Item::Records(vec![record]),
            Item::Location(77, "f+0x1".to_owned()),
            Item::Clock(90),
        ]
    );
}

#[test]
fn more_records_than_a_chunk_may_have_are_refused_before_there_is_room_for_them() {
    // Fifteen empty columns behind one with a mark of 2^32-1 records.
    let mut content = vec![6];
    content.extend([0; super::COLUMNS - 1]);
    content.extend([0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(decode(Bytes::from(content), |_| {}).is_err());
}
