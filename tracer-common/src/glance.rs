//! What a packet must have at least to match: a weaker form of a filter that a few masks decide.
//!
//! Almost every packet on a busy node is one that nobody asked for, and each pays at each hook. So the
//! agent works out of a filter's program what no packet can do without, as alternatives of bits that
//! two words of its headers must have. A packet that fits none of them, and whose tuple is not
//! followed, is let go after one read and some comparisons. What fits is looked at closely, by the
//! program itself.
//!
//! Only the plainest packets are judged this way: IPv4 without options and not in fragments, TCP or
//! UDP, not a tunnel's. All others are looked at closely.

use crate::filter::{CGROUP, DEVICE, NETNS, Subject};

/// How many alternatives a filter has at most.
pub const MAX_GLANCES: usize = 8;

/// The two words: the source address and, above it, the destination; the source port, above it the
/// destination port and the protocol. Each in memory's order, as the headers have them.
pub type Words = [u64; 2];

/// Where in the words what begins, in bits.
pub const SOURCE: u32 = 0;
/// See [`SOURCE`].
pub const DESTINATION: u32 = 32;
/// See [`SOURCE`]; of the second word.
pub const SOURCE_PORT: u32 = 0;
/// See [`SOURCE`]; of the second word.
pub const DESTINATION_PORT: u32 = 16;
/// See [`SOURCE`]; of the second word.
pub const PROTOCOL: u32 = 32;

/// One alternative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Glance {
    /// The bits of the words that count.
    pub mask: Words,
    /// What they are.
    pub value: Words,
    /// What the place's name or id is, by `kind`.
    pub place: [u64; 2],
    /// [`NETNS`]: the inode number.
    pub number: u32,
    /// [`NETNS`], [`DEVICE`] or [`CGROUP`]: the place counts too; 0: it does not.
    pub kind: u32,
}

const _: () = assert!(size_of::<Glance>() == 56);

impl Glance {
    /// Whether the headers can be those of a packet that matches.
    #[must_use]
    #[inline(always)]
    pub fn fits(&self, words: Words) -> bool {
        (words[0] & self.mask[0]) ^ self.value[0] | (words[1] & self.mask[1]) ^ self.value[1] == 0
    }

    /// Whether the place can be that of a packet that matches.
    #[must_use]
    pub fn fits_place(&self, subject: &Subject) -> bool {
        match u8::try_from(self.kind) {
            Ok(NETNS) => subject.netns == self.number,
            Ok(DEVICE) => subject.device_name == self.place,
            Ok(CGROUP) => subject.cgroup == self.place[0],
            _ => true,
        }
    }
}
