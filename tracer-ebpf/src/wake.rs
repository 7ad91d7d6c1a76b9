//! When the agent is woken: see [`tracer_common::reader`].

use aya_ebpf::bindings::{
    BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE,
};
use tracer_common::reader::{AWAKE, BY_CLOCK, BY_RECORD, PART};

use crate::maps::{EVENTS, READER};

/// Of so many records of a CPU one looks how full the ring is.
const EVERY: u64 = 64;

/// How a record is to be submitted.
#[inline(always)]
pub(crate) fn wake(order: u64) -> u64 {
    u64::from(if is_due(order) {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    })
}

/// Whether the agent is to be woken; it is taken for awake then.
#[inline(always)]
fn is_due(order: u64) -> bool {
    // Two CPUs may both wake the agent, which is no harm; where its word of just now is overwritten, it looks at
    // the ring by its clock.
    let waits = READER.load();
    let due =
        waits == BY_RECORD || waits == BY_CLOCK && order.is_multiple_of(EVERY) && is_filling() != 0;
    if due {
        READER.store(AWAKE);
    }
    due
}

#[inline(never)]
fn is_filling() -> u64 {
    let taken = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    u64::from(taken > EVENTS.query(u64::from(BPF_RB_RING_SIZE)) / PART)
}
