//! The index at a recording's end: where its chunks are, and which times they cover.
//!
//! The last chunk holds it, and a trailer of fixed size behind that says where the chunk begins. A
//! recording without one, because it was not ended well, is read once from header to header to make
//! the same index.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::chunk::{ChunkKind, Header};

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Where its header begins, in bytes from the file's start.
    pub offset: u64,
    /// What it holds.
    pub kind: ChunkKind,
    /// The first time that it covers, nanoseconds of the recording's `CLOCK_MONOTONIC`.
    pub first: u64,
    /// The last time.
    pub last: u64,
    /// How many records it holds.
    pub records: u32,
}

impl IndexEntry {
    pub(super) fn new(offset: u64, header: &Header) -> Self {
        Self {
            offset,
            kind: header.kind,
            first: header.first,
            last: header.last,
            records: header.records,
        }
    }
}

/// Bytes of an entry.
const ENTRY: usize = 29;
/// What the trailer ends with.
const MARKER: [u8; 8] = *b"KPTREND\n";
/// Bytes of the trailer.
pub(super) const TRAILER: usize = 8 + MARKER.len();

pub(super) fn encode(entries: &[IndexEntry]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(entries.len() * ENTRY);
    for entry in entries {
        bytes.put_u64_le(entry.offset);
        bytes.put_u8(entry.kind.0);
        bytes.put_u64_le(entry.first);
        bytes.put_u64_le(entry.last);
        bytes.put_u32_le(entry.records);
    }
    bytes.freeze()
}

/// The entries; `None` when they are not in order or not whole.
pub(super) fn decode(mut bytes: Bytes) -> Option<Vec<IndexEntry>> {
    if !bytes.len().is_multiple_of(ENTRY) {
        return None;
    }
    let mut entries: Vec<IndexEntry> = Vec::with_capacity(bytes.len() / ENTRY);
    while bytes.has_remaining() {
        let entry = IndexEntry {
            offset: bytes.get_u64_le(),
            kind: ChunkKind(bytes.get_u8()),
            first: bytes.get_u64_le(),
            last: bytes.get_u64_le(),
            records: bytes.get_u32_le(),
        };
        if entries
            .last()
            .is_some_and(|last| last.offset >= entry.offset)
        {
            return None;
        }
        entries.push(entry);
    }
    Some(entries)
}

/// What stands behind the index's chunk, which begins at an offset.
pub(super) fn trailer(offset: u64) -> [u8; TRAILER] {
    let mut bytes = [0; TRAILER];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..].copy_from_slice(&MARKER);
    bytes
}

/// Where the index's chunk begins; `None` where the bytes are no trailer.
pub(super) fn find(trailer: &[u8; TRAILER]) -> Option<u64> {
    let (mut offset, marker) = trailer.split_at(8);
    (marker == MARKER).then(|| offset.get_u64_le())
}
