//! Every variant of the lab raises, and every path in it works with real clients: curl and dig,
//! with conntrack and tcpdump as witnesses. What a server says of its client's address shows the
//! translations. Needs root.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::process::Output;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::proxy::{self, Family};
use tracer_tests::lab::{
    Config, Fabric, HTTP_PORT, Lab, Plugin, Proxy, proxy_view, requirement, tcp_closed,
};
use tracer_tests::ruleset;
use tracer_tests::server::dns;

/// curl's exit status when it could not connect, and when time ran out.
const REFUSED: i32 = 7;
const TIMED_OUT: i32 = 28;
/// No test waits this long unless something is broken.
const GENEROUS: &str = "30";

/// A server's answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    server: String,
    client: IpAddr,
}

fn url(host: impl Into<IpAddr>, port: u16) -> String {
    format!("http://{}/", std::net::SocketAddr::new(host.into(), port))
}

fn curl(lab: &Lab, from: &str, url: &str, seconds: &str) -> anyhow::Result<Output> {
    let mut curl = lab.command(from, "curl");
    curl.args(["--silent", "--show-error", "--max-time", seconds, url]);
    Ok(curl.output()?)
}

/// Gets `/` and takes the answer apart.
fn get(lab: &Lab, from: &str, host: impl Into<IpAddr>, port: u16) -> anyhow::Result<Answer> {
    let url = url(host, port);
    let output = curl(lab, from, &url, GENEROUS)?;
    let text = String::from_utf8(output.stdout)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{from} -> {url}: {}: {said}",
        output.status
    );
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("{from} -> {url}: no {name:?} in {text:?}"))
    };
    Ok(Answer {
        server: field("server: ")?.to_owned(),
        client: field("client: ")?.parse::<std::net::SocketAddr>()?.ip(),
    })
}

fn expect(
    lab: &Lab,
    from: &str,
    (host, port): (impl Into<IpAddr>, u16),
    server: &str,
    client: impl Into<IpAddr>,
) -> anyhow::Result<()> {
    let expected = Answer {
        server: server.to_owned(),
        client: client.into(),
    };
    let host = host.into();
    let got = get(lab, from, host, port)?;
    ensure!(
        got == expected,
        "{from} -> {host}:{port}: {got:?} instead of {expected:?}"
    );
    Ok(())
}

fn expect_failure(
    lab: &Lab,
    from: &str,
    url: &str,
    seconds: &str,
    status: i32,
) -> anyhow::Result<()> {
    let output = curl(lab, from, url, seconds)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(status),
        "{from} -> {url}: {}: {said}",
        output.status
    );
    Ok(())
}

fn pod_to_pod(lab: &Lab) -> anyhow::Result<()> {
    let (a1, b1, b2) = (lab.pod("a1"), lab.pod("b1"), lab.pod("b2"));
    expect(lab, "a1", (b1.ipv4, HTTP_PORT), "b1", a1.ipv4)?;
    expect(lab, "a1", (b2.ipv4, HTTP_PORT), "b2", a1.ipv4)?;
    expect(lab, "a1", (b1.ipv6, HTTP_PORT), "b1", a1.ipv6)?;
    expect(lab, "a1", (b2.ipv6, HTTP_PORT), "b2", a1.ipv6)?;
    expect(lab, "a2", (b1.ipv4, HTTP_PORT), "b1", lab.pod("a2").ipv4)
}

fn pod_to_cluster_ip(lab: &Lab) -> anyhow::Result<()> {
    let a1 = lab.pod("a1");
    for (name, server) in [("web-node1", "b1"), ("web-node2", "b2")] {
        let service = lab.service(name);
        expect(lab, "a1", (service.cluster_ip, 80), server, a1.ipv4)?;
        expect(lab, "a1", (service.cluster_ip6, 80), server, a1.ipv6)?;
    }
    // Chosen at random: after so many calls a missing endpoint is no bad luck.
    let web = lab.service("web");
    let mut servers = BTreeSet::new();
    for _ in 0..100 {
        servers.insert(get(lab, "a1", web.cluster_ip, 80)?.server);
        if servers.len() == web.endpoints.len() {
            return Ok(());
        }
    }
    anyhow::bail!("only {servers:?} of two endpoints answer")
}

