//! Services, as the node's own rules make them.
//!
//! Read from the rules of kube-proxy in any of its modes, so that they are known without the API
//! server, and are what packets really meet: what the API says and the node does not do yet is not
//! here. A Service is taken port by port, as rules have it.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize, Serializer};

use super::rules::source::Source;

/// A Service's name with that of one of its ports. Displays as `default/nginx-service:http`, or
/// without the port where that has no name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceName {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The Service.
    pub name: String,
    /// The port's name; empty where it has none.
    #[serde(default)]
    pub port: String,
}

impl ServiceName {
    /// Takes `namespace/name` or `namespace/name:port` apart.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, rest) = text.split_once('/')?;
        let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
        let word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        let fits = word(namespace) && word(name) && !name.contains('/');
        let port_fits = port.is_empty() != rest.contains(':') && !port.contains([' ', '/', ':']);
        (fits && port_fits).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port: port.to_owned(),
        })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        if self.port.is_empty() {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

/// Where a Service can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frontend {
    /// Its address in the cluster.
    ClusterIp(SocketAddr),
    /// An external address.
    ExternalIp(SocketAddr),
    /// A load balancer's address.
    LoadBalancerIp(SocketAddr),
    /// A port of the node's own addresses: of this one, or (`None`) of any.
    NodePort(Option<IpAddr>, u16),
}

impl Frontend {
    /// The address; `None` where it is any of the node's.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::ClusterIp(at) | Self::ExternalIp(at) | Self::LoadBalancerIp(at) => Some(at.ip()),
            Self::NodePort(address, _) => address,
        }
    }

    /// The port.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::ClusterIp(at) | Self::ExternalIp(at) | Self::LoadBalancerIp(at) => at.port(),
            Self::NodePort(_, port) => port,
        }
    }
}

/// Where a Service sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether it is on this node, where that is known.
    pub local: Option<bool>,
}

/// Which endpoints a kind of traffic may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficPolicy {
    /// All.
    Cluster,
    /// Those of this node.
    Local,
}

/// What happens to packets for a Service that has nobody to take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// No endpoint at all: rejected.
    NoEndpoints,
    /// No endpoint on this node, and the traffic may use no other: dropped.
    NoLocalEndpoints,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name; `None` where the rules have none (IPVS).
    pub name: Option<ServiceName>,
    /// The IP protocol number.
    pub protocol: u8,
    /// Where it can be called.
    pub frontends: Vec<Frontend>,
    /// Its endpoints, in the order of the rules: the first is endpoint 1.
    pub endpoints: Vec<Endpoint>,
    /// The endpoints that traffic with the policy `Local` may use; `None` where the rules make no
    /// difference.
    #[serde(default)]
    pub local_endpoints: Option<Vec<SocketAddr>>,
    /// How long a client stays with an endpoint, in seconds; `None` without session affinity.
    #[serde(default)]
    pub affinity: Option<u32>,
    /// The policy for traffic from outside, where the rules show it.
    #[serde(default)]
    pub external_policy: Option<TrafficPolicy>,
    /// The policy for traffic from the cluster, where the rules show it.
    #[serde(default)]
    pub internal_policy: Option<TrafficPolicy>,
    /// What is refused at which frontend.
    #[serde(default)]
    pub refusals: Vec<(Frontend, Refusal)>,
    /// Which rules say so.
    pub source: Source,
}

/// The Services that a namespace's rules make.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Vec<Service>")]
pub struct Services {
    services: Vec<Service>,
    by_address: HashMap<(u8, SocketAddr), usize>,
    by_node_port: HashMap<(u8, u16), usize>,
    by_name: HashMap<ServiceName, Vec<usize>>,
}

impl From<Vec<Service>> for Services {
    fn from(services: Vec<Service>) -> Self {
        let mut by_address = HashMap::new();
        let mut by_node_port = HashMap::new();
        let mut by_name: HashMap<ServiceName, Vec<usize>> = HashMap::new();
        for (index, service) in services.iter().enumerate() {
            if let Some(name) = &service.name {
                by_name.entry(name.clone()).or_default().push(index);
            }
            for frontend in &service.frontends {
                match *frontend {
                    Frontend::ClusterIp(address)
                    | Frontend::ExternalIp(address)
                    | Frontend::LoadBalancerIp(address) => {
                        by_address
                            .entry((service.protocol, address))
                            .or_insert(index);
                    }
                    Frontend::NodePort(Some(ip), port) => {
                        let address = SocketAddr::new(ip, port);
                        by_address
                            .entry((service.protocol, address))
                            .or_insert(index);
                    }
                    Frontend::NodePort(None, port) => {
                        by_node_port
                            .entry((service.protocol, port))
                            .or_insert(index);
                    }
                }
            }
        }
        Self {
            services,
            by_address,
            by_node_port,
            by_name,
        }
    }
}

impl Serialize for Services {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.services.serialize(serializer)
    }
}

impl PartialEq for Services {
    fn eq(&self, other: &Self) -> bool {
        self.services == other.services
    }
}

impl Eq for Services {}

impl Services {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Service] {
        &self.services
    }

    /// What the rules have of a port of a Service: one for each rule form and family.
    pub fn named(&self, name: &ServiceName) -> impl Iterator<Item = &Service> {
        let indexes = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        indexes.iter().filter_map(|&index| self.services.get(index))
    }

    /// The Service that is called at an address and port; `own` says whether the address is one of
    /// the node's, which serve NodePorts.
    #[must_use]
    pub fn called_at(&self, protocol: u8, address: SocketAddr, own: bool) -> Option<&Service> {
        let by_port = || {
            let index = self.by_node_port.get(&(protocol, address.port()));
            index.filter(|_| own)
        };
        let index = self.by_address.get(&(protocol, address)).or_else(by_port)?;
        self.services.get(*index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        for text in ["default/nginx-service:http", "default/solo"] {
            assert_eq!(ServiceName::parse(text).unwrap().to_string(), text);
        }
        let wrong = [
            "", "a", "/a", "a/", "a/b:", "a/b c", "a/b:c d", "a/b/c", "a b/c",
        ];
        for text in wrong {
            assert_eq!(ServiceName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_service_is_found_by_where_it_is_called() {
        let cluster: SocketAddr = "10.96.0.80:80".parse().unwrap();
        let node: SocketAddr = "192.168.0.1:30080".parse().unwrap();
        let service = Service {
            name: ServiceName::parse("default/nginx-service:http"),
            protocol: 6,
            frontends: vec![
                Frontend::ClusterIp(cluster),
                Frontend::NodePort(None, node.port()),
            ],
            endpoints: Vec::new(),
            local_endpoints: None,
            affinity: None,
            external_policy: None,
            internal_policy: None,
            refusals: vec![(Frontend::ClusterIp(cluster), Refusal::NoEndpoints)],
            source: Source::IptablesNft,
        };
        let services = Services::from(vec![service.clone()]);
        assert_eq!(services.called_at(6, cluster, false), Some(&service));
        assert_eq!(services.called_at(17, cluster, false), None);
        assert_eq!(services.called_at(6, node, true), Some(&service));
        assert_eq!(services.called_at(6, node, false), None);
        let text = serde_json::to_string(&services).unwrap();
        let read: Services = serde_json::from_str(&text).unwrap();
        assert_eq!(read, services);
        assert_eq!(read.called_at(6, cluster, false), Some(&service));
    }
}
