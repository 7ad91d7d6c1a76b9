//! Routes that lead elsewhere than they should.

use super::{Case, Diagnosis, Layer, symptom::Symptom};
use crate::{
    journey::model::{Device, Direction, Hop, Packet, Stage, TranslationKind, Verdict},
    node::network::{Route, policy::Asked},
};

/// A node sends what is for a pod out by its default route, since no route of its own leads there.
pub(super) fn default_only(case: &Case<'_>) -> Option<Diagnosis> {
    let (hop, route) = by_default_route(case, unanswered(case)?)?;
    let target = case.target().ip();
    let node = case.known.at(hop.netns, hop.time)?.display_name();
    let via = route
        .via
        .map_or_else(String::new, |gateway| format!(" via {gateway}"));
    let what = format!(
        "no route on {node} leads to the pod {target} but the default route, by {}{via}, and nothing comes \
         back from there",
        route.device
    );
    let question = case.last_seen(unanswered(case)?);
    Some(
        Diagnosis::new(Layer::Routing, "default-route-only", what)
            .culprit(format!("{node}: no route to {target}"))
            .seen(format!("seen last at {question}"))
            .look(case.command_in(hop.netns, hop.time, "ip route")),
    )
}

/// The client's packet that came to nothing, and of which nobody in particular is known to have
/// refused it.
fn unanswered<'a>(case: &Case<'a>) -> Option<&'a Packet> {
    let evidence = case.seen.evidence;
    let asked = matches!(case.symptom, Symptom::Unanswered | Symptom::Refused);
    if !asked || evidence.reset().is_some() {
        return None;
    }
    let lost = evidence.losses(Direction::Original).next();
    let packet = lost.map_or_else(|| evidence.last_question(), |loss| Some(&loss.sample))?;
    (packet.verdict != Verdict::Delivered).then_some(packet)
}

/// The hop at which a node sends the packet out by its default route, though it is for a pod: an
/// endpoint that a Service chose, or an address that a namespace here has.
fn by_default_route<'p>(case: &'p Case<'_>, packet: &'p Packet) -> Option<(&'p Hop, &'p Route)> {
    let target = case.target();
    let chosen = case.flow.translations.iter();
    let chosen = chosen
        .filter(|placed| placed.kind == TranslationKind::Dnat)
        .any(|placed| placed.to == target);
    let known = !case.known.node.with_address(target.ip()).is_empty();
    if !chosen && !known {
        return None;
    }
    let mut sent = packet.hops.iter().rev().filter(|hop| {
        hop.stage == Stage::DeviceTransmit
            && hop.encapsulation.is_none()
            && hop.tuple.destination == target
    });
    sent.find_map(|hop| {
        let node = case.known.at(hop.netns, hop.time)?;
        // A pod has a default route only, and no rules.
        let has_rules = node.rules.last().is_some_and(|last| !last.rules.is_empty());
        if node.pod.is_some() || !has_rules {
            return None;
        }
        let route = node.network.route_of(&routed(packet, hop))?;
        let device = hop.device.as_ref()?.name();
        (route.length == 0 && route.device == device).then_some((hop, route))
    })
}

/// What is asked when a node routes the packet that it then sends at that hop: as it came in and was
/// translated there, or as it is sent.
fn routed(packet: &Packet, sent: &Hop) -> Asked {
    let here = packet
        .hops
        .iter()
        .filter(|hop| hop.netns == sent.netns && hop.time <= sent.time);
    let mut before = here.filter(|hop| matches!(hop.stage, Stage::Prerouting | Stage::Output));
    let decided = before.next_back().unwrap_or(sent);
    let forwarded = decided.stage == Stage::Prerouting;
    let device = decided.device.as_ref().filter(|_| forwarded);
    Asked {
        source: decided.tuple.source.ip(),
        destination: sent.tuple.destination.ip(),
        input: device.map(Device::name),
    }
}