fn hairpin(lab: &Lab) -> anyhow::Result<()> {
    let (service, node) = (lab.service("hairpin"), lab.node("node1"));
    let gateway4 = u32::from(node.subnet()) + 1;
    let gateway6 = u128::from(node.subnet6()) + 1;
    let (ip, ip6) = (service.cluster_ip, service.cluster_ip6);
    expect(
        lab,
        "b1",
        (ip, 80),
        "b1",
        std::net::Ipv4Addr::from(gateway4),
    )?;
    expect(
        lab,
        "b1",
        (ip6, 80),
        "b1",
        std::net::Ipv6Addr::from(gateway6),
    )
}

fn node_to_cluster_ip(lab: &Lab) -> anyhow::Result<()> {
    let node = lab.node("node1");
    let gateway = std::net::Ipv4Addr::from(u32::from(node.subnet()) + 1);
    let source = match lab.config().fabric {
        Fabric::Vxlan => node.subnet(),
        Fabric::Routed => node.ipv4,
    };
    expect(
        lab,
        "node1",
        (lab.service("web-node1").cluster_ip, 80),
        "b1",
        gateway,
    )?;
    expect(
        lab,
        "node1",
        (lab.service("web-node2").cluster_ip, 80),
        "b2",
        source,
    )?;
    let answer = get(lab, "node1", lab.service("web-node2").cluster_ip6, 80)?;
    ensure!(answer.server == "b2", "{answer:?}");
    Ok(())
}

fn outside_to_node_port(lab: &Lab) -> anyhow::Result<()> {
    let port = lab
        .service("web-nodeport")
        .node_port
        .context("no node port")?;
    for node in lab.nodes() {
        for host in [IpAddr::from(node.ipv4), IpAddr::from(node.ipv6)] {
            let answer = get(lab, "outside", host, port)?;
            ensure!(answer.server == "b1", "{host}: {answer:?}");
            let outside = [lab.outside().ipv4.into(), lab.outside().ipv6.into()];
            ensure!(!outside.contains(&answer.client), "{host}: not masqueraded");
        }
    }
    // externalTrafficPolicy Local: the client's address is kept, on the endpoint's node.
    let local = lab
        .service("local-only")
        .node_port
        .context("no node port")?;
    let (node2, outside) = (lab.node("node2"), lab.outside());
    expect(lab, "outside", (node2.ipv4, local), "b2", outside.ipv4)?;
    expect(lab, "outside", (node2.ipv6, local), "b2", outside.ipv6)
}

fn pod_to_outside(lab: &Lab) -> anyhow::Result<()> {
    let (outside, node) = (lab.outside(), lab.node("node1"));
    expect(lab, "a1", (outside.ipv4, HTTP_PORT), "outside", node.ipv4)?;
    expect(lab, "a1", (outside.ipv6, HTTP_PORT), "outside", node.ipv6)
}

fn refusals(lab: &Lab) -> anyhow::Result<()> {
    let ghost = lab.service("ghost");
    expect_failure(lab, "a1", &url(ghost.cluster_ip, 80), GENEROUS, REFUSED)?;
    expect_failure(lab, "a1", &url(ghost.cluster_ip6, 80), GENEROUS, REFUSED)?;
    expect_failure(lab, "node1", &url(ghost.cluster_ip, 80), GENEROUS, REFUSED)?;
    expect_failure(lab, "a1", &url([127, 0, 0, 1], 9), GENEROUS, REFUSED)
}

