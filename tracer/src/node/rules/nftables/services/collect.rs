//! Services from the elements of kube-proxy's maps.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    super::{
        index::{Index, TableEntry},
        kind::Kind,
        model::{Element, Expression, Family, Ruleset, Verdict},
    },
    chains::{ServiceChain, ServiceChains, TABLE},
    name::Role,
};
use crate::node::{
    rules::path::Source,
    services::{Endpoint, Frontend, Refusal, Service, ServiceName, TrafficPolicy},
};

/// How maps begin whose elements are refused.
pub(super) const NO_ENDPOINTS: &str = "no-endpoint-";

/// All Services, in the order in which the maps have them.
pub(super) fn services(listing: &Ruleset, index: &Index, chains: &ServiceChains) -> Vec<Service> {
    let tables = index.tables.iter().enumerate().filter(|(_, table)| {
        matches!(table.family, Family::Ip | Family::Ip6) && &*table.name == TABLE
    });
    let services = tables.flat_map(|(number, table)| {
        let mut collector = Collector::new(listing, index, chains, (number, table));
        collector.collect();
        collector.services
    });
    services.collect()
}

struct Collector<'a> {
    listing: &'a Ruleset,
    index: &'a Index,
    chains: &'a ServiceChains,
    /// The table, and its number.
    table: &'a TableEntry,
    number: usize,
    cluster_ips: HashSet<IpAddr>,
    node_port_ips: Vec<IpAddr>,
    firewalled: HashSet<IpAddr>,
    /// Pods of this node that serve something; `None` where the rules do not say (1.30).
    local: Option<HashSet<IpAddr>>,
    services: Vec<Service>,
    by_name: HashMap<(ServiceName, u8), usize>,
}

impl<'a> Collector<'a> {
    fn new(
        listing: &'a Ruleset,
        index: &'a Index,
        chains: &'a ServiceChains,
        (number, table): (usize, &'a TableEntry),
    ) -> Self {
        let mut collector = Self {
            listing,
            index,
            chains,
            table,
            number,
            cluster_ips: HashSet::new(),
            node_port_ips: Vec::new(),
            firewalled: HashSet::new(),
            local: None,
            services: Vec::new(),
            by_name: HashMap::new(),
        };
        let addresses = |set: &str| -> Vec<IpAddr> {
            let elements = collector.elements(set).iter();
            elements
                .filter_map(|element| address(parts(&element.key).first()?, table.family))
                .collect()
        };
        let (cluster, node_ports) = (addresses("cluster-ips"), addresses("nodeport-ips"));
        let firewalled = addresses("firewall-ips");
        let local = table.sets.contains_key("hairpin-connections");
        let local = local.then(|| addresses("hairpin-connections").into_iter().collect());
        collector.cluster_ips = cluster.into_iter().collect();
        collector.node_port_ips = node_ports;
        collector.firewalled = firewalled.into_iter().collect();
        collector.local = local;
        collector
    }

    fn elements(&self, set: &str) -> &'a [Element] {
        let set = self.table.sets.get(set);
        let set = set.and_then(|&set| self.index.set_of(self.listing, set));
        set.and_then(|set| set.elements.as_ref())
            .map_or(&[], |elements| &elements.list)
    }

    fn collect(&mut self) {
        for map in ["service-ips", "service-nodeports"] {
            for element in self.elements(map) {
                if let Some((protocol, frontends)) = self.frontends(&element.key) {
                    self.served(element, protocol, &frontends);
                }
            }
        }
        for map in ["no-endpoint-services", "no-endpoint-nodeports"] {
            for element in self.elements(map) {
                if let Some((protocol, frontends)) = self.frontends(&element.key) {
                    self.refused(element, protocol, &frontends);
                }
            }
        }
        for service in &mut self.services {
            service.frontends.dedup();
        }
    }

