//! When the agent is woken: for many records at once, and for the first one while it sleeps.
//!
//! With traffic the agent looks by its own clock, some records early it is woken. Without, it says that it
//! sleeps, and the next record wakes it, once: so an event is shown soon after a silence, and a silence
//! takes no looking.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};

use crate::maps::READER;

/// So many records wake it.
const EVERY: u64 = 256;

/// How a record is to be submitted.
#[inline(always)]
pub(crate) fn wake(order: u64) -> u64 {
    u64::from(if order.is_multiple_of(EVERY) || sleeps() {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    })
}

/// Whether the agent sleeps; it is about to be woken then.
#[inline(always)]
fn sleeps() -> bool {
    let Some(sleeps) = READER.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a map value lives until the program ends. Two CPUs may both wake the agent, which is no
    // harm; a word that the agent writes meanwhile is looked at again by its clock.
    unsafe {
        if core::ptr::read_volatile(sleeps) == 0 {
            return false;
        }
        core::ptr::write_volatile(sleeps, 0);
    }
    true
}
