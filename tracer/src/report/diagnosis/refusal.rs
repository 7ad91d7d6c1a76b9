//! Somebody said no: by a reset, or by an ICMP error.

use super::{
    Case, Diagnosis, Layer,
    symptom::Symptom,
    words::{end, inside, of_protocol},
};
use crate::{
    journey::model::{Direction, Stage, Transport},
    report::PacketReport,
};

/// The packets came to the server's network, and no socket wants them.
pub(super) fn nothing_listens(case: &Case<'_>) -> Option<Diagnosis> {
    if case.symptom != Symptom::Refused {
        return None;
    }
    let mut losses = case.seen.evidence.losses(Direction::Original);
    let (loss, report) = losses.find_map(|loss| {
        let report = case.known.packet(&loss.sample);
        let drop = report.drop.as_ref()?;
        (drop.reason.as_deref() == Some("NO_SOCKET")).then_some((loss, report))
    })?;
    let hop = loss.sample.hops.last()?;
    let asked = hop.tuple.destination;
    let target = end(case.flow.protocol, asked);
    let listener = match case.flow.protocol {
        17 => "ss -lunp",
        _ => "ss -ltnp",
    };
    let drop = report.drop.as_ref()?;
    let place = drop.pod.as_deref().or(drop.netns.as_deref());
    let layer = if asked.ip().is_loopback() {
        Layer::Loopback
    } else {
        Layer::Server
    };
    let proto = of_protocol(case.flow.protocol);
    let what = format!("nothing listens on {proto} {target}{}", inside(place));
    let mut diagnosis = Diagnosis::new(layer, "nothing-listens", what)
        .culprit(&target)
        .seen(case.drops(loss, &report))
        .look(case.command_in(hop.netns, hop.time, listener));
    if let Some(said) = said_no(case) {
        diagnosis = diagnosis.seen(said);
    }
    Some(diagnosis)
}

/// An ICMP error came from somewhere.
pub(super) fn refused_by_error(case: &Case<'_>) -> Option<Diagnosis> {
    if case.symptom != Symptom::Refused {
        return None;
    }
    let mut errors = case.seen.evidence.errors().iter();
    let error = errors.find(|error| error.direction == Direction::Reply)?;
    let Transport::Icmp { kind, code, .. } = error.transport else {
        return None;
    };
    let said = unreachable(error.protocol, kind, code)?;
    let report = case.known.packet(error);
    let by = sender(&report);
    let (layer, cause) = match said {
        "port unreachable" => (Layer::Server, "port-unreachable"),
        "administratively prohibited" => (Layer::Filter, "prohibited"),
        _ => (Layer::Routing, "unreachable"),
    };
    let target = end(case.flow.protocol, case.target());
    let what = format!("{by} says that {target} is {}", adjective(said));
    Some(
        Diagnosis::new(layer, cause, what)
            .culprit(by)
            .seen(format!("ICMP {said} came for {}", case.called())),
    )
}

/// A reset came from where nothing is seen.
pub(super) fn refused_elsewhere(case: &Case<'_>) -> Option<Diagnosis> {
    if case.symptom != Symptom::Refused {
        return None;
    }
    let reset = case.seen.evidence.reset()?;
    let report = case.known.packet(reset);
    let target = end(case.flow.protocol, case.target());
    let what = format!(
        "{} refuses connections: it, or something before it, answers with RST",
        case.backend()
    );
    Some(
        Diagnosis::new(Layer::Server, "reset", what)
            .culprit(target)
            .seen(format!("RST from {}", sender(&report))),
    )
}

/// How the client was told.
fn said_no(case: &Case<'_>) -> Option<String> {
    let evidence = case.seen.evidence;
    if let Some(reset) = evidence.reset() {
        let report = case.known.packet(reset);
        return Some(format!("RST from {}", sender(&report)));
    }
    let error = evidence.errors().first()?;
    let Transport::Icmp { kind, code, .. } = error.transport else {
        return None;
    };
    let said = unreachable(error.protocol, kind, code)?;
    let report = case.known.packet(error);
    Some(format!("ICMP {said} from {}", sender(&report)))
}

/// Who sent a packet: its address, and where it was seen first.
fn sender(report: &PacketReport) -> String {
    let Some(hop) = report.hops.first() else {
        return "somebody".to_owned();
    };
    let address = end(report.protocol, hop.tuple.source);
    // What comes in by a device was sent before it.
    let place = (hop.stage != Stage::DeviceReceive).then(|| hop.called());
    format!("{address}{}", inside(place.flatten()))
}

fn unreachable(protocol: u8, kind: u8, code: u8) -> Option<&'static str> {
    Some(match (protocol, kind, code) {
        (1, 3, 0) => "network unreachable",
        (1, 3, 1) => "host unreachable",
        (1, 3, 2) => "protocol unreachable",
        (1, 3, 3) | (58, 1, 4) => "port unreachable",
        (1, 3, 9 | 10 | 13) | (58, 1, 1) => "administratively prohibited",
        (1, 3, 4) => return None,
        (1, 3, _) | (58, 1, _) => "destination unreachable",
        _ => return None,
    })
}

fn adjective(said: &str) -> String {
    match said {
        "administratively prohibited" => "prohibited by a filter".to_owned(),
        "port unreachable" => "a port that nobody listens on, or one that is rejected".to_owned(),
        other => format!("out of reach ({other})"),
    }
}
