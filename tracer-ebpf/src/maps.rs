//! The maps.

use core::cell::UnsafeCell;

use aya_ebpf::{
    bindings::BPF_F_NO_COMMON_LRU,
    macros::map,
    maps::{LruHashMap, PerCpuArray, RingBuf},
};
use tracer_common::{
    cpu::CpuState,
    filter::Program,
    flow::{FlowKey, Followed, Owner},
    record::Capture,
};

use crate::probe::Call;

/// A value of which there is one, which the agent writes: an array of one element to it, and to the programs
/// memory that they address themselves, without a look-up. Its section is the map's name.
#[repr(transparent)]
pub(crate) struct Single<T>(UnsafeCell<T>);

// SAFETY: integers, of which any mixture of old and new is a value; what must change at once is one word.
unsafe impl<T: Copy> Sync for Single<T> {}

impl<T: Copy> Single<T> {
    /// All bytes zero.
    ///
    /// # Safety
    /// `T` must be integers.
    const unsafe fn zero() -> Self {
        // SAFETY: the caller's.
        Self(UnsafeCell::new(unsafe { core::mem::zeroed() }))
    }

    /// Lasts as long as the program runs.
    #[inline(always)]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: the map outlives the program; what the agent writes meanwhile is loaded as it comes, and any
        // mixture of it is a value.
        unsafe { &*self.0.get() }
    }

    /// As it is now: loaded each time.
    #[inline(always)]
    pub(crate) fn load(&self) -> T {
        // SAFETY: see above.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn store(&self, value: T) {
        // SAFETY: see above.
        unsafe { self.0.get().write_volatile(value) }
    }
}

/// The records. The agent sets the size.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// The filter.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.filter")]
pub(crate) static FILTER: Single<Program> =
    // SAFETY: integers.
    unsafe { Single::zero() };

/// The followed tuples. The agent sets the size.
#[map]
pub(crate) static FOLLOWED: LruHashMap<FlowKey, Followed> =
    LruHashMap::with_max_entries(1 << 16, 0);

/// The places of tuples that were followed at some time: one byte for all whose hashes agree, 1 when
/// one of them was. Not a map with look-ups but memory that the programs address themselves.
#[unsafe(no_mangle)]
pub(crate) static MARKED: Marked = Marked(UnsafeCell::new([0; 1 << MARKED_BITS]));

/// As many places as twice the tuples that are followed at most by default.
pub(crate) const MARKED_BITS: u32 = 17;

/// Bytes that all CPUs write, one value only.
#[repr(transparent)]
pub(crate) struct Marked(UnsafeCell<[u8; 1 << MARKED_BITS]>);

// SAFETY: the programs load and store single bytes, which is atomic, and store nothing but 1.
unsafe impl Sync for Marked {}

impl Marked {
    #[inline(always)]
    pub(crate) fn get(&self) -> *mut [u8; 1 << MARKED_BITS] {
        self.0.get()
    }
}

/// The calls of `nf_hook_slow` under way, where kprobes see them. The agent sets the size. Each CPU
/// evicts its own oldest only: calls that were not seen returning, not those of another CPU.
#[map]
pub(crate) static CALLS: LruHashMap<u64, Call> =
    LruHashMap::with_max_entries(1, BPF_F_NO_COMMON_LRU);

/// The processes that made sockets, by the sockets' cookies. The oldest go first, about; of a socket
/// whose packets match, the agent has learnt by then.
#[map]
pub(crate) static OWNERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(1 << 14, 0);

/// Of which packets bytes are taken.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.capture")]
pub(crate) static CAPTURE: Single<Capture> =
    // SAFETY: as above.
    unsafe { Single::zero() };

/// How many packets are let go unseen: see [`tracer_common::shed`].
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.shed")]
pub(crate) static SHED: Single<u32> =
    // SAFETY: as above.
    unsafe { Single::zero() };

/// What the agent waits for: see [`tracer_common::reader`].
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.reader")]
pub(crate) static READER: Single<u32> =
    // SAFETY: as above.
    unsafe { Single::zero() };

/// Counters and what is under way on each CPU, one element.
#[map]
pub(crate) static CPU: PerCpuArray<CpuState> = PerCpuArray::with_max_entries(1, 0);
