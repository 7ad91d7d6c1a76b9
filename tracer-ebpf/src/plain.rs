//! Plain packets: of IPv4, without options, whole, TCP or UDP and no tunnel's.
//!
//! Almost all packets are, and their header's fields are in known places. Where every packet is asked for, or
//! it is known that this one is, no more has to be known of it here: its header goes into the record as it is,
//! and is read by the agent, which has a processor of its own.

use core::mem::MaybeUninit;

use tracer_common::record::PLAIN_BYTES;

use crate::{
    header::{TCP, UDP, byte, short},
    maps::FILTER,
    matching, memory, packet, shed,
};

/// A plain packet's first bytes, in memory's order.
pub(crate) type Words = [u64; PLAIN_BYTES / 8];

/// Of the first three words of a header: source port, destination port and protocol << 32, ports in the network's
/// order; 0 when the packet is not plain.
#[inline(always)]
pub(crate) fn ends(first: u64, second: u64, third: u64) -> u64 {
    // Version 4 and five words of header; neither the first nor a later part of a fragmented packet.
    if byte(first, 0) != 0x45 || first >> 48 & 0xff3f != 0 {
        return 0;
    }
    let (protocol, ports) = (u64::from(byte(second, 1)), third >> 32);
    let plain = match protocol {
        TCP => true,
        UDP => !packet::is_tunnel(short(ports, 2)),
        _ => false,
    };
    if plain { ports | protocol << 32 } else { 0 }
}

/// The tuple's [`matching::number`], of a header's second and third word.
#[inline(always)]
pub(crate) fn number(second: u64, third: u64) -> u64 {
    let (source, destination, ports) = (second >> 32, third & 0xffff_ffff, third >> 32);
    // An address is the upper half of its second word.
    matching::number(
        (source ^ destination) << 32,
        (short(ports, 0) ^ short(ports, 2)).into(),
    )
}

/// As [`read`], where every packet is asked for and none is let go; else no.
#[inline(always)]
pub(crate) fn read_if_all(at: u64, end: u64, to: &mut MaybeUninit<Words>) -> bool {
    FILTER.get().count == 0 && !shed::sheds() && read(at, end, to)
}

/// Reads the packet whose IP header is at kernel address `at`; false when it is not plain, or less of
/// it is in the linear part, which ends at `end`.
#[inline(always)]
pub(crate) fn read(at: u64, end: u64, to: &mut MaybeUninit<Words>) -> bool {
    if at + PLAIN_BYTES as u64 > end || !memory::words(to, at) {
        return false;
    }
    // SAFETY: it was read.
    let [first, second, third, ..] = unsafe { to.assume_init_ref() };
    ends(*first, *second, *third) != 0
}
