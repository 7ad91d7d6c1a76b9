//! Counting, and writing records into the ring buffer.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use tracer_common::{
    address::Address,
    cpu::CpuState,
    record::{
        Conntrack, Event, FLAG_ENCAPSULATED, FLAG_ICMP_ERROR, KIND_CONNTRACK, KIND_EVENT,
        KIND_WIDE_EVENT, WideEvent,
    },
};

use crate::{
    fields::{CONN_STATUS, CONN_TUPLES},
    maps::{CPU, EVENTS},
    matching::{CTINFO_MASK, Place},
    memory,
    packet::Packet,
};
use tracer_common::fields::ABSENT;

/// The agent looks at the ring by its own clock; so many records early it is woken.
const WAKE_EVERY: u64 = 256;

/// This CPU's state. The map has one element, so it is always there.
#[inline(always)]
pub(crate) fn cpu() -> Option<&'static mut CpuState> {
    let state = CPU.get_ptr_mut(0)?;
    // SAFETY: a map value lives until the program ends; it is this CPU's own, and what another
    // program may change in it meanwhile (an interrupt's) are counters, changed atomically, and
    // slots that are verified before use.
    Some(unsafe { &mut *state })
}

/// Adds one. Atomic: a softirq may interrupt a process here, and counters must add up.
#[inline(always)]
pub(crate) fn count(counter: &mut u64) {
    // The target has no atomic types, but the machine has the instruction (XADD, since 3.19).
    #[cfg(target_arch = "bpf")]
    // SAFETY: the counter is aligned and lives in a map value.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) core::ptr::from_mut(counter), in(reg) 1_u64);
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *counter += 1;
    }
}

/// What a hook knows besides the packet.
#[derive(Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) skb: u64,
    pub(crate) conntrack: u64,
    pub(crate) detail: u64,
    pub(crate) place: Place,
    pub(crate) length: u32,
    pub(crate) reason: u32,
    pub(crate) in_ifindex: u32,
    pub(crate) out_ifindex: u32,
    pub(crate) flags: u16,
    pub(crate) hook: u8,
    pub(crate) netfilter_hook: u8,
}

#[inline(always)]
fn wake(order: u64) -> u64 {
    u64::from(if order % WAKE_EVERY == 0 {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    })
}

/// Writes the event, wide where the packet has a second header; counts it as lost where the ring
/// has no room. Not inlined, as all that is large: one copy an object file, one frame at a time.
#[inline(never)]
pub(crate) fn event(cpu: &mut CpuState, sight: &Sight, packet: &Packet) {
    let order = cpu.order;
    count(&mut cpu.order);
    let wide = packet.flags & (FLAG_ENCAPSULATED | FLAG_ICMP_ERROR) != 0;
    if wide {
        let Some(mut entry) = EVENTS.reserve::<WideEvent>(0) else {
            return lost(cpu, sight.hook);
        };
        let record = entry.as_mut_ptr();
        // SAFETY: the entry is reserved memory of the record's size.
        unsafe {
            fill(
                &raw mut (*record).event,
                sight,
                packet,
                order,
                KIND_WIDE_EVENT,
            );
            let other = &packet.other;
            (*record).other_source = other.source;
            (*record).other_destination = other.destination;
            (*record).other_source_port = other.source_port;
            (*record).other_destination_port = other.destination_port;
            (*record).other_protocol = other.protocol;
            (*record).reserved = [0; 3];
            (*record).vni = packet.vni;
            (*record).reserved2 = 0;
        }
        entry.submit(wake(order));
    } else {
        let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
            return lost(cpu, sight.hook);
        };
        // SAFETY: as above.
        unsafe { fill(entry.as_mut_ptr(), sight, packet, order, KIND_EVENT) };
        entry.submit(wake(order));
    }
}

#[inline(always)]
fn lost(cpu: &mut CpuState, hook: u8) {
    if let Some(counters) = cpu.hooks.get_mut(usize::from(hook)) {
        count(&mut counters.lost);
    }
}

