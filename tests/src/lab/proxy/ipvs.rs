//! kube-proxy's IPVS mode: virtual servers, their addresses on a dummy device, sets of addresses, and
//! the few iptables rules that masquerade.
//!
//! From the sources of kube-proxy 1.34 (`pkg/proxy/ipvs`), not from a dump. Left out besides what
//! the other modes leave out: sets that would be empty and that no rule names.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{Family, Node, ServicePort};
use crate::lab::Protocol;

/// The device that has every ClusterIP, so that IPVS gets what is sent to them.
const DEVICE: &str = "kube-ipvs0";

/// A set: its name, its type, and what the rules that ask it say of it.
type Set = (&'static str, &'static str, &'static str);
const LOOP_BACK: Set = (
    "LOOP-BACK",
    "hash:ip,port,ip",
    "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
);
const CLUSTER_IP: Set = (
    "CLUSTER-IP",
    "hash:ip,port",
    "Kubernetes service cluster ip + port for masquerade purpose",
);
const NODE_PORT_TCP: Set = (
    "NODE-PORT-TCP",
    "bitmap:port",
    "Kubernetes nodeport TCP port for masquerade purpose",
);
const NODE_PORT_UDP: Set = (
    "NODE-PORT-UDP",
    "bitmap:port",
    "Kubernetes nodeport UDP port for masquerade purpose",
);
const HEALTH: Set = (
    "HEALTH-CHECK-NODE-PORT",
    "bitmap:port",
    "Kubernetes health check node port",
);
const IPS: Set = ("IPVS-IPS", "hash:ip", "");
/// What external addresses would be in.
const EXTERNAL: [Set; 3] = [
    ("LOAD-BALANCER", "hash:ip,port", ""),
    ("EXTERNAL-IP", "hash:ip,port", ""),
    ("EXTERNAL-IP-LOCAL", "hash:ip,port", ""),
];

const NAT_CHAINS: [&str; 5] = [
    "KUBE-SERVICES",
    "KUBE-POSTROUTING",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-MARK-MASQ",
];
const FILTER_CHAINS: [&str; 6] = [
    "KUBE-FORWARD",
    "KUBE-NODE-PORT",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];
const NAT_JUMPS: &str = r#"-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
"#;
const FILTER_JUMPS: &str = r#"-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER
"#;
const MASQUERADE: &str = r#"-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
"#;

/// The virtual servers of one node and family, for `ipvsadm -R`: each ClusterIP's, and each
/// NodePort's at all of the node's addresses that take them.
#[must_use]
pub fn virtual_servers(node: &Node) -> String {
    let mut text = String::new();
    for service in &node.services {
        let node_port = |port| {
            let addresses = node.node_port_ips.iter();
            addresses.map(move |ip| (SocketAddr::new(*ip, port), service.external_endpoints()))
        };
        let cluster = SocketAddr::new(service.cluster_ip, service.port);
        let all = service.endpoints.iter().collect();
        let servers = std::iter::once((cluster, all));
        for (address, endpoints) in servers.chain(service.node_port.into_iter().flat_map(node_port))
        {
            let option = match service.protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
            };
            let affinity = service.affinity.map(|seconds| format!(" -p {seconds}"));
            let affinity = affinity.unwrap_or_default();
            let _ = writeln!(text, "-A {option} {address} -s rr{affinity}");
            for endpoint in endpoints {
                let real = endpoint.address();
                let _ = writeln!(text, "-a {option} {address} -r {real} -m -w 1");
            }
        }
    }
    text
}

/// The dummy device, for `ip -batch`.
#[must_use]
pub fn device() -> String {
    format!("link add {DEVICE} type dummy\n")
}

/// The addresses on the dummy device, for `ip -batch`.
#[must_use]
pub fn addresses(node: &Node) -> String {
    let mut addresses: Vec<IpAddr> = node.services.iter().map(|it| it.cluster_ip).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let lines = addresses.iter();
    lines
        .map(|address| format!("addr add {address} dev {DEVICE}\n"))
        .collect()
}

