//! Does this packet concern the question? The filter's terms, and the set of followed tuples.
//!
//! A packet that the terms match makes its tuple followed, so its replies match by the same key;
//! a hook that translates a followed tuple makes the translated one followed too. An ICMP error
//! goes with the flow of the packet that it quotes.
//!
//! What is large has a function, and so a stack frame, of its own: 512 bytes are all there is.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use tracer_common::{
    cpu::{CpuState, TOLD, Told, UNDECIDED, Undecided},
    filter::{Program, Subject},
    flow::{FOLLOW, Followed, IGNORE},
    hook::netfilter,
};

use crate::{
    header::{Tuple, byte},
    maps::{FILTER, FOLLOWED, MARKED, MARKED_BITS},
    memory::{self, Access},
    packet::Packet,
    skb::Place,
};

/// The low bits of `sk_buff._nfct` and `IP_CT_NEW` (uapi).
pub(crate) const CTINFO_MASK: u64 = 7;
const CTINFO_NEW: u64 = 2;

/// 2^64 by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// 2 to that are the jiffies after which a connection's tuples are emitted again: one second to ten.
const LATE: u32 = 10;

/// What is decided of a packet, as a number: the verifier handles nothing else between functions.
pub(crate) type Decision = u64;
/// Nothing is decided; as a final decision: it does not match.
pub(crate) const UNKNOWN: Decision = 0;
/// It matches, and its tuple is followed.
pub(crate) const MATCH: Decision = FOLLOW as u64;
/// It is the translation of a packet that does not match.
const KEEP_OUT: Decision = IGNORE as u64;
/// There is no filter: everything matches and nothing is followed.
pub(crate) const UNFILTERED: Decision = 4;

/// Whether the decision lets the packet through.
#[inline(always)]
pub(crate) fn lets_through(decision: Decision) -> bool {
    decision == MATCH || decision == UNFILTERED
}

/// Evaluates the filter's terms.
#[inline(never)]
fn terms_hold<A: Access>(program: &Program, tuple: &Tuple, version: u64, place: &Place<A>) -> u64 {
    // Most filters are about the packet alone, and need nothing of where it is. One branch for all of
    // that: each would double what the verifier walks below.
    let (mut device_name, mut cgroup, mut netns) = ([0; 2], 0, 0);
    if program.place != 0 {
        if place.device.is_there() {
            device_name = place.device.name();
        }
        cgroup = place.socket().cgroup();
        netns = place.netns();
    }
    let noise = tuple.source[1];
    let subject = Subject {
        source: tuple.source,
        destination: tuple.destination,
        device_name: device_name.map(|word| memory::forget(word, noise)),
        cgroup: memory::forget(cgroup, noise),
        netns: memory::forget(u64::from(netns), noise) as u32,
        source_port: tuple.source_port(),
        destination_port: tuple.destination_port(),
        protocol: tuple.protocol() as u8,
        ip_version: version as u8,
    };
    u64::from(program.matches(&subject))
}

/// The tuple that says to which flow the packet belongs.
#[inline(always)]
fn flow_tuple(packet: &Packet) -> &Tuple {
    if packet.icmp_error() {
        &packet.other
    } else {
        &packet.header.tuple
    }
}

/// A number that a tuple and its reply share with few others: `addresses` are all words of both, `ports` both
/// ports, each folded by exclusive or.
#[inline(always)]
pub(crate) fn number(addresses: u64, ports: u64) -> u64 {
    // Fibonacci hashing: the high bits of the product depend on all bits.
    (addresses ^ ports).wrapping_mul(SPREAD)
}

/// The tuple's number.
#[inline(always)]
fn number_of(tuple: &Tuple) -> u64 {
    let (source, destination) = (&tuple.source, &tuple.destination);
    let addresses = source[0] ^ destination[0] ^ source[1] ^ destination[1];
    number(
        addresses,
        (tuple.source_port() ^ tuple.destination_port()).into(),
    )
}

/// The place in [`MARKED`] of tuples with that [`number`].
#[inline(always)]
fn marked_at(number: u64) -> usize {
    (number >> (64 - MARKED_BITS)) as usize
}

