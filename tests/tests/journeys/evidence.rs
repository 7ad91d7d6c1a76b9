//! What was said of connections, and whether it is what their paths make it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use tracer_tests::lab::{Lab, Proxy};
use tracer_tests::trace::json::{Direction, Flow, Kind, Packet, Stage, Trace, Verdict};
use tracer_tests::trace::judge::{self, Case, Ends};
use tracer_tests::trace::witness::{self, Device, Entry, Seen};

use super::connection::Planned;
use super::paths::{Outcome, Target};

/// What was said of a variant's connections, from all sides.
pub(crate) struct Evidence {
    pub(crate) trace: Trace,
    pub(crate) conntrack: BTreeMap<String, Vec<Entry>>,
    /// tcpdump's word, where it was asked.
    pub(crate) captured: Option<BTreeMap<Device, Seen>>,
}

/// The conntrack tables of all nodes.
pub(crate) fn conntrack(lab: &Lab) -> anyhow::Result<BTreeMap<String, Vec<Entry>>> {
    let tables = lab.nodes().iter().map(|node| {
        let table = lab.conntrack(&node.name)?;
        Ok((node.name.clone(), Entry::parse_all(&table)))
    });
    tables.collect()
}

/// Whether the device is the one of the pod or machine, or the host's end of the pod's pair.
pub(crate) fn is_at(lab: &Lab, (netns, device): &Device, name: &str) -> bool {
    let pod = lab.pods().iter().find(|pod| pod.name == name);
    netns == name && device == "eth0" && !name.starts_with("node")
        || pod.is_some_and(|pod| pod.node == *netns && pod.veth == *device)
}

pub(crate) fn judge(planned: &Planned<'_>, evidence: &Evidence) -> anyhow::Result<()> {
    let flow = evidence.trace.flow(planned.protocol(), planned.client)?;
    let ends = ends(planned, evidence)?;
    let case = Case {
        lab: planned.lab,
        ends,
        original: &planned.original,
        reply: &planned.reply,
        state: planned.connection.outcome.state(),
    };
    judge::flow(&evidence.trace, flow, &case)?;
    let packets = evidence.trace.packets_of(flow);
    complete(planned, flow, &packets)?;
    match &evidence.captured {
        Some(captured) => captures(planned, &packets, &ends, captured),
        None => Ok(()),
    }
}

/// The connection's ends; what they are translated to is conntrack's word.
fn ends(planned: &Planned<'_>, evidence: &Evidence) -> anyhow::Result<Ends> {
    let mut ends = Ends {
        client: planned.client,
        destination: planned.destination,
        backend: planned.backend,
        masquerade: None,
    };
    if !matches!(
        planned.connection.outcome,
        Outcome::Answered | Outcome::Resolved
    ) {
        return Ok(ends);
    }
    let mut tuple = (ends.client, ends.destination);
    for (node, kinds) in planned.original.nodes() {
        let entries = evidence.conntrack.get(node).context("no such table")?;
        let entry = witness::entry(entries, planned.protocol(), tuple)?;
        // Answers come from where the packets go, and go to what they come from.
        let (backend, seen_client) = entry.reply;
        if kinds.contains(&Kind::Masquerade) {
            ensure!(
                seen_client != tuple.0,
                "conntrack has no masquerade: {entry:?}"
            );
            ends.masquerade = Some(seen_client);
        } else {
            ensure!(
                seen_client == tuple.0,
                "conntrack has a masquerade: {entry:?}"
            );
        }
        let expected = kinds.contains(&Kind::Dnat);
        ensure!(
            expected == (backend != tuple.1),
            "conntrack's translation: {entry:?}"
        );
        tuple = (seen_client, backend);
    }
    ensure!(tuple.1 == ends.backend, "conntrack's backend: {tuple:?}");
    Ok(ends)
}

/// The flow holds what such a connection consists of.
fn complete(planned: &Planned<'_>, flow: &Flow, packets: &[&Packet]) -> anyhow::Result<()> {
    match planned.connection.outcome {
        Outcome::Answered => whole(flow, packets)?,
        Outcome::Resolved => ensure!(packets.len() == 2, "{flow:#?}"),
        Outcome::Rejected => {
            ensure!(
                flow.packets.original == 1 && flow.packets.reply == 1,
                "{flow:#?}"
            );
            rejected(planned, packets)?;
            dropped(planned, packets, Stage::Forward, "NETFILTER_DROP")?;
        }
        Outcome::Refused => {
            ensure!(
                flow.packets.original == 1 && flow.packets.reply == 1,
                "{flow:#?}"
            );
            ensure!(has(packets, Direction::Reply, 'R'), "{flow:#?}");
            dropped(planned, packets, Stage::Receive, "NO_SOCKET")?;
        }
        Outcome::Dropped => {
            ensure!(
                flow.packets.original >= 1 && flow.packets.reply == 0,
                "{flow:#?}"
            );
            dropped(planned, packets, Stage::Forward, "NETFILTER_DROP")?;
        }
    }
    Ok(())
}

/// Handshake, request, answer, and an end from both sides: SYN, ACK, request, FIN; SYN-ACK, answer,
/// FIN.
fn whole(flow: &Flow, packets: &[&Packet]) -> anyhow::Result<()> {
    for direction in [Direction::Original, Direction::Reply] {
        for flag in ['S', 'F'] {
            ensure!(
                has(packets, direction, flag),
                "no {flag} {direction:?}: {flow:#?}"
            );
        }
    }
    ensure!(
        flow.packets.original >= 4 && flow.packets.reply >= 3,
        "{flow:#?}"
    );
    Ok(())
}