/// The sets, for `ipset restore`.
#[must_use]
pub fn sets(node: &Node) -> String {
    let mut text = String::new();
    let all = [LOOP_BACK, CLUSTER_IP, NODE_PORT_TCP, NODE_PORT_UDP, HEALTH];
    for (name, kind, _) in all.into_iter().chain([IPS]).chain(EXTERNAL) {
        let options = match (kind, node.family) {
            ("bitmap:port", _) => "range 0-65535",
            (_, Family::Ipv4) => "family inet hashsize 1024 maxelem 65536",
            (_, Family::Ipv6) => "family inet6 hashsize 1024 maxelem 65536",
        };
        let _ = writeln!(text, "create {} {kind} {options}", full(node.family, name));
    }
    let mut add = |set: Set, entry: String| {
        let _ = writeln!(text, "add -exist {} {entry}", full(node.family, set.0));
    };
    for service in &node.services {
        let (ip, port, protocol) = (service.cluster_ip, service.port, service.protocol);
        add(CLUSTER_IP, format!("{ip},{protocol}:{port}"));
        add(IPS, ip.to_string());
        for endpoint in service.endpoints.iter().filter(|endpoint| endpoint.local) {
            let (ip, port) = (endpoint.ip, endpoint.port);
            add(LOOP_BACK, format!("{ip},{protocol}:{port},{ip}"));
        }
        if let Some(port) = service.node_port {
            add(node_port_set(service), port.to_string());
        }
    }
    text
}

/// The rules, for `iptables-restore --noflush` on empty tables; their sets must be there.
#[must_use]
pub fn rules(node: &Node) -> String {
    table("nat", &NAT_CHAINS, &[NAT_JUMPS, &nat(node), MASQUERADE])
        + &table("filter", &FILTER_CHAINS, &[FILTER_JUMPS, &filter(node)])
}

fn table(name: &str, chains: &[&str], rules: &[&str]) -> String {
    let chains: String = chains.iter().map(|it| format!(":{it} - [0:0]\n")).collect();
    format!("*{name}\n{chains}{}COMMIT\n", rules.concat())
}

fn nat(node: &Node) -> String {
    let family = node.family;
    let asks = |set: Set| {
        let (name, _, comment) = set;
        let name = full(family, name);
        format!("-m comment --comment \"{comment}\" -m set --match-set {name}")
    };
    let (loopback, cluster) = match family {
        Family::Ipv4 => ("127.0.0.0/8", &node.cluster_cidr),
        Family::Ipv6 => ("::1/128", &node.cluster_cidr),
    };
    let mut text = format!("-A KUBE-SERVICES -s {loopback} -j RETURN\n");
    if node.services.iter().any(has_local) {
        let set = asks(LOOP_BACK);
        let _ = writeln!(text, "-A KUBE-POSTROUTING {set} dst,dst,src -j MASQUERADE");
    }
    for (set, protocol) in [
        (NODE_PORT_TCP, Protocol::Tcp),
        (NODE_PORT_UDP, Protocol::Udp),
    ] {
        let mut ports = node.services.iter().filter(|it| it.node_port.is_some());
        if ports.any(|service| service.protocol == protocol) {
            let set = asks(set);
            let _ = writeln!(
                text,
                "-A KUBE-NODE-PORT -p {protocol} {set} dst -j KUBE-MARK-MASQ"
            );
        }
    }
    let cluster_ip = asks(CLUSTER_IP);
    let accepted = full(family, CLUSTER_IP.0);
    let _ = write!(
        text,
        "-A KUBE-SERVICES ! -s {cluster} {cluster_ip} dst,dst -j KUBE-MARK-MASQ\n\
         -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT\n\
         -A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ\n\
         -A KUBE-SERVICES -m set --match-set {accepted} dst,dst -j ACCEPT\n"
    );
    text
}

fn filter(node: &Node) -> String {
    let name = |set: Set| full(node.family, set.0);
    let mut text = format!(
        "-A KUBE-SOURCE-RANGES-FIREWALL -j DROP\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A KUBE-NODE-PORT -m comment --comment \"{}\" -m set --match-set {} dst -j ACCEPT\n",
        HEALTH.2,
        name(HEALTH)
    );
    let [balancer, external, local] = EXTERNAL;
    for set in [balancer, CLUSTER_IP, external, local] {
        let set = name(set);
        let _ = writeln!(
            text,
            "-A KUBE-IPVS-FILTER -m set --match-set {set} dst,dst -j RETURN"
        );
    }
    let _ = write!(
        text,
        "-A KUBE-IPVS-FILTER -m set --match-set {} dst -j RETURN\n\
         -A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set {} dst -j REJECT\n",
        name(HEALTH),
        name(IPS)
    );
    text
}