/// Whether a tuple with the place of that [`number`] was followed at some time.
#[inline(always)]
pub(crate) fn is_marked(number: u64) -> bool {
    // SAFETY: bytes, of which any value is one; a store meanwhile is of 1.
    unsafe { (*MARKED.get())[marked_at(number)] != 0 }
}

/// What the followed set says of the tuple. Most packets on a busy node are followed by nobody: one
/// load tells that of almost all of them, which costs a tenth of the set's look-up.
#[inline(never)]
fn recall(tuple: &Tuple) -> Decision {
    if !is_marked(number_of(tuple)) {
        return UNKNOWN;
    }
    // SAFETY: the value is integers, and a concurrent update of them is harmless.
    match unsafe { FOLLOWED.get(tuple.key()) } {
        Some(followed) => u64::from(followed.decision),
        None => UNKNOWN,
    }
}

/// Notes the decision for the tuple and its reply.
#[inline(never)]
fn remember(tuple: &Tuple, decision: Decision) -> u64 {
    // Before the set has it. Nothing is unmarked: the set loses what is oldest, and its look-up says so.
    // SAFETY: a byte, which every CPU sets to the same value.
    unsafe { (*MARKED.get())[marked_at(number_of(tuple))] = 1 };
    let value = Followed {
        decision: decision as u32,
        reserved: 0,
        conntrack: 0,
    };
    // A full map evicts its least recently used entry; an error can only be a lack of memory.
    u64::from(FOLLOWED.insert(tuple.key(), value, 0).is_ok())
}

/// Decides whether the packet matches, and follows its tuple when it does.
#[inline(always)]
pub(crate) fn decide<A: Access>(packet: &Packet, place: &Place<A>) -> Decision {
    let program = FILTER.get();
    if program.count == 0 {
        return UNFILTERED;
    }
    let known = recall(flow_tuple(packet));
    if known != UNKNOWN {
        return known;
    }
    let version = packet.header.version;
    let mut holds = terms_hold(program, &packet.header.tuple, version, place);
    if holds == 0 && packet.encapsulated() {
        // Who asks for the tunnel's own addresses or port means its packets too.
        holds = terms_hold(program, &packet.other, version, place);
    }
    if holds == 0 {
        return UNKNOWN;
    }
    // An ICMP error that matches by itself says nothing of the flow that it quotes.
    if !packet.icmp_error() {
        remember(&packet.header.tuple, MATCH);
    }
    MATCH
}

/// A number of the packet that few others share, from its header's first word: of length and
/// identification (IPv6: of the payload's length, and what comes next).
#[inline(always)]
pub(crate) fn shared(first: u64) -> u8 {
    byte(first, 3) ^ byte(first, 5)
}

/// Two packets that are inside hooks at once on one CPU are in different hooks or have different
/// numbers, mostly; where they share a slot, the later one wins and the other is decided anew.
#[inline(always)]
pub(crate) fn slot_of(cpu: &mut CpuState, id: u8, hook: u8) -> &mut Undecided {
    &mut cpu.undecided[usize::from(id.wrapping_mul(8) ^ hook) & (UNDECIDED - 1)]
}

#[inline(always)]
fn slot<'a>(cpu: &'a mut CpuState, packet: &Packet, hook: u8) -> &'a mut Undecided {
    slot_of(cpu, shared(packet.header.ip[0]), hook)
}

/// What of a packet the translation of its destination leaves alone: length, IP id or flow label,
/// protocol and the source.
#[inline(always)]
fn mark(packet: &Packet) -> u64 {
    let tuple = &packet.header.tuple;
    let length_and_id = packet.header.ip[0] >> 16 & 0xffff_ffff;
    let protocol_and_port = tuple.protocol() << 16 | u64::from(tuple.source_port());
    length_and_id << 32 ^ protocol_and_port ^ tuple.source[0] ^ tuple.source[1]
}

