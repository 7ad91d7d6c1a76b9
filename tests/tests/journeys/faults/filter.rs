//! Rules that drop.

use tracer_tests::lab::{Config, HTTP_PORT, Lab, Proxy};

use super::{Expected, PATIENT, SHORT, curl, diagnosed, healthy, on};

#[test]
fn a_rule_that_drops_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    for &proxy in Proxy::ALL {
        let lab = Lab::up(&Config {
            proxy,
            ..Config::default()
        })?;
        let client = curl(SHORT, lab.service("web-node1").cluster_ip);
        let (culprit, text) = match proxy {
            Proxy::Nftables => ("lab-drop-", "drop"),
            Proxy::IptablesNft | Proxy::IptablesLegacy => {
                ("filter FORWARD rule 1", "dropped by the lab")
            }
        };
        let expected = Expected {
            layer: "filter",
            cause: "dropped-by-rule",
            culprit,
            said: &[
                "node1",
                "drops the client's packets",
                text,
                "1 SYN dropped at forward",
            ],
        };
        let rule = lab.drop_forward("node1", lab.pod("b1").ipv4.into(), HTTP_PORT)?;
        diagnosed(&lab, ("a1", &client), &expected)?;
        rule.remove()?;
        healthy(
            &lab,
            "a1",
            &curl(PATIENT, lab.service("web-node1").cluster_ip),
        )?;
        lab.down()?;
    }
    Ok(())
}

#[test]
fn a_policy_that_drops_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node2").cluster_ip;
    on(&lab, "node1", "iptables-nft -P FORWARD DROP")?;
    let expected = Expected {
        layer: "filter",
        cause: "dropped-by-rule",
        culprit: "filter FORWARD policy",
        said: &["the policy of filter FORWARD", "node1", "SYN"],
    };
    diagnosed(&lab, ("a1", &curl(SHORT, service)), &expected)?;
    // What comes from outside is marked by kube-proxy and let through.
    let node_port = format!("{}:30080", lab.node("node1").ipv4);
    healthy(&lab, "outside", &curl(PATIENT, node_port))?;
    on(&lab, "node1", "iptables-nft -P FORWARD ACCEPT")?;
    healthy(&lab, "a1", &curl(PATIENT, service))?;
    lab.down()
}

#[test]
fn a_rule_that_rejects_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let client = curl(PATIENT, lab.service("web-node1").cluster_ip);
    let rule = "FORWARD -p tcp --dport 8080 -j REJECT";
    on(&lab, "node1", &format!("iptables-nft -I {rule}"))?;
    let expected = Expected {
        layer: "filter",
        cause: "rejected-by-rule",
        culprit: "filter FORWARD rule 1",
        said: &["rejects", "icmp-port-unreachable", "node1"],
    };
    diagnosed(&lab, ("a1", &client), &expected)?;
    on(&lab, "node1", &format!("iptables-nft -D {rule}"))?;
    healthy(&lab, "a1", &client)?;
    lab.down()
}

/// The answers are dropped where they come out of the tunnel's packets.
#[test]
fn a_tunnel_that_is_filtered_on_the_other_node_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node2").cluster_ip;
    on(
        &lab,
        "node2",
        "iptables-nft -I INPUT -p udp --dport 8472 -j DROP",
    )?;
    let expected = Expected {
        layer: "filter",
        cause: "dropped-by-rule",
        culprit: "filter INPUT rule 1",
        said: &["node2", "8472", "SYN"],
    };
    diagnosed(&lab, ("a1", &curl(SHORT, service)), &expected)?;
    on(
        &lab,
        "node2",
        "iptables-nft -D INPUT -p udp --dport 8472 -j DROP",
    )?;
    healthy(&lab, "a1", &curl(PATIENT, service))?;
    lab.down()
}
