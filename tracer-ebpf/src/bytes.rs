//! A packet's first bytes, of the packets of which the agent wants them.
//!
//! Taken where a socket takes the packet, once for each socket, and, of packets that match, where a
//! socket sends one. There the buffer is the programs' context, so that the helper may be called that
//! finds bytes wherever in the buffer they are: TCP's payload is mostly in pages of its own.

use aya_ebpf::{
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use tracer_common::{
    cpu::CpuState,
    record::{Bytes, KIND_BYTES, MAX_BYTES},
};

use crate::{
    emit,
    header::{UDP, byte, short},
    maps::{CAPTURE, EVENTS},
    memory,
    packet::Packet,
    plain::Words,
    wake::wake,
};

/// Where a packet is when its bytes are taken: as the record has it.
pub(crate) struct At {
    pub(crate) hook: u8,
    pub(crate) skb: u64,
    pub(crate) netns: u32,
}

/// What of a packet says whether it may be a DNS answer.
pub(crate) struct Sender {
    pub(crate) protocol: u64,
    pub(crate) port: u16,
    /// Bytes of the packet, which the verifier knows nothing of.
    pub(crate) noise: u64,
}

impl From<&Packet> for Sender {
    #[inline(always)]
    fn from(packet: &Packet) -> Self {
        let tuple = &packet.header.tuple;
        Self {
            protocol: tuple.protocol(),
            port: tuple.source_port(),
            noise: tuple.source[1],
        }
    }
}

impl From<&Words> for Sender {
    #[inline(always)]
    fn from(&[_, second, third, ..]: &Words) -> Self {
        Self {
            protocol: byte(second, 1).into(),
            port: short(third, 4),
            noise: second,
        }
    }
}

/// An IP header: less is not taken.
const LEAST: u64 = 20;
/// DNS.
const ANSWERS_FROM: u16 = 53;

/// Writes the first bytes of a packet, if they are wanted. The context's data begin at its IP header.
#[inline(always)]
pub(crate) fn take(cpu: &mut CpuState, ctx: &SkBuffContext, sender: &Sender, at: &At) {
    let capture = CAPTURE.get();
    let mut wanted = u64::from(capture.length);
    if sender.protocol == UDP && sender.port == ANSWERS_FROM {
        wanted = wanted.max(u64::from(capture.answers));
    }
    let length = ctx.len();
    if wanted < LEAST || u64::from(length) < LEAST {
        return;
    }
    let order = cpu.order;
    emit::count(&mut cpu.order);
    let Some(mut entry) = EVENTS.reserve::<Bytes>(0) else {
        // The gap in the order shows it.
        return;
    };
    let to = entry.as_mut_ptr();
    // SAFETY: the entry is reserved memory of the record's size, and no more is read into it than
    // there is room for.
    unsafe {
        (*to).time = bpf_ktime_get_ns();
        (*to).kind = KIND_BYTES;
        (*to).hook = at.hook;
        (*to).cpu = bpf_get_smp_processor_id() as u16;
        (*to).order = order as u32;
        (*to).skb = at.skb;
        (*to).netns = at.netns;
        (*to).length = length;
        (*to).reserved = 0;
        let bytes = (&raw mut (*to).bytes).cast();
        // Bounded again where the verifier sees it: what it knew of a number that was on the stack
        // meanwhile, older ones have lost, and the compiler joins two comparisons to one of another number.
        let mut taken = memory::forget(wanted.min(u64::from(length)), sender.noise);
        if taken > MAX_BYTES as u64 {
            taken = MAX_BYTES as u64;
        }
        if taken < LEAST {
            taken = LEAST;
        }
        let loaded = bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, bytes, taken as u32);
        (*to).taken = if loaded == 0 { taken as u32 } else { 0 };
    }
    entry.submit(wake(order));
}
