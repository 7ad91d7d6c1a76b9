//! Loading a node's rules: the Services and the masquerading, in the lab's form.

use std::path::Path;

use anyhow::Context as _;

use super::proxy::{self, Family};
use super::service::Service;
use super::topology::{CLUSTER_CIDR, CLUSTER_CIDR6, Node, SERVICE_CIDR, SERVICE_CIDR6};
use super::{Proxy, command, masquerade};

/// What kube-proxy on `node` knows of one family.
#[must_use]
pub fn view(node: &Node, family: Family, services: &[Service]) -> proxy::Node {
    let (cluster_cidr, service_cidr, node_ip) = match family {
        Family::Ipv4 => (CLUSTER_CIDR, SERVICE_CIDR, node.ipv4.into()),
        Family::Ipv6 => (CLUSTER_CIDR6, SERVICE_CIDR6, node.ipv6.into()),
    };
    proxy::Node {
        family,
        cluster_cidr: cluster_cidr.to_owned(),
        service_cidr: Some(service_cidr.to_owned()),
        node_port_ips: vec![node_ip],
        accounting: false,
        services: services
            .iter()
            .map(|service| service.port_of(node, family))
            .collect(),
    }
}

/// Loads both families' rules into the node.
pub(super) fn load(
    node: &Node,
    form: Proxy,
    services: &[Service],
    directory: &Path,
) -> anyhow::Result<()> {
    for family in Family::ALL {
        let view = view(node, family, services);
        let text = if form == Proxy::Nftables {
            proxy::nftables::rules(&view) + &masquerade::nftables(node, family)
        } else {
            proxy::iptables::rules(&view) + &masquerade::iptables(node, family)
        };
        restore(node, form, family, directory, &text)
            .with_context(|| format!("the Services' rules on {} in the form {form}", node.name))?;
    }
    Ok(())
}

/// Replaces both families' rules for Services in the node, as kube-proxy does when they changed.
pub(super) fn replace(
    node: &Node,
    form: Proxy,
    services: &[Service],
    directory: &Path,
) -> anyhow::Result<()> {
    for family in Family::ALL {
        let view = view(node, family, services);
        let text = if form == Proxy::Nftables {
            let ip = match family {
                Family::Ipv4 => "ip",
                Family::Ipv6 => "ip6",
            };
            let rules = proxy::nftables::rules(&view);
            format!("delete table {ip} kube-proxy\n{rules}")
        } else {
            // Chains that are named are emptied, but for the kernel's own, which have their rules.
            let own = |line: &&str| {
                let chain = line.strip_prefix("-A ").unwrap_or_default();
                !chain.starts_with(|first: char| first.is_ascii_uppercase())
                    || chain.starts_with("KUBE-")
            };
            let rules = proxy::iptables::rules(&view);
            let lines: Vec<&str> = rules.lines().filter(own).collect();
            lines.join("\n") + "\n"
        };
        restore(node, form, family, directory, &text)
            .with_context(|| format!("other rules on {} in the form {form}", node.name))?;
    }
    Ok(())
}

/// Has the tool of the form take the rules in, beside what there is.
fn restore(
    node: &Node,
    form: Proxy,
    family: Family,
    directory: &Path,
    text: &str,
) -> anyhow::Result<()> {
    let mut command = if form == Proxy::Nftables {
        let mut command = command::in_netns(&node.netns, "nft");
        command.args(["-f", "-"]);
        command
    } else {
        let mut command = iptables(node, form, family, "-restore", directory);
        command.arg("--noflush");
        command
    };
    command::run(&mut command, text).map(drop)
}

/// A command of the iptables family in the node: `iptables-nft`, `ip6tables-legacy-save`.
///
/// The legacy tools lock a file that all namespaces share; the lab gives them one of its own.
pub(super) fn iptables(
    node: &Node,
    form: Proxy,
    family: Family,
    suffix: &str,
    directory: &Path,
) -> std::process::Command {
    let name = match family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    };
    let backend = match form {
        Proxy::IptablesLegacy => "legacy",
        Proxy::IptablesNft | Proxy::Nftables => "nft",
    };
    let mut command = command::in_netns(&node.netns, format!("{name}-{backend}{suffix}"));
    command.env("XTABLES_LOCKFILE", directory.join("xtables.lock"));
    command
}
