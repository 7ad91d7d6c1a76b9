//! Services in filters: whoever calls one, by whatever address of it, is shown whole, and nobody else;
//! live, from a recording, and when a Service gets another address meanwhile.

use std::net::SocketAddr;

use anyhow::ensure;
use tracer_tests::lab::{Config, HTTP_PORT, Lab, Proxy};
use tracer_tests::trace::json::{State, Trace};
use tracer_tests::trace::process::{self, Ended, Running, wait_until};
use tracer_tests::trace::recording::Recording;

use super::connection::address;
use super::noise::Noise;

/// The client ports of what is looked for; each form of rules has so many.
const FIRST_PORT: u16 = 26600;
const PORTS: u16 = 20;

/// curl's exit status when it could not connect.
const REFUSED: i32 = 7;

/// Calls, from that port; whether it was answered.
fn call(lab: &Lab, from: &str, port: u16, to: SocketAddr) -> anyhow::Result<bool> {
    let mut curl = lab.command(from, "curl");
    curl.args(["-sS", "--max-time", "30", "--local-port", &port.to_string()]);
    let output = curl.arg(format!("http://{to}/")).output()?;
    ensure!(
        output.status.success() || output.status.code() == Some(REFUSED),
        "{output:?}"
    );
    Ok(output.status.success())
}

/// Who calls the Service with the NodePort, and where.
fn calls(lab: &Lab) -> Vec<(&'static str, SocketAddr)> {
    let service = lab.service("web-nodeport");
    let node_port = service.node_port.unwrap_or_default();
    let at_node = |node, ipv6| SocketAddr::new(address(lab, node, ipv6), node_port);
    vec![
        ("a1", (service.cluster_ip, service.port).into()),
        ("a1", (service.cluster_ip6, service.port).into()),
        ("node1", (service.cluster_ip, service.port).into()),
        ("outside", at_node("node1", false)),
        ("outside", at_node("node2", false)),
        ("outside", at_node("node1", true)),
    ]
}

/// All traffic that is of no Service, or of another one.
fn noise(lab: &Lab) -> anyhow::Result<[Noise; 2]> {
    // The same pod serves both, and is called by its own address.
    let other = lab.service("web-node1").cluster_ip;
    let noise = [
        Noise::start(lab, "a2", &format!("http://{other}/"))?,
        Noise::start(
            lab,
            "node2",
            &format!("http://{}:{HTTP_PORT}/", lab.pod("b1").ipv4),
        )?,
    ];
    for noise in &noise {
        noise.wait_for_one()?;
    }
    Ok(noise)
}

fn selected(number: u16, proxy: Proxy) -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config {
        proxy,
        ..Config::default()
    })?;
    let noise = noise(&lab)?;
    let place = process::whole_lab(&lab);
    let filter = format!("service (web-nodeport:80 or ghost:http) and ({place})");
    let watch = Running::watch_in(&lab, ["--json", &filter])?;
    let mut port = FIRST_PORT + PORTS * number;
    let mut clients = Vec::new();
    for (from, to) in calls(&lab) {
        ensure!(call(&lab, from, port, to)?, "{from} to {to}");
        let ip = address(&lab, from, to.is_ipv6());
        clients.push((SocketAddr::new(ip, port), to, "default/web-nodeport:http"));
        port += 1;
    }
    let ghost = SocketAddr::from((lab.service("ghost").cluster_ip, 80));
    ensure!(!call(&lab, "a1", port, ghost)?, "somebody answered");
    let client = SocketAddr::from((lab.pod("a1").ipv4, port));
    clients.push((client, ghost, "default/ghost:http"));
    for noise in &noise {
        noise.wait_for_one()?;
    }
    wait_until(|| {
        let over = Trace::read(watch.output().lines())?.flows.len();
        Ok((over < clients.len()).then(|| format!("only {over} flows are over")))
    })?;
    let trace = watch.stop()?;
    drop(noise);
    ensure!(trace.flows.len() == clients.len(), "{:#?}", trace.flows);
    for (client, to, name) in clients {
        let flow = trace.flow("tcp", client)?;
        let called = &flow.destination;
        ensure!(
            called.addr == to && called.service.as_deref() == Some(name),
            "{flow:#?}"
        );
        let refused = (flow.state == State::Refused) == (to == ghost);
        let packets = trace.packets_of(flow);
        let whole = packets.len() as u64 == flow.packets.original + flow.packets.reply;
        ensure!(refused && whole && flow.holes == 0, "{flow:#?}");
        // From the client's own device on, though only the kernel knew what to look for.
        let first = packets.first().and_then(|packet| packet.hops.first());
        ensure!(first.is_some_and(|hop| hop.dst == to), "{packets:#?}");
    }
    lab.down()
}

