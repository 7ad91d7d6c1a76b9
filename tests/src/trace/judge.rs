//! What a tracer said against what must be: a whole flow, packet by packet and hop by hop.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};

use super::json::{Direction, Flow, Hop, Kind, Packet, Stage, State, Trace, Verdict};
use super::path::{Expected, Path, Ways};
use crate::lab::Lab;

/// The ends of a connection, under all their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who began.
    pub client: SocketAddr,
    /// Whom the client called.
    pub destination: SocketAddr,
    /// Who answers.
    pub backend: SocketAddr,
    /// What the backend takes for the client, when that is not its own address.
    pub masquerade: Option<SocketAddr>,
}

/// Source and destination.
type Tuple = (SocketAddr, SocketAddr);

impl Ends {
    /// The tuple that packets of the direction begin with.
    #[must_use]
    pub fn first(&self, direction: Direction) -> Tuple {
        match direction {
            Direction::Original => (self.client, self.destination),
            Direction::Reply => (self.backend, self.masquerade.unwrap_or(self.client)),
        }
    }

    /// The tuple after a translation.
    #[must_use]
    pub fn after(&self, kind: Kind, (source, destination): Tuple) -> Tuple {
        match kind {
            Kind::Dnat => (source, self.backend),
            Kind::Snat | Kind::Masquerade => (self.masquerade.unwrap_or(source), destination),
            Kind::UnDnat => (self.destination, destination),
            Kind::UnSnat => (source, self.client),
        }
    }
}

/// How a flow must be.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// The lab that it crosses.
    pub lab: &'a Lab,
    /// The ends.
    pub ends: Ends,
    /// The way to the backend.
    pub original: &'a Path,
    /// The way back.
    pub reply: &'a Path,
    /// What it comes to.
    pub state: State,
}

/// Judges a flow with all its packets.
///
/// # Errors
/// The first thing that is not as it must be, with the packet's ladder beside the expected one.
pub fn flow(trace: &Trace, flow: &Flow, case: &Case<'_>) -> anyhow::Result<()> {
    let packets = trace.packets_of(flow);
    summary(flow, case)?;
    translations(flow, case)?;
    counts(flow, &packets)?;
    let ipv6 = case.ends.client.is_ipv6();
    let ways = |path: &Path| path.ways(case.lab, ipv6);
    let (original, reply) = (ways(case.original)?, ways(case.reply)?);
    for &packet in &packets {
        let (ways, other) = match packet.direction {
            Direction::Original => (&original, &reply),
            Direction::Reply => (&reply, &original),
        };
        if is_redirect(packet) {
            redirect(packet, other)?;
            continue;
        }
        let to_closed = meets_closed_socket(packet, &packets);
        judge(packet, ways, &case.ends, to_closed)
            .with_context(|| format!("packet {} {:?}", packet.id, packet.tcp))?;
    }
    Ok(())
}

fn summary(flow: &Flow, case: &Case<'_>) -> anyhow::Result<()> {
    let Case { lab, ends, .. } = case;
    let netns = |name: &str| lab.find_netns(name.trim_start_matches("lo@"));
    let (first, last) = case.original.ends();
    ensure!(flow.client.addr == ends.client, "client: {flow:#?}");
    ensure!(flow.client.netns == netns(first), "client: {flow:#?}");
    ensure!(
        flow.destination.addr == ends.destination,
        "destination: {flow:#?}"
    );
    ensure!(flow.state == case.state, "state: {flow:#?}");
    let answers = matches!(flow.state, State::Closed | State::Replied);
    // A packet that was dropped on its way to an endpoint was meant for it, but never came there.
    let meant = case.ends.backend != case.ends.destination;
    let backend = flow.backend.as_ref().map(|b| (b.addr, b.netns.clone()));
    let there = netns(last).filter(|_| answers);
    let expected = (answers || meant).then_some((ends.backend, there));
    ensure!(backend == expected, "backend: {flow:#?}");
    ensure!(
        flow.holes == 0 && !flow.affected_by_loss,
        "holes: {flow:#?}"
    );
    Ok(())
}

fn translations(flow: &Flow, case: &Case<'_>) -> anyhow::Result<()> {
    let mut tuple = case.ends.first(Direction::Original);
    let mut expected = Vec::new();
    for (kind, stage, netns) in case.original.translations(case.lab) {
        let after = case.ends.after(kind, tuple);
        let (from, to) = ends_of(kind, tuple, after);
        expected.push((kind, Some(stage), Some(netns), from, to));
        tuple = after;
    }
    let seen: Vec<_> = flow
        .translations
        .iter()
        .map(|t| (t.kind, t.stage, t.netns.clone(), t.from, t.to))
        .collect();
    ensure!(
        seen == expected,
        "translations: {seen:#?}\ninstead of {expected:#?}"
    );
    Ok(())
}