fn dns_over_udp(lab: &Lab) -> anyhow::Result<()> {
    let service = lab.service("kube-dns");
    let questions: [(&str, IpAddr, &str, &dyn Display); 3] = [
        ("a1", service.cluster_ip.into(), "A", &dns::ANSWER),
        ("a2", service.cluster_ip.into(), "AAAA", &dns::ANSWER6),
        ("a1", service.cluster_ip6.into(), "A", &dns::ANSWER),
    ];
    for (from, server, kind, expected) in questions {
        let mut dig = lab.command(from, "dig");
        let answer = lab.run(dig.args([&format!("@{server}"), "web.default", kind, "+short"]))?;
        ensure!(
            answer.trim() == expected.to_string(),
            "{from} {kind}: {answer:?}"
        );
    }
    Ok(())
}

/// A dropped connection times out, the rule has counted it, and the connection after the rule's
/// removal works.
fn forward_drop(lab: &Lab) -> anyhow::Result<()> {
    let (service, b2) = (lab.service("web-node2"), lab.pod("b2"));
    let (ip, ip6) = (service.cluster_ip, service.cluster_ip6);
    let targets = [
        (IpAddr::from(ip), IpAddr::from(b2.ipv4)),
        (IpAddr::from(ip6), IpAddr::from(b2.ipv6)),
    ];
    for (cluster_ip, endpoint) in targets {
        let before = lab.fingerprint("node1")?;
        let rule = lab.drop_forward("node1", endpoint, HTTP_PORT)?;
        expect_failure(lab, "a1", &url(cluster_ip, 80), "1", TIMED_OUT)?;
        ensure!(
            rule.packets()? > 0,
            "{cluster_ip}: the rule has dropped nothing"
        );
        ensure!(
            lab.fingerprint("node1")? != before,
            "the rule is not in the fingerprint"
        );
        rule.remove()?;
        get(lab, "a1", cluster_ip, 80)?;
        let after = lab.fingerprint("node1")?;
        ensure!(
            after == before,
            "traffic and a removed rule have left something"
        );
    }
    Ok(())
}

/// conntrack shows the translation; tcpdump sees each packet on both ends of the pod's veth.
fn witnesses(lab: &Lab) -> anyhow::Result<()> {
    let (a1, service) = (lab.pod("a1"), lab.service("web-node2"));
    let filter = format!("tcp and host {}", service.cluster_ip);
    let inside = lab.capture("a1", "eth0", &filter)?;
    let host_side = lab.capture("node1", &a1.veth, &filter)?;
    get(lab, "a1", service.cluster_ip, 80)?;
    let closed = |packets: &[String]| tcp_closed(packets, 1);
    let (inside, host_side) = (inside.stop_when(closed)?, host_side.stop_when(closed)?);
    ensure!(
        inside.len() == host_side.len(),
        "{inside:#?}\n{host_side:#?}"
    );
    let count = |text: &str| inside.iter().filter(|packet| packet.contains(text)).count();
    ensure!(
        count("Flags [S],") == 1 && count("Flags [S.],") == 1,
        "{inside:#?}"
    );
    let entry = format!("src={} dst={}", a1.ipv4, service.cluster_ip);
    let reply = format!("src={} dst={}", lab.pod("b2").ipv4, a1.ipv4);
    let table = lab.conntrack("node1")?;
    let translated = |line: &str| line.contains(&entry) && line.contains(&reply);
    ensure!(table.lines().any(translated), "{table}");
    Ok(())
}

/// The nodes hold exactly the rules that the generators gave, and flanneld's masquerading.
fn rules(lab: &Lab) -> anyhow::Result<()> {
    for node in lab.nodes() {
        for family in Family::ALL {
            let view = proxy_view(node, family, lab.services());
            match lab.config().proxy {
                Proxy::Nftables => nftables_rules(lab, &node.name, &view)?,
                Proxy::IptablesNft => iptables_rules(lab, &node.name, &view, "nft")?,
                Proxy::IptablesLegacy => iptables_rules(lab, &node.name, &view, "legacy")?,
            }
        }
    }
    Ok(())
}

