//! The chains of Services, and the endpoints that each chooses from.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    super::{
        evaluate::range,
        index::{Index, rule_at},
        model::{Elements, Expression, Family, NatKind, Rule, Ruleset, Statement, Verdict},
    },
    name::{self, Role},
};
use crate::node::{rules::subject::Family as Version, services::ServiceName};

/// What kube-proxy calls its tables.
pub(super) const TABLE: &str = "kube-proxy";

/// The chains of all Services, by their numbers.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct ServiceChains {
    pub(super) by_chain: HashMap<usize, ServiceChain>,
    /// By table, Service, protocol and role.
    by_service: HashMap<(usize, ServiceName, u8, Role), usize>,
}

/// A chain of a Service.
#[derive(Clone, Debug)]
pub(super) struct ServiceChain {
    pub(super) role: Role,
    pub(super) name: ServiceName,
    /// Those it chooses from, in the order of its rules.
    pub(super) endpoints: Vec<SocketAddr>,
    /// How long a client stays with an endpoint, in seconds.
    pub(super) affinity: Option<u32>,
    /// The chain that it leads to at its end: of `external-`, the one that chooses.
    pub(super) next: Option<usize>,
}

impl ServiceChain {
    /// Which endpoint an address is, from 1, of how many.
    pub(super) fn place_of(&self, address: SocketAddr) -> Option<(u32, u32)> {
        if self.role == Role::Endpoint {
            return None;
        }
        let place = self.endpoints.iter().position(|known| *known == address)?;
        let count = u32::try_from(self.endpoints.len()).ok()?;
        Some((u32::try_from(place).ok()? + 1, count))
    }
}

impl ServiceChains {
    pub(in super::super) fn of(listing: &Ruleset, index: &Index) -> Self {
        let mut chains = Self::default();
        for number in 0..index.chains.len() {
            if let Some(chain) = index.chain_of(listing, number)
                && &*chain.table == TABLE
                && let Some((role, name, protocol)) = name::parse(&chain.name)
            {
                let key = (index.chains[number].table, name.clone(), protocol, role);
                chains.by_service.entry(key).or_insert(number);
                let chain = ServiceChain {
                    role,
                    name,
                    endpoints: Vec::new(),
                    affinity: None,
                    next: None,
                };
                chains.by_chain.insert(number, chain);
            }
        }
        // First those of endpoints, to which the others refer.
        for endpoints in [true, false] {
            for number in 0..index.chains.len() {
                chains.read(listing, index, number, endpoints);
            }
        }
        chains
    }

    /// A Service's chain for something.
    pub(super) fn of_service(
        &self,
        table: usize,
        name: &ServiceName,
        protocol: u8,
        role: Role,
    ) -> Option<&ServiceChain> {
        let number = self
            .by_service
            .get(&(table, name.clone(), protocol, role))?;
        self.by_chain.get(number)
    }

    fn read(&mut self, listing: &Ruleset, index: &Index, number: usize, endpoints: bool) {
        let known = self.by_chain.get(&number);
        if known.is_none_or(|chain| (chain.role == Role::Endpoint) != endpoints) {
            return;
        }
        let entry = &index.chains[number];
        let table = &index.tables[entry.table];
        let version = match table.family {
            Family::Ip6 => Version::V6,
            _ => Version::V4,
        };
        let (mut found, mut affinity, mut next) = (Vec::new(), None, None);
        for rule in entry
            .rules
            .iter()
            .filter_map(|&place| rule_at(listing, place))
        {
            if let Some(seconds) = stays(rule).and_then(|set| {
                let set = index.set_of(listing, *table.sets.get(set)?)?;
                u32::try_from(set.rest.get("timeout")?.as_number()?).ok()
            }) {
                affinity = Some(seconds);
            }
            match rule.statements.last() {
                Some(Statement::Nat(nat)) if nat.kind == NatKind::Dnat => {
                    let port = nat.port.as_ref();
                    found.extend(destinations(nat.address.as_ref(), port, version));
                }
                Some(Statement::VerdictMap { data, .. }) => {
                    let targets = targets(data).filter_map(|name| table.chains.get(name));
                    let targets = targets.filter_map(|chain| self.by_chain.get(chain));
                    found.extend(targets.flat_map(|chain| chain.endpoints.iter().copied()));
                }
                Some(Statement::Verdict(Verdict::Goto(name))) if rule.statements.len() == 1 => {
                    next = table.chains.get(name).copied();
                }
                _ => {}
            }
        }
        if let Some(chain) = self.by_chain.get_mut(&number) {
            chain.endpoints = found;
            chain.affinity = affinity;
            chain.next = next;
        }
    }
}

/// The set of clients that stay with an endpoint, which a rule asks.
fn stays(rule: &Rule) -> Option<&str> {
    match rule.statements.as_slice() {
        [
            Statement::Match {
                right: Expression::Reference(set),
                ..
            },
            Statement::Verdict(Verdict::Goto(_)),
        ] => set.starts_with("affinity-").then_some(set),
        _ => None,
    }
}

/// The chains that the elements of a map go to.
fn targets(data: &Expression) -> impl Iterator<Item = &str> {
    let elements = match data {
        Expression::Set(elements) => elements.list.as_slice(),
        _ => &[],
    };
    elements.iter().filter_map(|element| match &element.data {
        Some(Expression::Verdict(Verdict::Goto(name))) => Some(&**name),
        _ => None,
    })
}

/// The addresses that a translation may lead to: one, or those of a map.
fn destinations(
    address: Option<&Expression>,
    port: Option<&Expression>,
    version: Version,
) -> Vec<SocketAddr> {
    let one = |to: Option<&Expression>| -> Option<SocketAddr> {
        let port = port.and_then(super::super::evaluate::ports);
        let (range, _) = range(to, port, version);
        let (address, _): (IpAddr, IpAddr) = range.addresses?;
        Some(SocketAddr::new(address, range.ports?.0))
    };
    match address {
        Some(Expression::Map(map)) => match &map.1 {
            Expression::Set(elements) => {
                let elements: &Elements = elements;
                let data = elements.list.iter().map(|element| element.data.as_ref());
                data.filter_map(one).collect()
            }
            _ => Vec::new(),
        },
        address => one(address).into_iter().collect(),
    }
}
