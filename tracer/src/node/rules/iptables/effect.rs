//! What a target does with a packet, as far as an evaluation is concerned.

use super::{
    target::{Setting, Target, TargetKind},
    value::Masked,
};
use crate::node::rules::{
    outcome::{NatRange, Outcome},
    subject::{Bits, Hook, States, Subject},
};

/// What a target does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that later rules could see.
    Nothing,
    /// The packet is done with this base chain.
    End(Outcome),
    /// It goes back to where this chain was called.
    Return,
    /// It goes through another chain and, perhaps, comes back.
    Jump(usize),
    /// It goes through another chain and comes back to where this one was called.
    Goto(usize),
    /// Something of it that later rules see changes.
    Change(Change),
    /// It may be anything.
    Unknown,
}

/// A change of what later rules see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Mark(Masked),
    UnknownMark,
    ConnectionMark(Masked),
    /// The packet's mark is saved as the connection's, with the packet's and connection's masks.
    Save(u32, u32),
    /// The connection's mark becomes the packet's.
    Restore(u32, u32),
    NotTracked,
}

/// Extensions that change nothing that rules ask about, and let the packet go on.
const HARMLESS: [&str; 22] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "ECN",
    "HL",
    "IDLETIMER",
    "LED",
    "LOG",
    "NFLOG",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

impl Effect {
    /// The effect of a rule's target at a hook.
    pub(super) fn of(target: Option<&Target>, hook: Hook) -> Self {
        let Some(target) = target else {
            return Self::Nothing;
        };
        match target.kind {
            TargetKind::Jump(chain) => Self::Jump(chain as usize),
            TargetKind::Goto(chain) => Self::Goto(chain as usize),
            TargetKind::Named => Self::named(target, hook),
        }
    }

    fn named(target: &Target, hook: Hook) -> Self {
        let range = || nat_range(&target.settings);
        Self::End(match &*target.name {
            "ACCEPT" => Outcome::Accepted,
            "DROP" => Outcome::Dropped,
            "QUEUE" | "NFQUEUE" => Outcome::Queued,
            "REJECT" => Outcome::Rejected(reject_with(&target.settings)),
            "DNAT" => Outcome::Dnat(range()),
            "REDIRECT" => Outcome::Redirect(range()),
            "SNAT" => Outcome::Snat(range()),
            "MASQUERADE" => Outcome::Masquerade(range()),
            // It maps a network to another: to which address depends on the packet's own.
            "NETMAP" if matches!(hook, Hook::Prerouting | Hook::Output) => {
                Outcome::Dnat(NatRange::default())
            }
            "NETMAP" => Outcome::Snat(NatRange::default()),
            "SYNPROXY" => Outcome::Stolen("SYNPROXY".to_owned()),
            "RETURN" => return Self::Return,
            "MARK" => return mark(&target.settings).map_or(Self::Unknown, Self::Change),
            "HMARK" => return Self::Change(Change::UnknownMark),
            "CONNMARK" => return connection_mark(target).map_or(Self::Unknown, Self::Change),
            "NOTRACK" => return Self::Change(Change::NotTracked),
            "CT" if target
                .settings
                .iter()
                .any(|setting| setting.is("--notrack")) =>
            {
                return Self::Change(Change::NotTracked);
            }
            name if HARMLESS.contains(&name) => return Self::Nothing,
            _ => return Self::Unknown,
        })
    }
}

fn nat_range(settings: &[Setting]) -> NatRange {
    let range = settings.iter().find_map(|setting| match setting {
        Setting::ToDestination(range) | Setting::ToSource(range) => Some(*range),
        Setting::ToPorts(first, last) => Some(NatRange {
            addresses: None,
            ports: Some((*first, *last)),
        }),
        _ => None,
    });
    range.unwrap_or_default()
}

fn reject_with(settings: &[Setting]) -> String {
    let with = settings.iter().find_map(|setting| match setting {
        Setting::RejectWith(with) => Some(with.to_string()),
        _ => None,
    });
    with.unwrap_or_else(|| "icmp-port-unreachable".to_owned())
}

fn mark(settings: &[Setting]) -> Option<Change> {
    settings.iter().find_map(|setting| match setting {
        Setting::SetMark(mark) => Some(Change::Mark(*mark)),
        _ => None,
    })
}

fn connection_mark(target: &Target) -> Option<Change> {
    let settings = &target.settings;
    if let Some(Change::Mark(mark)) = mark(settings) {
        return Some(Change::ConnectionMark(mark));
    }
    let mask = |pick: fn(&Setting) -> Option<u32>| settings.iter().find_map(pick);
    let packet = mask(|setting| match setting {
        Setting::PacketMask(mask) => Some(*mask),
        _ => None,
    });
    let connection = mask(|setting| match setting {
        Setting::ConnectionMask(mask) => Some(*mask),
        _ => None,
    });
    let (packet, connection) = (packet.unwrap_or(u32::MAX), connection.unwrap_or(u32::MAX));
    let has = |option: &str| settings.iter().any(|setting| setting.is(option));
    if has("--save-mark") {
        Some(Change::Save(packet, connection))
    } else if has("--restore-mark") {
        Some(Change::Restore(packet, connection))
    } else {
        None
    }
}

impl Change {
    /// Makes the change.
    pub(super) fn apply(&self, subject: &mut Subject) {
        let connection = &mut subject.connection;
        match *self {
            Self::Mark(Masked { value, mask }) => {
                subject.mark = subject.mark.cleared_and_flipped(mask, value);
            }
            Self::UnknownMark => subject.mark = Bits::UNKNOWN,
            Self::ConnectionMark(Masked { value, mask }) => {
                connection.mark = connection.mark.cleared_and_flipped(mask, value);
            }
            Self::Save(packet, own) => {
                connection.mark = connection.mark.mixed(own, subject.mark, packet);
            }
            Self::Restore(packet, own) => {
                subject.mark = subject.mark.mixed(packet, connection.mark, own);
            }
            Self::NotTracked => connection.states = States::UNTRACKED,
        }
    }
}
