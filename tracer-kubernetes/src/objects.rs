//! What is kept of the API's objects: what names need, bounded in number.

use std::{collections::BTreeMap, net::IpAddr};

/// How many Services are kept.
pub const MOST_SERVICES: usize = 10_000;
/// How many EndpointSlices are kept, of up to 1000 endpoints each as the API has it.
pub const MOST_SLICES: usize = 20_000;
/// How many pods are kept.
pub const MOST_PODS: usize = 50_000;
/// The longest name or namespace (a DNS name).
pub const LONGEST_NAME: usize = 253;

/// An object's namespace and name.
pub type Name = (String, String);

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Services.
    Services,
    /// EndpointSlices: the addresses behind Services.
    EndpointSlices,
    /// Pods, of all nodes.
    Pods,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Services, Self::EndpointSlices, Self::Pods];

    /// As in the API's paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Pods => "pods",
        }
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A Service, as it is to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its addresses in the cluster; none of a headless one.
    pub cluster_ips: Vec<IpAddr>,
    /// Its external addresses.
    pub external_ips: Vec<IpAddr>,
    /// Its load balancers' addresses.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// How long a client stays with an endpoint, in seconds.
    pub affinity: Option<u32>,
    /// Whether traffic from outside stays on the node that it comes to.
    pub external_local: bool,
    /// Whether traffic from the cluster stays on its node.
    pub internal_local: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where it has none.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// The port of the nodes' own addresses.
    pub node_port: Option<u16>,
}

/// Some of the endpoints of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The Service's name, in the slice's namespace.
    pub service: String,
    /// The addresses of those that are ready.
    pub addresses: Vec<IpAddr>,
    /// Their ports.
    pub ports: Vec<SlicePort>,
}

/// A port of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port that leads there.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// A pod that runs, or is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its addresses; the node's where it uses the node's network.
    pub addresses: Vec<IpAddr>,
    /// Whether it uses the node's network.
    pub host_network: bool,
    /// The node that it runs on.
    pub node: Option<String>,
}

/// Objects of a kind, no more than so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    objects: BTreeMap<Name, T>,
    most: usize,
    /// There were more.
    left_out: bool,
}

impl<T> Kept<T> {
    /// None yet, and never more than `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            objects: BTreeMap::new(),
            most,
            left_out: false,
        }
    }

    /// None, and never more than this one.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.most)
    }

    /// All of them, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &T)> {
        self.objects.iter()
    }

    /// The one of that name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&T> {
        self.objects.get(name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether there are more than are kept.
    #[must_use]
    pub fn left_out(&self) -> bool {
        self.left_out
    }

    /// Puts one in, or (`None`) takes it out.
    pub fn put(&mut self, name: Name, object: Option<T>) {
        let Some(object) = object else {
            self.objects.remove(&name);
            return;
        };
        if self.objects.len() < self.most || self.objects.contains_key(&name) {
            self.objects.insert(name, object);
        } else {
            self.left_out = true;
        }
    }
}

/// What the API says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// Services.
    pub services: Kept<Service>,
    /// Their endpoints.
    pub slices: Kept<Slice>,
    /// Pods.
    pub pods: Kept<Pod>,
    listed: [bool; 3],
    problems: BTreeMap<Kind, String>,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            services: Kept::new(MOST_SERVICES),
            slices: Kept::new(MOST_SLICES),
            pods: Kept::new(MOST_PODS),
            listed: [false; 3],
            problems: BTreeMap::new(),
        }
    }
}

impl Objects {
    /// Whether all objects of that kind were there once.
    #[must_use]
    pub fn is_listed(&self, kind: Kind) -> bool {
        self.listed[kind as usize]
    }

    /// Why objects of that kind are missing or may be old, for people: text of others.
    #[must_use]
    pub fn problem(&self, kind: Kind) -> Option<&str> {
        self.problems.get(&kind).map(String::as_str)
    }

    /// Whether of each kind everything was listed, or is known not to be had.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let settled = |kind| self.is_listed(kind) || self.problem(kind).is_some();
        Kind::ALL.into_iter().all(settled)
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.services.len() + self.slices.len() + self.pods.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn went_well(&mut self, kind: Kind) {
        self.listed[kind as usize] = true;
        self.problems.remove(&kind);
    }

    pub(crate) fn went_wrong(&mut self, kind: Kind, problem: String) {
        self.problems.insert(kind, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_are_kept_and_that_is_known() {
        let name = |name: &str| ("default".to_owned(), name.to_owned());
        let mut kept = Kept::new(2);
        for key in ["a", "b"] {
            kept.put(name(key), Some(1));
        }
        assert!(!kept.left_out());
        kept.put(name("a"), Some(2));
        assert!(!kept.left_out());
        kept.put(name("c"), Some(3));
        assert!(kept.left_out() && kept.len() == 2);
        assert_eq!(
            (kept.get(&name("a")), kept.get(&name("c"))),
            (Some(&2), None)
        );
        kept.put(name("a"), None);
        kept.put(name("c"), Some(3));
        assert_eq!(kept.get(&name("c")), Some(&3));
    }
}
