//! Which Service a flow's client called.
//!
//! What the rules of its translations say (IPVS's with the Kubernetes API's names, where it is asked); else, as where there are no endpoints, what the rules of the
//! namespaces on its way say of the address that was called; else what the Kubernetes API says of it, where
//! that is asked.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use super::{Around, Question, RuleReport, socket};
use crate::{
    filter::CalledService,
    journey::model::{Flow, NetnsId},
    node::{
        rules::{
            history::Version,
            outcome::Observed,
            path::ServiceChoice,
            subject::{AddressKind, Surroundings as _},
        },
        services::{Service, ServiceName, Services},
        snapshot::Namespace,
    },
    report::join::Knowledge,
};

impl Knowledge<'_> {
    /// The Service that a flow's client called: what its translations say, else what the rules of
    /// the namespaces on its way say of the address.
    pub(in crate::report) fn service(
        &self,
        flow: &Flow,
        rules: &[&RuleReport],
    ) -> Option<ServiceName> {
        let chosen = rules.iter().find_map(|rule| rule.service.as_ref());
        if let Some(choice) = chosen {
            return Some(choice.service.clone());
        }
        self.services_called(flow)
            .find_map(|mut services| services.find_map(|it| it.name.clone()))
            .or_else(|| self.cluster_service(flow)?.name.clone())
    }

    /// What the Kubernetes API says of where the flow's client called.
    fn cluster_service(&self, flow: &Flow) -> Option<&Service> {
        self.cluster_service_at(flow.protocol, socket(flow.destination))
    }

    fn cluster_service_at(&self, protocol: u8, called: SocketAddr) -> Option<&Service> {
        let cluster = self.node.cluster().filter(|_| self.names)?;
        let own = called.ip().is_loopback() || !self.node.with_address(called.ip()).is_empty();
        cluster.services().called_at(protocol, called, own)
    }

    /// The Service of IPVS's rules for a packet, which have endpoints but no names: these are the Kubernetes
    /// API's.
    pub(super) fn nameless_choice(&self, question: &Question) -> Option<ServiceChoice> {
        let subject = &question.subject;
        let called = SocketAddr::new(subject.destination, subject.destination_port?);
        let named = self.cluster_service_at(subject.protocol, called)?;
        let service = named.name.clone()?;
        let endpoint = match question.observed {
            Observed::Destination(given) => self.endpoint(question, called, given),
            _ => None,
        };
        Some(ServiceChoice { service, endpoint })
    }

    /// Which endpoint it is, and of how many, of the Service that is called there by the rules of the
    /// question's time.
    fn endpoint(
        &self,
        question: &Question,
        called: SocketAddr,
        given: SocketAddr,
    ) -> Option<(u32, u32)> {
        let namespace = self.at(question.netns, question.time)?;
        let own = Around::new(namespace).address_kind(called.ip()) == Some(AddressKind::Local);
        let protocol = question.subject.protocol;
        let mut versions = namespace.rules.around(question.time);
        versions.find_map(|version| {
            let service = services(version, namespace).called_at(protocol, called, own)?;
            let endpoints = &service.endpoints;
            let index = endpoints.iter().position(|it| it.address == given)? + 1;
            Some((index.try_into().ok()?, endpoints.len().try_into().ok()?))
        })
    }

    /// The port of a Service that a flow's client called, also where names are not shown.
    ///
    /// The same as in the flow's report. The rules are only evaluated where the address alone does not
    /// tell, since a filter asks this of every packet.
    #[must_use]
    pub fn called_service(&self, flow: &Flow) -> Option<CalledService> {
        let known = Self {
            names: true,
            ..*self
        };
        let by_address = known.services_called(flow).find_map(|services| {
            let names: BTreeSet<_> = services.filter_map(|it| it.name.clone()).collect();
            (!names.is_empty()).then_some(names)
        });
        let name = match by_address.map(Vec::from_iter).as_deref() {
            Some([only]) => only.clone(),
            _ => {
                let placed = flow.translations.iter();
                let rules: Vec<_> = placed.filter_map(|it| known.placing(flow, it)).collect();
                known.service(flow, &rules.iter().collect::<Vec<_>>())?
            }
        };
        let mut numbers = known.numbers(flow, &name);
        numbers.insert(flow.destination.port);
        Some(CalledService {
            name: format!("{}/{}", name.namespace, name.name),
            port: name.port,
            numbers: Vec::from_iter(numbers),
        })
    }

    /// For each namespace on a flow's way, then for all others, the Services that its rules have
    /// where the flow's client called: the likeliest first.
    fn services_called(&self, flow: &Flow) -> impl Iterator<Item = impl Iterator<Item = &Service>> {
        let (protocol, called, time) = (flow.protocol, socket(flow.destination), flow.first);
        self.namespaces_of(flow).map(move |namespace| {
            let own = Around::new(namespace).address_kind(called.ip()) == Some(AddressKind::Local);
            let versions = namespace.rules.around(time);
            versions.filter_map(move |version| {
                services(version, namespace).called_at(protocol, called, own)
            })
        })
    }

    /// The namespaces in which a flow's Service may be known, those on its way first.
    fn namespaces_of(&self, flow: &Flow) -> impl Iterator<Item = &Namespace> {
        let translating = flow.translations.iter().map(|placed| placed.netns.0);
        let passed = flow.subjects.iter().map(|seen| seen.subject.netns);
        let everywhere = self.node.namespaces().iter().map(|netns| netns.inode);
        let mut known = BTreeSet::new();
        let each: Vec<u32> = translating
            .chain(passed)
            .chain(everywhere)
            .filter(|netns| known.insert(*netns))
            .collect();
        let time = flow.first;
        each.into_iter()
            .filter_map(move |netns| self.at(NetnsId(netns), time))
    }

    /// The numbers by which a port of a Service is called.
    fn numbers(&self, flow: &Flow, name: &ServiceName) -> BTreeSet<u16> {
        let services = self.namespaces_of(flow).flat_map(|namespace| {
            let versions = namespace.rules.around(flow.first);
            versions.map(|version| services(version, namespace))
        });
        let with_name = services
            .map(|services| services.named(name).collect::<Vec<_>>())
            .find(|found| !found.is_empty());
        let cluster = self.node.cluster().into_iter();
        let by_cluster = cluster.flat_map(|cluster| cluster.services().named(name));
        let ports = with_name.into_iter().flatten().chain(by_cluster);
        let ports = ports.flat_map(|service| &service.frontends);
        ports.map(|frontend| frontend.port()).collect()
    }
}

/// The Services that a namespace's rules make by now; none where it has no rules.
#[must_use]
pub fn services_of(namespace: &Namespace) -> Option<&[Service]> {
    let last = namespace.rules.last()?;
    Some(services(last, namespace).all())
}

/// The Services of a namespace's rules.
fn services<'v>(version: &'v Version, namespace: &Namespace) -> &'v Services {
    let around = Around::new(namespace);
    version.services(|ip: IpAddr| around.address_kind(ip) == Some(AddressKind::Local))
}
