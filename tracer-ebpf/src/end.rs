//! Where packets end: freed as dropped, freed as used, taken by a socket.
#![expect(
    clippy::needless_pass_by_value,
    reason = "aya's macros give contexts by value"
)]

use core::mem::MaybeUninit;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::hook;

use crate::{
    emit::{self, Sight},
    glance, matching,
    memory::{Pointer, Typed},
    packet::Packet,
    plain, shed,
    skb::{Located, Place, Skb},
};

/// `kfree_skb(skb, location, reason)`: 5.17 and newer; later kernels append arguments.
#[btf_tracepoint(function = "kfree_skb")]
pub(crate) fn drop_with_reason(ctx: BtfTracePointContext) -> u32 {
    observe(
        Skb(Pointer::new(ctx.arg(0))),
        hook::DROP,
        ctx.arg(1),
        ctx.arg(2),
    )
}

/// `kfree_skb(skb, location)`: before 5.17.
#[btf_tracepoint(function = "kfree_skb")]
pub(crate) fn drop_without_reason(ctx: BtfTracePointContext) -> u32 {
    observe(Skb(Pointer::new(ctx.arg(0))), hook::DROP, ctx.arg(1), 0)
}

/// `consume_skb(skb)`.
#[btf_tracepoint(function = "consume_skb")]
pub(crate) fn consume(ctx: BtfTracePointContext) -> u32 {
    observe(Skb(Pointer::new(ctx.arg(0))), hook::CONSUME, 0, 0)
}

#[inline(always)]
fn observe(skb: Skb<Typed>, hook: u8, location: u64, reason: u32) -> u32 {
    if !skb.is_ip() || shed::rests(hook) {
        return 0;
    }
    let Some(cpu) = emit::cpu() else { return 0 };
    let (at, end, place) = (skb.network_header(), skb.end(), Place::of(skb));
    let glimpse = glance::at(cpu, at, end, &place);
    if glimpse != 0 {
        glance::let_go(cpu, hook, at, &place, glimpse);
        return 0;
    }
    let sight = Sight {
        detail: location,
        reason,
        ..Sight::new(hook)
    };
    let located = Located { place, at };
    let mut words = MaybeUninit::uninit();
    if plain::read_if_all(at, end, &mut words) {
        // SAFETY: `read_if_all` filled it.
        let words = unsafe { words.assume_init_ref() };
        emit::saw(cpu, hook);
        emit::plain(cpu, sight, words, &located);
        return 0;
    }
    let mut packet = MaybeUninit::uninit();
    if !Packet::read(at, end, &mut packet) {
        return 0;
    }
    // SAFETY: `read` filled it.
    let packet = unsafe { packet.assume_init_ref() };
    emit::saw(cpu, hook);
    if shed::lets_go(cpu, hook, packet) {
        return 0;
    }
    if !matching::lets_through(matching::decide(packet, &place)) {
        return 0;
    }
    emit::event(cpu, sight, packet, &located);
    0
}