#[test]
fn iptables_nft() -> anyhow::Result<()> {
    selected(0, Proxy::IptablesNft)
}

#[test]
fn iptables_legacy() -> anyhow::Result<()> {
    selected(1, Proxy::IptablesLegacy)
}

#[test]
fn nftables() -> anyhow::Result<()> {
    selected(2, Proxy::Nftables)
}

#[test]
fn a_recording_is_asked_for_the_services_that_it_knows() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let recording = Recording::new()?;
    let arguments = recording.arguments().map(std::ffi::OsString::into_string);
    let [record, path] = arguments.map(Result::unwrap_or_default);
    let place = process::whole_lab(&lab);
    let watch = Running::watch_in(&lab, ["--summary", &record, &path, &place])?;
    let others = ["web-node1", "web-node2"];
    let others = others.map(|name| SocketAddr::from((lab.service(name).cluster_ip, 80)));
    let others = others.map(|to| ("a2", to));
    let calls = calls(&lab);
    let all = calls.iter().copied().chain(others);
    for (port, (from, to)) in (FIRST_PORT + PORTS * 3..).zip(all) {
        ensure!(call(&lab, from, port, to)?, "{from} to {to}");
    }
    ensure!(watch.interrupt()?.status.success());
    let flows = |filter: &str| -> anyhow::Result<usize> {
        let replay = ["replay", "--json", path.as_str(), filter];
        let ended = Ended::try_from(process::command(replay)?.output()?)?;
        ensure!(ended.status.success(), "{ended:#?}");
        Ok(ended.trace()?.flows.len())
    };
    ensure!(flows("service web-nodeport")? == calls.len());
    ensure!(flows("service web-nodeport:30080 and not ip6")? == 4);
    ensure!(flows("service web-nodeport and port 30080")? == 3);
    ensure!(flows("service web-node1:http or web-node2:80")? == 2);
    ensure!(flows("service ghost")? == 0);
    ensure!(flows("tcp and not service web-nodeport")? == others.len());
    let export = ["export", &path, "--to", "csv", "service web-nodeport"];
    let exported = Ended::try_from(process::command(export)?.output()?)?;
    ensure!(
        exported.stdout.lines().count() == calls.len() + 1,
        "{exported:#?}"
    );
    let refused = |arguments: &[&str], said: &str| -> anyhow::Result<()> {
        let ended = Ended::try_from(process::command_in(&lab, arguments)?.output()?)?;
        let as_expected = ended.status.code() == Some(2) && ended.stderr.contains(said);
        ensure!(as_expected && ended.stdout.is_empty(), "{said}: {ended:#?}");
        Ok(())
    };
    let unknown = "is called `default/web-nodprt`; similar: `default/web-nodeport`";
    refused(&["watch", "service web-nodprt"], unknown)?;
    refused(&["replay", &path, "service web-nodprt"], unknown)?;
    refused(&["run", "service web-nodprt", "--", "true"], unknown)?;
    let ports = "similar: `default/web-nodeport:http`";
    refused(&["watch", "service web-nodeport:https"], ports)?;
    lab.down()
}

#[test]
fn a_service_that_gets_another_address_is_followed_there() -> anyhow::Result<()> {
    needs_a_lab!();
    let mut lab = Lab::up(&Config::default())?;
    let mut port = FIRST_PORT + PORTS * 4;
    let place = process::whole_lab(&lab);
    let filter = format!("service web-node1 and ({place})");
    let watch = Running::watch_in(&lab, ["--json", &filter])?;
    let before = SocketAddr::from((lab.service("web-node1").cluster_ip, 80));
    ensure!(call(&lab, "a1", port, before)?, "{before}");
    lab.move_service("web-node1", 99)?;
    let after = SocketAddr::from((lab.service("web-node1").cluster_ip, 80));
    ensure!(before != after);
    let mut flow = || {
        let trace = Trace::read(watch.output().lines())?;
        let shown = |at| trace.flows.iter().any(|flow| flow.destination.addr == at);
        if shown(before) && shown(after) {
            return Ok(None);
        }
        port += 1;
        ensure!(call(&lab, "a1", port, after)?, "{after}");
        Ok(Some("no call of the new address was shown".to_owned()))
    };
    wait_until(&mut flow)?;
    let name = lab.service("web-node1").full_name();
    for flow in &watch.stop()?.flows {
        ensure!(
            flow.destination.service.as_ref() == Some(&name),
            "{flow:#?}"
        );
    }
    lab.down()
}
