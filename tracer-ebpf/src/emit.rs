//! Counting, and writing records into the ring buffer.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use tracer_common::{
    address::Address,
    cpu::CpuState,
    record::{
        Conntrack, Event, Head, KIND_CONNTRACK, KIND_EVENT, KIND_PLAIN_EVENT, KIND_WIDE_EVENT,
        PlainEvent, WideEvent,
    },
};

use crate::{
    fields::{CONN_STATUS, CONN_TUPLES},
    maps::{CPU, EVENTS},
    memory,
    packet::Packet,
    plain::Words,
    wake::wake,
};

/// This CPU's state. The map has one element, so it is always there.
#[inline(always)]
pub(crate) fn cpu() -> Option<&'static mut CpuState> {
    let state = CPU.get_ptr_mut(0)?;
    // SAFETY: a map value lives until the program ends; it is this CPU's own, and what another
    // program may change in it meanwhile (an interrupt's) are counters, changed atomically where they must
    // add up, and slots that are verified before use.
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

/// Counts a packet that the hook looked at.
///
/// Not atomically. Nothing can come between that counts the same at device hooks, which run with softirqs
/// disabled (`__dev_queue_xmit`, `xmit_one`; `__netif_receive_skb_core` is in one), and each hook has counters
/// of its own. Elsewhere a packet that interrupts another right here may go uncounted, which is little in what
/// was merely looked at; an atomic addition for every packet on the node would cost more than the rest of
/// the look.
#[inline(always)]
pub(crate) fn saw(cpu: &mut CpuState, hook: u8) {
    let seen = &mut cpu.hooks[usize::from(hook)].seen;
    *seen = seen.wrapping_add(1);
}

/// What a hook knows besides the packet and its place.
#[derive(Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) hook: u8,
    /// The record's fields of the same names.
    pub(crate) netfilter_hook: u8,
    pub(crate) reason: u32,
    pub(crate) detail: u64,
    pub(crate) in_ifindex: u32,
    pub(crate) out_ifindex: u32,
}

impl Sight {
    /// A hook that knows nothing more.
    pub(crate) const fn new(hook: u8) -> Self {
        Self {
            hook,
            netfilter_hook: 0,
            reason: 0,
            detail: 0,
            in_ifindex: 0,
            out_ifindex: 0,
        }
    }
}

/// Completes what a record says of the buffer.
pub(crate) trait About {
    /// The bytes of the packet whose IP header is so far inside of what the hook saw.
    fn length_from(&self, inside: u64) -> u32;

    /// Writes into the head of a reserved record, whose flags are set already.
    fn describe(&self, to: *mut Head, ip_version: u8);
}

/// Counts the packet as matched and writes its event: wide where it has a second header, plain where it is; counts
/// that as lost where the ring has no room. `about` completes what the record says of the buffer.
#[inline(always)]
pub(crate) fn event(cpu: &mut CpuState, sight: Sight, packet: &Packet, about: &impl About) {
    if let Some(words) = packet.plain() {
        return plain(cpu, sight, words, about);
    }
    let order = matched(cpu, sight.hook);
    let (length, version) = (
        about.length_from(packet.inside),
        packet.header.version as u8,
    );
    let flags = (packet.header.flags | packet.second) as u16;
    if packet.second != 0 {
        let Some(mut entry) = EVENTS.reserve::<WideEvent>(0) else {
            return lost(cpu, sight.hook);
        };
        let record = entry.as_mut_ptr();
        // SAFETY: the entry is reserved memory of the record's size.
        unsafe {
            let event = &raw mut (*record).event;
            let head = &raw mut (*event).head;
            fill(head, sight, (order, KIND_WIDE_EVENT), (length, flags));
            packet.header.describe(event, length);
            (*event).reserved = 0;
            about.describe(head, version);
            let other = &packet.other;
            memory::put_both(&raw mut (*record).other_source, other.source);
            memory::put_both(&raw mut (*record).other_destination, other.destination);
            (*record).other_source_port = other.source_port();
            (*record).other_destination_port = other.destination_port();
            (*record).other_protocol = other.protocol() as u8;
            for at in 0..3 {
                memory::put((&raw mut (*record).reserved).cast::<u8>().add(at), 0);
            }
            (*record).vni = packet.vni as u32;
            (*record).reserved2 = 0;
        }
        entry.submit(wake(order));
    } else {
        let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
            return lost(cpu, sight.hook);
        };
        let event = entry.as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            let head = &raw mut (*event).head;
            fill(head, sight, (order, KIND_EVENT), (length, flags));
            packet.header.describe(event, length);
            (*event).reserved = 0;
            about.describe(head, version);
        }
        entry.submit(wake(order));
    }
}