    /// Where the key of an element is called.
    fn frontends(&self, key: &Expression) -> Option<(u8, Vec<Frontend>)> {
        let protocol = |part| u8::try_from(Kind::Protocol.value(part)?).ok();
        let port = |part| u16::try_from(Kind::Port.value(part)?).ok();
        match parts(key) {
            [ip, number, at] => {
                let ip = address(ip, self.table.family)?;
                let address = SocketAddr::new(ip, port(at)?);
                let frontend = if self.cluster_ips.contains(&ip) {
                    Frontend::ClusterIp(address)
                } else if self.firewalled.contains(&ip) {
                    Frontend::LoadBalancerIp(address)
                } else {
                    Frontend::ExternalIp(address)
                };
                Some((protocol(number)?, vec![frontend]))
            }
            [number, at] => {
                let at = port(at)?;
                let own = self.node_port_ips.iter();
                let mut frontends: Vec<_> =
                    own.map(|ip| Frontend::NodePort(Some(*ip), at)).collect();
                if frontends.is_empty() {
                    frontends.push(Frontend::NodePort(None, at));
                }
                Some((protocol(number)?, frontends))
            }
            _ => None,
        }
    }

    /// A Service that somebody serves: its name is that of the chain.
    fn served(&mut self, element: &Element, protocol: u8, frontends: &[Frontend]) {
        let Some(Expression::Verdict(Verdict::Goto(target))) = &element.data else {
            return;
        };
        let chain = self.table.chains.get(target);
        let Some(chain) = chain.and_then(|chain| self.chains.by_chain.get(chain)) else {
            return;
        };
        let place = self.service(chain.name.clone(), protocol);
        let cluster_ip = matches!(frontends, [Frontend::ClusterIp(_)]);
        let policy = self.policy(chain);
        self.services[place].frontends.extend(frontends);
        if cluster_ip {
            self.services[place].internal_policy = policy;
        } else {
            self.services[place].external_policy = policy;
        }
    }

    /// The policy that a chain carries out.
    fn policy(&self, chain: &ServiceChain) -> Option<TrafficPolicy> {
        match chain.role {
            Role::Service => Some(TrafficPolicy::Cluster),
            Role::Local => Some(TrafficPolicy::Local),
            // Without an end, all that is left of it is what goes on within the cluster.
            Role::External => match chain.next {
                Some(next) => {
                    let next = self.chains.by_chain.get(&next);
                    self.policy(next.filter(|chain| chain.role != Role::External)?)
                }
                None => Some(TrafficPolicy::Local),
            },
            Role::Firewall | Role::Endpoint => None,
        }
    }

    /// A Service that nobody may serve here: its name is the element's comment.
    fn refused(&mut self, element: &Element, protocol: u8, frontends: &[Frontend]) {
        let Some(name) = element.comment().and_then(ServiceName::parse) else {
            return;
        };
        let refusal = match &element.data {
            Some(Expression::Verdict(Verdict::Drop)) => Refusal::NoLocalEndpoints,
            _ => Refusal::NoEndpoints,
        };
        let place = self.service(name, protocol);
        let service = &mut self.services[place];
        for frontend in frontends {
            if !service.frontends.contains(frontend) {
                service.frontends.push(*frontend);
            }
            service.refusals.push((*frontend, refusal));
        }
    }

    /// The Service with this name, with what its chains say of it.
    fn service(&mut self, name: ServiceName, protocol: u8) -> usize {
        let next = self.services.len();
        let place = *self.by_name.entry((name.clone(), protocol)).or_insert(next);
        if place < next {
            return place;
        }
        let chain = |role| self.chains.of_service(self.number, &name, protocol, role);
        let all = chain(Role::Service);
        let endpoints = all.map_or(&[][..], |chain| &chain.endpoints);
        let endpoints = endpoints.iter().map(|&address| Endpoint {
            address,
            local: self
                .local
                .as_ref()
                .map(|local| local.contains(&address.ip())),
        });
        let service = Service {
            protocol,
            frontends: Vec::new(),
            endpoints: endpoints.collect(),
            local_endpoints: chain(Role::Local).map(|chain| chain.endpoints.clone()),
            affinity: all.and_then(|chain| chain.affinity),
            external_policy: None,
            internal_policy: None,
            refusals: Vec::new(),
            source: Source::Nftables,
            name: Some(name),
        };
        self.services.push(service);
        place
    }
}

fn parts(key: &Expression) -> &[Expression] {
    match key {
        Expression::Concat(parts) => parts,
        one => std::slice::from_ref(one),
    }
}

fn address(part: &Expression, family: Family) -> Option<IpAddr> {
    match family {
        Family::Ip6 => Some(Ipv6Addr::from(Kind::Ipv6.value(part)?).into()),
        _ => Some(Ipv4Addr::from(u32::try_from(Kind::Ipv4.value(part)?).ok()?).into()),
    }
}
