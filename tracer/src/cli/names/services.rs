//! The rules of each namespace, and the Services that they make.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

use super::push_line;
use crate::node::{
    cluster::Cluster,
    rules::{history::Version, ipset::Set, nftables::model::Object, path::Source, subject::Family},
    services::{Frontend, Refusal, Service, ServiceName, TrafficPolicy},
    snapshot::{Namespace, Snapshot},
};

/// For people: a line for each namespace that has rules, then one for each Service with its endpoints
/// below.
pub(super) fn text(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for (netns, version) in versions(snapshot) {
        let sets: Vec<String> = sets(version).iter().map(heading).collect();
        lines.push(format!(
            "rules in {}  {}",
            netns.display_name(),
            sets.join(", ")
        ));
        let ipsets = ipsets(version);
        lines.extend(ipsets.iter().map(|IpsetObject { name, elements, .. }| {
            format!("      ipset {name}: {elements} elements")
        }));
        let notes = version.rules.notes.iter();
        lines.extend(notes.map(|note| format!("      not all: {note}")));
    }
    for (netns, version) in versions(snapshot) {
        for service in version.services(|ip| is_own(netns, ip)).all() {
            lines.push(service_heading(Some(netns), service));
            lines.extend(endpoints(snapshot, service));
        }
    }
    for service in by_the_api(snapshot) {
        lines.push(service_heading(None, service));
        lines.extend(endpoints(snapshot, service));
    }
    lines
}

/// The ports of Services that the Kubernetes API knows and no rules name.
fn by_the_api(snapshot: &Snapshot) -> impl Iterator<Item = &Service> {
    let named: BTreeSet<ServiceName> = match snapshot.cluster() {
        None => BTreeSet::new(),
        Some(_) => versions(snapshot)
            .flat_map(|(netns, version)| version.services(|ip| is_own(netns, ip)).all())
            .filter_map(|service| service.name.clone())
            .collect(),
    };
    let all = snapshot
        .cluster()
        .into_iter()
        .flat_map(Cluster::all_services);
    all.filter(move |service| {
        service
            .name
            .as_ref()
            .is_none_or(|name| !named.contains(name))
    })
}

/// The namespaces that have rules, or of which they could not be read.
fn versions(snapshot: &Snapshot) -> impl Iterator<Item = (&Namespace, &Version)> {
    let namespaces = snapshot.namespaces().iter();
    namespaces.filter_map(|netns| Some((netns, netns.rules.last()?)))
}

fn is_own(netns: &Namespace, ip: IpAddr) -> bool {
    let mut prefixes = netns.links.values().flat_map(|link| &link.addresses);
    ip.is_loopback() || prefixes.any(|prefix| prefix.address == ip)
}

/// One set of rules, as a tool lists it.
#[derive(Debug, Serialize)]
struct SetObject {
    source: &'static str,
    /// `ipv4` or `ipv6`; none where a set has both.
    family: Option<&'static str>,
    /// The program that says them; IPVS is read from /proc.
    program: Option<&'static str>,
    tables: usize,
    rules: usize,
}

/// An ipset that rules ask for.
#[derive(Debug, Serialize)]
struct IpsetObject<'a> {
    name: &'a str,
    /// As `hash:ip,port`.
    r#type: &'a str,
    elements: usize,
}

fn ipsets(version: &Version) -> Vec<IpsetObject<'_>> {
    let sets = version.rules.ipsets.all().iter();
    let object = |set| IpsetObject {
        name: Set::name(set),
        r#type: Set::kind(set),
        elements: Set::elements(set),
    };
    sets.map(object).collect()
}

fn sets(version: &Version) -> Vec<SetObject> {
    use crate::node::rules::evaluate::RuleSet as _;
    let rules = &version.rules;
    let iptables = rules.iptables.iter().map(|set| SetObject {
        source: set.source().as_str(),
        family: Some(match set.family() {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }),
        program: Some(match (set.source(), set.family()) {
            (Source::IptablesNft, Family::V4) => "iptables-nft-save",
            (Source::IptablesNft, Family::V6) => "ip6tables-nft-save",
            (_, Family::V4) => "iptables-legacy-save",
            (_, Family::V6) => "ip6tables-legacy-save",
        }),
        tables: set.tables().tables.len(),
        rules: set.tables().rules(),
    });
    let mut sets: Vec<SetObject> = iptables.collect();
    let objects = &rules.nftables.listing().objects;
    let count = |is: fn(&Object) -> bool| objects.iter().filter(|object| is(object)).count();
    let nftables = SetObject {
        source: Source::Nftables.as_str(),
        family: None,
        program: Some("nft"),
        tables: count(|object| matches!(object, Object::Table(_))),
        rules: count(|object| matches!(object, Object::Rule(_))),
    };
    sets.extend(Some(nftables).filter(|nftables| nftables.tables > 0));
    let ipvs = SetObject {
        source: Source::Ipvs.as_str(),
        family: None,
        program: None,
        tables: usize::from(!rules.ipvs.is_empty()),
        rules: rules.ipvs.servers().len(),
    };
    sets.extend(Some(ipvs).filter(|ipvs| ipvs.tables > 0));
    sets
}

