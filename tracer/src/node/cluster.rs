//! What the Kubernetes API says besides what the node itself knows: Services and the pods of all nodes.
//!
//! Only where it is asked for (`--kubernetes-api`), and only for names: Services where the node's rules have none
//! (IPVS), pods of other nodes. What the node knows of itself goes before it. It is the present state: who had an
//! address before is not kept.
//!
//! The value is always understood, so that a recording keeps it; asking (`api`) needs the feature
//! `kubernetes-api`.

#[cfg(any(test, feature = "kubernetes-api"))]
pub mod api;
#[cfg(not(any(test, feature = "kubernetes-api")))]
#[path = "cluster/absent.rs"]
pub mod api;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::PathBuf,
};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    pods::PodName,
    services::{Service, Services},
};

/// Where the API server is known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// What is there: `KUBECONFIG`, `~/.kube/config`, or a pod's service account.
    Found,
    /// That file.
    Kubeconfig(PathBuf),
}

/// What the API says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Contents")]
pub struct Cluster {
    contents: Contents,
    by_address: HashMap<IpAddr, usize>,
    by_name: BTreeMap<PodName, usize>,
}

/// What is saved of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Services, port by port.
    #[serde(default)]
    pub services: Services,
    /// Pods.
    #[serde(default)]
    pub pods: Vec<ClusterPod>,
    /// What of it is missing or may be old, and why, for people: text of others.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether of each kind of objects all are known, or why not.
    #[serde(default)]
    pub settled: bool,
}

/// A pod of any node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPod {
    /// Its namespace and name.
    pub name: PodName,
    /// Its addresses; of one with its node's network, the node's.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Whether it has its node's network: then its addresses do not mean it.
    #[serde(default)]
    pub host_network: bool,
    /// Its node.
    #[serde(default)]
    pub node: Option<String>,
}

impl From<Contents> for Cluster {
    fn from(contents: Contents) -> Self {
        let pods = || contents.pods.iter().enumerate();
        let own = pods().filter(|(_, pod)| !pod.host_network);
        let by_address = own
            .flat_map(|(index, pod)| pod.addresses.iter().map(move |address| (*address, index)))
            .collect();
        let by_name = pods().map(|(index, pod)| (pod.name.clone(), index));
        Self {
            by_address,
            by_name: by_name.collect(),
            contents,
        }
    }
}

impl Serialize for Cluster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.contents.serialize(serializer)
    }
}

impl Cluster {
    /// The Services, port by port.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.contents.services
    }

    /// The ports of Services that have names, for look-ups like those in a namespace's rules.
    pub fn all_services(&self) -> impl Iterator<Item = &Service> {
        self.contents.services.all().iter()
    }

    /// The pods.
    #[must_use]
    pub fn pods(&self) -> &[ClusterPod] {
        &self.contents.pods
    }

    /// The pod that has an address of its own.
    #[must_use]
    pub fn pod_at(&self, address: IpAddr) -> Option<&ClusterPod> {
        self.contents.pods.get(*self.by_address.get(&address)?)
    }

    /// The pod of that name.
    #[must_use]
    pub fn pod(&self, name: &PodName) -> Option<&ClusterPod> {
        self.contents.pods.get(*self.by_name.get(name)?)
    }

    /// What of it is missing or may be old, and why: text of others.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.contents.notes
    }

    /// Whether nothing more is to be expected soon.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.contents.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, address: &str, host_network: bool) -> ClusterPod {
        ClusterPod {
            name: PodName::parse(name).unwrap(),
            addresses: vec![address.parse().unwrap()],
            host_network,
            node: None,
        }
    }

    #[test]
    fn an_address_means_the_pod_that_has_it_for_itself() {
        let cluster = Cluster::from(Contents {
            pods: vec![
                pod("app/b2", "10.244.2.3", false),
                pod("kube-system/proxy", "192.168.77.12", true),
            ],
            ..Contents::default()
        });
        let text = serde_json::to_string(&cluster).unwrap();
        let read: Cluster = serde_json::from_str(&text).unwrap();
        assert_eq!(read, cluster);
        let at = |address: &str| read.pod_at(address.parse().unwrap());
        assert_eq!(at("10.244.2.3").unwrap().name.to_string(), "app/b2");
        assert!(at("192.168.77.12").is_none());
        let proxy = PodName::parse("kube-system/proxy").unwrap();
        assert!(read.pod(&proxy).unwrap().host_network);
    }
}