/// What a translation of that kind changes, before and after.
fn ends_of(kind: Kind, before: Tuple, after: Tuple) -> (SocketAddr, SocketAddr) {
    match kind {
        Kind::Dnat | Kind::UnSnat => (before.1, after.1),
        Kind::Snat | Kind::Masquerade | Kind::UnDnat => (before.0, after.0),
    }
}

/// The flow's counts are those of its packets.
fn counts(flow: &Flow, packets: &[&Packet]) -> anyhow::Result<()> {
    for (direction, count, bytes) in [
        (
            Direction::Original,
            flow.packets.original,
            flow.bytes.original,
        ),
        (Direction::Reply, flow.packets.reply, flow.bytes.reply),
    ] {
        let of_direction = packets.iter().filter(|p| p.direction == direction);
        let lengths: Vec<u64> = of_direction.map(|packet| packet.len).collect();
        ensure!(
            lengths.len() as u64 == count,
            "{direction:?}: {lengths:?} in {flow:#?}"
        );
        ensure!(
            lengths.iter().sum::<u64>() == bytes,
            "{direction:?}: {lengths:?} in {flow:#?}"
        );
    }
    let dropped = packets.iter().filter(|p| p.verdict == Verdict::Dropped);
    ensure!(dropped.count() as u64 == flow.drops, "drops: {flow:#?}");
    let times = packets.iter().flat_map(|p| &p.hops).map(|hop| hop.t);
    let (first, last) = (times.clone().min(), times.max());
    ensure!(
        first == Some(flow.first_ns),
        "first hop at {first:?}: {flow:#?}"
    );
    // The last event may be the end of a hook, or of the packet: later than the last hop.
    ensure!(
        last <= Some(flow.last_ns),
        "last hop at {last:?}: {flow:#?}"
    );
    Ok(())
}

/// Whether the packet may come to an end of the connection that has only `TIME_WAIT` left: that
/// takes packets without asking the socket's filters, which is where a delivery is seen. So it may
/// be for an end that has sent its FIN.
fn meets_closed_socket(packet: &Packet, all: &[&Packet]) -> bool {
    all.iter().any(|other| {
        other.direction != packet.direction && other.has_flag('F') && other.began() < packet.began()
    })
}

/// Judges a packet: one of the ways, hop by hop.
fn judge(packet: &Packet, ways: &Ways, ends: &Ends, to_closed: bool) -> anyhow::Result<()> {
    timing(packet)?;
    ensure!(packet.holes == 0 && packet.hops_cut == 0, "{packet:#?}");
    let error = packet.icmp.is_some();
    let all = ways_to_end(ways, error, to_closed);
    let first = match error {
        // Its own source, and what it quotes instead of a tuple of the flow.
        true => packet
            .hops
            .first()
            .map(|hop| (hop.src, hop.dst))
            .context("no hops")?,
        false => ends.first(packet.direction),
    };
    let ladders: Vec<String> = all.iter().map(|way| ladder_of(way, first, ends)).collect();
    let seen = ladder(packet);
    if !ladders.contains(&seen) {
        let expected = ladders.first().map_or("", String::as_str);
        anyhow::bail!("went\n{seen}instead of\n{expected}({} ways)", ladders.len());
    }
    let dropped = all.iter().flatten().any(|hop| hop.stage == Stage::Drop);
    let verdict = if dropped {
        Verdict::Dropped
    } else {
        Verdict::Delivered
    };
    ensure!(
        packet.verdict == verdict && packet.verdict_observed,
        "{packet:#?}"
    );
    ensure!(packet.drop.is_some() == dropped, "{packet:#?}");
    let tunnels = all.iter().any(|way| same_tunnels(way, &packet.hops));
    ensure!(tunnels, "another tunnel: {packet:#?}");
    Ok(())
}

/// The ways with every end that they may have: no socket takes an ICMP error itself, for ICMP looks
/// up the socket that it is about.
fn ways_to_end(ways: &Ways, error: bool, to_closed: bool) -> Vec<Vec<Expected>> {
    let mut all = ways.all();
    let without: Vec<_> = all.iter().map(|way| without_socket(way)).collect();
    if error {
        return without;
    }
    if to_closed {
        all.extend(without);
    }
    all
}

