//! Chunks: what a recording file is made of.
//!
//! A file is its signature and then chunks, one after the other. A chunk is a header of fixed size
//! and a payload, each with its own CRC-32: a damaged payload costs that chunk only, and where a
//! header is damaged the next one is found by its marker. A chunk is written at once and never
//! changed, so that what was written before a crash stays whole.
//!
//! All integers are little-endian.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// What a file begins with: no text file does, and a transfer that changes line ends breaks it.
pub(super) const SIGNATURE: [u8; 12] = *b"\x89KPTRACE\r\n\x1a\n";
/// The version of the format. A reader refuses others in the first number; the second grows when
/// something is added that older readers may skip.
pub const VERSION: [u16; 2] = [1, 2];
/// Signature and version.
pub(super) const PREAMBLE: usize = SIGNATURE.len() + 4;

/// What each chunk's header begins with.
const MARKER: [u8; 4] = *b"\xc5KPc";
/// Bytes of a chunk's header.
pub(super) const HEADER: usize = 52;
/// The longest payload, as stored and as it is when decompressed: that of what a node with very many rules knows.
const MAX_PAYLOAD: u32 = 64 << 20;
/// The same of records and marks, which a writer collects up to a quarter of that.
const MAX_EVENTS: u32 = 16 << 20;
/// zstd's fastest ordinary level: the columns leave little for a higher one to find.
const LEVEL: i32 = 1;

/// What a chunk holds. Readers skip kinds that they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkKind(pub u8);

impl ChunkKind {
    /// What the recording is: JSON of [`super::About`]. The first chunk.
    pub const ABOUT: Self = Self(1);
    /// What the node knew from then on: JSON of a snapshot.
    pub const NODE: Self = Self(2);
    /// Records and marks.
    pub const EVENTS: Self = Self(3);
    /// Where the chunks before it are. The last chunk.
    pub const INDEX: Self = Self(4);
    /// What holds on from what was said before: JSON of [`super::standing::Standing`]. Since 1.1.
    pub const STANDING: Self = Self(5);

    /// The longest payload of such a chunk, in bytes.
    const fn most(self) -> u32 {
        match self {
            Self::EVENTS => MAX_EVENTS,
            _ => MAX_PAYLOAD,
        }
    }
}

/// A chunk's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What it holds.
    pub kind: ChunkKind,
    /// The first time that it covers, nanoseconds of the recording's `CLOCK_MONOTONIC`.
    pub first: u64,
    /// The last time that it covers.
    pub last: u64,
    /// How many records it holds.
    pub records: u32,
    /// Its number in the file, from 0.
    pub number: u32,
    /// Bytes of the payload as stored.
    pub stored: u32,
    /// Bytes of the payload when decompressed.
    pub length: u32,
    /// CRC-32 of the payload as stored.
    checksum: u32,
}

/// Why bytes are not a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    /// They do not begin as one, or the header's checksum is wrong.
    #[error("no chunk begins here")]
    Header,
    /// The payload's checksum is wrong.
    #[error("its checksum is wrong")]
    Checksum,
    /// It claims to be longer than chunks are.
    #[error("it is longer than any chunk may be")]
    Length,
    /// It cannot be decompressed to the length that it claims.
    #[error("it cannot be decompressed")]
    Compression,
}

