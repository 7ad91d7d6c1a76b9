//! A hop out of an event: its stage, its device, and what a netfilter hook made of the packet.

use tracer_common::record::{
    FLAG_BRIDGE, FLAG_BRIDGE_PORT, FLAG_FRAGMENT, FLAG_LOOPBACK, FLAG_NOT_LINEAR,
};

use super::{
    model::{
        Device, Direction, Dropped, Encapsulation, Hole, HookCall, Hop, Made, NetnsId, Packet,
        Stage, Tracking, TranslationKind, Transport, Verdict,
    },
    path::{self, Step},
};
use crate::event::{Event, Tuple};

pub(super) fn transport_of(event: &Event) -> Transport {
    let r = &event.record;
    if r.flags & (FLAG_FRAGMENT | FLAG_NOT_LINEAR) != 0 {
        return Transport::Other;
    }
    match r.protocol {
        6 => Transport::Tcp {
            flags: r.tcp_flags,
            sequence: r.sequence,
            acknowledgement: r.acknowledgement,
        },
        17 => Transport::Udp {
            begin: u64::from(r.sequence) << 32 | u64::from(r.acknowledgement),
        },
        1 | 58 => {
            let [.., kind, code] = r.acknowledgement.to_be_bytes();
            let [.., high, low] = r.sequence.to_be_bytes();
            Transport::Icmp {
                kind,
                code,
                sequence: u16::from_be_bytes([high, low]),
                quoted: event.quoted(),
            }
        }
        _ => Transport::Other,
    }
}

fn device_of(event: &Event) -> Option<Device> {
    let r = &event.record;
    let [a, b] = r.device_name;
    let mut raw_name = [0; 16];
    raw_name[..8].copy_from_slice(&a.to_ne_bytes());
    raw_name[8..].copy_from_slice(&b.to_ne_bytes());
    (r.ifindex != 0).then(|| Device {
        ifindex: r.ifindex,
        raw_name,
        bridge: event.has(FLAG_BRIDGE),
        bridge_port: event.has(FLAG_BRIDGE_PORT),
        loopback: event.has(FLAG_LOOPBACK),
    })
}

fn stage_of(event: &Event) -> Stage {
    match Step::of(event) {
        Step::Queue => Stage::DeviceQueue,
        Step::Transmit | Step::Receive if event.has(FLAG_BRIDGE) => Stage::Bridge,
        Step::Transmit => Stage::DeviceTransmit,
        Step::Receive => Stage::DeviceReceive,
        Step::Enter(stage) | Step::Leave(stage) => stage,
        Step::Socket => Stage::Socket,
        Step::Freed => Stage::Drop,
    }
}

#[inline]
fn hop_of(event: &Event, stage: Stage, hole: Option<Hole>) -> Hop {
    Hop {
        time: event.record.time,
        left: None,
        stage,
        netns: NetnsId(event.record.netns),
        device: device_of(event),
        tuple: event.tuple(),
        made: None,
        encapsulation: event.outer().map(|other| Encapsulation {
            vni: other.vni,
            outer: other.tuple,
        }),
        hole,
        call: call_of(event),
    }
}

/// What a netfilter hook is told with the packet.
fn call_of(event: &Event) -> Option<HookCall> {
    let at_hook = matches!(Step::of(event), Step::Enter(_) | Step::Leave(_));
    at_hook.then(|| HookCall {
        input: event.record.in_ifindex,
        output: event.record.out_ifindex,
        tracking: tracking_of(event),
    })
}

/// What `sk_buff._nfct` says: a connection's address and, in the low three bits, the packet's
/// `enum ip_conntrack_info`.
fn tracking_of(event: &Event) -> Tracking {
    const INFO: u64 = 7;
    const UNTRACKED: u64 = 7;
    let word = event.record.conntrack;
    match (word > INFO, word & INFO) {
        (_, UNTRACKED) => Tracking::Untracked,
        (true, 0) => Tracking::Established(Direction::Original),
        (true, 1) => Tracking::Related(Direction::Original),
        (true, 2) => Tracking::New,
        (true, 3) => Tracking::Established(Direction::Reply),
        (true, 4) => Tracking::Related(Direction::Reply),
        _ => Tracking::Nothing,
    }
}

