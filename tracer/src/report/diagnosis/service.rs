//! The Service: nobody behind it.

use std::net::SocketAddr;

use super::{Case, Diagnosis, Layer, Loss, filter, words::inside};
use crate::{
    journey::model::{Direction, Hop, NetnsId, TranslationKind},
    node::{
        rules::subject::{AddressKind, Surroundings as _},
        services::{Frontend, Refusal, ServiceName},
    },
    report::rules::Around,
};

/// The called Service has no endpoints, or none on this node while it may use no others, and
/// kube-proxy's rules refuse or drop what comes for it.
pub(super) fn no_endpoints(case: &Case<'_>) -> Option<Diagnosis> {
    let mut losses = case.seen.evidence.losses(Direction::Original);
    losses.find_map(|loss| without_endpoints(case, loss))
}

fn without_endpoints(case: &Case<'_>, loss: &Loss) -> Option<Diagnosis> {
    let report = case.known.packet(&loss.sample);
    let drop = report.drop.as_ref()?;
    if !filter::is_by_rules(drop) {
        return None;
    }
    let dropped = loss.sample.dropped?;
    let (name, refusal) = refused_by(case, dropped.netns, loss.sample.hops.last()?.time)?;
    let service = name.map_or_else(|| case.called(), |name| name.to_string());
    let node = drop.netns.as_deref().unwrap_or("this node");
    let (cause, what) = match refusal {
        Refusal::NoEndpoints => ("no-endpoints", format!("{service} has no endpoints")),
        Refusal::NoLocalEndpoints => (
            "no-local-endpoints",
            format!(
                "{service} has no endpoint on {node}, and its traffic policy Local allows no other"
            ),
        ),
    };
    Some(
        Diagnosis::new(Layer::Service, cause, what)
            .culprit(&service)
            .seen(filter::told(case, loss, &report))
            .look(endpoints_of(&service)),
    )
}

/// A pod calls itself through a Service, and its packets come back to it with its own address as
/// their source, which no host takes.
pub(super) fn hairpin(case: &Case<'_>) -> Option<Diagnosis> {
    let own = case.flow.client_netns?;
    let comes_back = |loss: &&Loss| {
        let hop = loss.sample.hops.last();
        let at_home = loss.sample.dropped.is_some_and(|drop| drop.netns == own);
        let to_itself = |hop: &Hop| hop.tuple.source.ip() == hop.tuple.destination.ip();
        at_home && hop.is_some_and(to_itself)
    };
    let dnat = case.flow.translations.iter();
    let placed = dnat
        .rev()
        .find(|placed| placed.kind == TranslationKind::Dnat)?;
    let mut losses = case.seen.evidence.losses(Direction::Original);
    let loss = losses.find(comes_back)?;
    let report = case.known.packet(&loss.sample);
    let client = case.flow.client.ip();
    let node = case.known.at(placed.netns, placed.time);
    let node = node.map(|node| node.display_name().into_owned());
    let what = format!(
        "{client} calls itself through {}, and nothing{} masquerades what comes back to it, so that it \
         drops it as coming from its own address",
        case.called(),
        inside(node.as_deref())
    );
    let command = "sh -c 'iptables-save -t nat | grep MASQ; nft list ruleset | grep masq'";
    Some(
        Diagnosis::new(Layer::Service, "hairpin-not-masqueraded", what)
            .culprit(case.called())
            .seen(case.drops(loss, &report))
            .look(case.command_in(placed.netns, placed.time, command)),
    )
}

/// The Service called at the flow's destination refuses what comes there, by that namespace's rules.
fn refused_by(
    case: &Case<'_>,
    netns: NetnsId,
    time: u64,
) -> Option<(Option<ServiceName>, Refusal)> {
    let namespace = case.known.at(netns, time)?;
    let around = Around::new(namespace);
    let own = |ip| around.address_kind(ip) == Some(AddressKind::Local);
    let destination = case.flow.destination;
    let called = SocketAddr::new(destination.ip(), destination.port);
    namespace.rules.around(time).find_map(|version| {
        let services = version.services(own);
        let service = services.called_at(case.flow.protocol, called, own(called.ip()))?;
        let is_called = |frontend: &Frontend| {
            let address = frontend.address();
            frontend.port() == called.port() && address.is_none_or(|ip| ip == called.ip())
        };
        let mut refusals = service.refusals.iter();
        let (_, refusal) = refusals.find(|(frontend, _)| is_called(frontend))?;
        Some((service.name.clone(), *refusal))
    })
}

/// The command that lists a Service's endpoints.
pub(super) fn endpoints_of(service: &str) -> String {
    match ServiceName::parse(service) {
        Some(name) => format!(
            "kubectl get endpointslices -n {} -l kubernetes.io/service-name={}",
            name.namespace, name.name
        ),
        None => "kubectl get endpointslices -A".to_owned(),
    }
}
