//! kube-proxy's nftables mode as of 1.36, as `nft list ruleset` prints it.

mod service;

use std::fmt::Write as _;

use super::{Endpoint, Family, Node, ServicePort, hash};

/// A map's name, what it maps, and its comment.
const MAPS: [(&str, bool, &str); 5] = [
    (
        "no-endpoint-services",
        true,
        "vmap to drop or reject packets to services with no endpoints",
    ),
    (
        "no-endpoint-nodeports",
        false,
        "vmap to drop or reject packets to service nodeports with no endpoints",
    ),
    (
        "firewall-ips",
        true,
        "destinations that are subject to LoadBalancerSourceRanges",
    ),
    (
        "service-ips",
        true,
        "ClusterIP, ExternalIP and LoadBalancer IP traffic",
    ),
    ("service-nodeports", false, "NodePort traffic"),
];
/// A base chain's name, type, hook and priority, and its rules.
const BASE_CHAINS: [(&str, &str, &[&str]); 8] = [
    (
        "filter-prerouting-pre-dnat",
        "filter hook prerouting priority dstnat - 10",
        &["ct state new jump firewall-check"],
    ),
    (
        "filter-output-pre-dnat",
        "filter hook output priority -110",
        &["ct state new jump firewall-check"],
    ),
    (
        "filter-input",
        "filter hook input priority filter",
        &[
            "ct state new jump nodeport-endpoints-check",
            "ct state new jump service-endpoints-check",
        ],
    ),
    (
        "filter-forward",
        "filter hook forward priority filter",
        &[
            "ct state new jump service-endpoints-check",
            "ct state new jump cluster-ips-check",
        ],
    ),
    (
        "filter-output",
        "filter hook output priority filter",
        &[
            "ct state new jump service-endpoints-check",
            "ct state new jump cluster-ips-check",
        ],
    ),
    (
        "nat-prerouting",
        "nat hook prerouting priority dstnat",
        &["jump services"],
    ),
    (
        "nat-output",
        "nat hook output priority -100",
        &["jump services"],
    ),
    (
        "nat-postrouting",
        "nat hook postrouting priority srcnat",
        &["jump masquerading"],
    ),
];
const MARK: &str = "meta mark set meta mark | 0x00004000";

/// The table of one node and family, for `nft -f`.
#[must_use]
pub fn rules(node: &Node) -> String {
    let writer = Writer {
        node,
        ip: match node.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        },
    };
    let mut text = format!(
        "table {} kube-proxy {{\n\tcomment \"rules for kube-proxy\"\n",
        writer.ip
    );
    writer.sets(&mut text);
    writer.maps(&mut text);
    writer.affinity_sets(&mut text);
    for (name, hook, rules) in BASE_CHAINS {
        let hook = format!("type {hook}; policy accept;");
        chain(
            &mut text,
            name,
            std::iter::once(hook.as_str()).chain(rules.iter().copied()),
        );
    }
    writer.common_chains(&mut text);
    for service in &node.services {
        writer.service(&mut text, service);
    }
    text + "}\n"
}

fn chain<'a>(text: &mut String, name: &str, rules: impl IntoIterator<Item = &'a str>) {
    let _ = writeln!(text, "\n\tchain {name} {{");
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    *text += "\t}\n";
}

/// A set or map: its head (`set name`), its definition and its elements.
fn set(text: &mut String, head: &str, definition: &[&str], elements: &[String]) {
    let _ = writeln!(text, "\n\t{head} {{");
    for line in definition {
        let _ = writeln!(text, "\t\t{line}");
    }
    if !elements.is_empty() {
        let _ = writeln!(
            text,
            "\t\telements = {{ {} }}",
            elements.join(",\n\t\t\t     ")
        );
    }
    *text += "\t}\n";
}

/// `ns/svc/proto/port`, which ends in a slash for a port without a name.
fn base_name(service: &ServicePort) -> String {
    let ServicePort {
        namespace,
        name,
        protocol,
        port_name,
        ..
    } = service;
    format!("{namespace}/{name}/{protocol}/{port_name}")
}

/// The name of a Service's chain: `service`, `local` or `external`.
#[must_use]
pub fn service_chain(prefix: &str, service: &ServicePort) -> String {
    let base = base_name(service);
    format!("{prefix}-{}-{base}", hash(&base, 8))
}

/// The name of an endpoint's chain (`endpoint`) or set (`affinity`). nft takes no colons in names.
#[must_use]
pub fn endpoint_chain(prefix: &str, service: &ServicePort, endpoint: &Endpoint) -> String {
    let ip = endpoint.ip.to_string().replace(':', ".");
    let base = format!("{}__{ip}/{}", base_name(service), endpoint.port);
    format!("{prefix}-{}-{base}", hash(&base, 8))
}

struct Writer<'a> {
    node: &'a Node,
    ip: &'static str,
}

