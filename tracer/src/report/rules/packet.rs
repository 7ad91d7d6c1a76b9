//! A packet as its hook's rules see it, from what was seen of it.

use super::{Question, hook_of, is_first, socket};
use crate::{
    event::Tuple,
    journey::model::{
        Direction, HookCall, Hop, NetnsId, Packet, Stage, Tracking, TranslationKind, Transport,
    },
    node::{
        link::{Link, LinkKind},
        rules::{
            outcome::Observed,
            subject::{Bits, DeviceName, Hook, States, Subject, status},
        },
    },
    report::Knowledge,
};

const TCP: u8 = 6;

impl Knowledge<'_> {
    /// What is known of a packet beyond its tuple and its hook.
    pub(super) fn describe(&self, subject: &mut Subject, packet: &Packet, hop: &Hop) {
        describe_transport(subject, packet);
        subject.length = Some(packet.length).filter(|_| hop.encapsulation.is_none());
        if subject.connection.states == States::ANY && packet.protocol == TCP && is_first(packet) {
            subject.connection.states = States::NEW;
        }
        let first = came_by(packet, hop);
        let status = &mut subject.connection.status;
        match first {
            Some(first) => {
                if let Some(bit) = translated_status(packet, first) {
                    *status = status.with(Bits::exactly(bit), status::DST_NAT);
                }
                subject.mark = self.mark_behind(packet, first);
            }
            None if subject.connection.states == States::NEW => {
                let begins = matches!(hop.stage, Stage::Prerouting | Stage::Output);
                let none = if begins { u32::MAX } else { status::SRC_NAT };
                *status = status.with(Bits::exactly(0), none);
            }
            None => {}
        }
    }

    /// The mark that the rules of a hop give a packet that goes on.
    fn mark_behind(&self, packet: &Packet, hop: &Hop) -> Bits {
        let passed = self.passed(packet, hop);
        let marked = passed.and_then(|question| {
            let after = self.ask(&question)?.after;
            let marks = after.into_iter().map(|subject| subject.mark);
            marks.reduce(Bits::merge)
        });
        marked.unwrap_or(Bits::UNKNOWN)
    }

    /// How a packet got through a hop.
    fn passed(&self, packet: &Packet, hop: &Hop) -> Option<Question> {
        let hook = hook_of(hop.stage)?;
        let mut subject = self.subject(hook, (hop.netns, hop.time), &hop.tuple, hop.call);
        describe_transport(&mut subject, packet);
        let mut made = hop.translations();
        let dnat = made.find(|made| made.kind == TranslationKind::Dnat);
        let first = hop.call.is_some_and(|call| call.tracking == Tracking::New);
        let observed = match dnat {
            Some(made) if first => Observed::Destination(socket(made.to.destination)),
            _ => Observed::Passed,
        };
        Some(Question {
            netns: hop.netns,
            time: hop.time,
            subject,
            observed,
            came: None,
        })
    }

    /// How a packet came into the namespace of a hop.
    pub(super) fn came(&self, packet: &Packet, hop: &Hop) -> Option<Question> {
        let first = came_by(packet, hop)?;
        let new = first
            .call
            .is_some_and(|call| call.tracking == Tracking::New);
        self.passed(packet, first).filter(|_| new)
    }

    /// A packet as its hook's rules see it.
    pub(super) fn subject(
        &self,
        hook: Hook,
        (netns, time): (NetnsId, u64),
        tuple: &Tuple,
        call: Option<HookCall>,
    ) -> Subject {
        let (source, destination) = (tuple.source, tuple.destination);
        let mut subject = Subject::new(hook, source.ip(), destination.ip(), tuple.protocol);
        if matches!(tuple.protocol, 6 | 17 | 33 | 132 | 136) {
            // A later fragment has no ports, and 0 is none.
            let port = |port: u16| (port != 0).then_some(port);
            subject.source_port = port(source.port);
            subject.destination_port = port(destination.port);
        }
        let Some(call) = call else { return subject };
        let links = self.at(netns, time).map(|namespace| &namespace.links);
        let device = |index: u32| match (index, links.and_then(|links| links.get(&index))) {
            (0, _) => (DeviceName::Absent, DeviceName::Absent),
            (_, None) => (DeviceName::Unknown, DeviceName::Unknown),
            (_, Some(link)) => (DeviceName::Is(link.name.clone()), port_of(link)),
        };
        (subject.input, subject.bridge_input) = device(call.input);
        (subject.output, subject.bridge_output) = device(call.output);
        if hook == Hook::Prerouting && call.input != 0 {
            // A mark does not come along from another namespace or from outside.
            subject.mark = Bits::exactly(0);
        }
        let connection = &mut subject.connection;
        connection.states = match call.tracking {
            Tracking::New => States::NEW,
            Tracking::Untracked => States::UNTRACKED,
            Tracking::Established(_) => States::ESTABLISHED,
            Tracking::Related(_) => States::RELATED,
            // Before conntrack has looked there is nothing to say; behind it, it knows no connection.
            Tracking::Nothing if matches!(hook, Hook::Prerouting | Hook::Output) => States::ANY,
            Tracking::Nothing => States::INVALID,
        };
        connection.original = match call.tracking {
            Tracking::New => Some(true),
            Tracking::Established(direction) | Tracking::Related(direction) => {
                Some(direction == Direction::Original)
            }
            Tracking::Nothing | Tracking::Untracked => None,
        };
        subject
    }
}

/// The hop by which a packet came into the namespace of another one.
fn came_by<'p>(packet: &'p Packet, hop: &Hop) -> Option<&'p Hop> {
    let mut earlier = packet.hops.iter().take_while(|other| *other != hop);
    earlier.find(|other| {
        let begins = matches!(other.stage, Stage::Prerouting | Stage::Output);
        begins && other.netns == hop.netns && other.left.is_some()
    })
}

/// What is known of a packet's transport.
fn describe_transport(subject: &mut Subject, packet: &Packet) {
    subject.fragment = match packet.transport {
        Transport::Other => None,
        _ => Some(false),
    };
    match packet.transport {
        Transport::Tcp { flags, .. } => subject.tcp_flags = Some(flags),
        Transport::Icmp { kind, code, .. } => subject.icmp = Some((kind, code)),
        Transport::Udp { .. } | Transport::Other => {}
    }
}

/// Whether the connection's destination is rewritten, as what the first hook of a namespace made of
/// one of its packets shows it.
fn translated_status(packet: &Packet, first: &Hop) -> Option<u32> {
    let mut translations = first.translations();
    if translations.any(|made| made.kind == TranslationKind::Dnat) {
        return Some(status::DST_NAT);
    }
    // A reply is turned back where it leaves.
    (packet.direction == Direction::Original).then_some(0)
}

/// The bridge port that goes with a device.
fn port_of(link: &Link) -> DeviceName {
    match (&link.kind, link.master) {
        // It came through a port, which is not told, or from the bridge itself.
        (LinkKind::Bridge, _) => DeviceName::Unknown,
        (_, Some(_)) => DeviceName::Is(link.name.clone()),
        (_, None) => DeviceName::Absent,
    }
}
