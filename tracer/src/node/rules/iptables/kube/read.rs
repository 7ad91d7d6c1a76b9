//! Services out of the chains that are theirs.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    super::{
        Chain, Rule, Table,
        condition::{Condition, Test},
        target::{Setting, TargetKind},
    },
    EXTERNAL_IP, Kube, LOAD_BALANCER_IP, NO_ENDPOINTS, NO_LOCAL_ENDPOINTS, named,
};
use crate::node::{
    rules::path::Source,
    services::{Endpoint, Frontend, Refusal, Service, ServiceName, TrafficPolicy},
};

/// Chains entered one in the other; kube-proxy needs three.
const DEPTH: usize = 8;

/// What a rule says of where it is for.
struct Address {
    protocol: u8,
    destination: Option<IpAddr>,
    port: Option<u16>,
}

impl Address {
    fn of(rule: &Rule) -> Self {
        let mut address = Self {
            protocol: 0,
            destination: None,
            port: None,
        };
        let plain = rule
            .conditions
            .iter()
            .filter(|condition| !condition.inverted);
        for condition in plain {
            match &condition.test {
                Test::Protocol(protocol) => address.protocol = protocol.number().unwrap_or(0),
                Test::Destination(network) => address.destination = network.host(),
                Test::DestinationPort(ports) if ports.first == ports.last => {
                    address.port = Some(ports.first);
                }
                _ => {}
            }
        }
        address
    }

    fn socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.destination?, self.port?))
    }
}

/// Services as they are found, rule by rule.
pub(super) struct Reader {
    pub(super) kube: Kube,
    by_name: HashMap<(Option<ServiceName>, u8), usize>,
    source: Source,
}

impl Reader {
    pub(super) fn new(source: Source) -> Self {
        Self {
            kube: Kube::default(),
            by_name: HashMap::new(),
            source,
        }
    }

    /// The Services that have endpoints.
    pub(super) fn nat(&mut self, nat: &Table) {
        let Some(services) = nat.chain("KUBE-SERVICES") else {
            return;
        };
        let mut node_addresses = Vec::new();
        for rule in &nat.chains[services].rules {
            let address = Address::of(rule);
            let Some(target) = jump(rule) else { continue };
            if nat
                .chains
                .get(target)
                .is_some_and(|chain| &*chain.name == "KUBE-NODEPORTS")
            {
                node_addresses.push(address.destination);
            } else if let Some(socket) = address.socket() {
                let comment = rule.comment().unwrap_or_default();
                let frontend = if comment.ends_with(EXTERNAL_IP) {
                    Frontend::ExternalIp(socket)
                } else if comment.ends_with(LOAD_BALANCER_IP) {
                    Frontend::LoadBalancerIp(socket)
                } else {
                    Frontend::ClusterIp(socket)
                };
                self.frontend(nat, rule, &address, frontend, target);
            }
        }
        let Some(ports) = nat.chain("KUBE-NODEPORTS") else {
            return;
        };
        for rule in &nat.chains[ports].rules {
            let address = Address::of(rule);
            if let (Some(target), Some(port)) = (jump(rule), address.port) {
                for &node in &node_addresses {
                    let frontend = Frontend::NodePort(node, port);
                    self.frontend(nat, rule, &address, frontend, target);
                }
            }
        }
    }

    /// A Service is called here, and a chain takes what comes.
    fn frontend(
        &mut self,
        nat: &Table,
        rule: &Rule,
        address: &Address,
        frontend: Frontend,
        target: usize,
    ) {
        let name = rule.comment().and_then(named);
        let index = self.service(name, address.protocol, target);
        self.follow(nat, index, target, 0);
        let service = &mut self.kube.services[index];
        if !service.frontends.contains(&frontend) {
            service.frontends.push(frontend);
        }
        let local = nat
            .chains
            .get(target)
            .map(|chain| starts(chain, "KUBE-SVL-"));
        let policy = if local == Some(true) {
            TrafficPolicy::Local
        } else {
            TrafficPolicy::Cluster
        };
        if matches!(frontend, Frontend::ClusterIp(_)) {
            service.internal_policy = Some(policy);
        }
    }

    /// The Service of a name; without one, of the chain.
    fn service(&mut self, name: Option<ServiceName>, protocol: u8, chain: usize) -> usize {
        let known = match &name {
            Some(_) => self.by_name.get(&(name.clone(), protocol)),
            None => self.kube.by_chain.get(&chain),
        };
        if let Some(index) = known {
            return *index;
        }
        let index = self.kube.services.len();
        if name.is_some() {
            self.by_name.insert((name.clone(), protocol), index);
        }
        self.kube.services.push(Service {
            name,
            protocol,
            frontends: Vec::new(),
            endpoints: Vec::new(),
            local_endpoints: None,
            affinity: None,
            external_policy: None,
            internal_policy: None,
            refusals: Vec::new(),
            source: self.source,
        });
        index
    }

    /// Follows the chains of a Service to its endpoints.
    fn follow(&mut self, nat: &Table, service: usize, chain: usize, depth: usize) {
        let Some(found) = nat.chains.get(chain) else {
            return;
        };
        if depth == DEPTH || self.kube.by_chain.contains_key(&chain) {
            return;
        }
        if starts(found, "KUBE-SVC-") || starts(found, "KUBE-SVL-") {
            self.kube.by_chain.insert(chain, service);
            self.choices(nat, service, chain);
        } else if ["KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"]
            .iter()
            .any(|start| starts(found, start))
        {
            self.kube.by_chain.insert(chain, service);
            for rule in &found.rules {
                if let Some(target) = jump(rule) {
                    self.follow(nat, service, target, depth + 1);
                }
            }
            if !starts(found, "KUBE-FW-") {
                self.external(nat, service, found);
            }
        }
    }

