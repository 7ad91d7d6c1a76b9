//! What the tracer said of a path against what it must say: the flow, its translations, and every
//! packet, hop by hop.
//!
//! Counts of packets are not prescribed: when acknowledgements are sent is a matter of timing, and
//! emulation is slow. They must agree with each other, and a TCP connection must be all there, from
//! SYN to the last FIN.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use tracer_tests::trace::json::{
    Direction, Flow, FlowTranslation, Kind, Packet, Stage, Trace, Translation, Verdict,
};

use super::degradations::{Degradation, Effect};
use super::hops;
use super::paths::{Case, Outcome, Traced};
use super::results::Section;

/// How a path came out on a kernel.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// As it must be.
    Pass,
    /// As it must be but for what that kernel cannot show.
    Degraded(Vec<&'static Degradation>),
    /// Otherwise.
    Fail(String),
}

/// Judges the section of a path; `degradations` are what the kernel may lack.
pub(crate) fn check(
    traced: &Traced,
    section: Option<&Section>,
    degradations: Vec<&'static Degradation>,
) -> Judgement {
    let Some(section) = section else {
        return Judgement::Fail("was not traced".to_owned());
    };
    let strict = judge(traced.case, section, &[]);
    let Err(error) = strict else {
        return Judgement::Pass;
    };
    let effects: Vec<Effect> = degradations.iter().map(|it| it.effect).collect();
    if effects.is_empty() || judge(traced.case, section, &effects).is_err() {
        return Judgement::Fail(format!("{error:#}{}", said(section)));
    }
    Judgement::Degraded(degradations)
}

/// What the tracer and the command said, for the one who looks for the cause.
fn said(section: &Section) -> String {
    let messages = section.messages.iter();
    messages.map(|line| format!("\n    | {line}")).collect()
}

fn judge(case: &Case, section: &Section, lacking: &[Effect]) -> anyhow::Result<()> {
    let status = section
        .status
        .context("the machine ended while it was traced")?;
    if lacking.contains(&Effect::Refused) {
        return refused(section, status);
    }
    let expected = case.outcome.status();
    ensure!(status == expected, "exit status {status}, not {expected}");
    let lines = section.output.iter().map(String::as_str);
    let trace = Trace::read(lines)?;
    ensure!(trace.totals()?.lost == 0, "events were lost");
    let [flow] = &trace.flows[..] else {
        bail!("{} flows, not one", trace.flows.len());
    };
    let packets = trace.packets_of(flow);
    ensure!(packets.len() == trace.packets.len(), "packets of no flow");
    let judge = Judge {
        case,
        flow,
        lacking,
    };
    judge.packets(&packets)?;
    judge.flow(&packets)
}

/// The tracer must say why it does not work that way, and trace nothing.
fn refused(section: &Section, status: i32) -> anyhow::Result<()> {
    ensure!(status != 0, "exit status 0 without tracing");
    ensure!(section.output.is_empty(), "output without tracing");
    ensure!(!section.messages.is_empty(), "no message");
    Ok(())
}

struct Judge<'a> {
    case: &'a Case,
    flow: &'a Flow,
    lacking: &'a [Effect],
}

impl Judge<'_> {
    fn flow(&self, packets: &[&Packet]) -> anyhow::Result<()> {
        let (case, flow) = (self.case, self.flow);
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
        let count = |direction| {
            let of = packets.iter().filter(|it| it.direction == direction);
            of.count() as u64
        };
        let counts = (count(Direction::Original), count(Direction::Reply));
        let said = (flow.packets.original, flow.packets.reply);
        ensure!(counts == said, "packets {said:?}, but there are {counts:?}");
        let drops = packets.iter().filter(|packet| packet.drop.is_some());
        ensure!(drops.count() as u64 == flow.drops, "{} drops", flow.drops);
        ensure!(flow.holes == 0, "{} holes", flow.holes);
        ensure!(!flow.affected_by_loss, "affected by loss");
        whole(outcome, packets)
    }

    fn backend(&self) -> anyhow::Result<()> {
        let backend = self.flow.backend.as_ref();
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
        let netns = arrives.then_some("pod-b");
        ensure!(!arrives || backend.netns.as_deref() == netns, "{backend:?}");
        Ok(())
    }

    fn translations(&self) -> anyhow::Result<()> {
        let seen = &self.flow.translations;
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
                Kind::Dnat => (Some(self.flow.destination.addr), self.case.backend),
                _ => (Some(self.flow.client.addr), None),
            };
            let to = ends.1.map(str::parse).transpose()?;
            ensure!(
                ends.0 == Some(translation.from) && to.is_none_or(|to| translation.to == to),
                "{translation:?}"
            );
        }
        Ok(())
    }

    fn packets(&self, packets: &[&Packet]) -> anyhow::Result<()> {
        let original = hops::parse(self.case.original)?;
        let reply = hops::parse(self.case.reply)?;
        for packet in packets {
            let expected = match packet.direction {
                Direction::Original => &original,
                Direction::Reply => &reply,
            };
            let context = || {
                let flags = packet.tcp.as_ref().map_or("", |tcp| tcp.flags.as_str());
                format!("packet {} ({:?} {flags})", packet.id, packet.direction)
            };
            ensure!(
                hops::are(&packet.hops, expected) && packet.holes == 0 && packet.hops_cut == 0,
                "{}:\n    {}\n  must be\n    {}",
                context(),
                hops::notation(&packet.hops),
                match packet.direction {
                    Direction::Original => self.case.original,
                    Direction::Reply => self.case.reply,
                }
            );
            self.end(packet).with_context(context)?;
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
                && drop.at == Stage::Forward
                && drop.netns.as_deref() == Some("node")
                && drop.function.is_some(),
            "{drop:?}"
        );
        Ok(())
    }

    /// Each translation on the way is one of the flow's, or undoes one.
    fn tuples(&self, packet: &Packet) -> anyhow::Result<()> {
        for hop in &packet.hops {
            for translation in &hop.translations {
                let known = self
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

#[cfg(test)]
mod tests;