fn heading(set: &SetObject) -> String {
    let SetObject {
        source,
        family,
        program,
        rules,
        ..
    } = set;
    let family = family
        .map(|family| format!(" {family}"))
        .unwrap_or_default();
    let by = program
        .map(|program| format!(" (by {program})"))
        .unwrap_or_default();
    let what = match program {
        Some(_) => "rules",
        None => "virtual services",
    };
    format!("{source}{family}: {rules} {what}{by}")
}

fn service_heading(netns: Option<&Namespace>, service: &Service) -> String {
    let name = service.name.as_ref().map(ToString::to_string);
    let name = name.unwrap_or_else(|| "without a name".to_owned());
    let mut facts: Vec<String> = service.frontends.iter().map(|it| frontend(*it)).collect();
    for (at, refusal) in &service.refusals {
        let what = match refusal {
            Refusal::NoEndpoints => "no endpoints: refused",
            Refusal::NoLocalEndpoints => "no endpoints on this node: dropped",
        };
        facts.push(format!("{what} at {}", frontend(*at)));
    }
    facts.extend(
        service
            .affinity
            .map(|seconds| format!("clients stay for {seconds} s")),
    );
    let place = netns.map(|netns| format!(" in {}", netns.display_name()));
    let source = service.source.as_str();
    facts.push(format!("by {source}{}", place.unwrap_or_default()));
    let protocol = protocol(service.protocol);
    format!("service {name}  {protocol} {}", facts.join(", "))
}

fn frontend(frontend: Frontend) -> String {
    match frontend {
        Frontend::ClusterIp(address) => address.to_string(),
        Frontend::ExternalIp(address) => format!("external {address}"),
        Frontend::LoadBalancerIp(address) => format!("load balancer {address}"),
        Frontend::NodePort(Some(ip), port) => format!("node port {}", SocketAddr::new(ip, port)),
        Frontend::NodePort(None, port) => format!("node port {port}"),
    }
}

fn protocol(number: u8) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    }
}

fn endpoints(snapshot: &Snapshot, service: &Service) -> Vec<String> {
    let endpoints = service.endpoints.iter().enumerate();
    let lines = endpoints.map(|(index, endpoint)| {
        let pod = pod_at(snapshot, endpoint.address.ip());
        let pod = pod.map(|pod| format!("  pod {pod}")).unwrap_or_default();
        format!("{:>6} {}{pod}", index + 1, endpoint.address)
    });
    lines.collect()
}

/// The pod that has an address.
fn pod_at(snapshot: &Snapshot, ip: IpAddr) -> Option<String> {
    snapshot.pod_at(ip).map(ToString::to_string)
}

#[derive(Serialize)]
struct NetnsObject {
    inode: u32,
    name: String,
}

#[derive(Serialize)]
struct RulesLine<'a> {
    netns: NetnsObject,
    /// When they were read, in nanoseconds of `CLOCK_MONOTONIC`.
    read_ns: u64,
    sets: Vec<SetObject>,
    ipsets: Vec<IpsetObject<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct ServiceLine {
    service: Option<String>,
    /// Whose rules make it; none where it is known from elsewhere.
    netns: Option<NetnsObject>,
    protocol: String,
    frontends: Vec<FrontendObject>,
    endpoints: Vec<EndpointObject>,
    affinity_s: Option<u32>,
    external_policy: Option<TrafficPolicy>,
    internal_policy: Option<TrafficPolicy>,
    source: &'static str,
}

#[derive(Serialize)]
struct FrontendObject {
    kind: &'static str,
    /// The address and port; none where any of the node's addresses will do.
    addr: Option<SocketAddr>,
    port: u16,
    refusal: Option<Refusal>,
}

#[derive(Serialize)]
struct EndpointObject {
    addr: SocketAddr,
    pod: Option<String>,
    local: Option<bool>,
}

/// For programs: one object a line.
pub(super) fn json(snapshot: &Snapshot, lines: &mut String) -> serde_json::Result<()> {
    for (netns, version) in versions(snapshot) {
        let line = RulesLine {
            netns: netns_object(netns),
            read_ns: version.time,
            sets: sets(version),
            ipsets: ipsets(version),
            notes: &version.rules.notes,
        };
        push_line(lines, "rules", line)?;
    }
    for (netns, version) in versions(snapshot) {
        for service in version.services(|ip| is_own(netns, ip)).all() {
            push_line(
                lines,
                "service",
                service_line(snapshot, Some(netns), service),
            )?;
        }
    }
    for service in by_the_api(snapshot) {
        push_line(lines, "service", service_line(snapshot, None, service))?;
    }
    Ok(())
}

