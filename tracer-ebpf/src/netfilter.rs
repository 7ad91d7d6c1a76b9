//! Netfilter hooks: the packet before the hook's first function and after its last.
//!
//! Around `nf_hook_slow` (fentry and fexit, 5.5+, where the kernel lets them): every hook of every
//! network namespace that has any, with nothing attached in them.
//!
//! As BPF netfilter programs (6.4+): the agent links `netfilter_enter` at the lowest free priority
//! and `netfilter_leave` at the highest of each IP hook, in each namespace with rules, so that all
//! of conntrack, NAT and filter lie between the two. aya-obj does not know the program type; the
//! section name is one that it takes, and the agent loads these two itself.
#![expect(
    clippy::needless_pass_by_value,
    reason = "aya's macros give contexts by value"
)]

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use tracer_common::{fields::ABSENT, hook, hook::netfilter, record::VERDICT_ACCEPTED};

use crate::{
    emit::{self, Sight},
    fields::{STATE_HOOK, STATE_IN, STATE_NET, STATE_OUT, STATE_PF},
    matching::{self, CTINFO_MASK},
    memory::load,
    packet::Packet,
    skb::{Device, Located, Net, Place, Skb},
};

/// `NF_ACCEPT`: always. The tracer observes.
const ACCEPT: i32 = 1;

/// What `nf_hook_slow` returns when every function let the packet pass.
const PASSED: i32 = 1;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6` (uapi).
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Linked before every function of the hook.
#[unsafe(no_mangle)]
#[unsafe(link_section = "socket/netfilter_enter")]
pub(crate) extern "C" fn netfilter_enter(ctx: *mut c_void) -> i32 {
    let (state, skb) = linked(ctx);
    observe(state, skb, hook::NETFILTER_ENTER);
    ACCEPT
}

/// Linked after every function of the hook but conntrack's confirmation.
#[unsafe(no_mangle)]
#[unsafe(link_section = "socket/netfilter_leave")]
pub(crate) extern "C" fn netfilter_leave(ctx: *mut c_void) -> i32 {
    let (state, skb) = linked(ctx);
    observe(state, skb, hook::NETFILTER_LEAVE);
    ACCEPT
}

#[inline(always)]
fn linked(ctx: *mut c_void) -> (u64, Skb) {
    let ctx = ctx.cast::<u64>();
    // SAFETY: struct bpf_nf_ctx { const struct nf_hook_state *state; struct sk_buff *skb; }.
    unsafe { (*ctx, Skb(*ctx.add(1))) }
}

/// `int nf_hook_slow(skb, state, entries, index)` begins (the same arguments from 4.14 to 6.18).
#[fentry(function = "nf_hook_slow")]
pub(crate) fn netfilter_begin(ctx: FEntryContext) -> u32 {
    if is_ip(ctx.arg(1)) {
        observe(ctx.arg(1), Skb(ctx.arg(0)), hook::NETFILTER_ENTER);
    }
    0
}

/// `nf_hook_slow` ends. What did not pass is dropped, stolen or queued, and not to be touched any
/// more; the drop has an event of its own.
#[fexit(function = "nf_hook_slow")]
pub(crate) fn netfilter_end(ctx: FExitContext) -> u32 {
    if ctx.arg::<i32>(4) == PASSED && is_ip(ctx.arg(1)) {
        observe(ctx.arg(1), Skb(ctx.arg(0)), hook::NETFILTER_LEAVE);
    }
    0
}

/// Bridges, ARP and devices have hooks too.
#[inline(always)]
fn is_ip(state: u64) -> bool {
    if STATE_PF.load() == ABSENT {
        return false;
    }
    // SAFETY: the state is a typed pointer, the offset its member's.
    let family: u8 = unsafe { load(state, STATE_PF.load()) };
    family == IPV4 || family == IPV6
}

#[inline(always)]
fn observe(state: u64, skb: Skb, hook: u8) {
    if STATE_HOOK.load() == ABSENT || STATE_NET.load() == ABSENT {
        return;
    }
    let mut packet = MaybeUninit::uninit();
    if !Packet::read(skb.network_header(), skb.end(), &mut packet) {
        return;
    }
    // SAFETY: `read` filled it.
    let packet = unsafe { packet.assume_init_ref() };
    let Some(cpu) = emit::cpu() else { return };
    emit::count(&mut cpu.hooks[usize::from(hook)].seen);
    // SAFETY: the state is a typed pointer, the offsets are its members'.
    let (number, net, input, output): (u8, Net, Device, Device) = unsafe {
        (
            load(state, STATE_HOOK.load()),
            Net(load(state, STATE_NET.load())),
            Device(load(state, STATE_IN.load())),
            Device(load(state, STATE_OUT.load())),
        )
    };
    // Where the packet is: it came in by one device until it is forwarded, then leaves by the other.
    let outward = number == netfilter::OUTPUT || number == netfilter::POSTROUTING;
    let device = if outward { output } else { input };
    let place = Place {
        device,
        netns: u64::from(net.inode()),
        socket: skb.socket(),
    };
    let decision = if hook == hook::NETFILTER_ENTER {
        let mut decision = matching::UNKNOWN;
        if number == netfilter::OUTPUT {
            decision = matching::taken(cpu, skb.0, packet);
        }
        if decision == matching::UNKNOWN {
            decision = matching::decide(packet, &place);
        }
        matching::enter(cpu, skb.0, packet, number, decision);
        decision
    } else {
        matching::leave(cpu, skb.0, packet, number, &place)
    };
    if !matching::lets_through(decision) {
        return;
    }
    let sight = Sight {
        netfilter_hook: number,
        reason: if hook == hook::NETFILTER_LEAVE {
            VERDICT_ACCEPTED
        } else {
            0
        },
        in_ifindex: input.ifindex(),
        out_ifindex: output.ifindex(),
        ..Sight::new(hook)
    };
    emit::event(cpu, sight, packet, &Located { skb, place });
    // Both translations are made by the time that the last hook of the path is left.
    let last = number == netfilter::INPUT || number == netfilter::POSTROUTING;
    if hook == hook::NETFILTER_LEAVE && last {
        let conntrack = skb.conntrack();
        if conntrack > CTINFO_MASK
            && matching::conntrack_is_new(&packet.header.tuple, decision, conntrack) != 0
        {
            emit::conntrack(cpu, conntrack & !CTINFO_MASK, place.netns);
        }
    }
}