/// As [`event`], of a plain packet.
#[inline(always)]
pub(crate) fn plain(cpu: &mut CpuState, sight: Sight, words: &Words, about: &impl About) {
    let order = matched(cpu, sight.hook);
    let Some(mut entry) = EVENTS.reserve::<PlainEvent>(0) else {
        return lost(cpu, sight.hook);
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is reserved memory of the record's size.
    unsafe {
        let (head, length) = (&raw mut (*record).head, about.length_from(0));
        fill(head, sight, (order, KIND_PLAIN_EVENT), (length, 0));
        memory::put(&raw mut (*head).payload, 0);
        let header = (&raw mut (*record).header).cast::<u64>();
        for (at, &word) in words.iter().enumerate() {
            memory::put(header.add(at), word);
        }
        about.describe(head, 4);
    }
    entry.submit(wake(order));
}

/// Counts the packet as matched; the place of its record among those of this CPU.
#[inline(always)]
fn matched(cpu: &mut CpuState, hook: u8) -> u64 {
    count(&mut cpu.hooks[usize::from(hook)].matched);
    let order = cpu.order;
    count(&mut cpu.order);
    order
}

#[inline(always)]
fn lost(cpu: &mut CpuState, hook: u8) {
    if let Some(counters) = cpu.hooks.get_mut(usize::from(hook)) {
        count(&mut counters.lost);
    }
}

/// Writes what an event begins with, but for what [`About`] says and the payload's length.
///
/// # Safety
/// `to` must be memory of a head's size.
#[inline(always)]
unsafe fn fill(to: *mut Head, sight: Sight, (order, kind): (u64, u8), (length, flags): (u32, u16)) {
    // SAFETY: the caller's; both helpers take no arguments and cannot fail.
    unsafe {
        (*to).time = bpf_ktime_get_ns();
        (*to).kind = kind;
        (*to).hook = sight.hook;
        (*to).cpu = bpf_get_smp_processor_id() as u16;
        (*to).order = order as u32;
        (*to).detail = sight.detail;
        (*to).length = length;
        (*to).reason = sight.reason;
        memory::put(&raw mut (*to).in_ifindex, sight.in_ifindex);
        memory::put(&raw mut (*to).out_ifindex, sight.out_ifindex);
        (*to).flags = flags;
        (*to).netfilter_hook = sight.netfilter_hook;
        memory::put(&raw mut (*to).packet_type, 0);
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

/// Writes the connection's tuples, where this kernel shows them. Not inlined: for its frame.
#[inline(never)]
pub(crate) fn conntrack(cpu: &mut CpuState, connection: u64, netns: u64) -> u64 {
    if CONN_TUPLES.is_absent() || CONN_STATUS.is_absent() {
        return 0;
    }
    let mut tuples = core::mem::MaybeUninit::<[TupleHash; 2]>::uninit();
    let mut status = core::mem::MaybeUninit::<u64>::uninit();
    // The pointer is untyped (it shares its word with ctinfo), so these are probe reads.
    if !memory::copy(&mut tuples, connection + CONN_TUPLES.offset())
        || !memory::copy(&mut status, connection + CONN_STATUS.offset())
    {
        return 0;
    }
    // SAFETY: the copies above filled both.
    let (tuples, status) = unsafe { (tuples.assume_init_ref(), status.assume_init()) };
    let order = cpu.order;
    count(&mut cpu.order);
    let Some(mut entry) = EVENTS.reserve::<Conntrack>(0) else {
        // The gap in the order shows it.
        return 0;
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
        (*to).netns = netns as u32;
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
    1
}
