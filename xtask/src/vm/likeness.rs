//! Whether different kernels say the same of the same path.
//!
//! The traffic is not the same: ports are chosen anew, and how many acknowledgements a connection
//! takes is a matter of timing. So what is compared is a path's flow without these, and the set of
//! journeys that its packets make. That each kernel's paths are as expected does not imply it: the
//! expectation does not mention every member of the JSON objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::bail;
use tracer_tests::trace::json::{Flow, Packet};

use super::check::Judgement;
use super::degradations::{self, Effect};
use super::paths::Traced;
use super::results::Results;
use super::session::Seen;
use super::timing::Excuse;
use super::verdicts::{Lab, Row};

/// Ports that are not chosen by chance.
const KNOWN_PORTS: [u16; 4] = [53, 80, 5353, 8080];

/// A path's name, and its likeness or why there is none.
pub(crate) type Likenesses = BTreeMap<String, anyhow::Result<Likeness>>;

/// What a kernel said of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Likeness {
    flow: String,
    journeys: BTreeSet<String>,
    /// Journeys without what an older kernel cannot show.
    degraded: BTreeSet<String>,
    /// Whether this kernel cannot show it.
    lacking: bool,
}

/// The likenesses of all paths on one kernel, as the best way shows them.
pub(crate) fn of(paths: &[Traced], version: &[u32], results: &Results) -> Likenesses {
    let mut likenesses = Likenesses::new();
    for of_form in paths.chunk_by(|one, next| one.form == next.form) {
        let lab = Lab::new(of_form[0].form, version, results);
        for traced in of_form {
            let lacking = degradations::of(traced.case, version);
            let lacks = |effect| lacking.iter().any(|it| it.effect == effect);
            if lacks(Effect::ForwardedTwice) {
                continue;
            }
            let reason = lacks(Effect::NoDropReason);
            let likeness = lab.best(traced).map(|seen| Likeness::of(&seen, reason));
            likenesses.insert(traced.to_string(), likeness);
        }
    }
    likenesses
}

/// The row of a kernel: whether each path is as on another kernel, of that version.
pub(crate) fn row(here: &Likenesses, there: &Likenesses, version: &str) -> Row {
    let mut alike = 0;
    let mut wrong = Vec::new();
    for (path, likeness) in here {
        // A path that was not seen has failed by itself.
        let (Ok(here), Some(Ok(there))) = (likeness, there.get(path)) else {
            continue;
        };
        match here.is_like(there) {
            Ok(()) => alike += 1,
            Err(error) => wrong.push(format!("{path}: {error:#}")),
        }
    }
    let judgement = if wrong.is_empty() {
        Judgement::Good {
            word: format!("{alike} paths"),
            but: Vec::new(),
        }
    } else {
        Judgement::Fail(format!("not as on {version}: {}", wrong.join("\n  ")))
    };
    (format!("as on {version}"), judgement)
}

impl Likeness {
    fn of(seen: &Seen<'_>, lacking: bool) -> Self {
        let journeys = |reason: bool| {
            let packets = seen.packets.iter();
            let timeless = packets.filter(|it| !Excuse::of(it, &seen.packets).is_any());
            timeless.map(|packet| journey(packet, reason)).collect()
        };
        Self {
            flow: flow(seen.flow),
            journeys: journeys(true),
            degraded: journeys(false),
            lacking,
        }
    }

    fn is_like(&self, other: &Self) -> anyhow::Result<()> {
        if self.flow != other.flow {
            bail!(
                "the flow is\n    {}\n  there\n    {}",
                self.flow,
                other.flow
            );
        }
        let (here, there) = if self.lacking || other.lacking {
            (&self.degraded, &other.degraded)
        } else {
            (&self.journeys, &other.journeys)
        };
        let only = |one: &BTreeSet<String>, two: &BTreeSet<String>| {
            let only = one.difference(two).cloned();
            only.collect::<Vec<_>>().join("\n    ")
        };
        if here != there {
            bail!(
                "journeys only here\n    {}\n  only there\n    {}",
                only(here, there),
                only(there, here)
            );
        }
        Ok(())
    }
}

