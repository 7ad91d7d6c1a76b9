//! Services, as kube-proxy's nftables mode makes them.
//!
//! kube-proxy keeps a table `kube-proxy` in each family of IP. Its maps say where a Service is
//! called: `service-ips`, `service-nodeports`, and `no-endpoint-...` for those that nobody serves.
//! Their elements lead to chains that are named after the Service, `service-HASH-ns/name/proto/port`
//! for the endpoints of any policy, `local-` for those of this node, `external-` for traffic from
//! outside, and `endpoint-...__ip/port` (1.30, and where clients stay with their endpoint). Read from
//! the rules of 1.30 and 1.36; Kubernetes: `pkg/proxy/nftables/proxier.go`.
//!
//! Limits: a name so long that kube-proxy cuts it is not known. A Service of both families is two
//! here. Whether an external address is a load balancer's shows only where it is firewalled.

mod chains;
mod collect;
mod name;

pub(super) use chains::ServiceChains;

use super::{RuleSet, evaluate::Spot, model::Expression};
use crate::node::{
    rules::{
        outcome::{NatRange, Outcome},
        path::ServiceChoice,
    },
    services::{Service, ServiceName},
};

impl RuleSet {
    /// The Services of the tables that kube-proxy made.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        collect::services(&self.listing, &self.index, &self.services)
    }

    /// The Service that a way through the rules belongs to.
    pub(super) fn choice(&self, way: &[Spot], outcome: &Outcome) -> Option<ServiceChoice> {
        let chains = way.iter().rev().filter_map(|spot| match spot {
            Spot::Rule(chain, _) | Spot::Element(chain, ..) | Spot::Policy(chain) => {
                self.services.by_chain.get(chain)
            }
        });
        let mut service = None;
        let mut endpoint = None;
        for chain in chains {
            service.get_or_insert_with(|| chain.name.clone());
            if endpoint.is_none()
                && let Outcome::Dnat(NatRange {
                    addresses: Some((address, _)),
                    ports: Some((port, _)),
                }) = outcome
            {
                endpoint = chain.place_of((*address, *port).into());
            }
        }
        let service = service.or_else(|| self.refused(way))?;
        Some(ServiceChoice { service, endpoint })
    }

    /// The Service that an element names which refuses it.
    fn refused(&self, way: &[Spot]) -> Option<ServiceName> {
        way.iter().find_map(|spot| {
            let &Spot::Element(_, _, Some(set), element) = spot else {
                return None;
            };
            let set = self.index.set_of(&self.listing, set)?;
            if &*set.table != chains::TABLE || !set.name.starts_with(collect::NO_ENDPOINTS) {
                return None;
            }
            let element = set.elements.as_ref()?.list.get(element as usize)?;
            matches!(element.data, Some(Expression::Verdict(_))).then_some(())?;
            ServiceName::parse(element.comment()?)
        })
    }
}
