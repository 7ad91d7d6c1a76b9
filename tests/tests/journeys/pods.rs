//! Pods: their names at both ends and on the way, in filters and for `run`, also when one takes the
//! place of another.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tracer_tests::lab::{Config, DNS_PORT, HTTP_PORT, Lab};
use tracer_tests::trace::json::{Flow, Trace};
use tracer_tests::trace::process::{self, Ended, Running, wait_until};

use super::noise::Noise;

/// The client ports of what is looked for.
const FILTERED: u16 = 26000;
const REPLACED: u16 = 26500;

fn run(lab: &Lab, arguments: &[&str]) -> anyhow::Result<Ended> {
    process::command_in(lab, arguments)?.output()?.try_into()
}

/// The pods at a flow's ends.
fn pods(flow: &Flow) -> [Option<&str>; 2] {
    let backend = flow.backend.as_ref();
    [
        flow.client.pod.as_deref(),
        backend.and_then(|backend| backend.pod.as_deref()),
    ]
}

#[test]
fn a_command_runs_in_a_pod_and_its_flow_has_the_names_of_both() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let url = |service: &str| format!("http://{}/", lab.service(service).cluster_ip);
    for (service, server) in [("web-node1", "b1"), ("web-node2", "b2")] {
        let curl = ["--", "curl", "-sS", &url(service)];
        let arguments = ["run", "--json", "--pod", "default/a1"];
        let ended = run(&lab, &[&arguments[..], &curl].concat())?;
        ensure!(ended.status.success(), "{ended:#?}");
        ensure!(
            ended.stderr.contains(&format!("server: {server}")),
            "{}",
            ended.stderr
        );
        let trace = ended.trace()?;
        let [flow] = &trace.flows[..] else {
            anyhow::bail!("{:#?}", trace.flows);
        };
        ensure!(flow.client.addr.ip() == IpAddr::from(lab.pod("a1").ipv4));
        let server = lab.pod(server);
        ensure!(
            pods(flow) == [Some("default/a1"), Some(&server.full_name())],
            "{flow:#?}"
        );
        ensure!(
            flow.client.netns.as_deref() == Some(&lab.netns("a1")),
            "{flow:#?}"
        );
        hops_have_their_pods(&lab, &trace)?;
    }
    // A name without a namespace, and text.
    let ended = run(
        &lab,
        &["run", "--pod", "a1", "--", "curl", "-sS", &url("web-node1")],
    )?;
    for said in [
        "(default/a1 curl[",
        "(default/b1 lab-server[",
        " default/a1 ",
        " default/b1 ",
    ] {
        ensure!(ended.stdout.contains(said), "{said:?} in {}", ended.stdout);
    }
    ensure!(!ended.stdout.contains(&lab.netns("a1")), "{}", ended.stdout);
    lab.down()
}

/// Every hop in a pod's namespace has the pod's name, and no other has any.
fn hops_have_their_pods(lab: &Lab, trace: &Trace) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for hop in trace.packets.iter().flat_map(|packet| &packet.hops) {
        let pod = lab
            .pods()
            .iter()
            .find(|pod| hop.netns.as_ref() == Some(&pod.netns));
        let name = pod.map(tracer_tests::lab::Pod::full_name);
        ensure!(hop.pod == name, "{hop:#?}");
        seen.extend(name);
    }
    ensure!(seen.len() == 2, "{seen:?}");
    Ok(())
}

