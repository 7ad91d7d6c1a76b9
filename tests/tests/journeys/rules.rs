//! Rules and Services by name: for every path of a lab and every form of rules, what the tracer says
//! did it, against the rules' own counters.
//!
//! The witness counts before and after each connection. The rules that the tracer names must be those
//! that counted it, and every rule that counted and decides (translates, drops, or leads into a
//! Service's chains) must be one that the tracer named.

#[path = "rules/choice.rs"]
mod choice;
#[path = "rules/counted.rs"]
mod counted;
#[path = "rules/following.rs"]
mod following;
#[path = "rules/own.rs"]
mod own;
#[path = "rules/promptly.rs"]
mod promptly;
#[path = "rules/sets.rs"]
mod sets;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Fabric, Lab, Plugin, Proxy};
use tracer_tests::trace::json::{Flow, Kind, RuleInfo, Step, Trace};
use tracer_tests::trace::process::{self, Running};

use super::connection::Planned;
use super::paths::{CONNECTIONS, Outcome, Target};
use counted::{Counters, Named};

/// The first client port; each variant has so many.
const FIRST_PORT: u16 = 27000;
const PORTS: u16 = 100;

const ICMP_REDIRECT: u8 = 5;

/// A connection, and what counted it.
struct Made<'a> {
    planned: Planned<'a>,
    counters: Counters,
}

fn every_rule(number: u16, config: Config) -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&config)?;
    for node in lab.nodes() {
        lab.count(&node.name)?;
    }
    let watch = Running::watch_in(&lab, ["--json", &process::whole_lab(&lab)])?;
    let ports = FIRST_PORT + PORTS * number..;
    let made: Vec<Made<'_>> = ports
        .zip(CONNECTIONS)
        .map(|(port, connection)| make(Planned::new(&lab, connection, port)?, &watch))
        .collect::<anyhow::Result<_>>()?;
    let trace = watch.stop()?;
    let failures: Vec<String> = made
        .iter()
        .filter_map(|made| {
            let error = judge(made, &trace).err()?;
            Some(format!("== {}: {error:#}", made.planned.connection.name))
        })
        .collect();
    ensure!(failures.is_empty(), "{config}:\n{}", failures.join("\n\n"));
    lab.down()
}

/// Makes the connection between two readings of all counters.
fn make<'a>(planned: Planned<'a>, watch: &Running) -> anyhow::Result<Made<'a>> {
    let lab = planned.lab;
    let dropping = match planned.connection.outcome {
        Outcome::Dropped => {
            let backend = planned.backend;
            Some(lab.drop_forward("node1", backend.ip(), backend.port())?)
        }
        _ => None,
    };
    let before = Counters::read(lab)?;
    planned.make()?;
    let counters = Counters::read(lab)?.since(&before);
    if let Some(rule) = dropping {
        // A rule that is there for a moment only may never be read.
        let client = planned.client.to_string();
        process::wait_until(|| {
            let output = watch.output();
            let mut lines = output.lines();
            let shown = lines.any(|line| line.contains(&client) && line.contains("\"dropped\""));
            Ok((!shown).then(|| format!("no drop of {client} was shown")))
        })?;
        rule.remove()?;
    }
    Ok(Made { planned, counters })
}

