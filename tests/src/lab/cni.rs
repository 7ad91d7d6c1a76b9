//! Attaching pods with the real CNI plugins, called as a container runtime calls them.
//!
//! Which plugin and with which settings follows flannel (bridge: `isDefaultGateway`, hairpin mode
//! on, no `ipMasq`, for masquerading is flanneld's: see [`super::masquerade`]) and Calico's shape
//! (ptp). The IPAM plugin keeps its files in the lab's own directory, so that they go with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::kubelet::{self, Identity};
use super::topology::Node;
use super::{Plugin, command};

/// Where Debian's containernetworking-plugins puts them.
pub(super) const PLUGIN_DIR: &str = "/usr/lib/cni";

/// What the plugins say of an attached pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) ipv4: Ipv4Addr,
    pub(super) ipv6: Ipv6Addr,
    /// The host's end of the pair.
    pub(super) veth: String,
}

/// A pod to attach.
pub(super) struct Request<'a> {
    pub(super) plugin: Plugin,
    pub(super) node: &'a Node,
    pub(super) pod: &'a Identity,
    pub(super) netns: &'a str,
    /// The addresses that it must get; any when there are none.
    pub(super) addresses: &'a [IpAddr],
    pub(super) mtu: u16,
    /// The lab's directory.
    pub(super) directory: &'a Path,
    /// The lab's root for what a node keeps.
    pub(super) root: &'a Path,
}

/// Attaches the pod: `eth0` with both addresses and a default route, and the host's end. What
/// kubelet and libcni would leave of it is in the lab's root.
pub(super) fn attach(request: &Request<'_>) -> anyhow::Result<Attachment> {
    let pod = &request.pod.name;
    let configuration = configuration(request);
    let answer =
        call(request, "ADD", &configuration).with_context(|| format!("cannot attach pod {pod}"))?;
    let attachment = parse(&answer).with_context(|| format!("the answer for pod {pod}"))?;
    let attached = kubelet::Attached {
        identity: request.pod,
        network: network(request.plugin),
        configuration: &configuration,
        answer: &serde_json::from_str(&answer)?,
    };
    kubelet::started(request.root, &attached)?;
    Ok(attachment)
}

/// Detaches the pod; its addresses are free again.
pub(super) fn detach(request: &Request<'_>) -> anyhow::Result<()> {
    let pod = &request.pod.name;
    call(request, "DEL", &configuration(request))
        .with_context(|| format!("cannot detach pod {pod}"))?;
    kubelet::stopped(request.root, request.pod, network(request.plugin))
}

fn call(request: &Request<'_>, what: &str, configuration: &Value) -> anyhow::Result<String> {
    let plugin = format!("{PLUGIN_DIR}/{}", request.plugin);
    let mut command = command::in_netns(&request.node.netns, &plugin);
    let arguments = request.pod.arguments();
    let arguments: Vec<String> = arguments
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    command
        .env("CNI_COMMAND", what)
        .env("CNI_CONTAINERID", &request.pod.sandbox)
        .env("CNI_NETNS", format!("/run/netns/{}", request.netns))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", PLUGIN_DIR)
        .env("CNI_ARGS", arguments.join(";"));
    command::run(&mut command, &configuration.to_string())
}

fn network(plugin: Plugin) -> &'static str {
    match plugin {
        Plugin::Bridge => "cbr0",
        Plugin::Ptp => "ptp0",
    }
}

fn configuration(request: &Request<'_>) -> Value {
    let node = request.node;
    let ipam = json!({
        "type": "host-local",
        "dataDir": request.directory.join("cni").join(&node.name),
        "ranges": [[{"subnet": node.pod_cidr()}], [{"subnet": node.pod_cidr6()}]],
        "routes": routes(request.plugin),
    });
    match request.plugin {
        Plugin::Bridge => json!({
            "cniVersion": "1.0.0", "name": network(request.plugin), "type": "bridge",
            "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false,
            "mtu": request.mtu, "ipam": ipam, "args": {"cni": {"ips": request.addresses}},
        }),
        Plugin::Ptp => json!({
            "cniVersion": "1.0.0", "name": network(request.plugin), "type": "ptp",
            "ipMasq": false, "mtu": request.mtu, "ipam": ipam,
            "args": {"cni": {"ips": request.addresses}},
        }),
    }
}

/// The bridge plugin adds default routes itself and refuses them from the IPAM as well.
fn routes(plugin: Plugin) -> Value {
    match plugin {
        Plugin::Bridge => json!([]),
        Plugin::Ptp => json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]),
    }
}

#[derive(Deserialize)]
struct Answer {
    interfaces: Vec<Interface>,
    ips: Vec<Address>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Address {
    address: String,
}

fn parse(answer: &str) -> anyhow::Result<Attachment> {
    let answer: Answer = serde_json::from_str(answer)?;
    let veth = answer
        .interfaces
        .iter()
        .find(|interface| interface.sandbox.is_empty() && interface.name.starts_with("veth"))
        .context("no veth on the host's side")?;
    let (mut ipv4, mut ipv6) = (None, None);
    for Address { address } in &answer.ips {
        let host = address
            .split_once('/')
            .map_or(address.as_str(), |(host, _)| host);
        match host.parse()? {
            IpAddr::V4(address) => ipv4 = Some(address),
            IpAddr::V6(address) => ipv6 = Some(address),
        }
    }
    let (Some(ipv4), Some(ipv6)) = (ipv4, ipv6) else {
        bail!("not one address of each family");
    };
    Ok(Attachment {
        ipv4,
        ipv6,
        veth: veth.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_answer_is_understood() {
        let answer = r#"{"cniVersion":"1.0.0",
            "interfaces":[{"name":"cni0","mac":"x"},{"name":"veth0a","mac":"y"},
                          {"name":"eth0","mac":"z","sandbox":"/run/netns/p"}],
            "ips":[{"interface":2,"address":"10.244.1.2/24","gateway":"10.244.1.1"},
                   {"interface":2,"address":"fd00:10:244:1::2/64","gateway":"fd00:10:244:1::1"}],
            "dns":{}}"#;
        let attachment = parse(answer).unwrap();
        assert_eq!(attachment.ipv4.to_string(), "10.244.1.2");
        assert_eq!(attachment.ipv6.to_string(), "fd00:10:244:1::2");
        assert_eq!(attachment.veth, "veth0a");
    }

    #[test]
    fn an_answer_without_addresses_is_an_error() {
        let answer = r#"{"interfaces":[{"name":"veth0a"}],"ips":[]}"#;
        assert!(parse(answer).is_err());
    }
}