#[test]
fn a_pod_that_is_not_there_is_answered_with_one_that_is() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let refused = |arguments: &[&str], status, said: &str| -> anyhow::Result<()> {
        let ended = run(&lab, arguments)?;
        let as_expected = ended.status.code() == Some(status) && ended.stderr.contains(said);
        ensure!(
            as_expected && ended.stdout.is_empty(),
            "{said:?}: {ended:#?}"
        );
        Ok(())
    };
    let run_in = |pod| ["run", "--pod", pod, "--", "true"];
    refused(
        &run_in("shop/a1"),
        1,
        "no pod on this node is called shop/a1 (is it default/a1?)",
    )?;
    refused(&run_in("a1/b/c"), 2, "NAMESPACE/NAME")?;
    refused(
        &["run", "--netns", "x", "--pod", "a1", "--", "true"],
        2,
        "cannot be used with",
    )?;
    refused(&["watch", "pod shop/b2"], 2, "similar: `default/b2`")?;
    refused(
        &["run", "pod c9", "--", "true"],
        2,
        "no pod on this node is called `default/c9`",
    )?;
    lab.down()
}

#[test]
fn what_is_known_of_a_pod_is_shown_with_its_source() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let ended = run(&lab, &["names", "--json"])?;
    let lines: Result<Vec<Value>, _> = ended.stdout.lines().map(serde_json::from_str).collect();
    let lines = lines?;
    for pod in lab.pods() {
        let name = pod.full_name();
        let of_pod = |line: &&Value| line["type"] == "pod" && line["pod"] == name.as_str();
        let line = lines.iter().find(of_pod).with_context(|| name.clone())?;
        ensure!(line["uid"] == pod.identity.uid.as_str(), "{line:#}");
        ensure!(line["netns"]["name"] == pod.netns.as_str(), "{line:#}");
        ensure!(line["addresses"][0] == pod.ipv4.to_string(), "{line:#}");
        let first = &line["sources"][0];
        ensure!(first["source"] == "cni-result", "{line:#}");
        let facts = first["facts"].to_string();
        ensure!(facts == r#"["name","uid","network","address"]"#, "{facts}");
        let of_netns =
            |line: &&Value| line["type"] == "namespace" && line["name"] == pod.netns.as_str();
        let netns = lines.iter().find(of_netns).context("no namespace")?;
        ensure!(netns["pod"] == name.as_str(), "{netns:#}");
    }
    let text = run(&lab, &["names"])?.stdout;
    ensure!(text.contains("pod default/a1  uid "), "{text}");
    lab.down()
}

#[test]
fn a_pod_filter_shows_the_pods_flows_whole_and_nothing_else() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let b2 = lab.pod("b2");
    let service = lab.service("web-node2").cluster_ip;
    let watch = Running::watch_in(&lab, ["--json", "pod b2 and tcp"])?;
    let noise = [
        Noise::start(
            &lab,
            "a2",
            &format!("http://{}:{HTTP_PORT}/", lab.pod("b1").ipv4),
        )?,
        Noise::start(
            &lab,
            "node1",
            &format!("http://{}/", lab.service("web-node1").cluster_ip),
        )?,
    ];
    for noise in &noise {
        noise.wait_for_one()?;
    }
    // As a backend, by a Service and by its address; as a client.
    let calls = [
        ("a1", service, 80),
        ("a2", b2.ipv4, HTTP_PORT),
        ("b2", lab.pod("b1").ipv4, HTTP_PORT),
    ];
    for (index, (from, to, port)) in (0u16..).zip(calls) {
        let mut curl = lab.command(from, "curl");
        curl.args(["-sS", "--local-port", &(FILTERED + index).to_string()]);
        lab.run(curl.arg(format!("http://{to}:{port}/")))?;
    }
    wait_until(|| {
        let trace = Trace::read(watch.output().lines())?;
        Ok((trace.flows.len() < calls.len()).then(|| "not all flows are over".to_owned()))
    })?;
    let trace = watch.stop()?;
    drop(noise);
    ensure!(trace.flows.len() == calls.len(), "{:#?}", trace.flows);
    for flow in &trace.flows {
        ensure!(pods(flow).contains(&Some("default/b2")), "{flow:#?}");
        let packets = trace.packets_of(flow).len();
        ensure!(
            packets as u64 == flow.packets.original + flow.packets.reply,
            "{flow:#?}"
        );
    }
    let clients: BTreeSet<Option<&str>> = trace.flows.iter().map(|flow| pods(flow)[0]).collect();
    ensure!(
        clients == BTreeSet::from([Some("default/a1"), Some("default/a2"), Some("default/b2")])
    );
    lab.down()
}

