//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng), little-endian on every machine.
//!
//! Three kinds are written, so the few lines that it takes stand here; a reader that others wrote
//! reads them back in the tests.

/// What a packet's block holds.
pub(super) struct Captured<'a> {
    pub(super) interface: u32,
    /// Nanoseconds since 1970.
    pub(super) time: u64,
    /// What is there of the packet.
    pub(super) bytes: &'a [u8],
    /// How long it was.
    pub(super) length: u32,
}

/// What a section is.
pub(super) struct Section<'a> {
    pub(super) comment: &'a str,
    pub(super) system: &'a str,
    pub(super) program: &'a str,
}

/// A block in the making.
pub(super) struct Block(Vec<u8>);

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Raw IP: the first byte says which version.
const LINKTYPE_RAW: u16 = 101;
/// Times are counted in 10 to the minus ninth.
const NANOSECONDS: u8 = 9;
/// An option's text is cut beyond that; the format's own limit is 65,535.
const MAX_TEXT: usize = 16 << 10;

const COMMENT: u16 = 1;

/// A section's header. The section's length is left open.
pub(super) fn section(about: &Section<'_>) -> Vec<u8> {
    let mut block = Block::new(SECTION);
    block.u32(BYTE_ORDER);
    block.u16(1);
    block.u16(0);
    block.u32(u32::MAX);
    block.u32(u32::MAX);
    block.comment(about.comment);
    block.text(3, about.system);
    block.text(4, about.program);
    block.finish()
}

/// An interface's description.
pub(super) fn interface(name: &str, description: &str) -> Vec<u8> {
    let mut block = Block::new(INTERFACE);
    block.u16(LINKTYPE_RAW);
    block.u16(0);
    // No limit.
    block.u32(0);
    block.text(2, name);
    block.text(3, description);
    block.option(9, &[NANOSECONDS]);
    block.finish()
}

impl Block {
    fn new(kind: u32) -> Self {
        let mut block = Self(Vec::with_capacity(512));
        block.u32(kind);
        // The length, once it is known.
        block.u32(0);
        block
    }

    /// An enhanced packet block.
    pub(super) fn packet(captured: &Captured<'_>) -> Self {
        let mut block = Self::new(PACKET);
        block.u32(captured.interface);
        let [low, high] = [captured.time, captured.time >> 32].map(|half| half & 0xffff_ffff);
        block.u32(u32::try_from(high).unwrap_or(0));
        block.u32(u32::try_from(low).unwrap_or(0));
        block.u32(length_of(captured.bytes));
        block.u32(captured.length.max(length_of(captured.bytes)));
        block.0.extend_from_slice(captured.bytes);
        block.pad();
        block
    }

    /// What is to be said of what the block describes.
    pub(super) fn comment(&mut self, text: &str) {
        self.text(COMMENT, text);
    }

    /// Of a packet: 1 inbound, 2 outbound.
    pub(super) fn flags(&mut self, flags: u32) {
        self.option(2, &flags.to_le_bytes());
    }

    /// Of a packet: the same wherever the same packet was seen.
    pub(super) fn packet_id(&mut self, id: u64) {
        self.option(5, &id.to_le_bytes());
    }

    /// The end of the options, and the block's length on both its ends.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.option(0, &[]);
        let length = length_of(&self.0).saturating_add(4);
        self.0[4..8].copy_from_slice(&length.to_le_bytes());
        self.u32(length);
        self.0
    }

    fn text(&mut self, code: u16, text: &str) {
        let mut end = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.option(code, &text.as_bytes()[..end]);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.u16(code);
        self.u16(u16::try_from(value.len()).unwrap_or(0));
        self.0.extend_from_slice(value);
        self.pad();
    }

    fn u16(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
