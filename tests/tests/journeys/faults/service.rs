//! Services without endpoints.

use anyhow::Context as _;
use tracer_tests::lab::{Config, Lab, Proxy};

use super::{Expected, PATIENT, SHORT, curl, diagnosed, healthy, on};

/// In each form of rules.
fn in_all_forms(test: impl Fn(&Lab) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for &proxy in Proxy::ALL {
        let lab = Lab::up(&Config {
            proxy,
            ..Config::default()
        })?;
        test(&lab).map_err(|error| error.context(proxy))?;
        lab.down()?;
    }
    Ok(())
}

#[test]
fn a_service_without_endpoints_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    in_all_forms(|lab| {
        let ghost = lab.service("ghost");
        let expected = Expected {
            layer: "service",
            cause: "no-endpoints",
            culprit: "default/ghost:http",
            said: &["no endpoints", "SYN", "node1", "endpointslices -n default"],
        };
        for from in ["a1", "node1"] {
            diagnosed(lab, (from, &curl(PATIENT, ghost.cluster_ip)), &expected)?;
            let url = format!("[{}]", ghost.cluster_ip6);
            diagnosed(lab, (from, &curl(PATIENT, url)), &expected)?;
            healthy(lab, from, &curl(PATIENT, lab.service("web").cluster_ip))?;
        }
        Ok(())
    })
}

#[test]
fn a_node_port_without_a_local_endpoint_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    in_all_forms(|lab| {
        let [one, two] = ["node1", "node2"].map(|node| format!("{}:30084", lab.node(node).ipv4));
        let expected = Expected {
            layer: "service",
            cause: "no-local-endpoints",
            culprit: "default/local-only:http",
            said: &["no endpoint on", "node1", "Local", "SYN"],
        };
        diagnosed(lab, ("outside", &curl(SHORT, one)), &expected)?;
        healthy(lab, "outside", &curl(PATIENT, two))
    })
}

/// The node does not see what its bridge switches, so nobody translates the answer back.
#[test]
fn an_answer_that_is_not_translated_back_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node1").cluster_ip;
    on(
        &lab,
        "node1",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
    )?;
    let expected = Expected {
        layer: "service",
        cause: "answer-not-translated",
        culprit: "net.bridge.bridge-nf-call-iptables",
        said: &[
            "10.244.1.3:8080",
            "bridge-nf-call-iptables is 0",
            "node1",
            "SYN-ACK",
        ],
    };
    diagnosed(&lab, ("a1", &curl(SHORT, service)), &expected)?;
    healthy(
        &lab,
        "a1",
        &curl(PATIENT, lab.service("web-node2").cluster_ip),
    )?;
    on(
        &lab,
        "node1",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
    )?;
    healthy(&lab, "a1", &curl(PATIENT, service))?;
    lab.down()
}

/// The rule that marks what an endpoint sends to its own Service is missing.
#[test]
fn a_hairpin_without_masquerade_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("hairpin").cluster_ip;
    let rules = lab.run(
        lab.command("node1", "iptables-nft")
            .args(["-t", "nat", "-S"]),
    )?;
    let marks = |line: &&str| {
        line.contains("--comment \"default/hairpin\"") && line.ends_with("-j KUBE-MARK-MASQ")
    };
    let own = rules
        .lines()
        .filter(marks)
        .find(|line| line.contains("-s "));
    let chain = own.and_then(|line| line.split(' ').nth(1));
    let chain = chain.context("no rule marks a hairpin")?;
    on(&lab, "node1", &format!("iptables-nft -t nat -D {chain} 1"))?;
    let expected = Expected {
        layer: "service",
        cause: "hairpin-not-masqueraded",
        culprit: "default/hairpin",
        said: &["calls itself", "nothing in", "node1", "masquerades"],
    };
    diagnosed(&lab, ("b1", &curl(SHORT, service)), &expected)?;
    let pod = lab.pod("b1").ipv4;
    let back = format!("iptables-nft -t nat -I {chain} 1 -s {pod} -j KUBE-MARK-MASQ");
    on(&lab, "node1", &back)?;
    healthy(&lab, "b1", &curl(PATIENT, service))?;
    lab.down()
}
