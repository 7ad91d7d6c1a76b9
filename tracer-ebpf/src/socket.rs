//! A socket takes a packet, or sends one.
//!
//! `cgroup_skb/ingress` on the root of the cgroup tree runs for each packet that TCP, UDP or a raw
//! socket is about to queue (`sk_filter_trim_cap`, 4.10 to 6.18), in the softirq that received it.
//! What matched was noted by the receiving hook a moment before on the same CPU, so a packet that
//! did not match costs one look-up and one comparison. It is known again by its buffer, which the
//! copies share that raw and multicast sockets take. The program's context is the `sk_buff` itself.
#![expect(
    clippy::needless_pass_by_value,
    reason = "aya's macros give contexts by value"
)]

use core::mem::MaybeUninit;

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use tracer_common::{cpu::Receiving, hook, record::Head};

use crate::{
    bytes::{self, At},
    emit::{self, About, Sight},
    matching,
    memory::{self, Cast, Pointer},
    packet::Packet,
    plain, shed,
    skb::{Place, Skb},
};

/// The packet goes on: always.
const PASS: i32 = 1;

/// Runs for each packet that a socket takes.
#[cgroup_skb]
pub(crate) fn socket_deliver(ctx: SkBuffContext) -> i32 {
    let skb = buffer(&ctx);
    let Some(cpu) = emit::cpu() else { return PASS };
    // What was let go where it was received is not noted there.
    if cpu.receiving.head == 0 || skb.head() != cpu.receiving.head {
        return PASS;
    }
    if shed::rests(hook::SOCKET_DELIVER) {
        return PASS;
    }
    emit::saw(cpu, hook::SOCKET_DELIVER);
    let taken = Taken {
        conntrack: skb.conntrack(),
        length: ctx.len(),
        receiving: cpu.receiving,
    };
    let at = At {
        hook: hook::SOCKET_DELIVER,
        skb: cpu.receiving.skb,
        netns: cpu.receiving.netns,
    };
    let (header_at, end) = (skb.network_header(), skb.end());
    let mut words = MaybeUninit::uninit();
    if plain::read(header_at, end, &mut words) {
        // SAFETY: `read` filled it.
        let words = unsafe { words.assume_init_ref() };
        emit::plain(cpu, Sight::new(hook::SOCKET_DELIVER), words, &taken);
        bytes::take(cpu, &ctx, &words.into(), &at);
        return PASS;
    }
    let mut packet = MaybeUninit::uninit();
    if !Packet::read(header_at, end, &mut packet) {
        return PASS;
    }
    // SAFETY: `read` filled it.
    let packet = unsafe { packet.assume_init_ref() };
    emit::event(cpu, Sight::new(hook::SOCKET_DELIVER), packet, &taken);
    bytes::take(cpu, &ctx, &packet.into(), &at);
    PASS
}

/// Runs for each packet that a socket sends, behind the netfilter hooks and before the device: where
/// packets' bytes are asked for, takes those of the packets that match. It has no event of its own.
#[cgroup_skb]
pub(crate) fn socket_send(ctx: SkBuffContext) -> i32 {
    if shed::is_resting() {
        return PASS;
    }
    let skb = buffer(&ctx);
    let mut packet = MaybeUninit::uninit();
    if !Packet::read(skb.network_header(), skb.end(), &mut packet) {
        return PASS;
    }
    // SAFETY: `read` filled it.
    let packet = unsafe { packet.assume_init_ref() };
    // The bytes of what is inside a tunnel were taken before it was.
    if packet.encapsulated() || !shed::keeps(packet) {
        return PASS;
    }
    let place = Place::of(skb);
    if !matching::lets_through(matching::decide(packet, &place)) {
        return PASS;
    }
    let Some(cpu) = emit::cpu() else { return PASS };
    let at = At {
        hook: hook::DEVICE_QUEUE,
        skb: ctx.skb.skb as u64,
        netns: place.netns(),
    };
    bytes::take(cpu, &ctx, &packet.into(), &at);
    PASS
}

/// The context, which is not a typed pointer.
#[inline(always)]
fn buffer(ctx: &SkBuffContext) -> Skb<Cast> {
    Skb(Pointer::new(memory::cast_to_buffer(ctx.skb.skb as u64)))
}

/// A buffer that a socket takes, at the place where it was received.
struct Taken {
    conntrack: u64,
    length: u32,
    receiving: Receiving,
}

impl About for Taken {
    /// The hook's program is run with the buffer as from its IP header on.
    #[inline(always)]
    fn length_from(&self, _: u64) -> u32 {
        self.length
    }

    #[inline(always)]
    fn describe(&self, to: *mut Head, _: u8) {
        // SAFETY: the trait's caller gives a reserved record.
        unsafe {
            (*to).skb = self.receiving.skb;
            (*to).conntrack = self.conntrack;
            memory::put_both(&raw mut (*to).device_name, self.receiving.device_name);
            (*to).ifindex = self.receiving.ifindex;
            (*to).netns = self.receiving.netns;
        }
    }
}
