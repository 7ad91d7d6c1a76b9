//! The underlay and the fabric: the switch, the nodes' uplinks and what joins the nodes.
//!
//! Devices are made inside their namespaces, both ends at once, so that not even for a moment does
//! one stand in the machine's own namespace.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::topology::{NODE_MTU, Node, Outside};
use super::{Fabric, Proxy, command, namespace};

/// What a node has that runs kube-proxy on Debian: forwarding, bridged packets through iptables,
/// loose reverse path filter. Duplicate address detection is off, so that IPv6 is usable at once.
const NODE_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "2"),
    ("net/ipv4/conf/default/rp_filter", "2"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// What every other namespace gets.
const HOST_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/conf/all/rp_filter", "2"),
    ("net/ipv4/conf/default/rp_filter", "2"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// A switch does not look into what it switches.
const SWITCH_SYSCTLS: &[(&str, &str)] = &[
    ("net/bridge/bridge-nf-call-iptables", "0"),
    ("net/bridge/bridge-nf-call-ip6tables", "0"),
    ("net/bridge/bridge-nf-call-arptables", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Makes the namespace of a pod, ready to be attached.
pub(super) fn add_pod(netns: &str) -> anyhow::Result<()> {
    namespace::add(netns)?;
    namespace::set_sysctls(netns, HOST_SYSCTLS)
}

/// Makes the switch, with nothing plugged in.
pub(super) fn add_switch(netns: &str) -> anyhow::Result<()> {
    namespace::add(netns)?;
    namespace::set_sysctls(netns, SWITCH_SYSCTLS).context("is the module br_netfilter loaded?")?;
    command::ip_batch(netns, "link add sw0 type bridge\nlink set sw0 up")
}

/// Makes a node and plugs it in.
pub(super) fn add_node(
    node: &Node,
    switch: &str,
    outside: &Outside,
    proxy: Proxy,
) -> anyhow::Result<()> {
    namespace::add(&node.netns)?;
    namespace::set_sysctls(&node.netns, NODE_SYSCTLS)
        .context("is the module br_netfilter loaded?")?;
    if proxy != Proxy::Nftables {
        // kube-proxy's iptables mode serves NodePorts on 127.0.0.1.
        let localnet = [("net/ipv4/conf/all/route_localnet", "1")];
        namespace::set_sysctls(&node.netns, &localnet)?;
    }
    plug_in(&node.netns, &node.name, switch)?;
    // A default route: without one a connection from the node to a ClusterIP ends in the route
    // lookup, before OUTPUT translates it.
    let lines = format!(
        "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n\
         route add default via {}\nroute add default via {}\n",
        node.ipv4, node.ipv6, outside.ipv4, outside.ipv6
    );
    command::ip_batch(&node.netns, &lines)
}

/// Makes the machine outside the cluster and plugs it in.
pub(super) fn add_outside(outside: &Outside, switch: &str) -> anyhow::Result<()> {
    namespace::add(&outside.netns)?;
    namespace::set_sysctls(&outside.netns, HOST_SYSCTLS)?;
    plug_in(&outside.netns, "outside", switch)?;
    let lines = format!(
        "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n",
        outside.ipv4, outside.ipv6
    );
    command::ip_batch(&outside.netns, &lines)
}

/// Joins `eth0` of a namespace to the switch's port `port`.
fn plug_in(netns: &str, port: &str, switch: &str) -> anyhow::Result<()> {
    let lines = format!(
        "link add {port} type veth peer name eth0 netns {netns}\n\
         link set {port} master sw0 up\n"
    );
    command::ip_batch(switch, &lines)?;
    command::ip_batch(netns, &format!("link set eth0 mtu {NODE_MTU} up"))
}

/// The MTU of the pods' `eth0`: VXLAN over IPv4 takes 50 bytes.
pub(super) fn pod_mtu(fabric: Fabric) -> u16 {
    match fabric {
        Fabric::Vxlan => NODE_MTU - 50,
        Fabric::Routed => NODE_MTU,
    }
}

/// Makes the pods of `other` reachable from `node`.
pub(super) fn join(node: &Node, other: &Node, fabric: Fabric) -> anyhow::Result<()> {
    let lines = match fabric {
        Fabric::Vxlan => vxlan(node, other),
        Fabric::Routed => format!(
            "route add {} via {}\nroute add {} via {}\n",
            other.pod_cidr(),
            other.ipv4,
            other.pod_cidr6(),
            other.ipv6
        ),
    };
    command::ip_batch(&node.netns, &lines)?;
    if fabric == Fabric::Vxlan {
        let lines = forwarding_entries(other);
        let mut bridge = command::of_lab(&node.netns, "bridge");
        command::run(bridge.args(["-netns", &node.netns, "-batch", "-"]), &lines)?;
    }
    Ok(())
}

/// flannel's devices: VNI 1 on port 8472, no learning, the other node's address, route and
/// neighbour entry written by hand, as flanneld writes them.
fn vxlan(node: &Node, other: &Node) -> String {
    let mut lines = String::new();
    let outer6 = NODE_MTU - 70;
    let _ = writeln!(
        lines,
        "link add flannel.1 address {mac} mtu {outer4} type vxlan id 1 local {} dev eth0 dstport 8472 nolearning\n\
         link add flannel-v6.1 address {mac6} mtu {outer6} type vxlan id 1 local {} dev eth0 dstport 8472 nolearning\n\
         addr add {}/32 dev flannel.1\naddr add {}/128 dev flannel-v6.1 nodad\n\
         link set flannel.1 up\nlink set flannel-v6.1 up",
        node.ipv4,
        node.ipv6,
        node.subnet(),
        node.subnet6(),
        mac = mac(node, 4),
        mac6 = mac(node, 6),
        outer4 = pod_mtu(Fabric::Vxlan),
    );
    let _ = writeln!(
        lines,
        "neigh add {} lladdr {mac} dev flannel.1 nud permanent\n\
         neigh add {} lladdr {mac6} dev flannel-v6.1 nud permanent\n\
         route add {} via {} dev flannel.1 onlink\n\
         route add {} via {} dev flannel-v6.1 onlink",
        other.subnet(),
        other.subnet6(),
        other.pod_cidr(),
        other.subnet(),
        other.pod_cidr6(),
        other.subnet6(),
        mac = mac(other, 4),
        mac6 = mac(other, 6),
    );
    lines
}

fn forwarding_entries(other: &Node) -> String {
    format!(
        "fdb add {} dev flannel.1 dst {}\nfdb add {} dev flannel-v6.1 dst {}\n",
        mac(other, 4),
        other.ipv4,
        mac(other, 6),
        other.ipv6
    )
}

/// A VXLAN device's MAC address, so that the other node can know it before it exists.
fn mac(node: &Node, family: u8) -> String {
    format!("02:42:0a:f4:0{}:0{family}", node.number)
}
