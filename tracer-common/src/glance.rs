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

use crate::filter::{CGROUP, NETNS};

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
    /// [`CGROUP`]: the sending socket's cgroup id.
    pub cgroup: u64,
    /// [`NETNS`]: the inode number.
    pub netns: u32,
    /// [`NETNS`] or [`CGROUP`]: the place counts too; 0: it does not.
    pub kind: u32,
}

const _: () = assert!(size_of::<Glance>() == 48);

impl Glance {
    /// Whether the headers can be those of a packet that matches.
    #[must_use]
    #[inline(always)]
    pub fn fits(&self, words: Words) -> bool {
        (words[0] & self.mask[0]) ^ self.value[0] | (words[1] & self.mask[1]) ^ self.value[1] == 0
    }

    /// Whether the place can be that of a packet that matches; of it, what counts is asked for.
    #[must_use]
    #[inline(always)]
    pub fn fits_place(&self, netns: impl FnOnce() -> u32, cgroup: impl FnOnce() -> u64) -> bool {
        match self.kind as u8 {
            NETNS => netns() == self.netns,
            CGROUP => cgroup() == self.cgroup,
            _ => true,
        }
    }
}