    /// The policy for traffic from outside is where the chain leads without a condition.
    fn external(&mut self, nat: &Table, service: usize, chain: &Chain) {
        let last = chain.rules.last().filter(|rule| {
            let asks = |condition: &Condition| {
                !matches!(condition.test, Test::Module(_) | Test::Comment(_))
            };
            !rule.conditions.iter().any(asks)
        });
        let target = last.and_then(jump).and_then(|chain| nat.chains.get(chain));
        let cluster = target.is_some_and(|chain| starts(chain, "KUBE-SVC-"));
        let policy = if cluster {
            TrafficPolicy::Cluster
        } else {
            TrafficPolicy::Local
        };
        self.kube.services[service].external_policy = Some(policy);
    }

    /// The endpoints that a chain chooses from. With affinity, each is there twice.
    fn choices(&mut self, nat: &Table, service: usize, chain: usize) {
        let Some(found) = nat.chains.get(chain) else {
            return;
        };
        let mut choices = Vec::new();
        let mut addresses = Vec::new();
        for rule in &found.rules {
            let Some(target) = jump(rule) else { continue };
            let address = nat.chains.get(target).and_then(endpoint);
            if let Some(address) = address
                && !choices.contains(&target)
            {
                choices.push(target);
                addresses.push(address);
            }
        }
        let service = &mut self.kube.services[service];
        let affinity = found.rules.iter().find_map(seconds);
        service.affinity = service.affinity.or(affinity);
        if starts(found, "KUBE-SVL-") {
            service.local_endpoints = Some(addresses.clone());
        }
        for address in addresses {
            if !service
                .endpoints
                .iter()
                .any(|known| known.address == address)
            {
                let endpoint = Endpoint {
                    address,
                    local: None,
                };
                service.endpoints.push(endpoint);
            }
        }
        if let Some(local) = &service.local_endpoints {
            for endpoint in &mut service.endpoints {
                endpoint.local = Some(local.contains(&endpoint.address));
            }
        }
        self.kube.choices.insert(chain, choices);
    }

    /// Services that have nobody to take packets.
    pub(super) fn refusals(&mut self, filter: &Table, chain: &str) {
        let Some(chain) = filter.chain(chain) else {
            return;
        };
        let internal = &*filter.chains[chain].name == "KUBE-SERVICES";
        for rule in &filter.chains[chain].rules {
            let comment = rule.comment().unwrap_or_default();
            let refusal = if comment.ends_with(NO_ENDPOINTS) {
                Refusal::NoEndpoints
            } else if comment.ends_with(NO_LOCAL_ENDPOINTS) {
                Refusal::NoLocalEndpoints
            } else {
                continue;
            };
            let address = Address::of(rule);
            let (Some(name), Some(port)) = (named(comment), address.port) else {
                continue;
            };
            let index = self.service(Some(name), address.protocol, usize::MAX);
            let service = &mut self.kube.services[index];
            let frontend = match address.socket() {
                Some(socket) if internal => Frontend::ClusterIp(socket),
                // What has no endpoint at all does not say which kind its address is.
                Some(socket)
                    if service
                        .frontends
                        .contains(&Frontend::LoadBalancerIp(socket)) =>
                {
                    Frontend::LoadBalancerIp(socket)
                }
                Some(socket) => Frontend::ExternalIp(socket),
                None => Frontend::NodePort(None, port),
            };
            if !service.frontends.contains(&frontend) {
                service.frontends.push(frontend);
            }
            if refusal == Refusal::NoLocalEndpoints {
                let policy = if internal {
                    &mut service.internal_policy
                } else {
                    &mut service.external_policy
                };
                *policy = Some(TrafficPolicy::Local);
                service.local_endpoints.get_or_insert_default();
                for endpoint in &mut service.endpoints {
                    endpoint.local = Some(false);
                }
            }
            service.refusals.push((frontend, refusal));
        }
    }
}

fn starts(chain: &Chain, start: &str) -> bool {
    chain.name.starts_with(start)
}

fn jump(rule: &Rule) -> Option<usize> {
    match rule.target.as_ref()?.kind {
        TargetKind::Jump(chain) | TargetKind::Goto(chain) => Some(chain as usize),
        TargetKind::Named => None,
    }
}

/// Where an endpoint's chain sends packets.
fn endpoint(chain: &Chain) -> Option<SocketAddr> {
    let targets = chain.rules.iter().filter_map(|rule| rule.target.as_ref());
    let mut settings = targets.flat_map(|target| &target.settings);
    settings.find_map(|setting| {
        let Setting::ToDestination(range) = setting else {
            return None;
        };
        Some(SocketAddr::new(range.addresses?.0, range.ports?.0))
    })
}

/// How long a client stays with an endpoint.
fn seconds(rule: &Rule) -> Option<u32> {
    rule.conditions.iter().find_map(|condition| {
        let Test::Parameter(words) = &condition.test else {
            return None;
        };
        let (seconds, _) = words.arguments.first()?;
        (&*words.name == "--seconds").then(|| seconds.parse().ok())?
    })
}
