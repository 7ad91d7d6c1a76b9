//! Netfilter hooks by kprobe and kretprobe of `nf_hook_slow`: where fentry programs are refused, or
//! the machine has none (arm64 before 6.4), and there are no netfilter links.
//!
//! A kprobe is given registers: pointers without types, read by probe reads. A kretprobe has no
//! arguments any more, so the beginning of the call leaves them for its end, under the stack pointer:
//! that tells the calls apart that are under way, on every CPU, nested (br_netfilter, IPVS), and
//! also when the process is moved to another CPU inside an OUTPUT hook.
//!
//! The kernel may miss a return: it keeps track of a limited number of calls (`maxactive`: at least
//! ten, or before 6.1 without preemption one for each CPU). Then the hook is not seen to be left. What
//! such a call left here is overwritten by the next one at the same place of a stack, before that one
//! can return; so no return is taken for another's.
#![expect(
    clippy::needless_pass_by_value,
    reason = "aya's macros give contexts by value"
)]

use aya_ebpf::{
    EbpfContext as _,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tracer_common::{hook, stand_in::RETURN_ADDRESS};

use crate::{
    fields::constant,
    fields::{CALL_FIRST, CALL_RESULT, CALL_SECOND, CALL_STACK},
    maps::CALLS,
    matching::{Decision, UNKNOWN},
    memory::{Pointer, Untyped},
    netfilter::{PASSED, State, observe},
    skb::Skb,
};

/// A call under way.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Call {
    /// The `sk_buff`'s address; 0 where the call is none of an IP hook.
    skb: u64,
    /// The `nf_hook_state`'s: the caller has it, in its own frame, until the call is over.
    state: u64,
    /// What was decided, for the end.
    kept: Decision,
}

impl Call {
    #[inline(always)]
    fn state(&self) -> State<Untyped> {
        State(Pointer::new(self.state))
    }

    #[inline(always)]
    fn skb(&self) -> Skb<Untyped> {
        Skb(Pointer::new(self.skb))
    }
}

/// Registers where a function was entered or has returned.
struct Registers(Pointer<Untyped>);

impl Registers {
    /// Whether this machine's registers are known.
    #[inline(always)]
    fn are_known() -> bool {
        !CALL_FIRST.is_absent()
            && !CALL_SECOND.is_absent()
            && !CALL_RESULT.is_absent()
            && !CALL_STACK.is_absent()
    }

    #[inline(always)]
    fn stack(&self) -> u64 {
        // SAFETY: a register, an integer of that size.
        unsafe { self.0.load(CALL_STACK) }
    }

    #[inline(always)]
    fn arguments(&self) -> (u64, u64) {
        // SAFETY: as above.
        unsafe { (self.0.load(CALL_FIRST), self.0.load(CALL_SECOND)) }
    }

    #[inline(always)]
    fn result(&self) -> i32 {
        // SAFETY: as above; an int is its lower half, and the machine little-endian.
        unsafe { self.0.load(CALL_RESULT) }
    }
}

/// `int nf_hook_slow(skb, state, entries, index)` begins (the same arguments from 4.14 to 7.x).
#[kprobe]
pub(crate) fn netfilter_call(ctx: ProbeContext) -> u32 {
    let registers = Registers(Pointer::new(ctx.as_ptr() as u64));
    if !Registers::are_known() {
        return 0;
    }
    let (skb, state) = registers.arguments();
    let mut call = Call {
        skb,
        state,
        kept: UNKNOWN,
    };
    let is_ip = call.state().is_ip();
    if !is_ip {
        call.skb = 0;
    }
    let Some(call) = begun(registers.stack(), &call, is_ip) else {
        return 0;
    };
    if is_ip {
        observe(
            call.state(),
            call.skb(),
            hook::NETFILTER_ENTER,
            &mut call.kept,
        );
    }
    0
}

/// Notes the call in the place of the last one with that stack pointer; makes a place only for one
/// that is to be found again.
#[inline(always)]
fn begun(stack: u64, call: &Call, lasting: bool) -> Option<&'static mut Call> {
    if let Some(place) = CALLS.get_ptr_mut(stack) {
        // SAFETY: a map value lives until the program ends, and nobody else has this stack.
        let place = unsafe { &mut *place };
        *place = *call;
        return Some(place);
    }
    if !lasting {
        return None;
    }
    // It can fail for lack of memory only: then the end is not found.
    CALLS.insert(stack, call, 0).ok()?;
    // SAFETY: as above.
    CALLS.get_ptr_mut(stack).map(|place| unsafe { &mut *place })
}

/// `nf_hook_slow` has returned. What did not pass is not to be touched any more.
#[kretprobe]
pub(crate) fn netfilter_return(ctx: RetProbeContext) -> u32 {
    let registers = Registers(Pointer::new(ctx.as_ptr() as u64));
    if !Registers::are_known() {
        return 0;
    }
    let stack = registers.stack() - constant::<RETURN_ADDRESS>();
    // SAFETY: the value is integers; nobody else has this stack.
    let Some(mut call) = (unsafe { CALLS.get(stack) }).copied() else {
        return 0;
    };
    let _ = CALLS.remove(stack);
    if call.skb != 0 && registers.result() == PASSED {
        let (state, skb) = (call.state(), call.skb());
        observe(state, skb, hook::NETFILTER_LEAVE, &mut call.kept);
    }
    0
}
