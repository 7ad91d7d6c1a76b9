//! Whether anything is wrong with a flow at all.
//!
//! Conservative: a flow that may still get its answer is not wrong, nor is a datagram that nobody
//! answers, since not all are to be answered.

use super::{Evidence, Seen};
/// The port that DNS servers are asked at.
pub(super) use crate::dns::PORT as DNS_PORT;
use crate::{
    event::Endpoint,
    journey::model::{Direction, Flow, Packet, State, Transport},
    report::lookups::Lookup,
};

/// How long an answer may take, in nanoseconds: a SYN is sent again after that time
/// (`TCP_TIMEOUT_INIT`, RFC 6298).
pub(super) const PATIENCE: u64 = 1_000_000_000;
/// The least time after which what is not acknowledged is sent again (`TCP_RTO_MIN`).
const RESENT: u64 = 200_000_000;
/// How often a segment is sent until its loss is none by chance.
const OFTEN: u32 = 3;
/// From when on a connection counts as slow that needed more than one SYN.
pub(super) const SLOW: u64 = 900_000_000;

const UDP: u8 = 17;
/// Echo requests of ICMP and ICMPv6.
const ECHO: [u8; 2] = [8, 128];

/// What is wrong with a flow, as its client feels it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symptom {
    /// Somebody said no.
    Refused,
    /// Nobody answered.
    Unanswered,
    /// There was an answer, which did not come to the client, or not as the client could know it.
    AnswerLost,
    /// It came, but only after the question was sent again.
    Slow,
    /// It was open, and its packets got lost one after the other.
    Stalled,
    /// A name server answered some questions of a client, and not all.
    LookupLost,
    /// A name server answered late.
    LookupSlow,
    /// A name server's answer is no good, by itself.
    LookupFailed,
}

impl Symptom {
    pub(super) fn of(flow: &Flow, seen: Seen<'_>) -> Option<Self> {
        let evidence = seen.evidence;
        let waited = seen.until.saturating_sub(flow.first);
        let lost = |direction| evidence.losses(direction).next().is_some();
        let question_lost = lost(Direction::Original);
        match flow.state {
            State::Refused => Some(Self::Refused),
            State::SynSent => (question_lost || waited >= PATIENCE).then_some(Self::Unanswered),
            State::SynReceived => {
                (lost(Direction::Reply) || waited >= PATIENCE).then_some(Self::AnswerLost)
            }
            State::Reset if lost(Direction::Reply) && evidence.lost_answer().is_some() => {
                Some(Self::AnswerLost)
            }
            State::Reset => stalls(evidence).then_some(Self::Stalled),
            State::Unreplied => {
                let expected = evidence.last_question().is_some_and(is_answered_at_once);
                let lost = flow.protocol == UDP && question_lost && is_unicast(flow.destination);
                (lost || expected && (question_lost || waited >= PATIENCE))
                    .then_some(Self::Unanswered)
            }
            State::Replied => {
                let lost = lost(Direction::Reply) && !evidence.answer_came();
                if lost && is_unicast(flow.destination) {
                    return Some(Self::AnswerLost);
                }
                let dns = flow.protocol == UDP && flow.destination.port == DNS_PORT;
                dns.then(|| Self::of_lookups(&seen.lookups.of(flow), seen.until))?
            }
            State::Established | State::Closing | State::Closed => Self::of_open(flow, seen),
        }
    }

    /// What of the flow's lookups is as it should not be, the worst first.
    fn of_lookups(lookups: &[Lookup], until: u64) -> Option<Self> {
        let any = |is: &dyn Fn(&Lookup) -> bool| lookups.iter().any(is);
        if any(&|lookup| lookup.is_unanswered(until)) {
            Some(Self::LookupLost)
        } else if any(&Lookup::is_slow) {
            Some(Self::LookupSlow)
        } else {
            any(&Lookup::is_bad).then_some(Self::LookupFailed)
        }
    }

    /// Of a connection that was opened.
    fn of_open(flow: &Flow, seen: Seen<'_>) -> Option<Self> {
        let evidence = seen.evidence;
        if flow.state != State::Closed && stalls(evidence) {
            return Some(Self::Stalled);
        }
        let waited = evidence.answered_at()?.saturating_sub(flow.first);
        (evidence.syns() >= 2 && waited >= SLOW).then_some(Self::Slow)
    }
}

/// Whether what is sent again and again in a direction gets lost.
fn stalls(evidence: &Evidence) -> bool {
    let rows = [Direction::Original, Direction::Reply];
    let in_a_row = |&direction: &Direction| {
        let row = evidence.lost_in_a_row(direction);
        row.is_some_and(|row| row.count >= 2 && row.last.saturating_sub(row.first) >= RESENT)
    };
    let again = |&direction: &Direction| {
        let segment = evidence.resent(direction);
        let over = |it: &super::Resent| it.last.saturating_sub(it.first) >= PATIENCE;
        segment.is_some_and(|it| it.times >= OFTEN && over(it))
    };
    rows.iter().any(in_a_row) || rows.iter().any(again)
}

/// Whether it is a question to which an answer belongs.
fn is_answered_at_once(packet: &Packet) -> bool {
    match packet.transport {
        Transport::Udp { .. } => {
            let asked = packet.hops.first().map(|hop| hop.tuple.destination);
            asked.is_some_and(|asked| asked.port == DNS_PORT && is_unicast(asked))
        }
        Transport::Icmp { kind, quoted, .. } => ECHO.contains(&kind) && quoted.is_none(),
        _ => false,
    }
}

fn is_unicast(end: Endpoint) -> bool {
    match end.ip() {
        std::net::IpAddr::V4(ip) => {
            // The last address of a network is its broadcast address, of whichever length it is.
            !ip.is_multicast() && !ip.is_broadcast() && ip.octets()[3] != 255
        }
        std::net::IpAddr::V6(ip) => !ip.is_multicast(),
    }
}
