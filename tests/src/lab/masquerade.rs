//! Masquerading of pod traffic that leaves the cluster, with the rules of flanneld.
//!
//! Not with the CNI plugins' `ipMasq`: those write through whichever `iptables` the machine
//! prefers, whatever form the lab's Services have, and flannel does not use it either. flanneld
//! also writes FORWARD rules that accept all pod traffic; they are left out, so that a FORWARD
//! policy of DROP does what it does on nodes without them.

use super::proxy::Family;
use super::topology::{CLUSTER_CIDR, CLUSTER_CIDR6, Node};

/// The two prefixes and the multicast range of a family.
fn prefixes(node: &Node, family: Family) -> (&'static str, String, &'static str) {
    match family {
        Family::Ipv4 => (CLUSTER_CIDR, node.pod_cidr(), "224.0.0.0/4"),
        Family::Ipv6 => (CLUSTER_CIDR6, node.pod_cidr6(), "ff00::/8"),
    }
}

/// For `iptables-restore --noflush`.
pub(super) fn iptables(node: &Node, family: Family) -> String {
    let (cluster, pods, multicast) = prefixes(node, family);
    let comment = "-m comment --comment \"flanneld masq\"";
    format!(
        "*nat\n:FLANNEL-POSTRTG - [0:0]\n\
         -A POSTROUTING {comment} -j FLANNEL-POSTRTG\n\
         -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {comment} -j RETURN\n\
         -A FLANNEL-POSTRTG -s {pods} -d {cluster} {comment} -j RETURN\n\
         -A FLANNEL-POSTRTG -s {cluster} -d {pods} {comment} -j RETURN\n\
         -A FLANNEL-POSTRTG ! -s {cluster} -d {pods} {comment} -j RETURN\n\
         -A FLANNEL-POSTRTG -s {cluster} ! -d {multicast} {comment} -j MASQUERADE --random-fully\n\
         -A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} {comment} -j MASQUERADE --random-fully\n\
         COMMIT\n"
    )
}

/// For `nft -f`.
pub(super) fn nftables(node: &Node, family: Family) -> String {
    let (cluster, pods, multicast) = prefixes(node, family);
    let (ip, table) = match family {
        Family::Ipv4 => ("ip", "flannel-ipv4"),
        Family::Ipv6 => ("ip6", "flannel-ipv6"),
    };
    format!(
        "table {ip} {table} {{\n\tcomment \"rules for {table}\"\n\n\tchain postrtg {{\n\
         \t\tcomment \"chain to manage traffic masquerading by flannel\"\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         \t\tmeta mark 0x00004000 return\n\
         \t\t{ip} saddr {pods} {ip} daddr {cluster} return\n\
         \t\t{ip} saddr {cluster} {ip} daddr {pods} return\n\
         \t\t{ip} saddr != {pods} {ip} daddr {cluster} return\n\
         \t\t{ip} saddr {cluster} {ip} daddr != {multicast} masquerade fully-random\n\
         \t\t{ip} saddr != {cluster} {ip} daddr {cluster} masquerade fully-random\n\
         \t}}\n}}\n"
    )
}
