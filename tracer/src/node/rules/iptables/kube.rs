//! What kube-proxy's iptables mode says of Services, in its own rules.
//!
//! Names come from the comments in `KUBE-SERVICES` and `KUBE-NODEPORTS`, which stand there in every
//! version and also above 1,000 endpoints, when kube-proxy leaves out the others. Endpoints come from
//! where the chains of a Service lead: `KUBE-SVC` (all), `KUBE-SVL` (those of this node), `KUBE-EXT`
//! and `KUBE-FW` before them, `KUBE-SEP` at the end. Rules after Kubernetes 1.36's
//! `pkg/proxy/iptables/proxier.go`.

mod read;

use std::collections::HashMap;

use self::read::Reader;
use super::{At, Tables};
use crate::node::{
    rules::path::{ServiceChoice, Source},
    services::{Service, ServiceName},
};

/// Comments at a Service's addresses, behind its name.
const CLUSTER_IP: &str = " cluster IP";
const EXTERNAL_IP: &str = " external IP";
const LOAD_BALANCER_IP: &str = " loadbalancer IP";
const NO_ENDPOINTS: &str = " has no endpoints";
const NO_LOCAL_ENDPOINTS: &str = " has no local endpoints";
const NOT_ACCEPTED: &str = " traffic not accepted by ";

/// The Services, and which chains are theirs.
#[derive(Debug, Default)]
pub(super) struct Kube {
    pub(super) services: Vec<Service>,
    /// The table that the chains are in.
    nat: usize,
    /// The Service that a chain is of.
    by_chain: HashMap<usize, usize>,
    /// The endpoints' chains, in order, to which a chain leads.
    choices: HashMap<usize, Vec<usize>>,
}

impl Kube {
    /// Finds the Services in the tables.
    pub(super) fn read(tables: &Tables, source: Source) -> Self {
        let mut reader = Reader::new(source);
        let nat = tables.tables.iter().position(|table| &*table.name == "nat");
        if let Some(nat) = nat {
            reader.kube.nat = nat;
            reader.nat(&tables.tables[nat]);
        }
        if let Some(filter) = tables.table("filter") {
            reader.refusals(filter, "KUBE-SERVICES");
            reader.refusals(filter, "KUBE-EXTERNAL-SERVICES");
        }
        reader.kube
    }

    /// The Service that rules on a path belong to, with the endpoint that they chose.
    pub(super) fn choice(&self, tables: &Tables, path: &[At]) -> Option<ServiceChoice> {
        let refused = || {
            let last = path.last()?;
            let chain = tables.tables.get(last.table)?.chains.get(last.chain)?;
            let rule = chain.rules.get(last.rule?)?;
            chain.name.starts_with("KUBE-").then_some(())?;
            Some(ServiceChoice {
                service: named(rule.comment()?)?,
                endpoint: None,
            })
        };
        let of_chain = |at: &&At| at.table == self.nat && self.by_chain.contains_key(&at.chain);
        let Some(at) = path.iter().find(of_chain) else {
            return refused();
        };
        let service = self.services.get(*self.by_chain.get(&at.chain)?)?;
        let endpoint = path.windows(2).find_map(|pair| {
            let [from, to] = pair else { return None };
            let choices = self
                .choices
                .get(&from.chain)
                .filter(|_| from.table == self.nat)?;
            let index = choices.iter().position(|chain| *chain == to.chain)?;
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            Some((number(index + 1), number(choices.len())))
        });
        Some(ServiceChoice {
            service: service.name.clone()?,
            endpoint,
        })
    }
}

/// The Service that a comment names.
fn named(comment: &str) -> Option<ServiceName> {
    let suffixes = [
        CLUSTER_IP,
        EXTERNAL_IP,
        LOAD_BALANCER_IP,
        NO_ENDPOINTS,
        NO_LOCAL_ENDPOINTS,
    ];
    let name = suffixes
        .iter()
        .find_map(|suffix| comment.strip_suffix(suffix))
        .or_else(|| Some(comment.split_once(NOT_ACCEPTED)?.0));
    ServiceName::parse(name.unwrap_or(comment))
}