fn has_local(service: &ServicePort) -> bool {
    service.endpoints.iter().any(|endpoint| endpoint.local)
}

fn node_port_set(service: &ServicePort) -> Set {
    match service.protocol {
        Protocol::Tcp => NODE_PORT_TCP,
        Protocol::Udp => NODE_PORT_UDP,
    }
}

/// `KUBE-CLUSTER-IP`, `KUBE-6-CLUSTER-IP`: sets of both families share one space of names.
fn full(family: Family, name: &str) -> String {
    match family {
        Family::Ipv4 => format!("KUBE-{name}"),
        Family::Ipv6 => format!("KUBE-6-{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Endpoint;
    use super::*;

    fn node(family: Family) -> Node {
        let (cluster_ip, pod, address): (IpAddr, IpAddr, IpAddr) = match family {
            Family::Ipv4 => (
                [10, 96, 0, 81].into(),
                [10, 244, 1, 3].into(),
                [192, 168, 77, 11].into(),
            ),
            Family::Ipv6 => (
                [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x81].into(),
                [0xfd00, 0x10, 0x244, 1, 0, 0, 0, 3].into(),
                [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
            ),
        };
        let endpoint = |ip, local| Endpoint {
            ip,
            port: 8080,
            local,
        };
        let service = ServicePort {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            port_name: "http".to_owned(),
            protocol: Protocol::Tcp,
            cluster_ip,
            port: 80,
            node_port: Some(30081),
            external_local: false,
            affinity: Some(10800),
            endpoints: vec![endpoint(pod, true), endpoint(address, false)],
        };
        Node {
            family,
            cluster_cidr: "10.244.0.0/16".to_owned(),
            service_cidr: None,
            node_port_ips: vec![address],
            accounting: false,
            services: vec![service],
        }
    }

    #[test]
    fn a_service_is_a_virtual_server_at_each_of_its_addresses() {
        assert_eq!(
            virtual_servers(&node(Family::Ipv4)),
            "-A -t 10.96.0.81:80 -s rr -p 10800\n\
             -a -t 10.96.0.81:80 -r 10.244.1.3:8080 -m -w 1\n\
             -a -t 10.96.0.81:80 -r 192.168.77.11:8080 -m -w 1\n\
             -A -t 192.168.77.11:30081 -s rr -p 10800\n\
             -a -t 192.168.77.11:30081 -r 10.244.1.3:8080 -m -w 1\n\
             -a -t 192.168.77.11:30081 -r 192.168.77.11:8080 -m -w 1\n"
        );
        assert_eq!(
            addresses(&node(Family::Ipv6)),
            "addr add fd00:10:96::81 dev kube-ipvs0\n"
        );
    }

    #[test]
    fn sets_have_what_is_to_be_masqueraded() {
        let text = sets(&node(Family::Ipv4));
        for line in [
            "add -exist KUBE-LOOP-BACK 10.244.1.3,tcp:8080,10.244.1.3\n",
            "add -exist KUBE-CLUSTER-IP 10.96.0.81,tcp:80\n",
            "add -exist KUBE-NODE-PORT-TCP 30081\n",
            "add -exist KUBE-IPVS-IPS 10.96.0.81\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(!text.contains("192.168.77.11,"), "another node's:\n{text}");
    }

    #[test]
    fn every_set_and_chain_that_a_rule_names_is_made() {
        for family in Family::ALL {
            let (rules, sets) = (rules(&node(family)), sets(&node(family)));
            let after = |word: &'static str| {
                let words: Vec<&str> = rules.split_whitespace().collect();
                let pairs = words.windows(2).filter(|pair| pair[0] == word);
                pairs.map(|pair| pair[1].to_owned()).collect::<Vec<_>>()
            };
            for set in after("--match-set") {
                assert!(sets.contains(&format!("create {set} ")), "{set}");
            }
            for chain in after("-j").iter().filter(|it| it.starts_with("KUBE-")) {
                assert!(rules.contains(&format!(":{chain} - ")), "{chain}");
            }
        }
    }
}
