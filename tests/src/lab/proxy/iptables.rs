//! kube-proxy's iptables mode, as `iptables-save` prints it.

use std::fmt::Write as _;

use super::{Endpoint, Family, Node, ServicePort, hash};

/// Marks what is to be masqueraded.
const MARK: &str = "0x4000/0x4000";
/// What `KUBE-POSTROUTING` and its like are jumped to from, in the order of the rules.
const FILTER_JUMPS: &str = r#"-A INPUT -j KUBE-FIREWALL
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
"#;
const NAT_JUMPS: &str = r#"-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
"#;
const FILTER_CHAINS: [&str; 7] = [
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FIREWALL",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-CANARY",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SERVICES",
];
const NAT_CHAINS: [&str; 5] = [
    "KUBE-MARK-MASQ",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-PROXY-CANARY",
    "KUBE-SERVICES",
];

/// The rules of one node and family, for `iptables-restore --noflush` on empty tables.
#[must_use]
pub fn rules(node: &Node) -> String {
    let mut tables = Tables::default();
    for service in &node.services {
        Writer { node, service }.write(&mut tables);
    }
    let mut text = table("mangle", &["KUBE-PROXY-CANARY".to_owned()], "");
    let chains = FILTER_CHAINS.map(str::to_owned);
    let rules = [FILTER_JUMPS, &filter_rules(node, &tables)].concat();
    text += &table("filter", &chains, &rules);
    let mut chains = NAT_CHAINS.map(str::to_owned).to_vec();
    chains.append(&mut tables.nat_chains);
    let rules = [
        NAT_JUMPS,
        &tables.node_ports,
        &tables.services,
        &node_port_jump(node.family),
        &tables.nat,
    ];
    text + &table("nat", &chains, &rules.concat())
}

fn table(name: &str, chains: &[String], rules: &str) -> String {
    let mut text = format!("*{name}\n");
    for chain in chains {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    text + rules + "COMMIT\n"
}

/// The rules so far, by the chains whose order is kept apart.
#[derive(Default)]
struct Tables {
    filter_services: String,
    external_services: String,
    services: String,
    node_ports: String,
    nat_chains: Vec<String>,
    nat: String,
}

fn filter_rules(node: &Node, tables: &Tables) -> String {
    let firewall = match node.family {
        Family::Ipv4 => {
            "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" \
             -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n"
        }
        Family::Ipv6 => "",
    };
    let count = accounting(node, "ct_state_invalid_dropped_pkts");
    format!(
        "{}{firewall}-A KUBE-FORWARD -m conntrack --ctstate INVALID{count} -j DROP\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark {MARK} -j ACCEPT\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         {}",
        tables.external_services, tables.filter_services
    )
}

/// Counts the packet where the kernel can (the two blanks are what `iptables-save` prints).
fn accounting(node: &Node, name: &str) -> String {
    if node.accounting {
        format!(" -m nfacct --nfacct-name  {name}")
    } else {
        String::new()
    }
}

fn node_port_jump(family: Family) -> String {
    let not_loopback = match family {
        Family::Ipv4 => "",
        Family::Ipv6 => " ! -d ::1/128",
    };
    format!(
        "-A KUBE-SERVICES{not_loopback} -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" \
         -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n"
    )
}

/// The name of a Service's chain: `KUBE-SVC` (all endpoints), `KUBE-SVL` (local ones) or
/// `KUBE-EXT`.
#[must_use]
pub fn service_chain(prefix: &str, service: &ServicePort) -> String {
    let text = format!("{}{}", service.full_name(), service.protocol);
    format!("{prefix}-{}", hash(&text, 16))
}

/// The name of an endpoint's chain.
#[must_use]
pub fn endpoint_chain(service: &ServicePort, endpoint: &Endpoint) -> String {
    let (name, protocol) = (service.full_name(), service.protocol);
    let text = format!("{name}{protocol}{}", endpoint.address());
    format!("KUBE-SEP-{}", hash(&text, 16))
}

struct Writer<'a> {
    node: &'a Node,
    service: &'a ServicePort,
}

