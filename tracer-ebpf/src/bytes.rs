//! A packet's first bytes, of the packets of which the agent wants them.
//!
//! Taken where a socket takes the packet: of a packet that arrives, once for each socket. Off, that costs
//! nothing to packets that do not match, and others one look-up.

use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_kernel,
};
use tracer_common::{
    cpu::CpuState,
    hook,
    record::{Bytes, KIND_BYTES, MAX_BYTES},
};

use crate::{
    emit,
    header::UDP,
    maps::{CAPTURE, EVENTS},
    packet::Packet,
};

/// Where the packet's bytes are.
pub(crate) struct Extent {
    /// The IP header's kernel address.
    pub(crate) at: u64,
    /// How many bytes of the buffer's linear part begin there.
    pub(crate) linear: u64,
    /// The packet's length.
    pub(crate) length: u32,
}

/// Writes the first bytes of a packet that a socket takes, if they are wanted.
#[inline(always)]
pub(crate) fn take(cpu: &mut CpuState, packet: &Packet, of: &Extent) {
    let Some(capture) = CAPTURE.get(0) else {
        return;
    };
    let tuple = &packet.header.tuple;
    let from = u64::from(capture.source_port);
    let wanted = from == 0 || tuple.protocol() == UDP && u64::from(tuple.source_port()) == from;
    if capture.length == 0 || !wanted {
        return;
    }
    let order = cpu.order;
    emit::count(&mut cpu.order);
    let Some(mut entry) = EVENTS.reserve::<Bytes>(0) else {
        // The gap in the order shows it.
        return;
    };
    // What is behind the linear part is elsewhere.
    let mut taken = u64::from(capture.length).min(of.linear);
    taken = taken.min(u64::from(of.length));
    if taken > MAX_BYTES as u64 {
        taken = MAX_BYTES as u64;
    }
    let to = entry.as_mut_ptr();
    // SAFETY: the entry is reserved memory of the record's size, and no more is read into it than
    // there is room for.
    unsafe {
        (*to).time = bpf_ktime_get_ns();
        (*to).kind = KIND_BYTES;
        (*to).hook = hook::SOCKET_DELIVER;
        (*to).cpu = bpf_get_smp_processor_id() as u16;
        (*to).order = order as u32;
        (*to).skb = cpu.receiving.skb;
        (*to).netns = cpu.receiving.netns;
        (*to).length = of.length;
        (*to).reserved = 0;
        let bytes = (&raw mut (*to).bytes).cast();
        if bpf_probe_read_kernel(bytes, taken as u32, of.at as *const _) != 0 {
            taken = 0;
        }
        (*to).taken = taken as u32;
    }
    entry.submit(emit::wake(order));
}