/// Made where it is kept, since it is large.
#[inline]
fn push_hop(packet: &mut Packet, limit: usize, hop: impl FnOnce() -> Hop) {
    if packet.hops.len() < limit {
        packet.hops.push(hop());
    } else {
        packet.hops_cut += 1;
    }
}

/// Adds the event to the packet's hops. A netfilter hook's end completes the hop that its
/// beginning made, which is returned if anything was translated between; where IPVS took the packet inside
/// the hook, the beginning of the next one completes it.
pub(super) fn add_hop(
    packet: &mut Packet,
    event: &Event,
    hole: Option<Hole>,
    limit: usize,
) -> Option<Hop> {
    let stage = stage_of(event);
    let netns = NetnsId(event.record.netns);
    match Step::of(event) {
        Step::Leave(_) => {
            let direction = packet.direction;
            let open = packet
                .hops
                .last_mut()
                .filter(|hop| hop.stage == stage && hop.netns == netns);
            let Some(hop) = open else {
                let mut hop = hop_of(event, stage, hole);
                hop.left = Some(hop.time);
                push_hop(packet, limit, || hop);
                return None;
            };
            return complete(hop, event, direction);
        }
        Step::Enter(Stage::Output) => {
            let direction = packet.direction;
            let taken = |hop: &&mut Hop| {
                hop.left.is_none() && hop.netns == netns && path::is_sent_on(hop.stage, event)
            };
            let made = packet.hops.last_mut().filter(taken);
            let made = made.and_then(|hop| complete(hop, event, direction));
            push_hop(packet, limit, || hop_of(event, stage, hole));
            return made;
        }
        Step::Enter(Stage::Prerouting) if event.has(FLAG_BRIDGE) => {
            // br_netfilter: the port's packet is in the bridge, and the bridge runs the IP hooks.
            let at_port = |hop: &Hop| {
                hop.stage == Stage::DeviceReceive
                    && hop.netns == netns
                    && hop.device.is_some_and(|d| d.bridge_port)
            };
            if packet.hops.last().is_some_and(at_port) {
                push_hop(packet, limit, || hop_of(event, Stage::Bridge, None));
            }
        }
        _ => {}
    }
    push_hop(packet, limit, || hop_of(event, stage, hole));
    None
}

/// Completes the hop of a netfilter hook by the event behind it. Returns it if it translated anything.
fn complete(hop: &mut Hop, event: &Event, direction: Direction) -> Option<Hop> {
    hop.left = Some(event.record.time);
    hop.made = made(&hop.tuple, event, direction);
    if let Some(call) = &mut hop.call
        && call.tracking == Tracking::Nothing
    {
        call.tracking = tracking_of(event);
    }
    hop.made.is_some().then_some(*hop)
}

/// What became of the tuple inside a hook.
fn made(before: &Tuple, event: &Event, direction: Direction) -> Option<Made> {
    let to = event.tuple();
    let source = before.source != to.source;
    let destination = before.destination != to.destination;
    if !source && !destination {
        return None;
    }
    let kinds = match direction {
        Direction::Original => [
            destination.then_some(TranslationKind::Dnat),
            source.then_some(TranslationKind::Snat),
        ],
        Direction::Reply => [
            source.then_some(TranslationKind::UnDnat),
            destination.then_some(TranslationKind::UnSnat),
        ],
    };
    Some(Made { to, kinds })
}

/// Ends the packet with the drop, which stands as its last hop.
pub(super) fn note_drop(packet: &mut Packet, event: &Event, limit: usize) {
    let (stage, netns) = packet
        .hops
        .last()
        .map_or((Stage::Drop, NetnsId(event.record.netns)), |hop| {
            (hop.stage, hop.netns)
        });
    packet.verdict = Verdict::Dropped;
    packet.verdict_observed = true;
    packet.dropped = Some(Dropped {
        reason: event.record.reason,
        location: event.record.detail,
        stage,
        netns,
    });
    let mut hop = hop_of(event, Stage::Drop, None);
    // The device and with it the namespace may be gone from the buffer by then.
    if let Some(last) = packet.hops.last() {
        if event.record.netns == 0 {
            hop.netns = last.netns;
        }
        hop.device = hop.device.or(last.device);
    }
    push_hop(packet, limit, || hop);
}
