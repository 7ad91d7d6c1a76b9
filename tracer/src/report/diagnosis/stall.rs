//! A connection that was open, and on which something is sent again and again without arriving.
//!
//! Where the kernel says why it drops that, this is not asked. Else what is known is the size of what
//! gets lost and of what does not: a path that swallows large packets only lets connections open and
//! then hang. That is concluded, and the sentence says so.

use super::{
    Case, Diagnosis, Layer,
    symptom::Symptom,
    words::{end, seconds},
};
use crate::journey::model::{Direction, Packet, Stage, Transport, Verdict};

/// Every path takes packets of that many bytes (RFC 791, RFC 8200 asks for more).
const SMALL: u32 = 576;

/// Large segments get lost, and smaller ones do not.
pub(super) fn too_large(case: &Case<'_>) -> Option<Diagnosis> {
    let stall = Stall::of(case)?;
    let arrived = stall.arrived;
    if stall.length <= SMALL || stall.length <= arrived || arrived == 0 && !stall.was_open {
        return None;
    }
    let what = format!(
        "packets of {} bytes from {} to {} get lost, and smaller ones do not: probably a link on the way \
         takes none so large (an MTU that is too small, as under a tunnel), and nobody tells the sender",
        stall.length, stall.from, stall.to
    );
    let through = match arrived {
        0 => "only packets without data came through".to_owned(),
        bytes => format!("the largest that came through had {bytes} bytes"),
    };
    let diagnosis = stall.diagnosis(case, Layer::Mtu, "large-packets-lost", what);
    let diagnosis = diagnosis.seen(through).seen(errors(case));
    let command = format!("ping -c 1 -M do -s {} {}", stall.ping(), stall.address());
    Some(diagnosis.look(case.command_in(stall.netns()?, stall.time()?, &command)))
}

/// Whatever its size, it gets lost.
pub(super) fn not_acknowledged(case: &Case<'_>) -> Option<Diagnosis> {
    let stall = Stall::of(case)?;
    let what = format!(
        "the connection was open, and what {} sends to {} is not acknowledged any more",
        stall.from, stall.to
    );
    let layer = match stall.sample.verdict {
        Verdict::Left => Layer::Network,
        _ => Layer::PodNetwork,
    };
    let command = format!("ip route get {}", stall.address());
    let diagnosis = stall.diagnosis(case, layer, "stalled", what);
    Some(diagnosis.look(case.command_in(stall.netns()?, stall.time()?, &command)))
}

/// What is sent again and again.
struct Stall<'a> {
    sample: &'a Packet,
    /// The smallest packet that got lost, and the largest that arrived, of those with data.
    length: u32,
    arrived: u32,
    times: u32,
    over: u64,
    from: String,
    to: String,
    was_open: bool,
}

impl<'a> Stall<'a> {
    fn of(case: &'a Case<'_>) -> Option<Self> {
        if case.symptom != Symptom::Stalled {
            return None;
        }
        let evidence = case.seen.evidence;
        let both = [Direction::Original, Direction::Reply];
        let mut both = both.into_iter();
        let (direction, resent) = both.find_map(|way| Some((way, evidence.resent(way)?)))?;
        let sample = resent.sample.as_deref()?;
        let report = case.known.packet(sample);
        let reason = report.drop.as_ref().and_then(|drop| drop.reason.as_deref());
        // It came to the other end's TCP, which has it already or cannot use it.
        if reason.is_some_and(|reason| reason.starts_with("TCP_")) {
            return None;
        }
        let client = end(case.flow.protocol, case.flow.client);
        let (from, to) = match direction {
            Direction::Original => (client, case.backend()),
            Direction::Reply => (case.backend(), client),
        };
        Some(Self {
            sample,
            length: resent.length,
            arrived: evidence.largest(direction),
            times: resent.times,
            over: resent.last.saturating_sub(resent.first),
            from,
            to,
            was_open: evidence.syns() > 0,
        })
    }

    fn diagnosis(
        &self,
        case: &Case<'_>,
        layer: Layer,
        cause: &'static str,
        what: String,
    ) -> Diagnosis {
        let place = case.last_seen(self.sample);
        let sent = format!(
            "a segment of {} bytes was sent {} times in {}",
            self.length,
            self.times,
            seconds(self.over)
        );
        let mut diagnosis = Diagnosis::new(layer, cause, what)
            .culprit(&place)
            .seen(sent)
            .seen(format!("seen last at {place}"));
        let report = case.known.packet(self.sample);
        if let Some(drop) = &report.drop {
            let why: Vec<&str> = [&drop.reason, &drop.function]
                .into_iter()
                .filter_map(|word| word.as_deref())
                .collect();
            diagnosis = diagnosis.seen(format!("dropped there, {}", why.join(" in ")));
        }
        diagnosis
    }

    /// Where it was seen last before it ended.
    fn last(&self) -> Option<&crate::journey::model::Hop> {
        let mut hops = self.sample.hops.iter();
        hops.rfind(|hop| hop.stage != Stage::Drop)
    }

    fn netns(&self) -> Option<crate::journey::model::NetnsId> {
        self.last().map(|hop| hop.netns)
    }

    fn time(&self) -> Option<u64> {
        self.last().map(|hop| hop.time)
    }

    fn address(&self) -> String {
        let hop = self.last();
        hop.map_or_else(String::new, |hop| hop.tuple.destination.ip().to_string())
    }

    /// The data of an echo request of that size: without the headers of IPv4 or IPv6 and of ICMP.
    fn ping(&self) -> u32 {
        let six = self
            .last()
            .is_some_and(|hop| hop.tuple.destination.ip().is_ipv6());
        self.length.saturating_sub(if six { 48 } else { 28 })
    }
}

/// Whether the sender was told.
fn errors(case: &Case<'_>) -> String {
    let too_big = |packet: &&Packet| {
        matches!(
            (packet.protocol, packet.transport),
            (
                1,
                Transport::Icmp {
                    kind: 3,
                    code: 4,
                    ..
                }
            ) | (58, Transport::Icmp { kind: 2, .. })
        )
    };
    let mut errors = case.seen.evidence.errors().iter();
    match errors.find(too_big) {
        None => "no ICMP error said so".to_owned(),
        Some(error) => {
            let place = case.last_seen(error);
            format!("an ICMP error that says so was seen last at {place}")
        }
    }
}
