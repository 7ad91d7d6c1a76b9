//! What must come between two events of one packet.
//!
//! The kernel's path is known: what is queued at a device is transmitted by it, what a veth
//! transmits its peer receives, a netfilter hook that is entered is left. Where an event that must
//! lie between two others is not there, there is a hole. The rules are careful the other way: where
//! the kernel has more than one way (bridges, tunnels, stacked devices), no hole is claimed.

use tracer_common::{
    hook,
    record::{
        FLAG_BRIDGE, FLAG_BRIDGE_PORT, FLAG_FRAGMENT, FLAG_HAS_NETFILTER, FLAG_PHYSICAL,
        PACKET_LOOPBACK,
    },
};

use super::model::{Hole, NetnsId, Stage};
use crate::event::Event;

/// Where an event stands in the kernel's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Queue,
    Transmit,
    Receive,
    Enter(Stage),
    Leave(Stage),
    Socket,
    /// Freed, as dropped or as used.
    Freed,
}

/// Netfilter hooks that have a stage of their own; what is beyond is taken for the last.
const STAGES: [Stage; 5] = {
    let mut stages = [Stage::Postrouting; 5];
    stages[hook::netfilter::PREROUTING as usize] = Stage::Prerouting;
    stages[hook::netfilter::INPUT as usize] = Stage::Input;
    stages[hook::netfilter::FORWARD as usize] = Stage::Forward;
    stages[hook::netfilter::OUTPUT as usize] = Stage::Output;
    stages
};

/// The step of each hook and netfilter hook: asked for several times with each event.
const STEPS: [[Step; STAGES.len()]; hook::COUNT] = {
    let mut steps = [[Step::Freed; STAGES.len()]; hook::COUNT];
    let mut at = 0;
    while at < STAGES.len() {
        steps[hook::DEVICE_QUEUE as usize][at] = Step::Queue;
        steps[hook::DEVICE_TRANSMIT as usize][at] = Step::Transmit;
        steps[hook::DEVICE_RECEIVE as usize][at] = Step::Receive;
        steps[hook::NETFILTER_ENTER as usize][at] = Step::Enter(STAGES[at]);
        steps[hook::NETFILTER_LEAVE as usize][at] = Step::Leave(STAGES[at]);
        steps[hook::SOCKET_DELIVER as usize][at] = Step::Socket;
        at += 1;
    }
    steps
};

impl Step {
    /// The step that the event is.
    #[inline]
    pub(super) fn of(event: &Event) -> Self {
        let r = &event.record;
        let at = usize::from(r.netfilter_hook).min(STAGES.len() - 1);
        match STEPS.get(usize::from(r.hook)) {
            Some(steps) => steps[at],
            None => Self::Freed,
        }
    }
}

/// The last event of a packet, as far as the next one is judged by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub(super) step: Step,
    pub(super) netns: NetnsId,
    pub(super) ifindex: u32,
    pub(super) flags: u16,
    /// Netfilter's hooks in that namespace were observed when the packet was there.
    pub(super) observed: bool,
    /// The copy for the sender's own host of what is sent to many.
    looped_back: bool,
}

impl Before {
    #[inline]
    pub(super) fn new(event: &Event, observed: bool) -> Self {
        Self {
            step: Step::of(event),
            netns: NetnsId(event.record.netns),
            ifindex: event.record.ifindex,
            flags: event.record.flags,
            observed,
            looped_back: is_looped_back(event),
        }
    }

    /// The packet was given to a device that leads out of the node.
    pub(super) fn leads_out(&self) -> bool {
        self.step == Step::Transmit && self.has(FLAG_PHYSICAL)
    }