impl Writer<'_> {
    fn address_type(&self) -> &'static str {
        match self.node.family {
            Family::Ipv4 => "ipv4_addr",
            Family::Ipv6 => "ipv6_addr",
        }
    }

    fn sets(&self, text: &mut String) {
        let address = self.address_type();
        let mut hairpins: Vec<String> = Vec::new();
        for service in &self.node.services {
            for endpoint in service.endpoints.iter().filter(|endpoint| endpoint.local) {
                let (ip, port) = (endpoint.ip, endpoint.port);
                let element = format!("{ip} . {ip} . {} . {port}", service.protocol);
                if !hairpins.contains(&element) {
                    hairpins.push(element);
                }
            }
        }
        set(
            text,
            "set hairpin-connections",
            &[
                &format!("type {address} . {address} . inet_proto . inet_service"),
                "comment \"service hairpin connections\"",
            ],
            &hairpins,
        );
        let cluster_ips = self.node.services.iter().map(|s| s.cluster_ip.to_string());
        let kind = format!("type {address}");
        set(
            text,
            "set cluster-ips",
            &[&kind, "comment \"Active ClusterIPs\""],
            &cluster_ips.collect::<Vec<_>>(),
        );
        if !self.node.node_port_ips.is_empty() {
            let ips = self.node.node_port_ips.iter().map(ToString::to_string);
            set(
                text,
                "set nodeport-ips",
                &[&kind, "comment \"IPs that accept NodePort traffic\""],
                &ips.collect::<Vec<_>>(),
            );
        }
    }

    fn maps(&self, text: &mut String) {
        for (name, by_address, comment) in MAPS {
            let address = format!("{} . ", self.address_type());
            let key = if by_address { address.as_str() } else { "" };
            let elements: Vec<String> = self
                .node
                .services
                .iter()
                .filter_map(|service| element(name, service))
                .collect();
            set(
                text,
                &format!("map {name}"),
                &[
                    &format!("type {key}inet_proto . inet_service : verdict"),
                    &format!("comment \"{comment}\""),
                ],
                &elements,
            );
        }
    }

    fn affinity_sets(&self, text: &mut String) {
        for service in &self.node.services {
            let Some(seconds) = service.affinity else {
                continue;
            };
            for endpoint in &service.endpoints {
                set(
                    text,
                    &format!("set {}", endpoint_chain("affinity", service, endpoint)),
                    &[
                        &format!("type {}", self.address_type()),
                        "size 65535",
                        "flags dynamic,timeout",
                        &format!("timeout {}", duration(seconds)),
                    ],
                    &[],
                );
            }
        }
    }

    fn common_chains(&self, text: &mut String) {
        let (ip, port) = (self.ip, "meta l4proto . th dport vmap");
        // Which packets are for the node itself. Only nat has to look the address up: a check in
        // filter's input hook sees no others.
        let (node, checked) = match (self.node.node_port_ips.is_empty(), self.node.family) {
            (false, _) => (format!("{ip} daddr @nodeport-ips"), ""),
            (true, Family::Ipv4) => (
                "ip daddr != 127.0.0.0/8".to_owned(),
                "fib daddr type local ",
            ),
            (true, Family::Ipv6) => ("ip6 daddr != ::1".to_owned(), "fib daddr type local "),
        };
        let rule = format!("{node} {port} @no-endpoint-nodeports");
        chain(text, "nodeport-endpoints-check", [rule.as_str()]);
        for (name, map) in [
            ("service-endpoints-check", "no-endpoint-services"),
            ("firewall-check", "firewall-ips"),
        ] {
            chain(text, name, [format!("{ip} daddr . {port} @{map}").as_str()]);
        }
        self.services_chain(text, &format!("{checked}{node} {port}"));
        let hairpin = format!(
            "ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random"
        );
        let marked = "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random";
        chain(text, "masquerading", [marked, &hairpin]);
        self.check_chains(text);
    }

    fn services_chain(&self, text: &mut String, node_port: &str) {
        let (ip, cidr) = (self.ip, &self.node.cluster_cidr);
        let mut rules = Vec::new();
        if !cidr.is_empty() {
            rules.push(format!(
                "{ip} daddr @cluster-ips {ip} saddr != {cidr} {MARK} comment \"masquerade clusterIP traffic from outside cluster\""
            ));
        }
        rules.push(format!(
            "{ip} daddr . meta l4proto . th dport vmap @service-ips"
        ));
        rules.push(format!("{node_port} @service-nodeports"));
        chain(text, "services", rules.iter().map(String::as_str));
    }

    fn check_chains(&self, text: &mut String) {
        let ip = self.ip;
        let mut rules = vec![format!(
            "{ip} daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\""
        )];
        if let Some(cidr) = &self.node.service_cidr {
            rules.push(format!(
                "{ip} daddr {cidr} drop comment \"Drop traffic to unallocated ClusterIPs\""
            ));
        }
        chain(text, "cluster-ips-check", rules.iter().map(String::as_str));
        chain(
            text,
            "reject-chain",
            [
                "comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\"",
                "reject",
            ],
        );
    }
}

/// What the Service contributes to a map.
fn element(map: &str, service: &ServicePort) -> Option<String> {
    let (protocol, name) = (service.protocol, service.full_name());
    let to_cluster_ip = format!("{} . {protocol} . {}", service.cluster_ip, service.port);
    let to_node_port = service.node_port.map(|port| format!("{protocol} . {port}"));
    let none = service.endpoints.is_empty();
    match map {
        "service-ips" if !none => Some(format!(
            "{to_cluster_ip} : goto {}",
            service_chain("service", service)
        )),
        "service-nodeports" if !none => Some(format!(
            "{} : goto {}",
            to_node_port?,
            service_chain("external", service)
        )),
        "no-endpoint-services" if none => Some(format!(
            "{to_cluster_ip} comment \"{name}\" : goto reject-chain"
        )),
        "no-endpoint-nodeports" if service.external_endpoints().is_empty() => {
            let verdict = if none { "goto reject-chain" } else { "drop" };
            Some(format!("{} comment \"{name}\" : {verdict}", to_node_port?))
        }
        _ => None,
    }
}

/// Seconds as nft prints them: `3h`, `1m30s`.
fn duration(seconds: u32) -> String {
    let parts = [
        (seconds / 86400, 'd'),
        (seconds / 3600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    parts
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_nft_prints_them() {
        assert_eq!(duration(10800), "3h");
        assert_eq!(duration(90), "1m30s");
        assert_eq!(duration(86400), "1d");
    }
}
