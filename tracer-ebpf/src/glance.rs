//! A glance at a packet: what almost all packets of a busy node get, and no more.
//!
//! One read of its first bytes, into words that never reach memory again, and some comparisons. See
//! [`tracer_common::glance`]. Whatever is not plain is looked at closely.

use core::mem::MaybeUninit;

use network_types::{ip::Ipv4Hdr, udp::UdpHdr};
use tracer_common::{
    cpu::{CpuState, Glanced},
    filter::Program,
    glance::MAX_GLANCES,
    hook::netfilter,
};

use crate::{
    emit,
    maps::FILTER,
    matching,
    memory::{self, Access},
    plain,
    skb::Place,
};

/// What a glance says: 0: look closely; else that the packet is nobody's, with a number that it shares
/// with few others.
type Glimpse = u64;
/// It is nobody's.
const NOBODYS: Glimpse = 1 << 8;
/// It is at the hooks that follow too: no term is about places.
const LASTING: Glimpse = 1 << 9;

/// Looks at the packet whose IP header is at kernel address `at`.
#[inline(always)]
pub(crate) fn at<A: Access>(cpu: &mut CpuState, at: u64, end: u64, place: &Place<A>) -> Glimpse {
    if !A::GLANCES {
        return 0;
    }
    // Whatever the filter is by now: what was said of the packet before is over.
    cpu.glanced.skb = 0;
    let program = FILTER.get();
    if program.glancing == 0 {
        return 0;
    }
    look(program, at, end, place)
}

/// Lets the packet go that is nobody's: counts it as seen, and remembers it for the hooks that follow.
#[inline(always)]
pub(crate) fn let_go<A: Access>(
    cpu: &mut CpuState,
    hook: u8,
    at: u64,
    place: &Place<A>,
    glimpse: Glimpse,
) {
    emit::saw(cpu, hook);
    if glimpse & LASTING != 0 {
        cpu.glanced = Glanced {
            skb: place.skb.0.address,
            header: at,
            glimpse,
        };
    }
}

/// What the glance at the hook before said, where nothing but the place can have changed since then.
///
/// Not where a packet can begin its life, since its buffer may have been another's: there it is looked
/// at. A buffer that was freed and is used again has its header elsewhere, mostly, and begins with such
/// a hook.
#[inline(always)]
pub(crate) fn before<A: Access>(cpu: &CpuState, at: u64, place: &Place<A>) -> Glimpse {
    let last = &cpu.glanced;
    if A::GLANCES && last.skb == place.skb.0.address && last.header == at {
        last.glimpse
    } else {
        0
    }
}

#[inline(always)]
fn look<A: Access>(program: &Program, at: u64, end: u64, place: &Place<A>) -> Glimpse {
    if at + (Ipv4Hdr::LEN + UdpHdr::LEN) as u64 > end {
        return 0;
    }
    let mut words = MaybeUninit::uninit();
    if !memory::words(&mut words, at) {
        return 0;
    }
    // SAFETY: they were read.
    let [first, second, third] = unsafe { words.assume_init() };
    let plain_ends = plain::ends(first, second, third);
    if plain_ends == 0 {
        return 0;
    }
    if matching::is_marked(plain::number(second, third)) {
        return 0;
    }
    let (source, destination) = (second >> 32, third & 0xffff_ffff);
    let words = [source | destination << 32, plain_ends];
    for index in 0..MAX_GLANCES {
        if index as u32 >= program.glances {
            break;
        }
        let glance = &program.glance[index];
        if glance.fits(words) && glance.fits_place(|| place.netns(), || place.socket().cgroup()) {
            return 0;
        }
    }
    let mut glimpse = NOBODYS | u64::from(matching::shared(first));
    if program.place == 0 {
        glimpse |= LASTING;
    }
    glimpse
}

/// Whether something of a packet waits for it at this netfilter hook: what was decided where the hook
/// began, or where IPVS took it. Then it is looked at closely.
#[inline(always)]
pub(crate) fn is_awaited(cpu: &mut CpuState, skb: u64, glimpse: Glimpse, hook: u8) -> bool {
    let id = glimpse as u8;
    let mut awaited = matching::slot_of(cpu, id, hook).skb == skb;
    if hook == netfilter::OUTPUT {
        awaited |= matching::slot_of(cpu, id, netfilter::INPUT).skb == skb;
        awaited |= matching::slot_of(cpu, id, netfilter::FORWARD).skb == skb;
    }
    awaited
}
