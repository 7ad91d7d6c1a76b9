//! What the test machine is given to do: the Services in each form, and the plan, as files that
//! its script reads.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use tracer_tests::lab::proxy::{self, Endpoint, Family, ServicePort};
use tracer_tests::lab::{
    CLUSTER_CIDR, CLUSTER_CIDR6, DNS_PORT, HTTP_PORT, Protocol, SERVICE_CIDR, SERVICE_CIDR6,
};

use super::paths::{Traced, Way};
use super::programs::Programs;

/// Puts the script's files into the initramfs. `options` are given to each `tracer run`.
pub(crate) fn add(programs: &mut Programs, paths: &[Traced], options: &str) {
    let mut write = |name: &str, text: &str| {
        let path = Path::new("/lab").join(name);
        programs.write(&path, text.as_bytes());
    };
    for (family, number) in [(Family::Ipv4, 4), (Family::Ipv6, 6)] {
        let node = node(family);
        write(
            &format!("iptables.{number}"),
            &proxy::iptables::rules(&node),
        );
        write(
            &format!("nftables.{number}"),
            &proxy::nftables::rules(&node),
        );
    }
    let nodes = Family::ALL.map(ipvs_node);
    let both = |text: fn(&proxy::Node) -> String| nodes.iter().map(text).collect::<String>();
    let addresses = proxy::ipvs::device() + &both(proxy::ipvs::addresses);
    write("ipvs.addresses", &addresses);
    write("ipvs.sets", &both(proxy::ipvs::sets));
    write("ipvs.servers", &both(proxy::ipvs::virtual_servers));
    for (node, number) in nodes.iter().zip([4, 6]) {
        write(&format!("ipvs.{number}"), &proxy::ipvs::rules(node));
    }
    write("plan", &plan(paths, options));
    write("ways", &ways());
    for lab in by_form(paths) {
        write(&format!("paths.{}", lab[0].form), &walked(lab));
    }
}

/// The paths of each form.
fn by_form(paths: &[Traced]) -> impl Iterator<Item = &[Traced]> {
    paths.chunk_by(|one, next| one.form == next.form)
}

/// The script's steps: a lab for each form, and its paths traced.
fn plan(paths: &[Traced], options: &str) -> String {
    let mut text = format!("OPTIONS='{options}'\ndoctor\n");
    for lab in by_form(paths) {
        let form = lab[0].form;
        let _ = writeln!(text, "lab {form}\ntrace {form}\nlower");
    }
    text
}

/// What the tracers are told that watch beside `tracer run`.
fn ways() -> String {
    let others = Way::ALL.iter().map(|way| way.word());
    let others = others.filter(|word| !word.is_empty());
    others.map(|word| format!("{word}\n")).collect()
}

/// The paths of one form, for the command of `tracer run`.
fn walked(lab: &[Traced]) -> String {
    let lines = lab.iter().map(|traced| {
        let case = traced.case;
        let (beside, netns, command) = (case.beside.word(), case.netns, case.command);
        format!("{beside} {traced} {netns} {command}\n")
    });
    lines.collect()
}

/// What kube-proxy on the node knows.
fn node(family: Family) -> proxy::Node {
    let (cluster, service, address) = match family {
        Family::Ipv4 => (CLUSTER_CIDR, SERVICE_CIDR, "192.168.77.11"),
        Family::Ipv6 => (CLUSTER_CIDR6, SERVICE_CIDR6, "fd00:192:168:77::11"),
    };
    proxy::Node {
        family,
        cluster_cidr: cluster.to_owned(),
        service_cidr: Some(service.to_owned()),
        node_port_ips: address.parse().into_iter().collect(),
        accounting: false,
        services: services(family),
    }
}

