//! What stands where: the plan of a lab, as values.
//!
//! ```text
//!      outside 192.168.77.100, fd00:192:168:77::100
//!         |
//!      switch ------------------+
//!         |                     |
//!      node1 .11             node2 .12        (eth0; default route to outside)
//!       |     |               |     |
//!     pod a1  pod b1        pod a2  pod b2    (10.244.1.0/24)  (10.244.2.0/24)
//! ```
//!
//! `a1` and `a2` are clients, `b1` and `b2` servers. Each box is a network namespace named
//! `<lab>-<box>`, pods `<lab>-pod-<name>`. Pod addresses are what the IPAM plugin hands out and are
//! known only once the pods are attached.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::kubelet::{Identity, NAMESPACE};

/// The addresses of all pods (kube-proxy's `clusterCIDR`).
pub const CLUSTER_CIDR: &str = "10.244.0.0/16";
/// The IPv6 addresses of all pods.
pub const CLUSTER_CIDR6: &str = "fd00:10:244::/56";
/// The addresses of all Services.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The IPv6 addresses of all Services.
pub const SERVICE_CIDR6: &str = "fd00:10:96::/112";
/// The port that the server pods and `outside` serve HTTP on.
pub const HTTP_PORT: u16 = 8080;
/// The port that the server pods and `outside` answer DNS on, over UDP.
pub const DNS_PORT: u16 = 5353;
/// The MTU of `eth0` on the nodes.
pub const NODE_MTU: u16 = 1500;

/// A node: a network namespace with an uplink, and pods behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// `node1` or `node2`.
    pub name: String,
    /// The full name of its network namespace.
    pub netns: String,
    /// 1 or 2.
    pub number: u8,
    /// The address on `eth0`.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address on `eth0`.
    pub ipv6: Ipv6Addr,
}

impl Node {
    fn new(lab: &str, number: u8) -> Self {
        let host = 10 + number;
        Self {
            name: format!("node{number}"),
            netns: format!("{lab}-node{number}"),
            number,
            ipv4: Ipv4Addr::new(192, 168, 77, host),
            ipv6: underlay6(&host.to_string()),
        }
    }

    /// The addresses of its pods.
    #[must_use]
    pub fn pod_cidr(&self) -> String {
        format!("{}/24", self.subnet())
    }

    /// The IPv6 addresses of its pods.
    #[must_use]
    pub fn pod_cidr6(&self) -> String {
        format!("{}/64", self.subnet6())
    }

    /// The first address of [`Self::pod_cidr`], which flannel gives to `flannel.1`.
    #[must_use]
    pub fn subnet(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, 0)
    }

    /// The first address of [`Self::pod_cidr6`], which flannel gives to `flannel-v6.1`.
    #[must_use]
    pub fn subnet6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(self.number), 0, 0, 0, 0)
    }
}

/// A pod: a network namespace attached by a CNI plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pod {
    /// `a1`, `b1`, `a2` or `b2`; in the Kubernetes namespace `default`.
    pub name: String,
    /// The full name of its network namespace.
    pub netns: String,
    /// The node it runs on.
    pub node: String,
    /// The address on its `eth0`.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address on its `eth0`.
    pub ipv6: Ipv6Addr,
    /// The other end of its `eth0`, in the node's namespace.
    pub veth: String,
    /// Whether it runs the server.
    pub serves: bool,
    /// What the cluster and its runtime call it.
    pub identity: Identity,
}

impl Pod {
    /// Its namespace and name: `default/a1`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{NAMESPACE}/{}", self.name)
    }
}

/// The machine outside the cluster: a client for NodePorts, a server for pods, the nodes' default
/// gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outside {
    /// The full name of its network namespace.
    pub netns: String,
    /// The address on `eth0`.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address on `eth0`.
    pub ipv6: Ipv6Addr,
}

/// A pod before it is attached.
pub(super) struct PlannedPod {
    pub(super) name: &'static str,
    pub(super) node: u8,
    pub(super) serves: bool,
}

/// The pods of every lab.
pub(super) const PODS: [PlannedPod; 4] = [
    planned("a1", 1, false),
    planned("b1", 1, true),
    planned("a2", 2, false),
    planned("b2", 2, true),
];

const fn planned(name: &'static str, node: u8, serves: bool) -> PlannedPod {
    PlannedPod { name, node, serves }
}

/// The nodes of the lab `id`.
pub(super) fn nodes(id: &str) -> [Node; 2] {
    [Node::new(id, 1), Node::new(id, 2)]
}

/// The outside of the lab `id`.
pub(super) fn outside(id: &str) -> Outside {
    Outside {
        netns: format!("{id}-outside"),
        ipv4: Ipv4Addr::new(192, 168, 77, 100),
        ipv6: underlay6("100"),
    }
}

/// The full name of the switch's namespace in the lab `id`.
pub(super) fn switch(id: &str) -> String {
    format!("{id}-switch")
}

/// The full name of a pod's namespace in the lab `id`.
pub(super) fn pod_netns(id: &str, name: &str) -> String {
    format!("{id}-pod-{name}")
}

/// The underlay's IPv6 address whose last group reads like the IPv4 address's last number.
fn underlay6(host: &str) -> Ipv6Addr {
    let last = u16::from_str_radix(host, 16).unwrap_or_default();
    Ipv6Addr::new(0xfd00, 0x192, 0x168, 0x77, 0, 0, 0, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_alike_in_both_families() {
        let node = &nodes("tl0000")[1];
        assert_eq!(node.ipv4.to_string(), "192.168.77.12");
        assert_eq!(node.ipv6.to_string(), "fd00:192:168:77::12");
        assert_eq!(node.pod_cidr(), "10.244.2.0/24");
        assert_eq!(node.pod_cidr6(), "fd00:10:244:2::/64");
        assert_eq!(outside("tl0000").ipv6.to_string(), "fd00:192:168:77::100");
    }
}