/// A whole chunk's bytes.
pub(super) fn encode(
    kind: ChunkKind,
    times: (u64, u64),
    records: u32,
    number: u32,
    content: &[u8],
) -> std::io::Result<Bytes> {
    let too_long = |_| std::io::Error::other("a chunk of a recording is too long");
    let length = u32::try_from(content.len()).map_err(too_long)?;
    let most = kind.most();
    if length > most {
        return Err(std::io::Error::other(format!(
            "a chunk of {length} bytes is more than a recording may have ({most})"
        )));
    }
    let payload = zstd::bulk::compress(content, LEVEL)?;
    let mut bytes = BytesMut::with_capacity(HEADER + payload.len());
    bytes.put_slice(&MARKER);
    bytes.put_u8(kind.0);
    bytes.put_slice(&[0; 3]);
    bytes.put_u64_le(times.0);
    bytes.put_u64_le(times.1);
    bytes.put_u32_le(records);
    bytes.put_u32_le(number);
    bytes.put_u32_le(u32::try_from(payload.len()).map_err(too_long)?);
    bytes.put_u32_le(length);
    bytes.put_u32_le(crc32fast::hash(&payload));
    // Room for what a later version of the header may need.
    bytes.put_u32_le(0);
    let checksum = crc32fast::hash(&bytes);
    bytes.put_u32_le(checksum);
    debug_assert_eq!(bytes.len(), HEADER);
    bytes.put_slice(&payload);
    Ok(bytes.freeze())
}

/// Reads a header.
///
/// # Errors
/// [`ChunkError::Header`] and [`ChunkError::Length`].
pub(super) fn header(bytes: &[u8; HEADER]) -> Result<Header, ChunkError> {
    let (content, mut checksum) = bytes.split_at(HEADER - 4);
    if !content.starts_with(&MARKER) || crc32fast::hash(content) != checksum.get_u32_le() {
        return Err(ChunkError::Header);
    }
    let mut rest = &content[MARKER.len()..];
    let kind = ChunkKind(rest.get_u8());
    rest.advance(3);
    let header = Header {
        kind,
        first: rest.get_u64_le(),
        last: rest.get_u64_le(),
        records: rest.get_u32_le(),
        number: rest.get_u32_le(),
        stored: rest.get_u32_le(),
        length: rest.get_u32_le(),
        checksum: rest.get_u32_le(),
    };
    if header.stored.max(header.length) > kind.most() {
        return Err(ChunkError::Length);
    }
    Ok(header)
}

/// Where in the bytes a header may begin: the first marker, or the beginning of one at the end.
pub(super) fn find_marker(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|&at| {
        let rest = &bytes[at..];
        let length = rest.len().min(MARKER.len());
        rest[..length] == MARKER[..length]
    })
}

/// The payload, decompressed.
///
/// # Errors
/// [`ChunkError::Checksum`] and [`ChunkError::Compression`].
pub(super) fn content(header: &Header, payload: &[u8]) -> Result<Bytes, ChunkError> {
    if crc32fast::hash(payload) != header.checksum {
        return Err(ChunkError::Checksum);
    }
    let content = zstd::bulk::decompress(payload, header.length as usize)
        .map_err(|_| ChunkError::Compression)?;
    if content.len() == header.length as usize {
        Ok(Bytes::from(content))
    } else {
        Err(ChunkError::Compression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk() -> Bytes {
        encode(ChunkKind::NODE, (5, 6), 7, 8, b"hello hello hello hello").unwrap()
    }

    fn read(bytes: &[u8]) -> Result<(Header, Bytes), ChunkError> {
        let (first, payload) = bytes.split_first_chunk().ok_or(ChunkError::Header)?;
        let header = header(first)?;
        let payload = payload
            .get(..header.stored as usize)
            .ok_or(ChunkError::Checksum)?;
        Ok((header, content(&header, payload)?))
    }

    #[test]
    fn a_chunk_comes_back() {
        let (header, content) = read(&chunk()).unwrap();
        assert_eq!(header.kind, ChunkKind::NODE);
        let numbers = (header.first, header.last, header.records, header.number);
        assert_eq!(numbers, (5, 6, 7, 8));
        assert_eq!(content, &b"hello hello hello hello"[..]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = chunk();
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn markers_are_found_also_when_cut() {
        assert_eq!(find_marker(b"abc\xc5KPcdef"), Some(3));
        assert_eq!(find_marker(b"abc\xc5K"), Some(3));
        assert_eq!(find_marker(b"abc\xc5Xdef"), None);
    }
}
