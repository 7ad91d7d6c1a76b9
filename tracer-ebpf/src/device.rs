//! Device hooks: the tracepoints through which every packet of every device in every network
//! namespace passes. Nothing is attached per device.
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
    memory::{self, Pointer, Typed},
    packet::Packet,
    plain, shed,
    skb::{Located, Place, Skb},
};

/// `net_dev_queue(skb)`: `__dev_queue_xmit` (5.10 to 6.18).
#[btf_tracepoint(function = "net_dev_queue")]
pub(crate) fn device_queue(ctx: BtfTracePointContext) -> u32 {
    let skb = Skb(Pointer::new(ctx.arg(0)));
    observe(skb, skb.network_header(), hook::DEVICE_QUEUE)
}

/// `net_dev_start_xmit(skb, dev)`: `xmit_one`.
#[btf_tracepoint(function = "net_dev_start_xmit")]
pub(crate) fn device_transmit(ctx: BtfTracePointContext) -> u32 {
    let skb = Skb(Pointer::new(ctx.arg(0)));
    observe(skb, skb.network_header(), hook::DEVICE_TRANSMIT)
}

/// `netif_receive_skb(skb)`: `__netif_receive_skb_core`, before the network header is noted.
#[btf_tracepoint(function = "netif_receive_skb")]
pub(crate) fn device_receive(ctx: BtfTracePointContext) -> u32 {
    let skb = Skb(Pointer::new(ctx.arg(0)));
    observe(skb, skb.data(), hook::DEVICE_RECEIVE)
}

#[inline(always)]
fn observe(skb: Skb<Typed>, header_at: u64, hook: u8) -> u32 {
    if !skb.is_ip() || shed::rests(hook) {
        return 0;
    }
    let Some(cpu) = emit::cpu() else { return 0 };
    let (end, place) = (skb.end(), Place::of(skb));
    // What is transmitted was queued a moment before.
    let mut glimpse = 0;
    if hook == hook::DEVICE_TRANSMIT {
        glimpse = glance::before(cpu, header_at, &place);
    }
    if glimpse == 0 {
        glimpse = glance::at(cpu, header_at, end, &place);
    }
    if glimpse != 0 {
        glance::let_go(cpu, hook, header_at, &place, glimpse);
        if hook == hook::DEVICE_RECEIVE {
            cpu.receiving.head = 0;
        }
        return 0;
    }
    let located = Located {
        place,
        at: header_at,
    };
    let mut words = MaybeUninit::uninit();
    if plain::read_if_all(header_at, end, &mut words) {
        // SAFETY: `read_if_all` filled it.
        let words = unsafe { words.assume_init_ref() };
        emit::saw(cpu, hook);
        let sight = sight(hook, &place, words[1]);
        emit::plain(cpu, sight, words, &located);
        if hook == hook::DEVICE_RECEIVE {
            cpu.receiving = place.receiving();
        }
        return 0;
    }
    let mut packet = MaybeUninit::uninit();
    if !Packet::read(header_at, end, &mut packet) {
        return 0;
    }
    // SAFETY: `read` filled it.
    let packet = unsafe { packet.assume_init_ref() };
    emit::saw(cpu, hook);
    if shed::lets_go(cpu, hook, packet) {
        return 0;
    }
    if !matching::lets_through(matching::decide(packet, &place)) {
        if hook == hook::DEVICE_RECEIVE {
            cpu.receiving.head = 0;
        }
        return 0;
    }
    if hook == hook::DEVICE_RECEIVE {
        cpu.receiving = place.receiving();
    }
    let sight = sight(hook, &place, packet.header.tuple.source[1]);
    emit::event(cpu, sight, packet, &located);
    0
}

#[inline(always)]
fn sight(hook: u8, place: &Place<Typed>, noise: u64) -> Sight {
    // The sender's socket, while the packet is with it.
    let sender = if hook == hook::DEVICE_QUEUE {
        place.socket().cookie()
    } else {
        0
    };
    Sight {
        // Of no value to the verifier: packets with a socket and without go on as one.
        detail: memory::forget(sender, noise),
        ..Sight::new(hook)
    }
}
