//! Whether two ways of seeing netfilter say the same of the same packets.
//!
//! Both tracers run at once, so it is not enough that each passes by itself: flow by flow and
//! packet by packet they must say the same. What differs is what must differ: numbers that a tracer
//! gives, times (a hop's time is that of the program that saw it), and what the list in
//! [`degradations`](super::degradations) allows.

use std::net::SocketAddr;

use anyhow::ensure;
use tracer_tests::trace::json::{Flow, Hop, Packet};

use super::degradations;
use super::paths::Way;
use super::session::Seen;

/// Compares what `way` says of a path with what the best way says, and returns how many packets
/// that were.
///
/// # Errors
/// The first difference.
pub(crate) fn check(best: &Seen<'_>, other: &Seen<'_>, way: Way) -> anyhow::Result<usize> {
    let (one, two) = (flow(best.flow), flow(other.flow));
    ensure!(one == two, "the flow is{}", difference(&one, &two));
    let mut one: Vec<String> = best.packets.iter().map(|it| packet(it, way)).collect();
    let mut two: Vec<String> = other.packets.iter().map(|it| packet(it, way)).collect();
    // Which of two packets under way at once came first may be told by a hop that one way lacks.
    one.sort_unstable();
    two.sort_unstable();
    ensure!(
        one.len() == two.len(),
        "{} packets, not {}",
        two.len(),
        one.len()
    );
    for (one, two) in one.iter().zip(&two) {
        ensure!(one == two, "a packet is{}", difference(one, two));
    }
    Ok(one.len())
}

fn difference(best: &str, other: &str) -> String {
    format!("\n    {other}\n  and by the best way\n    {best}")
}

/// All of a flow but its number and its times.
fn flow(flow: &Flow) -> String {
    let translations = flow.translations.iter().map(|it| {
        let (kind, stage, netns) = (it.kind, it.stage, it.netns.as_deref());
        (kind, stage, netns, it.from, it.to, it.kind_inferred)
    });
    let translations: Vec<_> = translations.collect();
    let backend = flow.backend.as_ref();
    let backend = backend.map(|it| (it.addr, it.netns.as_deref()));
    format!(
        "{} {} ({:?}) -> {} => {backend:?} {:?} packets {:?} bytes {:?} drops {} holes {} \
         loss {} {translations:?}",
        flow.proto,
        flow.client.addr,
        flow.client.netns,
        flow.destination.addr,
        flow.state,
        flow.packets,
        flow.bytes,
        flow.drops,
        flow.holes,
        flow.affected_by_loss,
    )
}

/// All of a packet but its number and its times.
fn packet(packet: &Packet, way: Way) -> String {
    let hops = packet
        .hops
        .iter()
        .filter(|hop| degradations::shows(way, hop));
    let hops: Vec<String> = hops.map(hop).collect();
    format!(
        "{:?} {} tcp {:?} icmp {:?} len {} payload {} {:?} (observed: {}) drop {:?} holes {} \
         cut {}:\n      {}",
        packet.direction,
        packet.proto,
        packet.tcp,
        packet.icmp,
        packet.len,
        packet.payload,
        packet.verdict,
        packet.verdict_observed,
        packet.drop,
        packet.holes,
        packet.hops_cut,
        hops.join("\n      "),
    )
}

/// All of a hop but its times.
fn hop(hop: &Hop) -> String {
    let ends: (SocketAddr, SocketAddr) = (hop.src, hop.dst);
    format!(
        "{:?} {:?} {:?} ({:?}) {} -> {} {:?} {:?} {:?}",
        hop.netns,
        hop.dev,
        hop.stage,
        hop.dev_kind,
        ends.0,
        ends.1,
        hop.translations,
        hop.encapsulation,
        hop.hole,
    )
}