fn netns_object(netns: &Namespace) -> NetnsObject {
    NetnsObject {
        inode: netns.inode,
        name: netns.display_name().into_owned(),
    }
}

fn service_line(snapshot: &Snapshot, netns: Option<&Namespace>, service: &Service) -> ServiceLine {
    let endpoints = service.endpoints.iter().map(|endpoint| EndpointObject {
        addr: endpoint.address,
        pod: pod_at(snapshot, endpoint.address.ip()),
        local: endpoint.local,
    });
    let called = service.frontends.iter().copied();
    let refused = service.refusals.iter().map(|(at, _)| *at);
    let refused = refused.filter(|at| !service.frontends.contains(at));
    let frontends = called.chain(refused).map(|at| {
        let mut refusals = service.refusals.iter();
        let refusal = refusals.find(|(where_, _)| *where_ == at);
        let (kind, addr, port) = match at {
            Frontend::ClusterIp(addr) => ("cluster-ip", Some(addr), addr.port()),
            Frontend::ExternalIp(addr) => ("external-ip", Some(addr), addr.port()),
            Frontend::LoadBalancerIp(addr) => ("load-balancer-ip", Some(addr), addr.port()),
            Frontend::NodePort(ip, port) => {
                ("node-port", ip.map(|ip| SocketAddr::new(ip, port)), port)
            }
        };
        FrontendObject {
            kind,
            addr,
            port,
            refusal: refusal.map(|(_, refusal)| *refusal),
        }
    });
    ServiceLine {
        service: service.name.as_ref().map(ToString::to_string),
        netns: netns.map(netns_object),
        protocol: protocol(service.protocol),
        frontends: frontends.collect(),
        endpoints: endpoints.collect(),
        affinity_s: service.affinity,
        external_policy: service.external_policy,
        internal_policy: service.internal_policy,
        source: service.source.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::node::{
        rules::{held::Rules, iptables},
        snapshot::Contents,
    };

    const RULES: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n\
        :KUBE-SVC-A - [0:0]\n:KUBE-SEP-A - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n\
        -A KUBE-SERVICES -d 10.96.0.80/32 -p tcp -m comment --comment \"default/web:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-A\n\
        -A KUBE-SVC-A -m comment --comment \"default/web:http -> 10.244.1.3:8080\" -j KUBE-SEP-A\n\
        -A KUBE-SEP-A -p tcp -m comment --comment \"default/web:http\" -m tcp -j DNAT --to-destination 10.244.1.3:8080\n\
        COMMIT\n";

    fn snapshot() -> Snapshot {
        let tables = iptables::Tables::parse(RULES).unwrap();
        let set = iptables::RuleSet::new(Family::V4, Source::IptablesNft, tables);
        let rules = Rules {
            iptables: vec![Arc::new(set)],
            notes: vec!["there are nftables rules, but no program nft".to_owned()],
            ..Rules::default()
        };
        let mut netns = Namespace {
            inode: 7,
            names: vec!["host".to_owned()],
            ..Namespace::default()
        };
        netns.rules.read(42, Arc::new(rules));
        Snapshot::from(Contents {
            namespaces: vec![netns],
            ..Contents::default()
        })
    }

    #[test]
    fn people_see_the_rules_and_what_services_they_make() {
        insta::assert_snapshot!(text(&snapshot()).join("\n"), @"
        rules in host  iptables-nft ipv4: 4 rules (by iptables-nft-save)
              not all: there are nftables rules, but no program nft
        service default/web:http  tcp 10.96.0.80:80, by iptables-nft in host
             1 10.244.1.3:8080
        ");
    }

    #[test]
    fn programs_get_an_object_for_each() {
        let mut lines = String::new();
        json(&snapshot(), &mut lines).unwrap();
        let lines: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let [rules, service] = &lines[..] else {
            panic!("{lines:#?}");
        };
        assert_eq!(
            (&rules["type"], &rules["read_ns"]),
            (&"rules".into(), &42.into())
        );
        assert_eq!(rules["sets"][0]["rules"], 4);
        assert_eq!(rules["sets"][0]["program"], "iptables-nft-save");
        assert_eq!(rules["notes"].as_array().unwrap().len(), 1);
        assert_eq!(service["service"], "default/web:http");
        assert_eq!(service["frontends"][0]["addr"], "10.96.0.80:80");
        assert_eq!(service["endpoints"][0]["addr"], "10.244.1.3:8080");
        assert_eq!(service["source"], "iptables-nft");
    }
}
