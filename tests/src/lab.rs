//! The lab: a Kubernetes cluster of two nodes, made of network namespaces.
//!
//! Nodes, switch and pods are namespaces; the pods are attached by the real CNI plugins, the
//! Services are the rules that kube-proxy writes, the servers and clients are real programs on real
//! sockets. What no process is needed for (kubelet, kube-proxy, flanneld, a container runtime) is
//! not run: what they leave in the kernel is written there directly.
//!
//! The machine's own network is never touched: every device is made inside the lab's namespaces,
//! names carry the lab's id, so several labs stand side by side. [`Lab::up`] belongs to the process
//! that calls it and goes with the value; see [`state`] for what happens when the process is
//! killed. All of it needs root.

mod capture;
mod changes;
mod cni;
mod command;
mod config;
pub mod counters;
mod fingerprint;
mod forward_drop;
mod inside;
mod kubelet;
mod masquerade;
mod namespace;
mod network;
pub mod proxy;
pub mod requirement;
mod rules;
mod servers;
mod service;
pub mod state;
mod topology;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Child;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub use capture::{Capture, tcp_closed};
pub use config::{Config, Fabric, Plugin, Proxy};
pub use forward_drop::ForwardDrop;
pub use kubelet::Identity;
pub use rules::view as proxy_view;
pub use servers::{SERVER_VARIABLE, Server};
pub use service::{Endpoint, Protocol, Service};
pub use topology::{
    CLUSTER_CIDR, CLUSTER_CIDR6, DNS_PORT, HTTP_PORT, NODE_MTU, Node, Outside, Pod, SERVICE_CIDR,
    SERVICE_CIDR6,
};

use state::Owner;

/// A lab that stands. Dropping it takes it down, unless it was [detached](Self::up_detached).
#[derive(Debug, Serialize, Deserialize)]
pub struct Lab {
    id: String,
    config: Config,
    owner: Option<Owner>,
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    outside: Outside,
    services: Vec<Service>,
    /// The servers, to be waited for; empty in a lab that was read from disk.
    #[serde(skip)]
    children: Vec<Child>,
    /// Whether dropping takes it down.
    #[serde(skip)]
    armed: bool,
}

impl Lab {
    /// Raises a lab that belongs to this process. Takes down abandoned labs first.
    ///
    /// # Errors
    /// Without root, without the needed programs, or when a step fails: then what was raised is
    /// taken down again, and the error names the command that failed and what it said.
    pub fn up(config: &Config) -> anyhow::Result<Self> {
        Self::raise(*config, Owner::current()?)
    }

    /// Raises a lab that outlives this process, until [`state::down`].
    ///
    /// # Errors
    /// As [`Self::up`].
    pub fn up_detached(config: &Config) -> anyhow::Result<Self> {
        // Until it stands, it belongs to this process: should that be killed, it is cleaned up.
        let mut lab = Self::up(config)?;
        lab.owner = None;
        state::save(&lab)?;
        lab.armed = false;
        Ok(lab)
    }

    /// A lab that stands, by its id. Dropping the value leaves the lab up.
    ///
    /// # Errors
    /// When there is none of that id, or it is not fully up.
    pub fn open(id: &str) -> anyhow::Result<Self> {
        state::load(id)
    }

    fn raise(config: Config, owner: Owner) -> anyhow::Result<Self> {
        requirement::check()?;
        let server = servers::executable()?;
        let id = state::claim(owner, config)?;
        let mut lab = Self {
            nodes: topology::nodes(&id).to_vec(),
            outside: topology::outside(&id),
            id,
            config,
            owner: Some(owner),
            pods: Vec::new(),
            services: Vec::new(),
            children: Vec::new(),
            armed: true,
        };
        // On failure `lab` is dropped, which takes down what there is of it.
        lab.build(&server)
            .with_context(|| format!("cannot raise a lab ({config})"))?;
        Ok(lab)
    }

    fn build(&mut self, server: &std::path::Path) -> anyhow::Result<()> {
        let switch = topology::switch(&self.id);
        network::add_switch(&switch)?;
        network::add_outside(&self.outside, &switch)?;
        for node in &self.nodes {
            network::add_node(node, &switch, &self.outside, self.config.proxy)?;
        }
        for (node, other) in self.nodes.iter().zip(self.nodes.iter().rev()) {
            network::join(node, other, self.config.fabric)?;
        }
        self.attach_pods()?;
        self.services = service::all(&self.pods);
        for node in &self.nodes {
            rules::load(node, self.config.proxy, &self.services, &self.directory())?;
        }
        self.start_servers(server)?;
        state::save(self)
    }

