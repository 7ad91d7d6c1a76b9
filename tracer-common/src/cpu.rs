//! What the BPF programs keep per CPU: one map value, so that a hook needs one look-up.

use crate::hook;

/// What one hook did on one CPU since the programs were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HookCounters {
    /// Packets the hook looked at (IP packets; others are not counted).
    pub seen: u64,
    /// Packets that the filter or a followed flow matched.
    pub matched: u64,
    /// Matched packets whose event the ring buffer had no room for.
    pub lost: u64,
    /// Packets that were let go before it was looked whether they match: see [`crate::shed`].
    pub shed: u64,
}

/// What a packet was decided to be where a netfilter hook begins, for the same hook's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Undecided {
    /// The `sk_buff`'s address.
    pub skb: u64,
    /// [`crate::flow::FOLLOW`] or [`crate::flow::IGNORE`].
    pub decision: u64,
    /// What of the packet IPVS leaves alone, from its headers: a packet that a hook took is not
    /// known to have left, and its `sk_buff` may be another's by now.
    pub mark: u64,
}

/// How many packets may be inside netfilter hooks on one CPU at once and still be told apart:
/// a process, a softirq that interrupted it, and what is nested under br_netfilter.
pub const UNDECIDED: usize = 16;

/// The matched packet that this CPU is taking from a device to a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Receiving {
    /// The `sk_buff`'s address.
    pub skb: u64,
    /// Its data buffer (`sk_buff.head`), 0 when what was received last did not match.
    pub head: u64,
    /// The network namespace's inode number.
    pub netns: u32,
    /// The device's index.
    pub ifindex: u32,
    /// The device's name.
    pub device_name: [u64; 2],
}

/// The last packet that this CPU let go after a glance: at the hooks that follow, what was seen of it is
/// still true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Glanced {
    /// The `sk_buff`'s address; 0 when none was since the last one that was looked at.
    pub skb: u64,
    /// Where its IP header is, and was read.
    pub header: u64,
    /// What the glance said.
    pub glimpse: u64,
}

/// A connection of which a record of its tuples was asked for, where nothing is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Told {
    /// The `nf_conn`'s address.
    pub connection: u64,
    /// A number of the packet's tuple, and of the time: the address may be another connection's by now.
    pub tuple: u64,
}

/// How many of those are remembered on each CPU: of packets that nothing answers, each is one of a new connection
/// to conntrack.
pub const TOLD: usize = 16;

/// One CPU's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CpuState {
    /// By hook id.
    pub hooks: [HookCounters; hook::COUNT],
    /// Records written or lost by this CPU.
    pub order: u64,
    /// By hook and IP id.
    pub undecided: [Undecided; UNDECIDED],
    /// The last matched packet received here.
    pub receiving: Receiving,
    /// The last packet seen here, when nobody asked for it.
    pub glanced: Glanced,
    /// By the connection's address.
    pub told: [Told; TOLD],
}

const _: () = assert!(size_of::<HookCounters>() == 32);
const _: () = assert!(size_of::<Undecided>() == 24);
const _: () = assert!(size_of::<Receiving>() == 40);
const _: () = assert!(size_of::<Glanced>() == 24);
const _: () =
    assert!(size_of::<CpuState>() == 32 * hook::COUNT + 8 + 24 * UNDECIDED + 40 + 24 + 16 * TOLD);
