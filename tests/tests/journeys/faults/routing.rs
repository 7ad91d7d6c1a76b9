//! Routes that are missing.

use tracer_tests::lab::{Config, Lab};

use super::{Expected, LONG, PATIENT, SHORT, curl, diagnosed, healthy, on};

#[test]
fn a_missing_route_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node2").cluster_ip;
    let cidr = lab.node("node2").pod_cidr();
    let subnet = lab.node("node2").subnet();
    let gateway = lab.outside().ipv4;
    on(&lab, "node1", &format!("ip route del {cidr}"))?;
    on(&lab, "node1", "ip route del default")?;
    let target = lab.pod("b2").ipv4.to_string();
    let expected = Expected {
        layer: "routing",
        cause: "no-route",
        culprit: &target,
        said: &["no route", "node1", &target, "ip route get"],
    };
    diagnosed(&lab, ("a1", &curl(LONG, service)), &expected)?;
    let back = format!("ip route add {cidr} via {subnet} dev flannel.1 onlink");
    on(
        &lab,
        "node1",
        &format!("ip route add default via {gateway}"),
    )?;
    on(&lab, "node1", &back)?;
    healthy(&lab, "a1", &curl(PATIENT, service))?;
    lab.down()
}

#[test]
fn a_node_that_does_not_forward_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node2").cluster_ip;
    on(&lab, "node1", "sysctl -qw net.ipv4.ip_forward=0")?;
    let expected = Expected {
        layer: "routing",
        cause: "not-forwarded",
        culprit: "net.ipv4.ip_forward",
        said: &["not forwarded", "node1", "net.ipv4.ip_forward is 0"],
    };
    diagnosed(&lab, ("a1", &curl(SHORT, service)), &expected)?;
    // On the same bridge, and from the node itself, all is well.
    let neighbour = format!("{}:8080", lab.pod("b1").ipv4);
    healthy(&lab, "a1", &curl(PATIENT, neighbour))?;
    healthy(&lab, "node1", &curl(PATIENT, service))?;
    on(&lab, "node1", "sysctl -qw net.ipv4.ip_forward=1")?;
    healthy(&lab, "a1", &curl(PATIENT, service))?;
    lab.down()
}

/// The way back leads elsewhere, and the node is strict about it.
#[test]
fn a_strict_reverse_path_filter_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node2").cluster_ip;
    let node1 = lab.node("node1");
    let (cidr, subnet) = (node1.pod_cidr(), node1.subnet());
    on(&lab, "node2", "sysctl -qw net.ipv4.conf.all.rp_filter=1")?;
    on(
        &lab,
        "node2",
        "sysctl -qw net.ipv4.conf.flannel/1.rp_filter=1",
    )?;
    on(&lab, "node2", &format!("ip route del {cidr}"))?;
    let expected = Expected {
        layer: "routing",
        cause: "rp-filter",
        culprit: "net.ipv4.conf.flannel.1.rp_filter",
        said: &["rp_filter", "node2", "by flannel.1", "IP_RPFILTER"],
    };
    diagnosed(&lab, ("a1", &curl(SHORT, service)), &expected)?;
    on(
        &lab,
        "node2",
        &format!("ip route add {cidr} via {subnet} dev flannel.1 onlink"),
    )?;
    healthy(&lab, "a1", &curl(PATIENT, service))?;
    lab.down()
}

/// The errors that would tell the server to send less are filtered.
#[test]
fn a_path_that_swallows_large_packets_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node2").cluster_ip;
    let download = |seconds| {
        format!("curl -sS -o /dev/null --max-time {seconds} http://{service}/bytes/20000")
    };
    on(&lab, "node2", "ip link set flannel.1 mtu 1200")?;
    on(&lab, "node2", "iptables-nft -I OUTPUT -p icmp -j DROP")?;
    let expected = Expected {
        layer: "mtu",
        cause: "packet-too-big",
        culprit: "",
        said: &[
            "too large",
            "node2",
            "PKT_TOO_BIG",
            "the error that would tell",
            "dropped at output",
        ],
    };
    diagnosed(&lab, ("a1", &download("3")), &expected)?;
    // With the errors the server sends less.
    on(&lab, "node2", "iptables-nft -D OUTPUT -p icmp -j DROP")?;
    healthy(&lab, "a1", &download(PATIENT))?;
    lab.down()
}

