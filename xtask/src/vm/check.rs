//! What the tracer said of a path against what it must say: the flow, its translations, and every
//! packet, hop by hop.
//!
//! Counts of packets are not prescribed: when acknowledgements are sent is a matter of timing, and
//! emulation is slow. They must agree with each other, and a TCP connection must be all there, from
//! SYN to the last FIN.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use tracer_tests::trace::json::{
    Direction, FlowTranslation, Kind, Packet, Stage, Translation, Verdict,
};

use super::degradations::{Degradation, Effect};
use super::hops;
use super::paths::{Case, Outcome, Way};
use super::results::Walk;
use super::session::Seen;
use super::timing::Excuse;

/// How something came out on a kernel.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// As it must be.
    Good {
        /// In a word or two.
        word: String,
        /// What is not shown, and why: documented reasons.
        but: Vec<&'static str>,
    },
    /// Otherwise.
    Fail(String),
}

impl Judgement {
    /// A path shows all that there is, but for that.
    pub(crate) fn complete(but: Vec<&'static str>) -> Self {
        Self::Good {
            word: "complete".to_owned(),
            but,
        }
    }
}

/// Judges what a way says of a path; `degradations` are what the kernel may lack.
pub(crate) fn check(
    case: &Case,
    way: Way,
    (walk, seen): (&Walk, &Seen<'_>),
    degradations: &[&'static Degradation],
) -> Judgement {
    let judge = |lacking| {
        let judge = Judge {
            case,
            way,
            seen,
            lacking,
        };
        judge.all(walk)
    };
    let Err(error) = judge(&[]) else {
        return Judgement::complete(Vec::new());
    };
    let effects: Vec<Effect> = degradations.iter().map(|it| it.effect).collect();
    if effects.is_empty() {
        return Judgement::Fail(format!("{error:#}"));
    }
    if let Err(still) = judge(&effects) {
        return Judgement::Fail(format!("{error:#}\n  and for this kernel: {still:#}"));
    }
    Judgement::complete(degradations.iter().map(|it| it.reason).collect())
}

struct Judge<'a> {
    case: &'a Case,
    way: Way,
    seen: &'a Seen<'a>,
    lacking: &'a [Effect],
}

impl Judge<'_> {
    fn all(&self, walk: &Walk) -> anyhow::Result<()> {
        let status = walk
            .status
            .context("the machine ended while it was walked")?;
        let expected = self.case.outcome.status();
        ensure!(
            status == expected,
            "its command's exit status is {status}, not {expected}"
        );
        if !self.lacking.contains(&Effect::ForwardedTwice) {
            self.packets()?;
        }
        self.flow()
    }

    fn flow(&self) -> anyhow::Result<()> {
        let (case, flow, packets) = (self.case, self.seen.flow, &self.seen.packets);
        let outcome = case.outcome;
        ensure!(flow.proto == outcome.proto(), "proto {}", flow.proto);
        ensure!(flow.state == outcome.state(), "state {:?}", flow.state);
        ensure!(
            flow.client.addr.ip() == case.client.parse::<IpAddr>()?,
            "client {:?}",
            flow.client
        );
        ensure!(
            flow.client.netns.as_deref() == Some(case.netns),
            "the client's namespace is {:?}",
            flow.client.netns
        );
        ensure!(
            flow.destination.addr == case.destination.parse()?,
            "{:?}",
            flow.destination
        );
        self.backend()?;
        self.translations()?;
        // Of a packet that the kernel sends two ways both journeys are shown, and one is counted.
        if !self.lacking.contains(&Effect::ForwardedTwice) {
            self.counts()?;
            ensure!(flow.holes == 0, "{} holes", flow.holes);
        }
        ensure!(!flow.affected_by_loss, "affected by loss");
        whole(outcome, packets)
    }

    /// What the flow counts is what its packets are.
    fn counts(&self) -> anyhow::Result<()> {
        let (flow, packets) = (self.seen.flow, &self.seen.packets);
        let count = |direction| {
            let of = packets.iter().filter(|it| it.direction == direction);
            of.count() as u64
        };
        let counts = (count(Direction::Original), count(Direction::Reply));
        let said = (flow.packets.original, flow.packets.reply);
        ensure!(counts == said, "packets {said:?}, but there are {counts:?}");
        let length = |direction| {
            let of = packets.iter().filter(|it| it.direction == direction);
            of.map(|packet| packet.len).sum::<u64>()
        };
        let lengths = (length(Direction::Original), length(Direction::Reply));
        let said = (flow.bytes.original, flow.bytes.reply);
        ensure!(lengths == said, "bytes {said:?}, but there are {lengths:?}");
        let drops = packets.iter().filter(|packet| packet.drop.is_some());
        ensure!(drops.count() as u64 == flow.drops, "{} drops", flow.drops);
        Ok(())
    }

    fn backend(&self) -> anyhow::Result<()> {
        let backend = self.seen.flow.backend.as_ref();
        // Where nothing arrives, nobody is known to be there, but the translation tells who would.
        let arrives = matches!(self.case.outcome, Outcome::Answered | Outcome::Resolved);
        let Some(expected) = self.case.backend else {
            ensure!(backend.is_none(), "{backend:?} for a Service without any");
            return Ok(());
        };
        let expected: SocketAddr = expected.parse()?;
        let backend = match backend {
            None if !arrives => return Ok(()),
            None => bail!("no backend"),
            Some(backend) => backend,
        };
        ensure!(backend.addr == expected, "{backend:?}");
        let netns = hops::last_netns(self.case.original);
        ensure!(!arrives || backend.netns.as_deref() == netns, "{backend:?}");
        Ok(())
    }

    fn translations(&self) -> anyhow::Result<()> {
        let seen = &self.seen.flow.translations;
        let made = |(translation, (kind, stage)): (&FlowTranslation, &(Kind, Stage))| {
            translation.kind == *kind
                && translation.stage == Some(*stage)
                && translation.netns.as_deref() == Some("node")
        };
        let expected = self.case.translations;
        let same = seen.len() == expected.len() && seen.iter().zip(expected).all(made);
        ensure!(same, "the flow's translations are {seen:?}");
        for translation in seen {
            let ends = match translation.kind {
                Kind::Dnat => (self.seen.flow.destination.addr, self.case.backend),
                _ => (self.seen.flow.client.addr, None),
            };
            let to = ends.1.map(str::parse).transpose()?;
            ensure!(
                ends.0 == translation.from && to.is_none_or(|to| translation.to == to),
                "{translation:?}"
            );
        }
        Ok(())
    }

    fn packets(&self) -> anyhow::Result<()> {
        let original = hops::parse(self.case.original)?;
        let reply = hops::parse(self.case.reply)?;
        for packet in &self.seen.packets {
            let expected = match packet.direction {
                Direction::Original => &original,
                Direction::Reply => &reply,
            };
            let excuse = Excuse::of(packet, &self.seen.packets);
            let hops = excuse.without_drop(&packet.hops);
            let expected = excuse.without_socket(&packet.hops, expected);
            let context = || {
                let flags = packet.tcp.as_ref().map_or("", |tcp| tcp.flags.as_str());
                format!("packet {} ({:?} {flags})", packet.id, packet.direction)
            };
            ensure!(
                hops::are(hops, expected, self.way) && packet.holes == 0 && packet.hops_cut == 0,
                "{}:\n    {}\n  must be\n    {}",
                context(),
                hops::notation(&packet.hops),
                match packet.direction {
                    Direction::Original => self.case.original,
                    Direction::Reply => self.case.reply,
                }
            );
            // A drop that is excused is TCP's.
            if hops.len() == packet.hops.len() {
                self.end(packet).with_context(context)?;
            }
            self.tuples(packet).with_context(context)?;
        }
        Ok(())
    }

    fn end(&self, packet: &Packet) -> anyhow::Result<()> {
        let verdict = match (self.case.outcome, packet.direction) {
            (Outcome::Rejected | Outcome::Dropped, Direction::Original) => Verdict::Dropped,
            _ => Verdict::Delivered,
        };
        ensure!(packet.verdict == verdict, "verdict {:?}", packet.verdict);
        ensure!(packet.verdict_observed, "the verdict is inferred");
        let drop = match (&packet.drop, verdict) {
            (Some(drop), Verdict::Dropped) => drop,
            (None, Verdict::Delivered) => return Ok(()),
            _ => bail!("{:?}", packet.drop),
        };
        let reason = if self.lacking.contains(&Effect::NoDropReason) {
            None
        } else {
            Some("NETFILTER_DROP")
        };
        ensure!(
            drop.reason.as_deref() == reason
                && Some(drop.at) == hops::dropped_at(&hops::parse(self.case.original)?)
                && drop.netns.as_deref() == Some("node")
                && drop.function.is_some(),
            "{drop:?}"
        );
        Ok(())
    }

    /// It comes and goes under the addresses that its ends know, and each translation on the way is
    /// one of the flow's, or undoes one.
    fn tuples(&self, packet: &Packet) -> anyhow::Result<()> {
        let flow = self.seen.flow;
        let (client, destination) = (flow.client.addr, flow.destination.addr);
        if let (Some(first), Some(last), None) =
            (packet.hops.first(), packet.hops.last(), &packet.icmp)
        {
            let backend = flow.backend.as_ref().map(|backend| backend.addr);
            let right = match packet.direction {
                Direction::Original => {
                    (first.src, first.dst) == (client, destination)
                        && backend.is_none_or(|backend| last.dst == backend)
                }
                Direction::Reply => {
                    (last.src, last.dst) == (destination, client) && Some(first.src) == backend
                }
            };
            ensure!(right, "its ends are wrong: first {first:?}, last {last:?}");
        }
        for hop in &packet.hops {
            for translation in &hop.translations {
                let known = self
                    .seen
                    .flow
                    .translations
                    .iter()
                    .any(|of| same(of, translation));
                ensure!(known, "{translation:?} is not of the flow");
            }
        }
        Ok(())
    }
}

