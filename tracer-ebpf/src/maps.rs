//! The maps.

use core::cell::UnsafeCell;

use aya_ebpf::{
    bindings::BPF_F_NO_COMMON_LRU,
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_common::{
    cpu::CpuState,
    filter::Program,
    flow::{FlowKey, Followed, Owner},
    record::Capture,
};

use crate::probe::Call;

/// The records. The agent sets the size.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// The filter, one element.
#[map]
pub(crate) static FILTER: Array<Program> = Array::with_max_entries(1, 0);

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

/// Of which packets bytes are taken, one element.
#[map]
pub(crate) static CAPTURE: Array<Capture> = Array::with_max_entries(1, 0);

/// How many packets are let go unseen, one element: see [`tracer_common::shed`].
#[map]
pub(crate) static SHED: Array<u32> = Array::with_max_entries(1, 0);

/// What the agent waits for, one element: see [`tracer_common::reader`].
#[map]
pub(crate) static READER: Array<u32> = Array::with_max_entries(1, 0);

/// Counters and what is under way on each CPU, one element.
#[map]
pub(crate) static CPU: PerCpuArray<CpuState> = PerCpuArray::with_max_entries(1, 0);
