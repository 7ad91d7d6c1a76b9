//! The Services of every lab, one for each path that a test or a person may want to see.
//!
//! | name | what for |
//! |---|---|
//! | `default/web:http` | two endpoints, one on each node |
//! | `default/web-node1:http` | the endpoint on node1 only |
//! | `default/web-node2:http` | the endpoint on node2 only |
//! | `default/hairpin` | called by its own endpoint, pod b1; its port has no name |
//! | `default/web-nodeport:http` | NodePort 30080, the endpoint on node1 |
//! | `default/local-only:http` | NodePort 30084, `externalTrafficPolicy: Local`, the endpoint on node2 |
//! | `default/sticky:http` | session affinity over both endpoints |
//! | `default/ghost:http` | no endpoints: refused |
//! | `kube-system/kube-dns:dns` | UDP 53 to 5353 |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::proxy;
use super::topology::{DNS_PORT, HTTP_PORT, Node, Pod};

/// The transport of a Service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A pod behind a Service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The pod's name.
    pub pod: String,
    /// The node it runs on.
    pub node: String,
    /// Its address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Its port.
    pub port: u16,
}

/// A dual-stack Service with one port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The name, by which a lab finds it.
    pub name: String,
    /// The port's name, empty when it has none.
    pub port_name: String,
    /// The transport.
    pub protocol: Protocol,
    /// The ClusterIP.
    pub cluster_ip: Ipv4Addr,
    /// The IPv6 ClusterIP.
    pub cluster_ip6: Ipv6Addr,
    /// The port on the ClusterIP.
    pub port: u16,
    /// The port on every node's address.
    pub node_port: Option<u16>,
    /// `externalTrafficPolicy: Local`: NodePort traffic goes to endpoints on that node only.
    pub external_local: bool,
    /// Session affinity by client address, for so many seconds.
    pub affinity: Option<u32>,
    /// The pods behind it.
    pub endpoints: Vec<Endpoint>,
}

impl Service {
    /// `namespace/name:port`, or `namespace/name` for a port without a name.
    #[must_use]
    pub fn full_name(&self) -> String {
        let Self {
            namespace,
            name,
            port_name,
            ..
        } = self;
        if port_name.is_empty() {
            format!("{namespace}/{name}")
        } else {
            format!("{namespace}/{name}:{port_name}")
        }
    }

    /// The Service in one address family as kube-proxy on `node` sees it.
    pub(super) fn port_of(&self, node: &Node, family: proxy::Family) -> proxy::ServicePort {
        let pick = |ipv4: Ipv4Addr, ipv6: Ipv6Addr| match family {
            proxy::Family::Ipv4 => IpAddr::V4(ipv4),
            proxy::Family::Ipv6 => IpAddr::V6(ipv6),
        };
        proxy::ServicePort {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            port_name: self.port_name.clone(),
            protocol: self.protocol,
            cluster_ip: pick(self.cluster_ip, self.cluster_ip6),
            port: self.port,
            node_port: self.node_port,
            external_local: self.external_local,
            affinity: self.affinity,
            endpoints: self
                .endpoints
                .iter()
                .map(|endpoint| proxy::Endpoint {
                    ip: pick(endpoint.ipv4, endpoint.ipv6),
                    port: endpoint.port,
                    local: endpoint.node == node.name,
                })
                .collect(),
        }
    }
}

/// The Services of every lab, over its pods.
pub(super) fn all(pods: &[Pod]) -> Vec<Service> {
    let http = |name: &str, last: u8, endpoints: &[&str]| Service {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        port_name: "http".to_owned(),
        protocol: Protocol::Tcp,
        cluster_ip: cluster_ip(last),
        cluster_ip6: cluster_ip6(last),
        port: 80,
        node_port: None,
        external_local: false,
        affinity: None,
        endpoints: endpoints_of(pods, endpoints, HTTP_PORT),
    };
    vec![
        Service {
            namespace: "kube-system".to_owned(),
            port_name: "dns".to_owned(),
            protocol: Protocol::Udp,
            port: 53,
            endpoints: endpoints_of(pods, &["b1"], DNS_PORT),
            ..http("kube-dns", 10, &[])
        },
        http("web", 80, &["b1", "b2"]),
        http("web-node1", 81, &["b1"]),
        http("web-node2", 82, &["b2"]),
        Service {
            port_name: String::new(),
            ..http("hairpin", 83, &["b1"])
        },
        Service {
            node_port: Some(30080),
            ..http("web-nodeport", 84, &["b1"])
        },
        http("ghost", 85, &[]),
        Service {
            affinity: Some(10800),
            ..http("sticky", 86, &["b1", "b2"])
        },
        Service {
            node_port: Some(30084),
            external_local: true,
            ..http("local-only", 87, &["b2"])
        },
    ]
}

/// The pods of those names, behind that port.
pub(super) fn endpoints_of(pods: &[Pod], names: &[&str], port: u16) -> Vec<Endpoint> {
    pods.iter()
        .filter(|pod| names.contains(&pod.name.as_str()))
        .map(|pod| Endpoint {
            pod: pod.name.clone(),
            node: pod.node.clone(),
            ipv4: pod.ipv4,
            ipv6: pod.ipv6,
            port,
        })
        .collect()
}

pub(super) fn cluster_ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 0, last)
}

/// The address whose last group reads like the IPv4 address's last number: `fd00:10:96::81`.
pub(super) fn cluster_ip6(last: u8) -> Ipv6Addr {
    let group = u16::from_str_radix(&last.to_string(), 16).unwrap_or_default();
    Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_a_name_has_no_colon() {
        let services = all(&[]);
        let named = |name: &str| {
            let service = services.iter().find(|service| service.name == name);
            service.unwrap().full_name()
        };
        assert_eq!(named("web"), "default/web:http");
        assert_eq!(named("hairpin"), "default/hairpin");
        assert_eq!(named("kube-dns"), "kube-system/kube-dns:dns");
    }

    #[test]
    fn cluster_ips_are_distinct_and_read_alike() {
        let services = all(&[]);
        let ips: std::collections::HashSet<_> = services.iter().map(|s| s.cluster_ip).collect();
        assert_eq!(ips.len(), services.len());
        assert_eq!(cluster_ip6(81).to_string(), "fd00:10:96::81");
    }
}
