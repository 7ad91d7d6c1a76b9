//! Packets led through recorded rules, and through rules made for the purpose.

mod chains;
mod kube_proxy;
mod made;
mod matches;

use std::net::{IpAddr, SocketAddr};

use super::super::RuleSet;
use crate::node::rules::{
    evaluate::explain,
    outcome::{Explanation, Observed, Outcome},
    path::Certainty,
    subject::{AddressKind, Hook, States, Subject, Surroundings},
};

/// A node with one address.
pub(super) struct Node(pub(super) IpAddr);

impl Surroundings for Node {
    fn address_kind(&self, address: IpAddr) -> Option<AddressKind> {
        Some(if address == self.0 {
            AddressKind::Local
        } else {
            AddressKind::Unicast
        })
    }
}

pub(super) fn node() -> Node {
    Node("192.168.77.11".parse().unwrap())
}

/// The first packet of a connection: `10.0.0.1:1000 -> 10.0.0.2:80`.
pub(super) fn first(hook: Hook, protocol: u8, ends: &str) -> Subject {
    let (source, destination) = ends.split_once(" -> ").unwrap();
    let [source, destination]: [SocketAddr; 2] = [source, destination].map(|e| e.parse().unwrap());
    let mut subject = Subject::new(hook, source.ip(), destination.ip(), protocol);
    subject.source_port = Some(source.port());
    subject.destination_port = Some(destination.port());
    subject.fragment = Some(false);
    subject.connection.states = States::NEW;
    subject.connection.original = Some(true);
    subject
}

pub(super) fn seen(rules: &RuleSet, subject: &Subject, observed: Observed) -> Explanation {
    explain(&[rules], subject, &node(), observed)
}

pub(super) fn to(end: &str) -> Observed {
    Observed::Destination(end.parse().unwrap())
}

/// The rules of a way, as people see them, with its end and how sure it is.
pub(super) fn written(explanation: &Explanation) -> Vec<String> {
    let paths = explanation.paths.iter().map(|(outcome, path)| {
        let mut lines: Vec<String> = path.steps.iter().map(|step| format!("{step}")).collect();
        let last = path.steps.last().unwrap();
        lines.push(last.text.clone());
        lines.push(match outcome {
            Outcome::Dnat(_) => "dnat".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        });
        if let Some(service) = &path.service {
            lines.push(match service.endpoint {
                Some((number, of)) => format!("{} {number}/{of}", service.service),
                None => service.service.to_string(),
            });
        }
        lines.push(match &path.certainty {
            Certainty::Certain => "certain".to_owned(),
            Certainty::Candidate(why) => {
                let why: Vec<_> = why.iter().map(ToString::to_string).collect();
                format!("perhaps: {}", why.join("; "))
            }
        });
        lines.join("\n")
    });
    paths.collect()
}