    /// Whether the last event of another packet was at the same place.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        (self.step, self.netns, self.ifindex) == (other.step, other.netns, other.ifindex)
    }

    /// The copy for the sender's own host was received.
    pub(super) fn is_looped_back(&self) -> bool {
        self.looped_back
    }

    /// A bridge of the namespace passed the packet up to its host.
    pub(super) fn is_from_bridge(&self, netns: u32) -> bool {
        self.step == Step::Receive && self.netns.0 == netns && self.has(FLAG_BRIDGE)
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Whether the event is the reception of the copy that the sender's own host gets of what it sends
/// to many (`dev_loopback_xmit`): it comes from the routing, not from the device.
fn is_looped_back(event: &Event) -> bool {
    event.record.hook == hook::DEVICE_RECEIVE && event.record.packet_type == PACKET_LOOPBACK
}

/// Whether the packet comes in by a device that leads out of the node.
pub(super) fn comes_in(event: &Event) -> bool {
    Step::of(event) == Step::Receive && event.has(FLAG_PHYSICAL)
}

/// What is missing before a packet's first event.
pub(super) fn beginning(first: &Event) -> Option<Hole> {
    match Step::of(first) {
        Step::Queue | Step::Enter(Stage::Output) | Step::Freed => None,
        Step::Receive if first.has(FLAG_PHYSICAL) || is_looped_back(first) => None,
        _ => Some(Hole::Beginning),
    }
}

/// What is missing between two events of a packet.
pub(super) fn between(before: &Before, next: &Event) -> Option<Hole> {
    let step = Step::of(next);
    // Conntrack keeps later fragments until the packet is whole; the hooks then see that, and the
    // fragments come out again behind them.
    if next.has(FLAG_FRAGMENT) && matches!(before.step, Step::Enter(_)) {
        return None;
    }
    if let Step::Leave(stage) = step
        && before.step != Step::Enter(stage)
    {
        return Some(Hole::Missing(stage));
    }
    let missing = match before.step {
        Step::Queue => after_queue(before, next, step),
        Step::Transmit => after_transmit(before, step),
        Step::Receive => return after_receive(before, next, step),
        Step::Enter(stage) => match step {
            Step::Leave(_) | Step::Freed => None,
            _ if is_sent_on(stage, next) && before.netns.0 == next.record.netns => None,
            _ => Some(stage),
        },
        Step::Leave(stage) => after_hook(before, stage, next, step),
        Step::Socket | Step::Freed => None,
    };
    missing.map(Hole::Missing)
}

/// Whether the event is of a packet that IPVS took inside the hook at `entered`: it translates the
/// packet and sends it through OUTPUT from there (`ip_vs_nat_send_or_cont`, `ip_vs_send_or_cont`; its
/// functions are in INPUT, FORWARD and OUTPUT), so that the hook is entered and never left.
pub(super) fn is_sent_on(entered: Stage, event: &Event) -> bool {
    matches!(entered, Stage::Input | Stage::Forward | Stage::Output)
        && Step::of(event) == Step::Enter(Stage::Output)
}

/// Whether a copy that the event is of may have been made after `before`: a bridge that floods
/// clones for each port, a device or a hook that copies goes on with the copy.
pub(super) fn may_branch(before: &Before, event: &Event) -> bool {
    let here = before.netns.0 == event.record.netns;
    match (before.step, Step::of(event)) {
        // Into a port: from another port, from the bridge's own host, or from the hooks inside.
        (Step::Receive, Step::Queue) => here && before.has(FLAG_BRIDGE_PORT),
        (Step::Transmit, Step::Queue) => here && before.has(FLAG_BRIDGE),
        (Step::Leave(Stage::Prerouting | Stage::Postrouting), Step::Queue) => here,
        // A fragment that was kept in a hook until the packet was whole, and has another buffer.
        (Step::Enter(_), Step::Queue) => here && event.has(FLAG_FRAGMENT),
        // Rules that send a copy on its own way: `dup`, TEE.
        (Step::Enter(_), Step::Enter(Stage::Output)) => here,
        // Reassembled, in another fragment's buffer.
        (Step::Enter(entered), Step::Leave(left)) => here && entered == left,
        // Up from a port, or out of a tunnel.
        (Step::Receive | Step::Leave(Stage::Prerouting | Stage::Input), Step::Receive) => here,
        (Step::Transmit, Step::Receive) => true,
        (Step::Queue, Step::Transmit) => here && before.ifindex == event.record.ifindex,
        (Step::Receive, Step::Enter(Stage::Prerouting)) => here,
        (Step::Leave(Stage::Prerouting), Step::Enter(Stage::Input | Stage::Forward)) => here,
        (Step::Leave(Stage::Forward | Stage::Output), Step::Enter(Stage::Postrouting)) => here,
        (Step::Receive | Step::Leave(Stage::Input), Step::Socket) => here,
        _ => false,
    }
}

/// Whether the event may be of a segment of the buffer that was there: of what a device cannot cut
/// itself between its queue and its driver, of what is longer than the device takes, of what a hook
/// gave to a process (NFQUEUE), or of what a socket takes in pieces only.
pub(super) fn may_cut(before: &Before, event: &Event) -> bool {
    let here = before.netns.0 == event.record.netns;
    let same_device = before.ifindex == event.record.ifindex;
    let cut = match (before.step, Step::of(event)) {
        (Step::Queue, Step::Transmit | Step::Freed) => same_device,
        (Step::Enter(entered), Step::Leave(left)) => entered == left,
        (Step::Enter(_), Step::Enter(_) | Step::Queue | Step::Freed) => true,
        (Step::Leave(Stage::Postrouting), Step::Queue) => true,
        (Step::Receive | Step::Leave(Stage::Input), Step::Freed) => true,
        _ => false,
    };
    here && cut
}

fn after_queue(before: &Before, next: &Event, step: Step) -> Option<Stage> {
    let same = before.netns.0 == next.record.netns && before.ifindex == next.record.ifindex;
    match step {
        Step::Transmit if same => None,
        Step::Freed => None,
        _ => Some(Stage::DeviceTransmit),
    }
}

fn after_transmit(before: &Before, step: Step) -> Option<Stage> {
    let bridge = before.has(FLAG_BRIDGE);
    match step {
        // A bridge hands on to a port, or through br_netfilter's hooks; a tunnel, a VLAN or a
        // bond sends through another device.
        Step::Queue | Step::Freed | Step::Enter(Stage::Output) => None,
        Step::Enter(Stage::Forward | Stage::Postrouting) if bridge => None,
        Step::Receive if !bridge => None,
        Step::Receive => Some(Stage::DeviceQueue),
        Step::Transmit => Some(Stage::DeviceQueue),
        _ => Some(Stage::DeviceReceive),
    }
}

fn after_receive(before: &Before, next: &Event, step: Step) -> Option<Hole> {
    if matches!(step, Step::Enter(Stage::Prerouting) | Step::Freed) {
        return None;
    }
    // What was received comes to OUTPUT by IPVS alone, out of another hook.
    if step == Step::Enter(Stage::Output) && before.netns.0 == next.record.netns {
        return Some(Hole::Missing(Stage::Input));
    }
    // A bridge's port hands to the bridge; what a bridge passes up has run prerouting inside it.
    let by_bridge = before.has(FLAG_BRIDGE_PORT) || before.has(FLAG_BRIDGE);
    // Received again at once: VLAN, macvlan, bond, or a bridge passing up.
    let stacked = step == Step::Receive && before.netns.0 == next.record.netns;
    if by_bridge || stacked && !before.observed {
        return None;
    }
    if before.observed {
        return Some(Hole::Missing(Stage::Prerouting));
    }
    if before.has(FLAG_HAS_NETFILTER) {
        return Some(Hole::NetfilterUnobserved);
    }
    None
}

fn after_hook(before: &Before, left: Stage, next: &Event, step: Step) -> Option<Stage> {
    if step == Step::Freed {
        return None;
    }
    match left {
        Stage::Prerouting => match step {
            Step::Enter(Stage::Input | Stage::Forward) | Step::Receive => None,
            // br_netfilter sends what it translated into the bridge by its own device.
            Step::Queue if before.has(FLAG_BRIDGE) || next.has(FLAG_BRIDGE_PORT) => None,
            Step::Socket => Some(Stage::Input),
            _ => Some(Stage::Forward),
        },
        Stage::Input => match step {
            // Received again: out of a tunnel.
            Step::Socket | Step::Receive => None,
            _ => Some(Stage::Socket),
        },
        Stage::Forward | Stage::Output => match step {
            Step::Enter(Stage::Postrouting) => None,
            _ => Some(Stage::Postrouting),
        },
        _ => match step {
            // IPsec sends the transformed packet through output again.
            Step::Queue | Step::Enter(Stage::Output) => None,
            Step::Receive if is_looped_back(next) => None,
            _ => Some(Stage::DeviceQueue),
        },
    }
}