fn flow(flow: &Flow) -> String {
    let mut text = format!(
        "{} {} ({:?}) -> {} => ",
        flow.proto,
        address(flow.client.addr),
        flow.client.netns,
        address(flow.destination.addr)
    );
    if let Some(backend) = &flow.backend {
        text += &format!("{} ({:?})", address(backend.addr), backend.netns);
    }
    // TCP drops what it gets twice, which is a matter of timing; other drops are in the journeys.
    text += &format!(", {:?}, holes: {}", flow.state, flow.holes);
    for it in &flow.translations {
        let (from, to) = (address(it.from), address(it.to));
        let inferred = if it.kind_inferred { " (inferred)" } else { "" };
        let (kind, stage, netns) = (it.kind, it.stage, &it.netns);
        text += &format!(", {kind:?}{inferred} at {stage:?} in {netns:?}: {from} -> {to}");
    }
    text
}

fn journey(packet: &Packet, reason: bool) -> String {
    let mut text = format!(
        "{:?} {} {:?} (observed: {})",
        packet.direction, packet.proto, packet.verdict, packet.verdict_observed
    );
    for hop in &packet.hops {
        text += &format!(
            ", {:?} {:?} ({:?}) {:?} {} -> {}",
            hop.netns,
            hop.dev,
            hop.dev_kind,
            hop.stage,
            address(hop.src),
            address(hop.dst)
        );
        for it in &hop.translations {
            text += &format!(" {:?} {} -> {}", it.kind, address(it.from), address(it.to));
        }
        if let Some(hole) = &hop.hole {
            text += &format!(" hole {hole:?}");
        }
    }
    if let Some(drop) = &packet.drop {
        let named = drop.reason.as_deref().filter(|_| reason);
        let function = drop.function.is_some();
        text += &format!(
            ", dropped at {:?} in {:?} ({named:?}, function: {function})",
            drop.at, drop.netns
        );
    }
    text
}

/// The address, without a port that is chosen by chance.
fn address(address: SocketAddr) -> String {
    if address.port() == 0 || KNOWN_PORTS.contains(&address.port()) {
        return address.to_string();
    }
    format!("{}:*", address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness(flow: &str, journeys: &[(&str, &str)], lacking: bool) -> Likeness {
        let whole = journeys
            .iter()
            .map(|(packet, reason)| format!("{packet} {reason}"));
        let less = journeys.iter().map(|(packet, _)| (*packet).to_owned());
        Likeness {
            flow: flow.to_owned(),
            journeys: whole.collect(),
            degraded: less.collect(),
            lacking,
        }
    }

    fn judged(here: Likeness, there: Likeness) -> Judgement {
        let kernel = |likeness| Likenesses::from([("nftables/drop".to_owned(), Ok(likeness))]);
        row(&kernel(here), &kernel(there), "6.12").1
    }

    fn is_good(judgement: &Judgement) -> bool {
        matches!(judgement, Judgement::Good { word, .. } if word == "1 paths")
    }

    #[test]
    fn kernels_differ_only_where_one_of_them_lacks_something() {
        let new = || likeness("flow", &[("dropped", "by a rule")], false);
        let old = |lacking| likeness("flow", &[("dropped", "")], lacking);
        assert!(is_good(&judged(new(), new())));
        assert!(is_good(&judged(old(true), new())));
        assert!(!is_good(&judged(old(false), new())));
        let other = likeness("another", &[("dropped", "by a rule")], true);
        assert!(!is_good(&judged(other, new())));
        let more = likeness("flow", &[("dropped", ""), ("delivered", "")], true);
        assert!(!is_good(&judged(more, new())));
    }

    #[test]
    fn ports_chosen_by_chance_are_left_out() {
        let shown = |text: &str| address(text.parse().unwrap());
        assert_eq!(shown("10.96.0.81:80"), "10.96.0.81:80");
        assert_eq!(shown("[fd00::1]:40000"), "fd00::1:*");
        assert_eq!(shown("10.0.0.1:0"), "10.0.0.1:0");
    }
}
