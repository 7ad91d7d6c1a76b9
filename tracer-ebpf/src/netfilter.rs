//! Netfilter hooks: the packet before the hook's first function and after its last.
//!
//! Around `nf_hook_slow` (fentry and fexit, 5.5+, where the kernel lets them): every hook of every
//! network namespace that has any, with nothing attached in them.
//!
//! By kprobes of the same function: [`crate::probe`].
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
use tracer_common::{cpu::CpuState, hook, hook::netfilter, record::VERDICT_ACCEPTED};

use crate::{
    emit::{self, Sight},
    fields::{STATE_HOOK, STATE_IN, STATE_OUT, STATE_PF},
    glance,
    matching::{self, CTINFO_MASK, Decision, UNKNOWN},
    memory::{self, Access, Pointer, Typed},
    packet::Packet,
    plain, shed,
    skb::{Device, Located, Place, Skb},
};

/// `NF_ACCEPT`: always. The tracer observes.
const ACCEPT: i32 = 1;

/// What `nf_hook_slow` returns when every function let the packet pass.
pub(crate) const PASSED: i32 = 1;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6` (uapi).
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Linked before every function of the hook.
#[unsafe(no_mangle)]
#[unsafe(link_section = "socket/netfilter_enter")]
pub(crate) extern "C" fn netfilter_enter(ctx: *mut c_void) -> i32 {
    let (state, skb) = linked(ctx);
    observe(state, skb, hook::NETFILTER_ENTER, &mut { UNKNOWN });
    ACCEPT
}

/// Linked after every function of the hook but conntrack's confirmation.
#[unsafe(no_mangle)]
#[unsafe(link_section = "socket/netfilter_leave")]
pub(crate) extern "C" fn netfilter_leave(ctx: *mut c_void) -> i32 {
    let (state, skb) = linked(ctx);
    observe(state, skb, hook::NETFILTER_LEAVE, &mut { UNKNOWN });
    ACCEPT
}

#[inline(always)]
fn linked(ctx: *mut c_void) -> (State<Typed>, Skb<Typed>) {
    let ctx = ctx.cast::<u64>();
    // SAFETY: struct bpf_nf_ctx { const struct nf_hook_state *state; struct sk_buff *skb; }.
    unsafe { (State(Pointer::new(*ctx)), Skb(Pointer::new(*ctx.add(1)))) }
}

/// `int nf_hook_slow(skb, state, entries, index)` begins (the same arguments from 4.14 to 6.18).
#[fentry(function = "nf_hook_slow")]
pub(crate) fn netfilter_begin(ctx: FEntryContext) -> u32 {
    let (skb, state) = (Skb(Pointer::new(ctx.arg(0))), typed_state(ctx.arg(1)));
    if state.is_ip() {
        observe(state, skb, hook::NETFILTER_ENTER, &mut { UNKNOWN });
    }
    0
}

/// `nf_hook_slow` ends. What did not pass is dropped, stolen or queued, and not to be touched any
/// more; the drop has an event of its own.
#[fexit(function = "nf_hook_slow")]
pub(crate) fn netfilter_end(ctx: FExitContext) -> u32 {
    let (skb, state) = (Skb(Pointer::new(ctx.arg(0))), typed_state(ctx.arg(1)));
    if ctx.arg::<i32>(4) == PASSED && state.is_ip() {
        observe(state, skb, hook::NETFILTER_LEAVE, &mut { UNKNOWN });
    }
    0
}

#[inline(always)]
fn typed_state(address: u64) -> State<Typed> {
    State(Pointer::new(address))
}

/// A `struct nf_hook_state *`.
#[derive(Clone, Copy)]
pub(crate) struct State<A>(pub(crate) Pointer<A>);

impl<A: Access> State<A> {
    /// Bridges, ARP and devices have hooks too.
    #[inline(always)]
    pub(crate) fn is_ip(self) -> bool {
        if STATE_PF.is_absent() {
            return false;
        }
        // SAFETY: a byte of the structure that the pointer is to.
        let family: u8 = unsafe { self.0.load(STATE_PF) };
        family == IPV4 || family == IPV6
    }
}

/// Emits what concerns the question. `kept` is what of the decision goes from the hook's beginning
/// to its end, where the caller knows which end belongs to which beginning; else it says nothing.
#[inline(always)]
pub(crate) fn observe<A: Access>(state: State<A>, skb: Skb<A>, hook: u8, kept: &mut Decision) {
    if STATE_HOOK.is_absent() || shed::rests(hook) {
        return;
    }
    let Some(cpu) = emit::cpu() else { return };
    // SAFETY: members of the structure that the pointer is to, the last two pointers.
    let (number, input, output): (u8, _, _) = unsafe {
        (
            state.0.load(STATE_HOOK),
            Device(state.0.follow(STATE_IN)),
            Device(state.0.follow(STATE_OUT)),
        )
    };
    // Where the packet is: it came in by one device until it is forwarded, then leaves by the other.
    let outward = number == netfilter::OUTPUT || number == netfilter::POSTROUTING;
    let device = if outward { output } else { input };
    let place = Place { skb, device };
    let (at, end) = (skb.network_header(), skb.end());
    let number = memory::forget(u64::from(number), end) as u8;
    // Packets begin their life at OUTPUT; at the end of all hooks but FORWARD they may be translated.
    // Of a copy, so that the verifier does not walk on with what it learns of the number.
    let which = memory::forget(u64::from(number), end);
    let same = if hook == hook::NETFILTER_ENTER {
        which != u64::from(netfilter::OUTPUT)
    } else {
        which == u64::from(netfilter::FORWARD)
    };
    let mut glimpse = 0;
    if same {
        glimpse = glance::before(cpu, at, &place);
    }
    if glimpse == 0 {
        glimpse = glance::at(cpu, at, end, &place);
    }
    // Unless a decision that is to be carried over to the translated tuple waits here, or came with the call.
    if glimpse != 0 && *kept == UNKNOWN && !glance::is_awaited(cpu, skb.0.address, glimpse, number)
    {
        glance::let_go(cpu, hook, at, &place, glimpse);
        return;
    }
    if observe_plain(
        cpu,
        Located { place, at },
        end,
        hook,
        number,
        (input, output),
    ) {
        return;
    }
    let mut packet = MaybeUninit::uninit();
    if !Packet::read(at, end, &mut packet) {
        return;
    }
    // SAFETY: `read` filled it.
    let packet = unsafe { packet.assume_init_ref() };
    emit::saw(cpu, hook);
    if shed::lets_go(cpu, hook, packet) {
        return;
    }
    let decision = if hook == hook::NETFILTER_ENTER {
        let mut decision = UNKNOWN;
        // Of a copy, so that the verifier does not walk on with what it learns of the number.
        let noise = packet.header.tuple.source[1];
        if memory::forget(u64::from(number), noise) == u64::from(netfilter::OUTPUT) {
            decision = matching::taken(cpu, skb.0.address, packet);
        }
        if decision == UNKNOWN {
            decision = matching::decide(packet, &place);
        }
        *kept = matching::enter(cpu, skb.0.address, packet, number, decision);
        decision
    } else {
        matching::leave(cpu, skb.0.address, packet, number, &place, *kept)
    };
    if !matching::lets_through(decision) {
        return;
    }
    let noise = packet.header.tuple.source[1];
    let sight = sight(hook, number, &place, (input, output), noise);
    emit::event(cpu, sight, packet, &Located { place, at });
    if hook == hook::NETFILTER_LEAVE {
        left(cpu, number, &place, |cpu, connection| {
            matching::conntrack_is_new(cpu, &packet.header.tuple, decision, connection) != 0
        });
    }
}

/// Emits a plain packet's event where every packet is asked for; else it says no.
#[inline(always)]
fn observe_plain<A: Access>(
    cpu: &mut CpuState,
    located: Located<A>,
    end: u64,
    hook: u8,
    number: u8,
    devices: (Device<A::Followed>, Device<A::Followed>),
) -> bool {
    let mut words = MaybeUninit::uninit();
    if !A::GLANCES || !plain::read_if_all(located.at, end, &mut words) {
        return false;
    }
    // SAFETY: `read_if_all` filled it.
    let words = unsafe { words.assume_init_ref() };
    emit::saw(cpu, hook);
    let sight = sight(hook, number, &located.place, devices, words[1]);
    emit::plain(cpu, sight, words, &located);
    if hook == hook::NETFILTER_LEAVE {
        left(cpu, number, &located.place, |cpu, connection| {
            matching::is_to_be_told(cpu, connection, plain::number(words[1], words[2]))
        });
    }
    true
}

#[inline(always)]
fn sight<A: Access>(
    hook: u8,
    number: u8,
    place: &Place<A>,
    (input, output): (Device<A::Followed>, Device<A::Followed>),
    noise: u64,
) -> Sight {
    // At output the sender's socket; elsewhere there is none, or a receiver's.
    let sender = if hook == hook::NETFILTER_ENTER {
        place.socket().cookie()
    } else {
        0
    };
    Sight {
        detail: memory::forget(sender, noise),
        netfilter_hook: number,
        reason: if hook == hook::NETFILTER_LEAVE {
            VERDICT_ACCEPTED
        } else {
            0
        },
        in_ifindex: input.ifindex(),
        out_ifindex: output.ifindex(),
        ..Sight::new(hook)
    }
}

/// What is left to do where a hook is left by a packet whose event was emitted: its connection's tuples, if it
/// `is_new`, and what the socket's hook needs.
#[inline(always)]
fn left<A: Access>(
    cpu: &mut CpuState,
    number: u8,
    place: &Place<A>,
    is_new: impl FnOnce(&mut CpuState, u64) -> bool,
) {
    // Both translations are made by the time that the last hook of the path is left.
    if number == netfilter::INPUT || number == netfilter::POSTROUTING {
        let conntrack = place.skb.conntrack();
        if conntrack > CTINFO_MASK && is_new(cpu, conntrack) {
            emit::conntrack(cpu, conntrack & !CTINFO_MASK, u64::from(place.netns()));
        }
    }
    // What translates an address may move the data, and the socket's hook knows the packet by them.
    if number == netfilter::INPUT {
        cpu.receiving = place.receiving();
    }
}
