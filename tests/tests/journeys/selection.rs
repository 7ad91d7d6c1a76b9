//! A filter on a ClusterIP shows whole flows and nothing else, whatever goes on beside them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, HTTP_PORT, Lab};
use tracer_tests::trace::json::{Flow, State, Trace};
use tracer_tests::trace::judge::{self, Case, Ends};
use tracer_tests::trace::process::{Running, wait_until};

use super::connection::address;
use super::noise::Noise;

/// The client ports of what is looked for.
const PORTS: std::ops::Range<u16> = 23000..23010;

#[test]
fn a_filter_on_a_cluster_ip_shows_whole_flows_and_nothing_else() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    // Its endpoint is on the other node; others call the same endpoint otherwise.
    let service = lab.service("local-only");
    let watch = Running::watch(["--json", &format!("host {}", service.cluster_ip)])?;
    let noise = noise(&lab)?;
    for noise in &noise {
        noise.wait_for_one()?;
    }
    for port in PORTS {
        curl(&lab, port, service.cluster_ip, "b2")?;
    }
    for noise in &noise {
        noise.wait_for_one()?;
    }
    closed(&lab, "node2")?;
    let trace = watch.stop()?;
    drop(noise);

    for port in PORTS {
        judge_flow(&lab, &trace, port)?;
    }
    nothing_else(&lab, &trace)?;
    lab.down()
}

/// The first packet of a connection is translated before anything knows its new tuple; where the
/// neighbour is known it then goes from one netfilter hook to the next, without a device between them.
#[test]
fn a_connections_first_packet_is_whole_where_the_neighbour_is_known() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node1");
    // Makes the neighbours known.
    curl(&lab, PORTS.end, service.cluster_ip, "b1")?;
    let watch = Running::watch(["--json", &format!("host {}", service.cluster_ip)])?;
    for port in PORTS {
        curl(&lab, port, service.cluster_ip, "b1")?;
    }
    closed(&lab, "node1")?;
    let trace = watch.stop()?;
    for port in PORTS {
        let ends = Ends {
            client: (lab.pod("a1").ipv4, port).into(),
            destination: (service.cluster_ip, service.port).into(),
            backend: (lab.pod("b1").ipv4, HTTP_PORT).into(),
            masquerade: None,
        };
        let case = Case {
            lab: &lab,
            ends,
            original: &"a1 > node1[prerouting dnat] > b1".parse()?,
            reply: &"b1 > node1[postrouting un-dnat] > a1".parse()?,
            state: State::Closed,
        };
        judge::flow(&trace, trace.flow("tcp", ends.client)?, &case)?;
    }
    lab.down()
}

/// Others that call the same endpoint, and the same client that calls it otherwise.
fn noise(lab: &Lab) -> anyhow::Result<[Noise; 4]> {
    let (b1, b2) = (address(lab, "b1", false), address(lab, "b2", false));
    let web = lab.service("web").cluster_ip;
    let service = lab.service("local-only");
    let node_port = service.node_port.context("no node port")?;
    Ok([
        Noise::start(lab, "a1", &format!("http://{b2}:8080/"))?,
        Noise::start(lab, "a2", &format!("http://{b1}:8080/"))?,
        Noise::start(lab, "b2", &format!("http://{web}/"))?,
        Noise::start(
            lab,
            "outside",
            &format!("http://{}:{node_port}/", address(lab, "node2", false)),
        )?,
    ])
}

fn judge_flow(lab: &Lab, trace: &Trace, port: u16) -> anyhow::Result<()> {
    let service = lab.service("local-only");
    let ends = Ends {
        client: (lab.pod("a1").ipv4, port).into(),
        destination: (service.cluster_ip, service.port).into(),
        backend: (lab.pod("b2").ipv4, HTTP_PORT).into(),
        masquerade: None,
    };
    let case = Case {
        lab,
        ends,
        original: &"a1 > node1[prerouting dnat] > node2 > b2".parse()?,
        reply: &"b2 > node2 > node1[postrouting un-dnat] > a1".parse()?,
        state: State::Closed,
    };
    judge::flow(trace, trace.flow("tcp", ends.client)?, &case)
}

/// Of this lab, only those flows and their packets were shown.
fn nothing_else(lab: &Lab, trace: &Trace) -> anyhow::Result<()> {
    let client = lab.pod("a1").ipv4;
    let wanted = |flow: &&Flow| {
        let addr = flow.client.addr;
        addr.ip() == client && PORTS.contains(&addr.port())
    };
    let of_lab = |netns: Option<&str>| netns.is_some_and(|name| name.starts_with(lab.id()));
    let ids: BTreeSet<u64> = trace
        .flows
        .iter()
        .filter(wanted)
        .map(|flow| flow.id)
        .collect();
    for packet in &trace.packets {
        let here = packet.hops.iter().any(|hop| of_lab(hop.netns.as_deref()));
        ensure!(!here || ids.contains(&packet.flow), "{packet:#?}");
    }
    for flow in &trace.flows {
        let here = of_lab(flow.client.netns.as_deref());
        ensure!(!here || ids.contains(&flow.id), "{flow:#?}");
    }
    let totals = trace.totals()?;
    ensure!(totals.lost == 0, "{totals:?}");
    Ok(())
}

fn curl(lab: &Lab, port: u16, to: Ipv4Addr, server: &str) -> anyhow::Result<()> {
    let mut curl = lab.command("a1", "curl");
    curl.args(["--silent", "--show-error", "--max-time", "30"]);
    curl.args(["--local-port", &port.to_string()]);
    let answer = lab.run(curl.arg(format!("http://{to}/")))?;
    ensure!(
        answer.starts_with(&format!("server: {server}\n")),
        "{answer}"
    );
    Ok(())
}

/// Waits until that node, the endpoint's, has seen the last acknowledgement of each connection.
fn closed(lab: &Lab, node: &str) -> anyhow::Result<()> {
    wait_until(|| {
        let table = lab.conntrack(node)?;
        let mut open = PORTS.filter(|port| {
            let port = format!(" sport={port} ");
            let entry = table.lines().find(|line| line.contains(&port));
            !entry.is_some_and(|entry| entry.contains("TIME_WAIT"))
        });
        Ok(open
            .next()
            .map(|port| format!("port {port} is not closed: {table}")))
    })
}
