//! kube-proxy's rules, written from Services.
//!
//! The generators give what kube-proxy 1.36 leaves in the kernel, in the form in which
//! `iptables-save` and `nft list ruleset` print it; both tools also read that form. So one text
//! serves three ends: it is loaded into a node, compared with the dumps of a real kube-proxy in
//! `fixtures/kube-proxy`, and compared with what the node says it holds. Pure: values in, text out.
//!
//! Left out, for no lab has them: LoadBalancer and external IPs, health check node ports,
//! `internalTrafficPolicy: Local`, large cluster mode.

pub mod iptables;
pub mod ipvs;
pub mod nftables;

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use super::service::Protocol;

/// Which of kube-proxy's two halves: it keeps the families apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `iptables`, table `ip kube-proxy`.
    Ipv4,
    /// `ip6tables`, table `ip6 kube-proxy`.
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];
}

/// A pod behind a Service, in one family.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it runs on this node.
    pub local: bool,
}

impl Endpoint {
    /// `ip:port`, `[ip]:port`.
    fn address(&self) -> String {
        std::net::SocketAddr::new(self.ip, self.port).to_string()
    }
}

/// One port of a Service, in one family.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The port's name, empty when it has none.
    pub port_name: String,
    /// The transport.
    pub protocol: Protocol,
    /// The ClusterIP.
    pub cluster_ip: IpAddr,
    /// The port on the ClusterIP.
    pub port: u16,
    /// The port on every node's address.
    pub node_port: Option<u16>,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Session affinity by client address, for so many seconds.
    pub affinity: Option<u32>,
    /// The pods behind it.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// kube-proxy's name for it: `namespace/name:port`, or `namespace/name`.
    fn full_name(&self) -> String {
        let name = format!("{}/{}", self.namespace, self.name);
        if self.port_name.is_empty() {
            name
        } else {
            format!("{name}:{}", self.port_name)
        }
    }

    /// The endpoints that external traffic may go to on this node.
    fn external_endpoints(&self) -> Vec<&Endpoint> {
        let usable = |endpoint: &&Endpoint| !self.external_local || endpoint.local;
        self.endpoints.iter().filter(usable).collect()
    }

    /// The endpoints on this node, when a policy asks for them and there are any.
    fn local_policy_endpoints(&self) -> Vec<&Endpoint> {
        if self.external_local && self.node_port.is_some() {
            self.external_endpoints()
        } else {
            Vec::new()
        }
    }
}

/// Everything that kube-proxy on one node knows of one family.
#[derive(Clone, Debug)]
pub struct Node {
    /// The family.
    pub family: Family,
    /// The addresses of all pods, as a prefix (`clusterCIDR`).
    pub cluster_cidr: String,
    /// The addresses of all Services, where kube-proxy knows them (nftables mode uses it).
    pub service_cidr: Option<String>,
    /// The node's addresses that take NodePort traffic (nftables mode); empty: all.
    pub node_port_ips: Vec<IpAddr>,
    /// Whether the kernel has nfacct objects for kube-proxy to count with (iptables mode). The lab
    /// makes none; a real node has them where the module is loaded.
    pub accounting: bool,
    /// The Services.
    pub services: Vec<ServicePort>,
}

/// kube-proxy's hash: the first `length` characters of the base32 SHA-256.
fn hash(text: &str, length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(text.as_bytes());
    let bit = |index: usize| (digest[index / 8] >> (7 - index % 8)) & 1;
    (0..length)
        .map(|character| {
            let bits = (character * 5..character * 5 + 5).fold(0u8, |value, i| value << 1 | bit(i));
            char::from(ALPHABET[usize::from(bits)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chain names that a real kube-proxy gave.
    #[test]
    fn hashes_are_kube_proxys() {
        assert_eq!(
            hash("default/nginx-service:httptcp", 16),
            "6IM33IEVEEV7U3GP"
        );
        assert_eq!(
            hash("default/solotcp10.244.1.3:8080", 16),
            "2YYUZF24CPO736OQ"
        );
        assert_eq!(hash("default/nginx-service/tcp/http", 8), "PIOJ4VP5");
    }
}