fn nftables_rules(lab: &Lab, node: &str, view: &proxy::Node) -> anyhow::Result<()> {
    let listed = lab.run(lab.command(node, "nft").args(["list", "ruleset"]))?;
    let mut listed = ruleset::nftables(&listed);
    for (name, table) in ruleset::nftables(&proxy::nftables::rules(view)) {
        let listed = listed.remove(&name).context("no such table")?;
        ensure!(listed == table, "{node}: {listed:#?}\n{table:#?}");
    }
    let masquerading = match view.family {
        Family::Ipv4 => "ip flannel-ipv4",
        Family::Ipv6 => "ip6 flannel-ipv6",
    };
    ensure!(listed.contains_key(masquerading), "{node}: no masquerading");
    Ok(())
}

fn iptables_rules(lab: &Lab, node: &str, view: &proxy::Node, backend: &str) -> anyhow::Result<()> {
    let tool = match view.family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    };
    let save = format!("{tool}-{backend}-save");
    let mut saved = ruleset::iptables(&lab.run(&mut lab.command(node, save))?);
    let meant = ruleset::iptables(&proxy::iptables::rules(view));
    let nat = saved.get_mut("nat").context("no nat table")?;
    let masquerading = nat.rules.remove("FLANNEL-POSTRTG");
    ensure!(masquerading.is_some(), "{node}: no masquerading");
    ensure!(nat.chains.remove("FLANNEL-POSTRTG"));
    let jump = nat.rules.get_mut("POSTROUTING").and_then(Vec::pop);
    ensure!(jump.is_some_and(|jump| jump.ends_with("FLANNEL-POSTRTG")));
    ensure!(saved == meant, "{node}: {saved:#?}\n{meant:#?}");
    Ok(())
}

fn every_path(plugin: Plugin, fabric: Fabric, proxy: Proxy) -> anyhow::Result<()> {
    if let Some(reason) = requirement::unavailable() {
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    let lab = Lab::up(&Config {
        plugin,
        fabric,
        proxy,
    })?;
    rules(&lab)?;
    pod_to_pod(&lab)?;
    pod_to_cluster_ip(&lab)?;
    hairpin(&lab)?;
    node_to_cluster_ip(&lab)?;
    outside_to_node_port(&lab)?;
    pod_to_outside(&lab)?;
    refusals(&lab)?;
    dns_over_udp(&lab)?;
    forward_drop(&lab)?;
    witnesses(&lab)?;
    lab.down()
}

/// One test a variant, so that they run side by side and a failure names the variant.
macro_rules! variants {
    ($($name:ident: $plugin:ident, $fabric:ident, $proxy:ident;)+) => {
        $(#[test]
        fn $name() -> anyhow::Result<()> {
            every_path(Plugin::$plugin, Fabric::$fabric, Proxy::$proxy)
        })+

        #[test]
        fn every_variant_has_a_test() {
            let tested = [$(Config {
                plugin: Plugin::$plugin,
                fabric: Fabric::$fabric,
                proxy: Proxy::$proxy,
            },)+];
            assert!(Config::all().all(|config| tested.contains(&config)));
        }
    };
}

variants! {
    bridge_vxlan_iptables_nft: Bridge, Vxlan, IptablesNft;
    bridge_vxlan_iptables_legacy: Bridge, Vxlan, IptablesLegacy;
    bridge_vxlan_nftables: Bridge, Vxlan, Nftables;
    bridge_routed_iptables_nft: Bridge, Routed, IptablesNft;
    bridge_routed_iptables_legacy: Bridge, Routed, IptablesLegacy;
    bridge_routed_nftables: Bridge, Routed, Nftables;
    ptp_vxlan_iptables_nft: Ptp, Vxlan, IptablesNft;
    ptp_vxlan_iptables_legacy: Ptp, Vxlan, IptablesLegacy;
    ptp_vxlan_nftables: Ptp, Vxlan, Nftables;
    ptp_routed_iptables_nft: Ptp, Routed, IptablesNft;
    ptp_routed_iptables_legacy: Ptp, Routed, IptablesLegacy;
    ptp_routed_nftables: Ptp, Routed, Nftables;
}