/// ICMP's type of a redirect.
const REDIRECT: u8 = 5;

/// Whether the packet is an ICMP redirect.
#[must_use]
pub fn is_redirect(packet: &Packet) -> bool {
    packet.proto == "icmp"
        && packet
            .icmp
            .as_ref()
            .is_some_and(|icmp| icmp.r#type == REDIRECT)
}

/// Judges a redirect that packets of those ways brought about: NAT drops it where it is sent.
fn redirect(packet: &Packet, ways: &Ways) -> anyhow::Result<()> {
    let Some(place) = &ways.turns_back else {
        anyhow::bail!("a redirect for no reason: {packet:#?}");
    };
    let hops: Vec<_> = packet
        .hops
        .iter()
        .map(|hop| (hop.stage, hop.netns.as_deref(), hop.dev.as_deref()))
        .collect();
    let (netns, device) = (Some(place.netns.as_str()), Some(place.device.as_str()));
    let expected = [(Stage::Output, netns, device), (Stage::Drop, netns, device)];
    let reason = packet.drop.as_ref().and_then(|drop| drop.reason.as_deref());
    ensure!(
        hops == expected
            && packet.verdict == Verdict::Dropped
            && packet.holes == 0
            && reason == Some("NETFILTER_DROP"),
        "a redirect that is not as it must be: {packet:#?}"
    );
    Ok(())
}

fn without_socket(way: &[Expected]) -> Vec<Expected> {
    let kept = way.iter().filter(|hop| hop.stage != Stage::Socket);
    kept.cloned().collect()
}

fn same_tunnels(way: &[Expected], hops: &[Hop]) -> bool {
    let same = |(expected, hop): (&Expected, &Hop)| match (&expected.tunnel, &hop.encapsulation) {
        (None, None) => true,
        (Some(tunnel), Some(seen)) => tunnel.is(seen),
        _ => false,
    };
    way.len() == hops.len() && way.iter().zip(hops).all(same)
}

/// Hops come in order, and each says how long after the one before.
fn timing(packet: &Packet) -> anyhow::Result<()> {
    let mut before = packet.began();
    for hop in &packet.hops {
        ensure!(
            hop.t.checked_sub(before) == Some(hop.dt),
            "time: {packet:#?}"
        );
        before = hop.t;
    }
    Ok(())
}

/// A packet's hops, one a line, as they must be on that way.
fn ladder_of(way: &[Expected], first: Tuple, ends: &Ends) -> String {
    let mut tuple = first;
    let mut text = String::new();
    for hop in way {
        let place = (
            Some(hop.place.netns.as_str()),
            Some(hop.place.device.as_str()),
        );
        line(
            &mut text,
            hop.stage,
            place,
            Some(hop.place.kind),
            hop.tunnel.is_some(),
            tuple,
        );
        for kind in &hop.translations {
            let after = ends.after(*kind, tuple);
            change(&mut text, *kind, ends_of(*kind, tuple, after));
            tuple = after;
        }
        text.push('\n');
    }
    text
}

/// The same of what was seen.
#[must_use]
pub fn ladder(packet: &Packet) -> String {
    let mut text = String::new();
    for hop in &packet.hops {
        let place = (hop.netns.as_deref(), hop.dev.as_deref());
        let tunnel = hop.encapsulation.is_some();
        line(
            &mut text,
            hop.stage,
            place,
            hop.dev_kind.as_deref(),
            tunnel,
            (hop.src, hop.dst),
        );
        for translation in &hop.translations {
            change(
                &mut text,
                translation.kind,
                (translation.from, translation.to),
            );
        }
        if let Some(hole) = &hop.hole {
            let _ = write!(text, " HOLE {} {:?}", hole.kind, hole.stage);
        }
        text.push('\n');
    }
    text
}

fn line(
    text: &mut String,
    stage: Stage,
    (netns, device): (Option<&str>, Option<&str>),
    kind: Option<&str>,
    tunnel: bool,
    (source, destination): Tuple,
) {
    let stage = format!("{stage:?}").to_lowercase();
    let (netns, device) = (netns.unwrap_or("?"), device.unwrap_or("?"));
    let kind = kind.unwrap_or("?");
    let tunnel = if tunnel { " in a tunnel" } else { "" };
    let _ = write!(
        text,
        "  {stage:<11} {netns} {device} ({kind}) {source} -> {destination}{tunnel}"
    );
}

fn change(text: &mut String, kind: Kind, (from, to): (SocketAddr, SocketAddr)) {
    let _ = write!(text, " {kind:?} {from} -> {to}");
}