/// The link under the tunnel takes less than the tunnel's ends think: connections open, and hang when
/// they have much to say. Nobody sends an error.
#[test]
fn a_tunnel_that_is_larger_than_its_link_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node2").cluster_ip;
    let download = |seconds| {
        format!("curl -sS -o /dev/null --max-time {seconds} http://{service}/bytes/20000")
    };
    // A veth pair takes what the kernel is yet to cut, however large.
    for place in ["b2", "node2"] {
        on(&lab, place, "ethtool -K eth0 tso off gso off gro off")?;
    }
    // The switch's ends of the nodes' links.
    let ports = ["node1", "node2"];
    for port in ports {
        on(&lab, "switch", &format!("ip link set {port} mtu 1400"))?;
    }
    let server = format!("{}:8080", lab.pod("b2").ipv4);
    let expected = Expected {
        layer: "mtu",
        cause: "large-packets-lost",
        culprit: "node2",
        said: &[
            &server,
            "smaller ones do not",
            "probably",
            "sent",
            "no ICMP error",
        ],
    };
    diagnosed(&lab, ("a1", &download("4")), &expected)?;
    healthy(&lab, "a1", &curl(PATIENT, service))?;
    for port in ports {
        on(&lab, "switch", &format!("ip link set {port} mtu 1500"))?;
    }
    healthy(&lab, "a1", &download(PATIENT))?;
    lab.down()
}

/// What is for the other node's pods goes to the default gateway, which knows nothing of pods.
#[test]
fn a_default_route_that_takes_what_is_for_pods_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node2").cluster_ip;
    let node2 = lab.node("node2");
    let (cidr, subnet) = (node2.pod_cidr(), node2.subnet());
    on(&lab, "node1", &format!("ip route del {cidr}"))?;
    let target = lab.pod("b2").ipv4.to_string();
    let gateway = lab.outside().ipv4.to_string();
    let expected = Expected {
        layer: "routing",
        cause: "default-route-only",
        culprit: &target,
        said: &["no route on", "node1", &target, "by eth0 via", &gateway],
    };
    for from in ["a1", "node1"] {
        diagnosed(&lab, (from, &curl(LONG, service)), &expected)?;
    }
    // Rules that are for others change nothing, and one that is for this packet has another table asked.
    on(
        &lab,
        "node1",
        "ip rule add from 198.51.100.0/24 table 100 priority 100",
    )?;
    on(
        &lab,
        "node1",
        &format!("ip route add default via {gateway} table 101"),
    )?;
    on(&lab, "node1", "ip rule add iif cni0 table 101 priority 101")?;
    diagnosed(&lab, ("a1", &curl(LONG, service)), &expected)?;
    // What depends on a mark is not told.
    on(
        &lab,
        "node1",
        &format!("ip route add unreachable {cidr} table 102"),
    )?;
    on(
        &lab,
        "node1",
        "ip rule add fwmark 0x80/0x80 table 102 priority 90",
    )?;
    let flows = super::flows_of(&lab, "a1", &curl(LONG, service))?;
    let causes = flows.iter().map(|flow| flow.diagnosis_info.as_ref());
    let causes: Vec<&str> = causes.flatten().map(|info| info.cause.as_str()).collect();
    anyhow::ensure!(
        causes.len() == 1 && causes[0] != "default-route-only",
        "{flows:#?}"
    );
    for priority in [90, 100, 101] {
        on(&lab, "node1", &format!("ip rule del priority {priority}"))?;
    }
    on(
        &lab,
        "node1",
        &format!("ip route add {cidr} via {subnet} dev flannel.1 onlink"),
    )?;
    healthy(&lab, "a1", &curl(PATIENT, service))?;
    lab.down()
}
