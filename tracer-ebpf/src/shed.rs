//! Letting packets go unseen, when tracing costs more than it may: the agent says how many.
//!
//! Looked at before the filter and the followed set, which such a packet does not cost; at the last
//! resort before the headers. Kept whatever is said: drops, what begins and ends a TCP connection, ICMP
//! errors. The rest is chosen by what every hop of the packet shows alike: see [`tracer_common::shed`].
//!
//! The word is loaded anew where it is looked at: kept in a register it would be walked with, by the
//! verifier, from there on.

use tracer_common::{
    cpu::CpuState,
    hook,
    record::{FLAG_FRAGMENT, FLAG_NOT_LINEAR},
    shed::{self, NONE, REST},
};

use crate::{
    emit,
    header::{ICMP, ICMPV6, SCTP, TCP, UDP, byte, short},
    maps::SHED,
    packet::Packet,
};

/// FIN, SYN and RST.
const BEGIN_OR_END: u8 = 7;
/// Of a UDP header and the bytes of payload that are looked at.
const UDP_AND_PAYLOAD: u16 = 16;

#[inline(always)]
fn word() -> u32 {
    SHED.load()
}

/// Whether no hook is to look at any packet, but for drops.
#[inline(always)]
pub(crate) fn is_resting() -> bool {
    word() == REST
}

/// Whether some packets are let go.
#[inline(always)]
pub(crate) fn sheds() -> bool {
    word() != NONE
}

/// Whether the hook is not to look at any packet; counts this one then.
#[inline(always)]
pub(crate) fn rests(hook: u8) -> bool {
    if hook == hook::DROP || !is_resting() {
        return false;
    }
    if let Some(cpu) = emit::cpu() {
        emit::saw(cpu, hook);
        let_go(cpu, hook);
    }
    true
}

/// Whether the packet is let go; counts it then.
#[inline(always)]
pub(crate) fn lets_go(cpu: &mut CpuState, hook: u8, packet: &Packet) -> bool {
    if hook == hook::DROP || keeps(packet) {
        return false;
    }
    let_go(cpu, hook);
    true
}

/// Whether the packet is to be looked at.
#[inline(always)]
pub(crate) fn keeps(packet: &Packet) -> bool {
    let word = word();
    word == NONE || is_chosen(packet, u64::from(word)) != 0
}

#[inline(always)]
fn let_go(cpu: &mut CpuState, hook: u8) {
    if let Some(counters) = cpu.hooks.get_mut(usize::from(hook)) {
        emit::count(&mut counters.shed);
    }
    // The socket's hook goes on from here.
    if hook == hook::DEVICE_RECEIVE {
        cpu.receiving.head = 0;
    }
}

#[inline(never)]
fn is_chosen(packet: &Packet, word: u64) -> u64 {
    if packet.icmp_error() {
        return 1;
    }
    let header = &packet.header;
    let [first, second, third] = header.transport;
    let protocol = header.tuple.protocol();
    let whole = header.flags & u64::from(FLAG_FRAGMENT | FLAG_NOT_LINEAR) == 0;
    // IPv4: the identification; IPv6: the flow label.
    let id = if header.version == 4 {
        header.ip[0] >> 32 & 0xffff
    } else {
        header.ip[0] & 0xffff_0f00
    };
    let telling = if !whole {
        id
    } else if protocol == TCP {
        if byte(second, 5) & BEGIN_OR_END != 0 {
            return 1;
        }
        // The sequence number, and what is acknowledged.
        first >> 32 << 32 ^ second & 0xffff_ffff
    } else if protocol == UDP {
        // What lies behind a shorter datagram is not its own.
        let own =
            short(first, 4) >= UDP_AND_PAYLOAD && header.has_linear(u64::from(UDP_AND_PAYLOAD));
        let payload = if own { second } else { 0 };
        payload ^ id << 16
    } else if protocol == ICMP || protocol == ICMPV6 {
        // The sequence number of an echo, which its reply has too.
        first >> 48
    } else if protocol == SCTP {
        third << 32 ^ id
    } else {
        id
    };
    u64::from(shed::chooses(word as u32, telling))
}
