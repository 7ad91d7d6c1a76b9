//! What was looked up names what is called: DNS answers are seen on the wire.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::server::dns::NOWHERE;
use tracer_tests::trace::json::{Answer, Flow};
use tracer_tests::trace::process::{self, Ended};

#[test]
fn a_call_has_the_name_that_was_looked_up_before() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let server = lab.service("kube-dns").cluster_ip;
    let called = lab.service("web-node1").cluster_ip;
    let label = called.to_string().replace('.', "-");
    let name = format!("{label}.default.pod.cluster.local");
    let missing = format!("{NOWHERE}.{name}");
    // As a resolver goes through its search path: one that is not there, then the one that is.
    let script = format!(
        "dig +short @{server} {missing}; dig +short @{server} {name}; curl -sS http://{called}/"
    );
    let run = |options: &[&str]| -> anyhow::Result<Ended> {
        let arguments = [
            &["run"],
            options,
            &["--pod", "a1", "--", "sh", "-c", &script],
        ]
        .concat();
        let ended: Ended = process::command_in(&lab, arguments)?.output()?.try_into()?;
        ensure!(ended.status.success(), "{ended:#?}");
        Ok(ended)
    };
    let trace = run(&["--json"])?.trace()?;
    let calls: Vec<&Flow> = trace
        .flows
        .iter()
        .filter(|flow| flow.proto == "tcp")
        .collect();
    let [call] = calls[..] else {
        anyhow::bail!("{:#?}", trace.flows);
    };
    ensure!(
        call.destination.asked.as_deref() == Some(&name),
        "{call:#?}"
    );
    ensure!(call.answers.is_empty(), "{call:#?}");
    let answer = |name: &str, code: &str, addresses: &[IpAddr]| Answer {
        truncated: false,
        took_ns: None,
        sent: 1,
        name: name.to_owned(),
        r#type: "A".to_owned(),
        code: code.to_owned(),
        addresses: addresses.to_owned(),
    };
    let expected = [
        answer(&missing, "NXDOMAIN", &[]),
        answer(&name, "NOERROR", &[called.into()]),
    ];
    let questions = trace.flows.iter().filter(|flow| flow.proto == "udp");
    let answers: Vec<Answer> = questions
        .flat_map(|flow| flow.answers.iter().cloned())
        .map(|answer| Answer {
            took_ns: answer.took_ns.filter(|&took| took == 0),
            ..answer
        })
        .collect();
    ensure!(answers == expected, "{answers:#?}");
    // People see both.
    let text = run(&["--summary"])?.stdout;
    for said in [
        format!("asked for as {name}"),
        format!("{missing} A NXDOMAIN"),
        format!("{name} A {called}"),
    ] {
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(plain.contains(&said), "no {said:?} in {text}");
    }
    lab.down().context("down")
}