fn same(of_flow: &FlowTranslation, of_hop: &Translation) -> bool {
    let done = (of_flow.from, of_flow.to) == (of_hop.from, of_hop.to);
    let undone = (of_flow.from, of_flow.to) == (of_hop.to, of_hop.from);
    match (of_flow.kind, of_hop.kind) {
        (Kind::Dnat, Kind::UnDnat) | (Kind::Snat | Kind::Masquerade, Kind::UnSnat) => undone,
        (flow, hop) => flow == hop && done,
    }
}

/// Nothing of the exchange is missing.
fn whole(outcome: Outcome, packets: &[&Packet]) -> anyhow::Result<()> {
    let has = |direction, flags: &str| {
        let mut of = packets.iter().filter(|it| it.direction == direction);
        let all = |packet: &&&Packet| flags.chars().all(|flag| packet.has_flag(flag));
        of.any(|packet| all(&packet))
    };
    let parts: &[(Direction, &str)] = match outcome {
        Outcome::Answered => &[
            (Direction::Original, "S"),
            (Direction::Reply, "SA"),
            (Direction::Original, "PA"),
            (Direction::Reply, "PA"),
            (Direction::Original, "F"),
            (Direction::Reply, "F"),
        ],
        Outcome::Resolved => &[(Direction::Original, ""), (Direction::Reply, "")],
        Outcome::Rejected => &[(Direction::Original, "S"), (Direction::Reply, "")],
        Outcome::Dropped => &[(Direction::Original, "S")],
    };
    for (direction, flags) in parts {
        ensure!(has(*direction, flags), "no {direction:?} {flags} packet");
    }
    Ok(())
}