    fn attach_pods(&mut self) -> anyhow::Result<()> {
        for plan in &topology::PODS {
            let node = self.nodes[usize::from(plan.node) - 1].clone();
            let pod = self.attach_pod(plan.name, &node, plan.serves, &[])?;
            self.pods.push(pod);
        }
        Ok(())
    }

    fn attach_pod(
        &self,
        name: &str,
        node: &Node,
        serves: bool,
        addresses: &[IpAddr],
    ) -> anyhow::Result<Pod> {
        let netns = topology::pod_netns(&self.id, name);
        network::add_pod(&netns)?;
        let identity = Identity::new(&netns, name);
        let attachment = self.with_attachment((&identity, &netns, node), addresses, cni::attach)?;
        Ok(Pod {
            name: name.to_owned(),
            netns,
            node: node.name.clone(),
            ipv4: attachment.ipv4,
            ipv6: attachment.ipv6,
            veth: attachment.veth,
            serves,
            identity,
        })
    }

    fn with_attachment<T>(
        &self,
        (pod, netns, node): (&Identity, &str, &Node),
        addresses: &[IpAddr],
        work: impl FnOnce(&cni::Request<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        work(&cni::Request {
            plugin: self.config.plugin,
            node,
            pod,
            netns,
            addresses,
            mtu: network::pod_mtu(self.config.fabric),
            directory: &self.directory(),
            root: &self.root(),
        })
    }

    fn start_servers(&mut self, executable: &std::path::Path) -> anyhow::Result<()> {
        let directory = self.directory();
        let pods = self.pods.iter().filter(|pod| pod.serves);
        let places = pods
            .map(|pod| (pod.netns.as_str(), pod.name.as_str()))
            .chain([(self.outside.netns.as_str(), "outside")]);
        for (netns, name) in places {
            let child = servers::start(executable, netns, name, &directory)?;
            self.children.push(child);
        }
        Ok(())
    }

    /// The id, `tl3f2a`: with a dash, the beginning of all its namespaces' names.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its variant.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The pods.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The machine outside.
    #[must_use]
    pub fn outside(&self) -> &Outside {
        &self.outside
    }

    /// The Services.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The directory with its logs.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        state::directory(&self.id)
    }

    /// The directory that is the nodes' root to who wants to know their pods (`TRACER_HOST_ROOT`).
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory().join("root")
    }

    /// The full name of the namespace called `name` for short: a pod, a node, `switch` or
    /// `outside`.
    #[must_use]
    pub fn find_netns(&self, name: &str) -> Option<String> {
        let pods = self.pods.iter().map(|pod| (&pod.name, &pod.netns));
        let nodes = self.nodes.iter().map(|node| (&node.name, &node.netns));
        match name {
            "switch" => Some(topology::switch(&self.id)),
            "outside" => Some(self.outside.netns.clone()),
            _ => pods
                .chain(nodes)
                .find(|(known, _)| *known == name)
                .map(|(_, netns)| netns.clone()),
        }
    }

    /// As [`Self::find_netns`], for names that the lab is known to have.
    ///
    /// # Panics
    /// When there is no such namespace.
    #[must_use]
    pub fn netns(&self, name: &str) -> String {
        self.find_netns(name)
            .unwrap_or_else(|| panic!("the lab has no namespace {name:?}"))
    }

    /// The pod of that name: `a1`, `b1`, `a2`, `b2`.
    ///
    /// # Panics
    /// When there is no such pod.
    #[must_use]
    pub fn pod(&self, name: &str) -> &Pod {
        let pod = self.pods.iter().find(|pod| pod.name == name);
        pod.unwrap_or_else(|| panic!("the lab has no pod {name:?}"))
    }

    /// The node of that name: `node1`, `node2`.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.unwrap_or_else(|| panic!("the lab has no node {name:?}"))
    }

    /// The Service of that name: `web`, `web-node1`, `web-node2`, `hairpin`, `web-nodeport`,
    /// `local-only`, `sticky`, `ghost`, `kube-dns`.
    ///
    /// # Panics
    /// When there is no such Service.
    #[must_use]
    pub fn service(&self, name: &str) -> &Service {
        let service = self.services.iter().find(|service| service.name == name);
        service.unwrap_or_else(|| panic!("the lab has no Service {name:?}"))
    }

    /// Takes the lab down and says what went wrong; dropping does the same silently.
    ///
    /// # Errors
    /// When something could not be removed; the rest is.
    pub fn down(mut self) -> anyhow::Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> anyhow::Result<()> {
        self.armed = false;
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        state::down(&self.id)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = self.take_down()
        {
            eprintln!("lab {}: {error:#}", self.id);
        }
    }
}