/// What was decided of a packet that IPVS took inside a hook, translated and sends through OUTPUT
/// from there (`ip_vs_nat_send_or_cont`): the hook that it was taken in never ends with it.
#[inline(always)]
pub(crate) fn taken(cpu: &mut CpuState, skb: u64, packet: &Packet) -> Decision {
    let mut decision = UNKNOWN;
    for hook in [netfilter::INPUT, netfilter::OUTPUT, netfilter::FORWARD] {
        let slot = slot(cpu, packet, hook);
        if slot.skb == skb && slot.mark == mark(packet) {
            slot.skb = 0;
            decision = slot.decision;
        }
    }
    if decision == UNKNOWN {
        return UNKNOWN;
    }
    carry(packet, decision)
}

/// Carries the decision over to the translated tuple.
#[inline(always)]
fn carry(packet: &Packet, decision: Decision) -> Decision {
    let tuple = flow_tuple(packet);
    if !packet.icmp_error() && recall(tuple) != decision {
        remember(tuple, decision);
    }
    decision
}

/// Where a netfilter hook begins: leaves the decision for the hook's end, and says what that is.
#[inline(always)]
pub(crate) fn enter(
    cpu: &mut CpuState,
    skb: u64,
    packet: &Packet,
    hook: u8,
    decision: Decision,
) -> Decision {
    if decision == UNFILTERED {
        return UNFILTERED;
    }
    let negative = FILTER.get().negative != 0;
    let carried = if decision == UNKNOWN && negative {
        KEEP_OUT
    } else {
        decision
    };
    let slot = slot(cpu, packet, hook);
    if carried != UNKNOWN {
        slot.skb = skb;
        slot.decision = carried;
        slot.mark = mark(packet);
    } else if slot.skb == skb {
        slot.skb = 0;
    }
    carried
}

/// Where a netfilter hook ends: carries the decision over to the translated tuple. `kept` is what
/// [`enter`] said, where that is known by other means than the slot; else [`UNKNOWN`].
#[inline(always)]
pub(crate) fn leave<A: Access>(
    cpu: &mut CpuState,
    skb: u64,
    packet: &Packet,
    hook: u8,
    place: &Place<A>,
    kept: Decision,
) -> Decision {
    let slot = slot(cpu, packet, hook);
    let mut decision = kept;
    if slot.skb == skb {
        if decision == UNKNOWN {
            decision = slot.decision;
        }
        slot.skb = 0;
    }
    if decision == UNKNOWN || decision == UNFILTERED {
        return decide(packet, place);
    }
    carry(packet, decision)
}

/// Whether the packet is the first of its connection (ctinfo).
#[inline(always)]
fn is_of_new_connection(conntrack: u64) -> bool {
    conntrack & CTINFO_MASK == CTINFO_NEW
}

/// Whether the tuples of its connection are to be emitted for a packet with that [`number`], where nothing is
/// followed: if it is new, and was not the last such one at its place of late. Some seconds later they are
/// emitted again: their record may have been lost, and the agent forgets.
#[inline(always)]
pub(crate) fn is_to_be_told(cpu: &mut CpuState, conntrack: u64, number: u64) -> bool {
    if !is_of_new_connection(conntrack) {
        return false;
    }
    // Connections are some hundred bytes each, side by side.
    let told = &mut cpu.told[(conntrack >> 8) as usize & (TOLD - 1)];
    // SAFETY: it takes no arguments, and is a load (5.6).
    let late = unsafe { bpf_jiffies64() } >> LATE;
    let now = Told {
        connection: conntrack & !CTINFO_MASK,
        tuple: number.wrapping_add(late),
    };
    let new = told.connection != now.connection || told.tuple != now.tuple;
    *told = now;
    new
}

/// Whether the connection's tuples are still to be emitted for this tuple; notes that they are.
#[inline(never)]
pub(crate) fn conntrack_is_new(
    cpu: &mut CpuState,
    tuple: &Tuple,
    decision: Decision,
    conntrack: u64,
) -> u64 {
    if decision == UNFILTERED {
        return u64::from(is_to_be_told(cpu, conntrack, number_of(tuple)));
    }
    let connection = conntrack & !CTINFO_MASK;
    match FOLLOWED.get_ptr_mut(tuple.key()) {
        // SAFETY: a map value lives until the program ends, and the store is a plain word.
        Some(followed) => unsafe {
            let new = (*followed).conntrack != connection;
            (*followed).conntrack = connection;
            u64::from(new)
        },
        None => 0,
    }
}
