//! Names to numbers, and the expression in negation normal form.
//!
//! Negations move to the tests, where their meaning for a flow is decided: a test of what the next
//! hop can change is negated for all hops ([`Node::Nowhere`]), one of what stays the same is
//! negated as it is. Tests of the flow as a whole ([`Node::Flow`]) wait for what is known of it.

use std::{collections::BTreeMap, fmt};

use tracer_common::{address, filter as terms, filter::Term};

use super::{
    Filter,
    error::ResolveError,
    expression::{Direction, Expression, Network, Test, Version},
    normal::{FlowNode, FlowTest, Node},
    service::{Front, ServiceTest},
    term::{device, port, within},
    words,
};

/// The network namespaces, pods and Services that are known by name.
pub trait Namespaces {
    /// The inode numbers of the namespaces with this name: several where names repeat, none where
    /// the name is not known.
    fn inodes(&self, name: &str) -> Vec<u32>;

    /// All known names, for the suggestions of an error.
    fn names(&self) -> Vec<String>;

    /// The inode numbers of the namespaces in which packets of the pod `NAMESPACE/NAME` are seen:
    /// none where they can be seen anywhere. `None` where there is no such pod.
    fn pod(&self, name: &str) -> Option<Vec<u32>>;

    /// Pods whose names are like this one, the most alike first, for the suggestions of an error.
    fn similar_pods(&self, name: &str) -> Vec<String>;

    /// Where the Service is called now: nothing where that is not known. `None` where there is no such
    /// Service, or no such port of it.
    fn service(&self, service: &ServiceTest) -> Option<Vec<Front>>;

    /// Services whose names are like this one's, the most alike first, and of one with another port
    /// its ports; for the suggestions of an error.
    fn similar_services(&self, service: &ServiceTest) -> Vec<String>;

    /// Whether there are Services whose names are not known.
    fn has_nameless_services(&self) -> bool {
        false
    }
}

impl Namespaces for BTreeMap<String, Vec<u32>> {
    fn inodes(&self, name: &str) -> Vec<u32> {
        self.get(name).cloned().unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }

    fn pod(&self, _: &str) -> Option<Vec<u32>> {
        None
    }

    fn similar_pods(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn service(&self, _: &ServiceTest) -> Option<Vec<Front>> {
        None
    }

    fn similar_services(&self, _: &ServiceTest) -> Vec<String> {
        Vec::new()
    }
}

/// A filter whose names are looked up: it can judge flows, and become a program for the kernel.
///
/// `Display` writes the filter out with its names.
#[derive(Clone, Debug)]
pub struct ResolvedFilter {
    filter: Filter,
    pub(super) root: Node,
    /// The terms of the [`Node::Nowhere`]s, each once, by their slots.
    pub(super) nowhere: Vec<Term>,
}

impl fmt::Display for ResolvedFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filter.fmt(f)
    }
}

impl ResolvedFilter {
    pub(super) fn new(filter: &Filter, namespaces: &impl Namespaces) -> Result<Self, ResolveError> {
        let mut lowering = Lowering {
            namespaces,
            nowhere: Vec::new(),
        };
        let root = match &filter.expression {
            Some(expression) => lowering.expression(expression, false)?,
            None => Node::All(Vec::new()),
        };
        Ok(Self {
            filter: filter.clone(),
            root,
            nowhere: lowering.nowhere,
        })
    }

    /// The filter as it was written.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether a flow that matches by the hops seen so far may stop to match when more are seen:
    /// so it is when the filter negates what can change from hop to hop, or a test of the flow.
    #[must_use]
    pub fn needs_all_hops(&self) -> bool {
        !self.nowhere.is_empty() || self.root.has_flow(&|flow| flow.negated)
    }

    /// Whether it asks which Service a flow's client called.
    #[must_use]
    pub fn asks_for_services(&self) -> bool {
        self.root
            .has_flow(&|flow| matches!(flow.test, FlowTest::Service { .. }))
    }

    /// Whether it asks which pods the ends of a flow are.
    #[must_use]
    pub fn asks_for_pods(&self) -> bool {
        self.root
            .has_flow(&|flow| matches!(flow.test, FlowTest::Pod { .. }))
    }
}

struct Lowering<'a, N> {
    namespaces: &'a N,
    nowhere: Vec<Term>,
}

