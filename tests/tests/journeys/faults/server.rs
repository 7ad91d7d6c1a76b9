//! Servers that do not listen, or not where they are called.

use std::net::SocketAddr;

use anyhow::Context as _;
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::process;

use super::{Expected, PATIENT, SHORT, curl, diagnosed, healthy, is_diagnosed};

#[test]
fn a_port_that_nobody_listens_on_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    for (from, pod) in [("a1", "b1"), ("a1", "b2"), ("node1", "b1")] {
        let target = format!("{}:9", lab.pod(pod).ipv4);
        let netns = lab.netns(pod);
        let expected = Expected {
            layer: "server",
            cause: "nothing-listens",
            culprit: &target,
            said: &[
                "nothing listens on TCP",
                &target,
                &netns,
                "RST from",
                "ss -ltnp",
            ],
        };
        diagnosed(&lab, (from, &curl(PATIENT, &target)), &expected)?;
        healthy(
            &lab,
            from,
            &curl(PATIENT, format!("{}:8080", lab.pod(pod).ipv4)),
        )?;
    }
    let expected = Expected {
        layer: "loopback",
        cause: "nothing-listens",
        culprit: "127.0.0.1:9",
        said: &["nothing listens", &lab.netns("a1")],
    };
    diagnosed(&lab, ("a1", &curl(PATIENT, "127.0.0.1:9")), &expected)?;
    lab.down()
}

#[test]
fn a_udp_port_that_nobody_listens_on_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let pod = lab.pod("b1").ipv4;
    let dig = |port: u16| format!("dig @{pod} -p {port} +tries=1 +time=1 +short web.default");
    let target = format!("{pod}:53");
    let expected = Expected {
        layer: "server",
        cause: "nothing-listens",
        culprit: &target,
        said: &[
            "nothing listens on UDP",
            "ICMP port unreachable from",
            "ss -lunp",
        ],
    };
    diagnosed(&lab, ("a1", &dig(53)), &expected)?;
    healthy(&lab, "a1", &dig(5353))?;
    lab.down()
}

#[test]
fn a_refusal_from_outside_is_told_as_such() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let target = format!("{}:9", lab.outside().ipv4);
    let expected = Expected {
        layer: "server",
        cause: "nothing-listens",
        culprit: &target,
        said: &["nothing listens", &lab.outside().netns],
    };
    diagnosed(&lab, ("a1", &curl(PATIENT, &target)), &expected)?;
    lab.down()
}

/// kube-scheduler listens on 127.0.0.1 unless told otherwise, and is called by the node's address; any
/// server may do the same in a pod.
#[test]
fn a_server_that_listens_on_loopback_only_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let node = lab.node("node1").ipv4;
    let target = format!("{node}:10259");
    let expected = Expected {
        layer: "server",
        cause: "listens-elsewhere",
        culprit: &target,
        said: &[
            "kube-scheduler (pid",
            "listens at 127.0.0.1:10259 only",
            "have it listen there by its --bind-address",
            "node1",
        ],
    };
    let loopback = SocketAddr::from(([127, 0, 0, 1], 10259));
    let server = lab.serve_at("node1", "kube-scheduler", loopback)?;
    for from in ["node1", "outside"] {
        diagnosed(&lab, (from, &curl(PATIENT, &target)), &expected)?;
    }
    drop(server);
    in_pod(&lab)?;
    let expected = Expected {
        cause: "nothing-listens",
        said: &["nothing listens on TCP", &target],
        ..expected
    };
    diagnosed(&lab, ("outside", &curl(PATIENT, &target)), &expected)?;
    let anywhere = lab.listen("node1", "0.0.0.0:10259")?;
    healthy(&lab, "outside", &curl(SHORT, &target))?;
    drop(anywhere);
    lab.down()
}

/// A recording concludes the same, and by a Service it is the endpoint that is named.
fn in_pod(lab: &Lab) -> anyhow::Result<()> {
    let pod = lab.pod("b1").ipv4;
    let target = format!("{pod}:9090");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 9090));
    let server = lab.serve_at("b1", "my-server", loopback)?;
    let have = format!("have it listen on {pod} or 0.0.0.0");
    let expected = Expected {
        layer: "server",
        cause: "listens-elsewhere",
        culprit: &target,
        said: &["my-server (pid", "listens at 127.0.0.1:9090 only", &have],
    };
    let file = lab.directory().join("listens.rec");
    let path = file.to_str().context("a path that is text")?;
    let netns = lab.netns("a1");
    let client = curl(PATIENT, &target);
    let arguments = ["run", "--netns", &netns, "--json", "--record", path, "--"];
    let ended = process::run(arguments.into_iter().chain(client.split(' ')))?;
    let replayed = process::run(["replay", path, "--json"])?;
    for ended in [ended, replayed] {
        let flows = ended.trace()?.flows;
        let [flow] = &flows[..] else {
            anyhow::bail!("{flows:#?}");
        };
        is_diagnosed(flow, &expected)?;
    }
    drop(server);
    Ok(())
}

#[test]
fn a_dns_server_that_says_nothing_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let pod = lab.pod("b1").ipv4;
    let silent = lab.take_datagrams("b1", "0.0.0.0:53")?;
    let client = format!("dig @{pod} +tries=1 +time=2 +short web.default");
    let target = format!("{pod}:53");
    let expected = Expected {
        layer: "dns",
        cause: "server-silent",
        culprit: "socket",
        said: &[
            "gets what it is asked and does not answer",
            &target,
            "1 datagram",
        ],
    };
    diagnosed(&lab, ("a1", &client), &expected)?;
    drop(silent);
    let dns = lab.service("kube-dns").cluster_ip;
    healthy(&lab, "a1", &format!("dig @{dns} +short web.default"))?;
    lab.down()
}
