//! Every path in every variant of the lab: each packet's hops, each flow, and what conntrack and
//! tcpdump say of the same connections.
//!
//! One tracer watches the whole lab while one path after another is used. Each connection has a
//! client port of its own, by which its flow is found.

use anyhow::{Context as _, bail, ensure};
use tracer_tests::lab::{Config, Fabric, Lab, Plugin, Proxy};
use tracer_tests::trace::json::Flow;
use tracer_tests::trace::process::{self, Running};
use tracer_tests::trace::witness::{Captures, Device};

use super::connection::Planned;
use super::evidence::{Evidence, conntrack, is_at, judge, judge_all};
use super::paths::{CONNECTIONS, Outcome};

/// The first client port; each variant has so many.
const FIRST_PORT: u16 = 20000;
const PORTS: u16 = 50;
/// The first client port without a filter, and how often that is tried.
const UNFILTERED: u16 = 28400;
const ATTEMPTS: u16 = 5;

fn every_path(number: u16, config: Config) -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&config)?;
    let ports = FIRST_PORT + PORTS * number..;
    let planned: Vec<Planned<'_>> = ports
        .zip(CONNECTIONS)
        .map(|(port, connection)| Planned::new(&lab, connection, port))
        .collect::<anyhow::Result<_>>()?;
    let filter = process::whole_lab(&lab);
    let evidence = gather(&lab, &planned, captured_devices(&lab), &["--json", &filter])?;
    judge_each(&planned, &evidence).with_context(|| config.to_string())?;
    lab.down()
}

/// Judges all, so that a failure says what is wrong everywhere.
pub(crate) fn judge_each(planned: &[Planned<'_>], evidence: &Evidence) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for planned in planned {
        if let Err(error) = judge(planned, evidence) {
            failures.push(format!("== {}: {error:#}", planned.connection.name));
        }
    }
    if let Err(error) = judge_all(planned, evidence) {
        failures.push(format!("== all: {error:#}"));
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

/// Makes all connections while tracer (`tracer watch` with these arguments), tcpdump (on these devices) and
/// conntrack look.
pub(crate) fn gather(
    lab: &Lab,
    planned: &[Planned<'_>],
    devices: Vec<Device>,
    arguments: &[&str],
) -> anyhow::Result<Evidence> {
    let captures = Captures::start(lab, devices)?;
    let watch = Running::watch(arguments)?;
    for planned in planned {
        let rule = match planned.connection.outcome {
            Outcome::Dropped => {
                let backend = planned.backend;
                Some(lab.drop_forward("node1", backend.ip(), backend.port())?)
            }
            _ => None,
        };
        planned.make()?;
        if let Some(rule) = rule {
            ensure!(rule.packets()? > 0, "the rule has dropped nothing");
            rule.remove()?;
        }
    }
    let captured = captures.stop(|device| {
        let ends = planned
            .iter()
            .filter(|p| p.connection.outcome == Outcome::Answered);
        ends.map(|p| {
            let (first, last) = p.original.ends();
            usize::from(is_at(lab, device, first)) + usize::from(is_at(lab, device, last))
        })
        .sum()
    })?;
    let trace = watch.stop()?;
    Ok(Evidence {
        trace,
        conntrack: conntrack(lab)?,
        captured: Some(captured),
    })
}

/// Both ends of the servers' pairs, the client pod, and the machine outside.
pub(crate) fn captured_devices(lab: &Lab) -> Vec<Device> {
    let own = ["a1", "b1", "b2", "outside"].map(|name| (name.to_owned(), "eth0".to_owned()));
    let host = ["b1", "b2"].map(|name| {
        let pod = lab.pod(name);
        (pod.node.clone(), pod.veth.clone())
    });
    own.into_iter().chain(host).collect()
}

/// With no filter the kernel side decides nothing of a packet and writes most headers as they are.
#[test]
fn every_path_without_a_filter() -> anyhow::Result<()> {
    needs_a_lab!();
    let config = Config {
        plugin: Plugin::Bridge,
        fabric: Fabric::Vxlan,
        proxy: Proxy::IptablesNft,
    };
    let lab = Lab::up(&config)?;
    for attempt in 0..ATTEMPTS {
        let ports = UNFILTERED + PORTS * attempt..;
        let planned: Vec<Planned<'_>> = ports
            .zip(CONNECTIONS)
            .map(|(port, connection)| Planned::new(&lab, connection, port))
            .collect::<anyhow::Result<_>>()?;
        let arguments = ["--json", "--ring-size", "256M"];
        let mut evidence = gather(&lab, &planned, captured_devices(&lab), &arguments)?;
        // Whatever else goes on in this kernel is traced too, floods of other tests among it.
        if evidence.trace.totals()?.lost > 0 {
            continue;
        }
        let trace = &mut evidence.trace;
        let is_planned = |flow: &Flow| planned.iter().any(|it| it.client == flow.client.addr);
        trace.flows.retain(is_planned);
        let (flows, packets) = (&trace.flows, &mut trace.packets);
        packets.retain(|packet| flows.iter().any(|flow| flow.id == packet.flow));
        judge_each(&planned, &evidence)?;
        return lab.down();
    }
    bail!("records were lost each of {ATTEMPTS} times")
}

by_configuration! {
    every_path:
    0 bridge_vxlan_iptables_nft: Bridge, Vxlan, IptablesNft;
    1 bridge_vxlan_iptables_legacy: Bridge, Vxlan, IptablesLegacy;
    2 bridge_vxlan_nftables: Bridge, Vxlan, Nftables;
    3 bridge_routed_iptables_nft: Bridge, Routed, IptablesNft;
    4 bridge_routed_iptables_legacy: Bridge, Routed, IptablesLegacy;
    5 bridge_routed_nftables: Bridge, Routed, Nftables;
    6 ptp_vxlan_iptables_nft: Ptp, Vxlan, IptablesNft;
    7 ptp_vxlan_iptables_legacy: Ptp, Vxlan, IptablesLegacy;
    8 ptp_vxlan_nftables: Ptp, Vxlan, Nftables;
    9 ptp_routed_iptables_nft: Ptp, Routed, IptablesNft;
    10 ptp_routed_iptables_legacy: Ptp, Routed, IptablesLegacy;
    11 ptp_routed_nftables: Ptp, Routed, Nftables;
}

#[test]
fn every_variant_has_a_test() {
    assert!(Config::all().all(|config| CONFIGURATIONS.contains(&config)));
}