/// `default/web` and `kube-system/kube-dns`, served by pod b, and `default/ghost`, by nobody.
fn services(family: Family) -> Vec<ServicePort> {
    let (web, dns, ghost, pod): (IpAddr, IpAddr, IpAddr, IpAddr) = match family {
        Family::Ipv4 => (
            [10, 96, 0, 81].into(),
            [10, 96, 0, 10].into(),
            [10, 96, 0, 85].into(),
            [10, 244, 1, 3].into(),
        ),
        Family::Ipv6 => (
            service6(0x81),
            service6(0x10),
            service6(0x85),
            [0xfd00, 0x10, 0x244, 1, 0, 0, 0, 3].into(),
        ),
    };
    let web = ServicePort {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        port_name: "http".to_owned(),
        protocol: Protocol::Tcp,
        cluster_ip: web,
        port: 80,
        node_port: None,
        external_local: false,
        affinity: None,
        endpoints: vec![endpoint(pod, HTTP_PORT)],
    };
    let dns = ServicePort {
        namespace: "kube-system".to_owned(),
        name: "kube-dns".to_owned(),
        port_name: "dns".to_owned(),
        protocol: Protocol::Udp,
        cluster_ip: dns,
        port: 53,
        endpoints: vec![endpoint(pod, DNS_PORT)],
        ..web.clone()
    };
    let ghost = ServicePort {
        name: "ghost".to_owned(),
        cluster_ip: ghost,
        endpoints: Vec::new(),
        ..web.clone()
    };
    vec![web, dns, ghost]
}

fn service6(last: u16) -> IpAddr {
    [0xfd00, 0x10, 0x96, 0, 0, 0, 0, last].into()
}

fn endpoint(ip: IpAddr, port: u16) -> Endpoint {
    Endpoint {
        ip,
        port,
        local: true,
    }
}

/// What kube-proxy in IPVS mode knows besides: a NodePort, a Service with session affinity, and one
/// whose endpoint is the node itself.
fn ipvs_node(family: Family) -> proxy::Node {
    let mut node = node(family);
    let web = &mut node.services[0];
    web.node_port = Some(30081);
    let (sticky, host) = match family {
        Family::Ipv4 => ([10, 96, 0, 83].into(), [10, 96, 0, 86].into()),
        Family::Ipv6 => (service6(0x83), service6(0x86)),
    };
    let web = ServicePort {
        node_port: None,
        ..web.clone()
    };
    let own = node.node_port_ips.iter();
    let host = ServicePort {
        name: "host".to_owned(),
        cluster_ip: host,
        endpoints: own.map(|ip| endpoint(*ip, HTTP_PORT)).collect(),
        ..web.clone()
    };
    let sticky = ServicePort {
        name: "sticky".to_owned(),
        cluster_ip: sticky,
        affinity: Some(10800),
        ..web
    };
    node.services.extend([sticky, host]);
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::paths;

    #[test]
    fn each_form_has_one_lab() {
        let all = paths::all();
        let plan = plan(&all, "--ring-size 1M");
        assert_eq!(
            plan.lines().take(5).collect::<Vec<_>>(),
            [
                "OPTIONS='--ring-size 1M'",
                "doctor",
                "lab iptables-nft",
                "trace iptables-nft",
                "lower"
            ]
        );
        assert_eq!(by_form(&all).count(), 4);
        let walked: String = by_form(&all).map(walked).collect();
        assert_eq!(walked.lines().count(), all.len());
        assert!(walked.contains("nothing nftables/tcp pod-a curl -sS -m 60 http://10.96.0.81/\n"));
    }

    #[test]
    fn ipvs_has_each_service_and_its_endpoint() {
        let servers = |family| proxy::ipvs::virtual_servers(&ipvs_node(family));
        let v4 = servers(Family::Ipv4);
        for lines in [
            "-A -t 10.96.0.81:80 -s rr\n-a -t 10.96.0.81:80 -r 10.244.1.3:8080 -m -w 1\n",
            "-a -t 192.168.77.11:30081 -r 10.244.1.3:8080 -m -w 1\n",
            "-a -u 10.96.0.10:53 -r 10.244.1.3:5353 -m -w 1\n",
            "-A -t 10.96.0.85:80 -s rr\n-A ",
            "-A -t 10.96.0.83:80 -s rr -p 10800\n",
            "-a -t 10.96.0.86:80 -r 192.168.77.11:8080 -m -w 1\n",
        ] {
            assert!(v4.contains(lines), "{lines}{v4}");
        }
        let v6 = servers(Family::Ipv6);
        assert!(v6.contains("-a -t [fd00:10:96::81]:80 -r [fd00:10:244:1::3]:8080 -m -w 1\n"));
    }
}
