//! Does this packet concern the question? The filter's terms, and the set of followed tuples.
//!
//! A packet that the terms match makes its tuple followed, so its replies match by the same key;
//! a hook that translates a followed tuple makes the translated one followed too. An ICMP error
//! goes with the flow of the packet that it quotes.

use tracer_common::{
    cpu::{CpuState, UNDECIDED, Undecided},
    filter::{Program, Subject},
    flow::{FOLLOW, FlowKey, Followed, IGNORE},
    record::{FLAG_ENCAPSULATED, FLAG_ICMP_ERROR},
};

use crate::{
    header::Header,
    maps::{FILTER, FOLLOWED},
    packet::Packet,
    skb::{Device, Net, Socket},
};

/// The low bits of `sk_buff._nfct` and `IP_CT_NEW` (uapi).
pub(crate) const CTINFO_MASK: u64 = 7;
const CTINFO_NEW: u64 = 2;

/// Nothing decided yet.
const UNKNOWN: u32 = 0;

/// Where a hook saw the packet, as far as filters ask.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Place {
    pub(crate) device_name: [u64; 2],
    pub(crate) cgroup: u64,
    pub(crate) netns: u32,
    pub(crate) ifindex: u32,
}

impl Place {
    /// The device, its namespace (or the socket's where there is no device) and the sender.
    #[inline(always)]
    pub(crate) fn new(device: Device, net: Net, socket: Socket) -> Self {
        Self {
            device_name: device.name(),
            cgroup: socket.cgroup(),
            netns: net.inode(),
            ifindex: device.ifindex(),
        }
    }
}

/// Evaluates the filter's terms. Not inlined: a stack frame of its own, which is free again when
/// the record is written.
#[inline(never)]
fn terms_hold(program: &Program, header: &Header, place: &Place) -> u32 {
    let subject = Subject {
        source: header.source,
        destination: header.destination,
        device_name: place.device_name,
        cgroup: place.cgroup,
        netns: place.netns,
        source_port: header.source_port,
        destination_port: header.destination_port,
        protocol: header.protocol,
        ip_version: header.ip_version,
    };
    u32::from(program.matches(&subject))
}

/// The key of the flow that the packet belongs to.
#[inline(always)]
fn key_of(packet: &Packet) -> FlowKey {
    let h = if packet.flags & FLAG_ICMP_ERROR != 0 {
        &packet.other
    } else {
        &packet.header
    };
    FlowKey::new(
        h.source,
        h.source_port,
        h.destination,
        h.destination_port,
        h.protocol,
    )
}

/// A packet's decision and the key it was made by.
pub(crate) struct Match {
    pub(crate) matched: bool,
    /// Whether there is a filter at all; without one nothing is followed.
    pub(crate) filtered: bool,
    key: FlowKey,
}

/// Decides whether the packet matches, and follows its tuple when it does.
#[inline(always)]
pub(crate) fn decide(packet: &Packet, place: &Place) -> Match {
    let Some(program) = FILTER.get(0) else {
        return Match {
            matched: false,
            filtered: true,
            key: FlowKey::default(),
        };
    };
    if program.count == 0 {
        return Match {
            matched: true,
            filtered: false,
            key: FlowKey::default(),
        };
    }
    let key = key_of(packet);
    // SAFETY: the value is integers, and a concurrent update of them is harmless.
    let decision = unsafe { FOLLOWED.get(&key) }.map_or(UNKNOWN, |followed| followed.decision);
    if decision != UNKNOWN {
        return Match {
            matched: decision == FOLLOW,
            filtered: true,
            key,
        };
    }
    let mut matched = terms_hold(program, &packet.header, place) != 0;
    if !matched && packet.flags & FLAG_ENCAPSULATED != 0 {
        // Who asks for the tunnel's own addresses or port means its packets too.
        matched = terms_hold(program, &packet.other, place) != 0;
    }
    // An ICMP error that matches by itself says nothing of the flow that it quotes.
    if matched && packet.flags & FLAG_ICMP_ERROR == 0 {
        remember(&key, FOLLOW);
    }
    Match {
        matched,
        filtered: true,
        key,
    }
}

#[inline(always)]
fn remember(key: &FlowKey, decision: u32) {
    let value = Followed {
        decision,
        reserved: 0,
        conntrack: 0,
    };
    // A full map evicts its least recently used entry; an error can only be a lack of memory.
    let _ = FOLLOWED.insert(key, &value, 0);
}

#[inline(always)]
fn slot(cpu: &mut CpuState, skb: u64) -> &mut Undecided {
    &mut cpu.undecided[(skb >> 8) as usize & (UNDECIDED - 1)]
}

/// Where a netfilter hook begins: leaves the decision for the hook's end.
#[inline(always)]
pub(crate) fn enter(cpu: &mut CpuState, skb: u64, found: &Match) {
    if found.filtered {
        let negative = FILTER.get(0).is_some_and(|program| program.negative != 0);
        let decision = match (found.matched, negative) {
            (true, _) => FOLLOW,
            (false, true) => IGNORE,
            (false, false) => UNKNOWN,
        };
        *slot(cpu, skb) = Undecided {
            skb,
            decision: u64::from(decision),
        };
    }
}

/// Where a netfilter hook ends: decides, and carries the decision over to the translated tuple.
#[inline(always)]
pub(crate) fn leave(cpu: &mut CpuState, skb: u64, packet: &Packet, place: &Place) -> Match {
    let undecided = *slot(cpu, skb);
    if undecided.skb != skb || undecided.decision == u64::from(UNKNOWN) {
        return decide(packet, place);
    }
    slot(cpu, skb).skb = 0;
    let key = key_of(packet);
    let decision = undecided.decision as u32;
    // SAFETY: as above.
    let known = unsafe { FOLLOWED.get(&key) }.map_or(UNKNOWN, |followed| followed.decision);
    if known != decision && packet.flags & FLAG_ICMP_ERROR == 0 {
        remember(&key, decision);
    }
    Match {
        matched: decision == FOLLOW,
        filtered: true,
        key,
    }
}

/// Whether the connection's tuples are still to be emitted for this tuple; notes that they are.
#[inline(always)]
pub(crate) fn conntrack_is_new(found: &Match, conntrack: u64) -> bool {
    if !found.filtered {
        // Nothing is remembered: the first packet is the one whose connection is new (ctinfo).
        return conntrack & CTINFO_MASK == CTINFO_NEW;
    }
    // SAFETY: as above.
    match FOLLOWED.get_ptr_mut(&found.key) {
        // SAFETY: a map value lives until the program ends, and the store is a plain word.
        Some(followed) => unsafe {
            let new = (*followed).conntrack != conntrack & !CTINFO_MASK;
            (*followed).conntrack = conntrack & !CTINFO_MASK;
            new
        },
        None => false,
    }
}