fn has(packets: &[&Packet], direction: Direction, flag: char) -> bool {
    let mut same = packets.iter().filter(|p| p.direction == direction);
    same.any(|packet| packet.has_flag(flag))
}

/// The error quotes the packet that it is about.
fn rejected(planned: &Planned<'_>, packets: &[&Packet]) -> anyhow::Result<()> {
    let errors = packets.iter().filter_map(|packet| packet.icmp.as_ref());
    let quoted: Vec<_> = errors.filter_map(|icmp| icmp.quoted.as_ref()).collect();
    let [quoted] = quoted[..] else {
        bail!("{} errors", quoted.len());
    };
    ensure!(
        quoted.proto == "tcp" && quoted.src == planned.client && quoted.dst == planned.destination,
        "{quoted:?}"
    );
    Ok(())
}

/// Every packet of the client's was dropped there, for that reason, by the function that does it.
fn dropped(
    planned: &Planned<'_>,
    packets: &[&Packet],
    at: Stage,
    reason: &str,
) -> anyhow::Result<()> {
    let function = match (planned.connection.outcome, planned.lab.config().proxy) {
        (Outcome::Refused, _) => "tcp_v4_rcv",
        // The x_tables core returns the verdict to netfilter, nf_tables drops by itself.
        (_, Proxy::IptablesLegacy) => "nf_hook_slow",
        (_, Proxy::IptablesNft | Proxy::Nftables) => "nft_do_chain",
    };
    for packet in packets {
        if packet.direction != Direction::Original {
            continue;
        }
        ensure!(packet.verdict == Verdict::Dropped, "{packet:#?}");
        let drop = packet.drop.as_ref().context("no drop")?;
        let by = drop.function.as_deref().unwrap_or_default();
        let place = packet.hops.last().and_then(|hop| hop.netns.as_ref());
        ensure!(
            drop.at == at
                && drop.reason.as_deref() == Some(reason)
                && drop.netns.as_ref() == place
                && by.split('+').next() == Some(function),
            "{drop:?}"
        );
    }
    Ok(())
}

/// tcpdump counts what the tracer counts, where the client sends and where the server receives.
fn captures(
    planned: &Planned<'_>,
    packets: &[&Packet],
    ends: &Ends,
    captured: &BTreeMap<Device, Seen>,
) -> anyhow::Result<()> {
    if matches!(planned.connection.to, Target::Loopback) {
        return Ok(());
    }
    let lab = planned.lab;
    let (first, last) = planned.original.ends();
    let gets_there = matches!(
        planned.connection.outcome,
        Outcome::Answered | Outcome::Resolved
    );
    // ICMP errors are the flow's packets too, but have no ports that tcpdump could show.
    let count = |direction| {
        let with_ports = packets.iter().filter(|packet| packet.icmp.is_none());
        with_ports.filter(|p| p.direction == direction).count() as u64
    };
    let (originals, replies) = (count(Direction::Original), count(Direction::Reply));
    let mut asked = 0;
    for (device, seen) in captured {
        let sent = is_at(lab, device, first).then_some((ends.client, ends.destination));
        let seen_client = ends.masquerade.unwrap_or(ends.client);
        let came = (gets_there && is_at(lab, device, last)).then_some((seen_client, ends.backend));
        for (from, to) in sent.into_iter().chain(came) {
            witness::agrees(seen, device, (from, to), originals)?;
            witness::agrees(seen, device, (to, from), replies)?;
            if planned.connection.outcome == Outcome::Rejected {
                one_error(seen, to)?;
            }
            asked += 1;
        }
    }
    let enough = if gets_there { 2 } else { 1 };
    ensure!(asked >= enough, "only {asked} devices were looked at");
    Ok(())
}

/// tcpdump saw one ICMP error about that destination.
fn one_error(seen: &Seen, to: SocketAddr) -> anyhow::Result<()> {
    let unreachable = format!("ICMP {} tcp port {} unreachable", to.ip(), to.port());
    let errors = seen.without_ports().iter();
    let count = errors.filter(|line| line.contains(&unreachable)).count();
    ensure!(count == 1, "{count} errors: {:#?}", seen.without_ports());
    Ok(())
}

/// Nothing was lost, and there are no flows but those of the connections.
pub(crate) fn judge_all(planned: &[Planned<'_>], evidence: &Evidence) -> anyhow::Result<()> {
    let totals = evidence.trace.totals()?;
    ensure!(
        totals.lost == 0 && totals.emitted == totals.matched,
        "{totals:?}"
    );
    ensure!(totals.hooks.iter().all(|hook| hook.lost == 0), "{totals:?}");
    for flow in &evidence.trace.flows {
        // Neighbour discovery and the like go on meanwhile.
        if !["tcp", "udp"].contains(&flow.proto.as_str()) {
            continue;
        }
        let known = planned
            .iter()
            .any(|planned| planned.client == flow.client.addr && planned.protocol() == flow.proto);
        ensure!(known, "whose flow is this? {flow:#?}");
    }
    for packet in &evidence.trace.packets {
        let known = evidence
            .trace
            .flows
            .iter()
            .any(|flow| flow.id == packet.flow);
        ensure!(known, "of what flow is this? {packet:#?}");
    }
    Ok(())
}
