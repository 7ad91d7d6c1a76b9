//! What changes in a lab that stands: pods that go and come, Services that get other endpoints or addresses.

use std::net::IpAddr;

use anyhow::Context as _;

use super::{
    HTTP_PORT, Lab, Pod, Service, cni, command, namespace, rules, servers, service, state,
};

impl Lab {
    /// Deletes a pod, as a runtime does: its server, its attachment, its network namespace.
    ///
    /// # Errors
    /// When there is no such pod, or a step fails.
    pub fn delete_pod(&mut self, name: &str) -> anyhow::Result<Pod> {
        let at = self.pods.iter().position(|pod| pod.name == name);
        let pod = self
            .pods
            .remove(at.with_context(|| format!("no pod {name}"))?);
        let node = self.node(&pod.node).clone();
        namespace::kill_all(&self.id, &pod.netns)?;
        self.with_attachment((&pod.identity, &pod.netns, &node), &[], cni::detach)?;
        namespace::remove(&pod.netns)?;
        state::save(self)?;
        Ok(pod)
    }

    /// Makes a pod of that name where another was, with its addresses.
    ///
    /// # Errors
    /// When a step fails: the addresses may be in use.
    pub fn replace_pod(&mut self, name: &str, before: &Pod) -> anyhow::Result<()> {
        let node = self.node(&before.node).clone();
        let addresses: [IpAddr; 2] = [before.ipv4.into(), before.ipv6.into()];
        let pod = self.attach_pod(name, &node, before.serves, &addresses)?;
        // Who knows the addresses would else try the link address of the one before for a while.
        let neighbours = self.pods.iter().map(|pod| &pod.netns);
        for netns in neighbours.chain([&node.netns]) {
            let lines = addresses.map(|address| format!("neigh flush to {address}\n"));
            command::ip_batch(netns, &lines.concat())?;
        }
        let (netns, serves) = (pod.netns.clone(), pod.serves);
        self.pods.push(pod);
        if serves {
            let server = servers::executable()?;
            let child = servers::start(&server, &netns, name, &self.directory())?;
            self.children.push(child);
        }
        state::save(self)
    }

    /// Gives a Service other endpoints, on all nodes.
    ///
    /// # Errors
    /// When the rules cannot be loaded.
    ///
    /// # Panics
    /// When there is no such Service.
    pub fn switch(&mut self, name: &str, pods: &[&str]) -> anyhow::Result<()> {
        self.switch_to(name, pods, HTTP_PORT)
    }

    /// Gives a Service other endpoints behind another port, on all nodes.
    ///
    /// # Errors
    /// When the rules cannot be loaded.
    ///
    /// # Panics
    /// When there is no such Service.
    pub fn switch_to(&mut self, name: &str, pods: &[&str], port: u16) -> anyhow::Result<()> {
        let endpoints = service::endpoints_of(&self.pods, pods, port);
        self.change(name, |service| service.endpoints = endpoints)
    }

    /// Gives a Service other addresses in the cluster, which end with that number.
    ///
    /// # Errors
    /// When the rules cannot be loaded.
    ///
    /// # Panics
    /// When there is no such Service.
    pub fn move_service(&mut self, name: &str, last: u8) -> anyhow::Result<()> {
        self.change(name, |service| {
            service.cluster_ip = service::cluster_ip(last);
            service.cluster_ip6 = service::cluster_ip6(last);
        })
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Service)) -> anyhow::Result<()> {
        let service = self
            .services
            .iter_mut()
            .find(|service| service.name == name);
        change(service.unwrap_or_else(|| panic!("the lab has no Service {name:?}")));
        for node in &self.nodes {
            rules::replace(node, self.config.proxy, &self.services, &self.directory())?;
        }
        state::save(self)
    }
}