impl<N: Namespaces> Lowering<'_, N> {
    fn expression(&mut self, expression: &Expression, negated: bool) -> Result<Node, ResolveError> {
        match expression {
            Expression::Not(inner) => self.expression(inner, !negated),
            Expression::Test(test) => self.test(test, negated),
            Expression::All(parts) => Ok(join(self.parts(parts, negated)?, negated)),
            Expression::Any(parts) => Ok(join(self.parts(parts, negated)?, !negated)),
        }
    }

    fn parts(&mut self, parts: &[Expression], negated: bool) -> Result<Vec<Node>, ResolveError> {
        parts
            .iter()
            .map(|part| self.expression(part, negated))
            .collect()
    }

    fn test(&mut self, test: &Test, negated: bool) -> Result<Node, ResolveError> {
        Ok(match test {
            Test::Address(direction, network) => self.address(*direction, *network, negated),
            Test::Port {
                direction,
                low,
                high,
            } => self.changing(port(*direction, *low, *high), negated),
            Test::Protocol(number) => Node::constant(terms::PROTOCOL, u16::from(*number), negated),
            Test::Version(version) => Node::constant(terms::IP_VERSION, version.number(), negated),
            Test::Netns(name) => {
                let nodes = self
                    .inodes(name)?
                    .into_iter()
                    .map(|number| {
                        let term = Term {
                            kind: terms::NETNS,
                            number,
                            ..Term::default()
                        };
                        self.changing(term, negated)
                    })
                    .collect();
                join(nodes, !negated)
            }
            Test::Device(name) => self.changing(device(name), negated),
            Test::Pod(direction, name) => {
                let inodes = self
                    .namespaces
                    .pod(name)
                    .ok_or_else(|| ResolveError::pod(name, self.namespaces.similar_pods(name)))?;
                let test = FlowTest::Pod {
                    direction: *direction,
                    name: name.clone(),
                    inodes,
                };
                Node::Flow(FlowNode { test, negated })
            }
            Test::Service(service) => {
                let fronts = self.fronts(service)?;
                let service = service.clone();
                let test = FlowTest::Service { service, fronts };
                Node::Flow(FlowNode { test, negated })
            }
            Test::Dropped => Node::Flow(FlowNode {
                test: FlowTest::Dropped,
                negated,
            }),
        })
    }

    fn inodes(&self, name: &str) -> Result<Vec<u32>, ResolveError> {
        let inodes = self.namespaces.inodes(name);
        if !inodes.is_empty() {
            return Ok(inodes);
        }
        let names = self.namespaces.names();
        let similar = words::similar(name, names.iter().map(String::as_str));
        let similar = similar.into_iter().map(str::to_owned).collect();
        Err(ResolveError::netns(name, similar))
    }

    fn fronts(&self, service: &ServiceTest) -> Result<Vec<Front>, ResolveError> {
        self.namespaces.service(service).ok_or_else(|| {
            let similar = self.namespaces.similar_services(service);
            let nameless = self.namespaces.has_nameless_services();
            ResolveError::service(service.to_string(), similar, nameless)
        })
    }

    /// A test of what the next hop can change.
    fn changing(&mut self, term: Term, negated: bool) -> Node {
        if !negated {
            return Node::Here(term);
        }
        let slot = self.nowhere.iter().position(|known| *known == term);
        let slot = slot.unwrap_or_else(|| {
            self.nowhere.push(term);
            self.nowhere.len() - 1
        });
        Node::Nowhere { term, slot }
    }

    fn address(&mut self, direction: Direction, network: Network, negated: bool) -> Node {
        let term = within(direction, network);
        let (value, mask) = (term.value, term.mask);
        let node = self.changing(term, negated);
        let mapped = address::from_ipv4([0; 4]);
        let holds_ipv4 = (0..2).all(|word| mapped[word] & mask[word] == value[word]);
        if network.version() == Version::V6 && holds_ipv4 {
            // The term would hold for IPv4 addresses too, as they are IPv4-mapped IPv6 ones.
            let version = Node::constant(terms::IP_VERSION, 6, negated);
            return join(vec![version, node], negated);
        }
        node
    }
}

fn join(nodes: Vec<Node>, any: bool) -> Node {
    if any {
        Node::any(nodes)
    } else {
        Node::all(nodes)
    }
}