/// Asks a DNS question from that port of `a1`.
fn ask(lab: &Lab, port: u16, server: IpAddr) -> anyhow::Result<SocketAddr> {
    let client = SocketAddr::new(lab.pod("a1").ipv4.into(), port);
    let mut dig = lab.command("a1", "dig");
    dig.args(["-b", &format!("{}#{port}", client.ip())]);
    dig.args([
        "-p",
        &DNS_PORT.to_string(),
        &format!("@{server}"),
        "example.org",
        "+short",
    ]);
    let answer = lab.run(&mut dig)?;
    ensure!(
        !answer.trim().is_empty() && !answer.contains("timed out"),
        "{answer}"
    );
    Ok(client)
}

fn connect(lab: &Lab, port: u16, server: IpAddr) -> anyhow::Result<SocketAddr> {
    let client = SocketAddr::new(lab.pod("a1").ipv4.into(), port);
    let mut curl = lab.command("a1", "curl");
    curl.args(["-sS", "--max-time", "30", "--local-port", &port.to_string()]);
    lab.run(curl.arg(format!("http://{server}:{HTTP_PORT}/")))?;
    Ok(client)
}

#[test]
fn a_pod_that_takes_anothers_place_and_address_takes_its_own_flows_only() -> anyhow::Result<()> {
    needs_a_lab!();
    let mut lab = Lab::up(&Config::default())?;
    let before = lab.pod("b1").clone();
    let server = IpAddr::from(before.ipv4);
    let ports = format!("portrange {REPLACED}-{}", REPLACED + 99);
    let watch = Running::watch_in(&lab, ["--json", &ports])?;
    // A flow over UDP is not over before it was silent for two minutes: it is reported at the end,
    // when its pod is long gone.
    let old_udp = ask(&lab, REPLACED, server)?;
    let old_tcp = connect(&lab, REPLACED + 1, server)?;
    lab.delete_pod("b1")?;
    lab.replace_pod("b3", &before)?;
    ensure!(
        IpAddr::from(lab.pod("b3").ipv4) == server,
        "it has another address"
    );
    // At once: the first flows of the new pod have its name already.
    let new_tcp = connect(&lab, REPLACED + 2, server)?;
    let new_udp = ask(&lab, REPLACED + 3, server)?;
    // And once more, back to the old name.
    let second = lab.delete_pod("b3")?;
    lab.replace_pod("b1", &second)?;
    let again = connect(&lab, REPLACED + 4, server)?;
    wait_until(|| {
        let trace = Trace::read(watch.output().lines())?;
        let over = trace.flow("tcp", again).is_ok();
        Ok((!over).then(|| "the last flow is not over".to_owned()))
    })?;
    let trace = watch.stop()?;

    let expected = [
        ("udp", old_udp, "default/b1"),
        ("tcp", old_tcp, "default/b1"),
        ("tcp", new_tcp, "default/b3"),
        ("udp", new_udp, "default/b3"),
        ("tcp", again, "default/b1"),
    ];
    for (proto, client, pod) in expected {
        let flow = trace.flow(proto, client)?;
        ensure!(
            pods(flow) == [Some("default/a1"), Some(pod)],
            "{pod}: {flow:#?}"
        );
        for packet in trace.packets_of(flow) {
            let of_pod = packet.hops.iter().filter_map(|hop| hop.pod.as_deref());
            let others: Vec<&str> = of_pod
                .filter(|name| !["default/a1", pod].contains(name))
                .collect();
            ensure!(others.is_empty(), "{pod}: {others:?} in {packet:#?}");
        }
    }
    lab.down()
}