impl Writer<'_> {
    fn write(&self, tables: &mut Tables) {
        let service = self.service;
        if service.endpoints.is_empty() {
            self.refuse(tables);
            return;
        }
        let cluster = service_chain("KUBE-SVC", service);
        let local = service_chain("KUBE-SVL", service);
        let _ = writeln!(
            tables.services,
            "-A KUBE-SERVICES {} -j {cluster}",
            self.to_cluster_ip("cluster IP")
        );
        self.external(tables, &cluster, &local);
        let _ = writeln!(
            tables.nat,
            "-A {cluster} ! -s {} {} -j KUBE-MARK-MASQ",
            self.node.cluster_cidr,
            self.to_cluster_ip("cluster IP")
        );
        let all: Vec<&Endpoint> = service.endpoints.iter().collect();
        self.choose(tables, &cluster, &all);
        self.choose(tables, &local, &service.local_policy_endpoints());
        for endpoint in &service.endpoints {
            self.endpoint(tables, endpoint);
        }
    }

    /// The match on the ClusterIP and port.
    fn to_cluster_ip(&self, what: &str) -> String {
        let service = self.service;
        let bits = match self.node.family {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        };
        format!(
            "-d {}/{bits} -p {protocol} -m comment --comment \"{} {what}\" -m {protocol} --dport {}",
            service.cluster_ip,
            service.full_name(),
            service.port,
            protocol = service.protocol,
        )
    }

    /// A Service without endpoints.
    fn refuse(&self, tables: &mut Tables) {
        let with = match self.node.family {
            Family::Ipv4 => "icmp-port-unreachable",
            Family::Ipv6 => "icmp6-port-unreachable",
        };
        let _ = writeln!(
            tables.filter_services,
            "-A KUBE-SERVICES {} -j REJECT --reject-with {with}",
            self.to_cluster_ip("has no endpoints")
        );
        if let Some(port) = self.service.node_port {
            let verdict = format!("REJECT --reject-with {with}");
            self.external_service(tables, "has no endpoints", port, &verdict);
        }
    }

    fn external_service(&self, tables: &mut Tables, what: &str, port: u16, verdict: &str) {
        let _ = writeln!(
            tables.external_services,
            "-A KUBE-EXTERNAL-SERVICES -p {protocol} -m comment --comment \"{} {what}\" -m addrtype --dst-type LOCAL \
             -m {protocol} --dport {port} -j {verdict}",
            self.service.full_name(),
            protocol = self.service.protocol,
        );
    }

    /// NodePort traffic.
    fn external(&self, tables: &mut Tables, cluster: &str, local: &str) {
        let service = self.service;
        let Some(port) = service.node_port else {
            return;
        };
        let external = service_chain("KUBE-EXT", service);
        self.node_port(tables, port, &external);
        self.masquerade_external(tables, &external, cluster);
        tables.nat_chains.push(external.clone());
        if service.external_endpoints().is_empty() {
            self.external_service(tables, "has no local endpoints", port, "DROP");
        } else {
            let target = if service.external_local {
                local
            } else {
                cluster
            };
            let _ = writeln!(tables.nat, "-A {external} -j {target}");
        }
    }

    fn node_port(&self, tables: &mut Tables, port: u16, external: &str) {
        let (name, protocol) = (self.service.full_name(), self.service.protocol);
        let to_port =
            format!("-p {protocol} -m comment --comment \"{name}\" -m {protocol} --dport {port}");
        if self.node.accounting && self.node.family == Family::Ipv4 {
            let count = accounting(self.node, "localhost_nps_accepted_pkts");
            let _ = writeln!(
                tables.node_ports,
                "-A KUBE-NODEPORTS -d 127.0.0.0/8 {to_port}{count} -j {external}"
            );
        }
        let _ = writeln!(
            tables.node_ports,
            "-A KUBE-NODEPORTS {to_port} -j {external}"
        );
    }

    fn masquerade_external(&self, tables: &mut Tables, external: &str, cluster: &str) {
        let name = self.service.full_name();
        let rule = |comment: &str, rest: &str| {
            let comment = format!("{comment} {name} external destinations");
            format!("-m comment --comment \"{comment}\" {rest}")
        };
        let mut write = |rule: String| writeln!(tables.nat, "-A {external} {rule}");
        if self.service.external_local {
            let pods = rule("pod traffic for", &format!("-j {cluster}"));
            let _ = write(format!("-s {} {pods}", self.node.cluster_cidr));
            let from_here = "-m addrtype --src-type LOCAL";
            let to = format!("{from_here} -j KUBE-MARK-MASQ");
            let _ = write(rule("masquerade LOCAL traffic for", &to));
            let to = format!("{from_here} -j {cluster}");
            let _ = write(rule("route LOCAL traffic for", &to));
        } else {
            let _ = write(rule("masquerade traffic for", "-j KUBE-MARK-MASQ"));
        }
    }

    /// The chain that chooses one of the endpoints.
    fn choose(&self, tables: &mut Tables, chain: &str, endpoints: &[&Endpoint]) {
        if endpoints.is_empty() {
            return;
        }
        tables.nat_chains.push(chain.to_owned());
        let name = self.service.full_name();
        let comment = |endpoint: &Endpoint| {
            format!(
                "-A {chain} -m comment --comment \"{name} -> {}\"",
                endpoint.address()
            )
        };
        if let Some(seconds) = self.service.affinity {
            for endpoint in endpoints {
                let target = endpoint_chain(self.service, endpoint);
                let _ = writeln!(
                    tables.nat,
                    "{} -m recent --rcheck --seconds {seconds} --reap {} -j {target}",
                    comment(endpoint),
                    self.recent(&target)
                );
            }
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let target = endpoint_chain(self.service, endpoint);
            let statistic = match endpoints.len() - index {
                1 => String::new(),
                left => format!(
                    " -m statistic --mode random --probability {}",
                    probability(left)
                ),
            };
            let _ = writeln!(tables.nat, "{}{statistic} -j {target}", comment(endpoint));
        }
    }

    fn recent(&self, name: &str) -> String {
        let mask = match self.node.family {
            Family::Ipv4 => "255.255.255.255",
            Family::Ipv6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        };
        format!("--name {name} --mask {mask} --rsource")
    }

    fn endpoint(&self, tables: &mut Tables, endpoint: &Endpoint) {
        let chain = endpoint_chain(self.service, endpoint);
        let bits = match self.node.family {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        };
        let (name, protocol) = (self.service.full_name(), self.service.protocol);
        let remember = match self.service.affinity {
            Some(_) => format!(" -m recent --set {}", self.recent(&chain)),
            None => String::new(),
        };
        let _ = writeln!(
            tables.nat,
            "-A {chain} -s {}/{bits} -m comment --comment \"{name}\" -j KUBE-MARK-MASQ\n\
             -A {chain} -p {protocol} -m comment --comment \"{name}\"{remember} -m {protocol} -j DNAT --to-destination {}",
            endpoint.ip,
            endpoint.address()
        );
        tables.nat_chains.push(chain);
    }
}

/// 1/n as `iptables-save` prints it: kube-proxy gives ten digits, the kernel keeps 31 bits.
fn probability(n: usize) -> String {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    let ten_digits = (1e10 / f64::from(n)).round() / 1e10;
    let scale = f64::from(1u32 << 31);
    format!("{:.11}", (ten_digits * scale).round() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_rounded_as_the_kernel_does() {
        assert_eq!(probability(2), "0.50000000000");
        assert_eq!(probability(3), "0.33333333349");
    }
}
