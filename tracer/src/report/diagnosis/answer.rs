//! There was an answer, and it did not come to the client as the client could know it.

use std::net::IpAddr;

use super::{
    Case, Diagnosis, Layer,
    symptom::Symptom,
    words::{end, inside},
};
use crate::journey::model::{Direction, Packet, Stage, TranslationKind, Verdict};

/// The answer was seen last somewhere on its way, or came under an address that the client had not
/// asked.
pub(super) fn lost(case: &Case<'_>) -> Option<Diagnosis> {
    if case.symptom != Symptom::AnswerLost {
        return None;
    }
    untranslated(case).or_else(|| last_seen(case))
}

/// The client's end got the answer from the endpoint itself: nobody translated it back.
fn untranslated(case: &Case<'_>) -> Option<Diagnosis> {
    let mut losses = case.seen.evidence.losses(Direction::Reply);
    let loss = losses.find(|loss| came_untranslated(case, &loss.sample))?;
    let packet = &loss.sample;
    let report = case.known.packet(packet);
    let hop = packet.hops.last()?;
    let from = end(case.flow.protocol, hop.tuple.source);
    let asked = end(case.flow.protocol, case.flow.destination);
    let what = format!(
        "the answer of {from} comes to the client as it was sent, not as coming from {asked}, which the \
         client had asked: it does not pass the rules of the node that translated the question"
    );
    let mut diagnosis = Diagnosis::new(Layer::Service, "answer-not-translated", what)
        .culprit(from)
        .seen(case.drops(loss, &report));
    let dnat = case.flow.translations.iter();
    let dnat = dnat
        .rev()
        .find(|placed| placed.kind == TranslationKind::Dnat);
    if let Some(placed) = dnat {
        let node = case.known.at(placed.netns, placed.time);
        let name = node.map(|node| node.display_name().into_owned());
        diagnosis = diagnosis.seen(format!(
            "the question was translated{}",
            inside(name.as_deref())
        ));
        let setting = match case.flow.destination.ip() {
            IpAddr::V4(_) => "net.bridge.bridge-nf-call-iptables",
            IpAddr::V6(_) => "net.bridge.bridge-nf-call-ip6tables",
        };
        if node.and_then(|node| node.network.setting(setting)) == Some("0") {
            diagnosis = diagnosis
                .culprit(setting)
                .seen(format!("{setting} is 0 there"));
        }
        let command = format!("sysctl {setting}");
        diagnosis = diagnosis.look(case.command_in(placed.netns, placed.time, &command));
    }
    Some(diagnosis)
}

fn came_untranslated(case: &Case<'_>, packet: &Packet) -> bool {
    let (Some(dropped), Some(hop)) = (packet.dropped, packet.hops.last()) else {
        return false;
    };
    let translated = case.target() != case.flow.destination;
    Some(dropped.netns) == case.flow.client_netns
        && matches!(
            dropped.stage,
            Stage::DeviceReceive | Stage::Input | Stage::Socket
        )
        && translated
        && hop.tuple.source == case.target()
        && hop.tuple.source != case.flow.destination
}

fn last_seen(case: &Case<'_>) -> Option<Diagnosis> {
    let answer = case.seen.evidence.lost_answer()?;
    let place = case.last_seen(answer);
    let backend = case.backend();
    let (layer, cause) = match answer.verdict {
        Verdict::Left => (Layer::Network, "answer-left"),
        _ => (Layer::PodNetwork, "answer-lost"),
    };
    let what = format!("{backend} answers, and the answer does not come to the client");
    Some(
        Diagnosis::new(layer, cause, what)
            .culprit(&place)
            .seen(format!("it was seen last at {place}")),
    )
}