fn judge(made: &Made<'_>, trace: &Trace) -> anyhow::Result<()> {
    let planned = &made.planned;
    let flow = trace.flow(planned.protocol(), planned.client)?;
    names(planned, flow)?;
    let mut named = Named::new(planned.lab, planned.connection.ipv6);
    translations(planned, flow, &mut named)?;
    for packet in trace.packets_of(flow) {
        for hop in &packet.hops {
            for made in &hop.translations {
                let Some(rule) = &made.rule else { continue };
                let same = |other: &&_| same_rule(other, (made.kind, rule));
                ensure!(
                    flow.translations.iter().any(|other| same(&other)),
                    "the packet's translation is not the flow's: {made:#?}"
                );
            }
        }
        let Some(drop) = &packet.drop else { continue };
        // The kernel lets nobody be redirected whose connection is translated.
        let redirect = packet
            .icmp
            .as_ref()
            .is_some_and(|icmp| icmp.r#type == ICMP_REDIRECT);
        if planned.connection.outcome == Outcome::Refused || redirect {
            ensure!(drop.rule.is_none() && drop.rule_info.is_none(), "{drop:#?}");
            continue;
        }
        let rule = drop.rule.as_ref();
        let rule = rule.with_context(|| format!("no rule that dropped: {drop:#?}"))?;
        let info = drop.rule_info.as_ref().context("no rule_info")?;
        ensure!(info.inferred && info.certain, "{drop:#?}");
        if planned.connection.outcome == Outcome::Rejected {
            ensure!(info.service == service(planned), "{drop:#?}");
        }
        named.dropped(drop.netns.as_deref(), rule)?;
    }
    let ended = packets_dropped(planned);
    ensure!(named.drops() == ended, "{} drops: {flow:#?}", named.drops());
    made.counters.confirm(&named)
}

/// How many packets rules drop: a client that was not told tries once, and time runs out.
fn packets_dropped(planned: &Planned<'_>) -> u64 {
    match planned.connection.outcome {
        Outcome::Rejected | Outcome::Dropped => 1,
        Outcome::Answered | Outcome::Resolved | Outcome::Refused => 0,
    }
}

fn same_rule(
    other: &tracer_tests::trace::json::FlowTranslation,
    (kind, rule): (Kind, &Vec<Step>),
) -> bool {
    other.kind == kind && other.rule.as_ref() == Some(rule)
}

/// The Service and both ends are called by their names.
fn names(planned: &Planned<'_>, flow: &Flow) -> anyhow::Result<()> {
    let pod = |ip| {
        let pods = planned.lab.pods().iter();
        let mut of = pods.filter(|pod| {
            ip == std::net::IpAddr::V4(pod.ipv4) || ip == std::net::IpAddr::V6(pod.ipv6)
        });
        of.next().map(tracer_tests::lab::Pod::full_name)
    };
    let client = match planned.connection.to {
        Target::Loopback => Some(planned.lab.pod(planned.connection.from).full_name()),
        _ => pod(planned.client.ip()),
    };
    ensure!(flow.client.pod == client, "client {client:?}: {flow:#?}");
    ensure!(flow.destination.service == service(planned), "{flow:#?}");
    if matches!(
        planned.connection.outcome,
        Outcome::Answered | Outcome::Resolved
    ) {
        let backend = flow.backend.as_ref().context("no backend")?;
        let server = pod(planned.backend.ip());
        ensure!(backend.pod == server, "server {server:?}: {flow:#?}");
    }
    Ok(())
}

fn service(planned: &Planned<'_>) -> Option<String> {
    match planned.connection.to {
        Target::Service(name) | Target::NodePort(_, name) => {
            Some(planned.lab.service(name).full_name())
        }
        Target::Pod(_) | Target::Outside | Target::Loopback => None,
    }
}

/// Every translation on the way has its rules, and no other.
fn translations(planned: &Planned<'_>, flow: &Flow, named: &mut Named<'_>) -> anyhow::Result<()> {
    let nodes = planned.original.nodes();
    let expected: Vec<(&str, Kind)> = nodes
        .iter()
        .flat_map(|(node, kinds)| kinds.iter().map(move |kind| (*node, *kind)))
        .collect();
    ensure!(flow.translations.len() == expected.len(), "{flow:#?}");
    for (node, kind) in expected {
        let netns = planned.lab.netns(node);
        let mut there = flow.translations.iter();
        let made = there.find(|t| t.kind == kind && t.netns.as_ref() == Some(&netns));
        let made = made.with_context(|| format!("no {kind:?} on {node}: {flow:#?}"))?;
        let info = made.rule_info.as_ref();
        let info = info.with_context(|| format!("no rule of {made:#?}"))?;
        ensure!(info.inferred && info.certain, "{made:#?}");
        let rule = made.rule.as_ref().context("no rule")?;
        if kind == Kind::Dnat {
            chosen(planned, info).with_context(|| format!("{made:#?}"))?;
        } else {
            ensure!(info.endpoint.is_none(), "{made:#?}");
        }
        named.translated(node, rule)?;
    }
    Ok(())
}

/// The Service and its endpoint; all that are called here have one.
fn chosen(planned: &Planned<'_>, info: &RuleInfo) -> anyhow::Result<()> {
    ensure!(info.service == service(planned), "another Service");
    let endpoint = info.endpoint.context("no endpoint")?;
    ensure!((endpoint.index, endpoint.of) == (1, 1), "another endpoint");
    Ok(())
}

by_configuration! {
    every_rule:
    0 bridge_vxlan_iptables_nft: Bridge, Vxlan, IptablesNft;
    1 bridge_vxlan_iptables_legacy: Bridge, Vxlan, IptablesLegacy;
    2 bridge_vxlan_nftables: Bridge, Vxlan, Nftables;
    3 ptp_routed_iptables_nft: Ptp, Routed, IptablesNft;
    4 ptp_routed_iptables_legacy: Ptp, Routed, IptablesLegacy;
    5 ptp_routed_nftables: Ptp, Routed, Nftables;
}

#[test]
fn every_form_of_rules_has_a_test() {
    let tested = |form| CONFIGURATIONS.iter().any(|config| config.proxy == form);
    assert!(Config::all().all(|config| tested(config.proxy)));
}
