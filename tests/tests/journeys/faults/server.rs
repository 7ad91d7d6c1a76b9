//! Servers that do not listen, or not where they are called.

use tracer_tests::lab::{Config, Lab};

use super::{Expected, PATIENT, curl, diagnosed, healthy};

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