/// # Safety
/// `to` must be memory of an event's size.
#[inline(always)]
unsafe fn fill(to: *mut Event, sight: &Sight, packet: &Packet, order: u64, kind: u8) {
    let h = &packet.header;
    // SAFETY: the caller's; both helpers take no arguments and cannot fail.
    unsafe {
        (*to).time = bpf_ktime_get_ns();
        (*to).kind = kind;
        (*to).hook = sight.hook;
        (*to).cpu = bpf_get_smp_processor_id() as u16;
        (*to).order = order as u32;
        (*to).skb = sight.skb;
        (*to).conntrack = sight.conntrack;
        (*to).detail = sight.detail;
        (*to).source = h.source;
        (*to).destination = h.destination;
        (*to).device_name = sight.place.device_name;
        (*to).netns = sight.place.netns;
        (*to).ifindex = sight.place.ifindex;
        (*to).length = sight.length;
        (*to).payload = h.payload;
        (*to).sequence = h.sequence;
        (*to).acknowledgement = h.acknowledgement;
        (*to).ip_id = h.ip_id;
        (*to).reason = sight.reason;
        (*to).source_port = h.source_port;
        (*to).destination_port = h.destination_port;
        (*to).flags = packet.flags | sight.flags;
        (*to).protocol = h.protocol;
        (*to).tcp_flags = h.tcp_flags;
        (*to).ttl = h.ttl;
        (*to).ip_version = h.ip_version;
        (*to).netfilter_hook = sight.netfilter_hook;
        (*to).reserved = 0;
        (*to).in_ifindex = sight.in_ifindex;
        (*to).out_ifindex = sight.out_ifindex;
        (*to).reserved2 = 0;
    }
}

/// `struct nf_conntrack_tuple_hash`, original and reply: a list node of two pointers, then the
/// tuple. The layout is the same from 2.6.25 to 6.18 on 64-bit machines.
#[derive(Clone, Copy)]
#[repr(C)]
struct TupleHash {
    node: [u64; 2],
    source: [u8; 16],
    source_port: [u8; 2],
    family: u16,
    destination: [u8; 16],
    destination_port: [u8; 2],
    protocol: u8,
    direction: u8,
}

const _: () = assert!(size_of::<TupleHash>() == 56);
/// `AF_INET`
const AF_INET: u16 = 2;

#[inline(always)]
fn address(family: u16, b: &[u8; 16]) -> Address {
    if family == AF_INET {
        tracer_common::address::from_ipv4([b[0], b[1], b[2], b[3]])
    } else {
        tracer_common::address::from_bytes(*b)
    }
}

/// Writes the connection's tuples, where this kernel shows them.
#[inline(never)]
pub(crate) fn conntrack(cpu: &mut CpuState, sight: &Sight) {
    if CONN_TUPLES.load() == ABSENT || CONN_STATUS.load() == ABSENT {
        return;
    }
    let connection = sight.conntrack & !CTINFO_MASK;
    let mut tuples = core::mem::MaybeUninit::<[TupleHash; 2]>::uninit();
    let mut status = core::mem::MaybeUninit::<u64>::uninit();
    // The pointer is untyped (it shares its word with ctinfo), so these are probe reads.
    if !memory::copy(&mut tuples, connection + u64::from(CONN_TUPLES.load()))
        || !memory::copy(&mut status, connection + u64::from(CONN_STATUS.load()))
    {
        return;
    }
    // SAFETY: the copies above filled both.
    let (tuples, status) = unsafe { (tuples.assume_init_ref(), status.assume_init()) };
    let order = cpu.order;
    count(&mut cpu.order);
    let Some(mut entry) = EVENTS.reserve::<Conntrack>(0) else {
        return lost(cpu, sight.hook);
    };
    let to = entry.as_mut_ptr();
    let [original, reply] = tuples;
    // SAFETY: the entry is reserved memory of the record's size.
    unsafe {
        (*to).time = bpf_ktime_get_ns();
        (*to).kind = KIND_CONNTRACK;
        (*to).protocol = original.protocol;
        (*to).cpu = bpf_get_smp_processor_id() as u16;
        (*to).order = order as u32;
        (*to).conntrack = connection;
        (*to).status = status as u32;
        (*to).netns = sight.place.netns;
        (*to).original_source = address(original.family, &original.source);
        (*to).original_destination = address(original.family, &original.destination);
        (*to).reply_source = address(original.family, &reply.source);
        (*to).reply_destination = address(original.family, &reply.destination);
        (*to).original_source_port = u16::from_be_bytes(original.source_port);
        (*to).original_destination_port = u16::from_be_bytes(original.destination_port);
        (*to).reply_source_port = u16::from_be_bytes(reply.source_port);
        (*to).reply_destination_port = u16::from_be_bytes(reply.destination_port);
    }
    entry.submit(wake(order));
}
