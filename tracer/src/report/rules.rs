//! Which rule did it: a translation or a drop that was seen, explained by the rules of its namespace
//! and time.
//!
//! The rules were read, not watched at work, so what is said here is concluded, and says how surely.
//! A translation is chosen by a connection's first packet; later ones have it from conntrack. So at a
//! hop only the packet that conntrack calls new has a rule, and a flow has the rules of its first one.

mod around;
mod packet;
mod service;

use std::net::SocketAddr;

pub(super) use self::around::Around;
pub use self::service::services_of;
use super::{PacketReport, Rewriting, TranslationReport, join::Knowledge};
use crate::{
    event::{Endpoint, Tuple},
    journey::model::{
        Direction, Dropped, Flow, FlowTranslation, Hop, NetnsId, Packet, Stage, Tracking,
        TranslationKind, Transport,
    },
    node::{
        rules::{
            evaluate::explain,
            history::Version,
            outcome::{Explanation, Observed},
            path::{Certainty, RulePath, ServiceChoice, Source, Step},
            subject::{Bits, Hook, States, Subject},
        },
        snapshot::Namespace,
    },
};

/// The rules that did something, as far as the rules of its time say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleReport {
    /// The way through the rules, the one that decided last; empty where there are several ways, and
    /// they do not end at one rule by the same chains.
    pub path: Vec<Step>,
    /// Nothing else can have happened.
    pub certain: bool,
    /// The Service that it belongs to, and the endpoint that was chosen.
    pub service: Option<ServiceChoice>,
    /// All possible ways, where there are several, or where something of the one could not be decided.
    pub candidates: Vec<Candidate>,
    /// Ways that were too many to be kept.
    pub more: usize,
}

/// A possible way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its rules.
    pub path: Vec<Step>,
    /// What could not be decided on it, for people.
    pub undecided: Vec<String>,
}

impl RuleReport {
    /// Whether only rules of that set can have done it.
    fn is_of(&self, source: Source) -> bool {
        let decided = |path: &[Step]| path.last().is_some_and(|last| last.source == source);
        let possible = &self.candidates;
        decided(&self.path)
            || (!possible.is_empty() && possible.iter().all(|one| decided(&one.path)))
    }

    fn new(explanation: Explanation) -> Option<Self> {
        let paths: Vec<RulePath> = explanation
            .paths
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        let first = paths.first()?.clone();
        let sole = paths.len() == 1 && explanation.more == 0;
        let agree = explanation.more == 0
            && paths
                .iter()
                .all(|path| path.last() == first.last() && path.chains().eq(first.chains()));
        let service = first.service.clone();
        let service = service.filter(|_| paths.iter().all(|path| path.service == first.service));
        let certain = sole && first.certainty == Certainty::Certain && !explanation.given_up;
        let candidates = paths
            .into_iter()
            .filter(|_| !certain)
            .map(|path| Candidate {
                undecided: match path.certainty {
                    Certainty::Certain => Vec::new(),
                    Certainty::Candidate(why) => why.iter().map(ToString::to_string).collect(),
                },
                path: path.steps,
            });
        Some(Self {
            path: if agree { first.steps } else { Vec::new() },
            certain,
            service,
            candidates: candidates.collect(),
            more: explanation.more,
        })
    }
}

/// Rules of a namespace that are as of a time, or newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    netns: NetnsId,
    time: u64,
    /// When to wait no longer, on the records' clock.
    pub until: u64,
}

/// How long rules are waited for, in nanoseconds: a few times what reading them takes, and as long as
/// it usually takes.
const LONG: u64 = 2_000_000_000;
const SHORT: u64 = 400_000_000;

/// What is asked about: a packet at a hook, and what was seen to happen to it.
struct Question {
    netns: NetnsId,
    time: u64,
    subject: Subject,
    observed: Observed,
    /// How it came into the namespace, which rules of another time may contradict.
    came: Option<Box<Question>>,
}

fn explained_by(version: &Version, namespace: &Namespace, question: &Question) -> Explanation {
    let sets = version.rules.sets();
    let around = Around::with_rules(namespace, version);
    explain(&sets, &question.subject, &around, question.observed)
}

impl Knowledge<'_> {
    /// The rules that translated a connection at a hop of its first packet; `from` and `to` are what
    /// the hop made of one end.
    pub(super) fn translating(
        &self,
        packet: &Packet,
        hop: &Hop,
        (kind, to): (TranslationKind, Endpoint),
    ) -> Option<RuleReport> {
        let hook = hook_of(hop.stage).filter(|_| is_translated_there(packet, hop))?;
        let mut subject = self.subject(hook, (hop.netns, hop.time), &hop.tuple, hop.call);
        self.describe(&mut subject, packet, hop);
        self.translation(hop.netns, hop.time, subject, (kind, to))
    }

    /// The rules that rewrite a flow there.
    pub(super) fn placing(&self, flow: &Flow, placed: &FlowTranslation) -> Option<RuleReport> {
        let before = placed.before.unwrap_or(match placed.kind {
            TranslationKind::Snat => Tuple {
                source: placed.from,
                destination: flow.backend.unwrap_or(flow.destination),
                protocol: flow.protocol,
            },
            _ => Tuple {
                source: flow.client,
                destination: placed.from,
                protocol: flow.protocol,
            },
        });
        let own = flow.client_netns == Some(placed.netns);
        let hook = placed.stage.map_or(
            Some(match placed.kind {
                TranslationKind::Snat => Hook::Postrouting,
                _ if own => Hook::Output,
                _ => Hook::Prerouting,
            }),
            hook_of,
        )?;
        let mut subject = self.subject(hook, (placed.netns, placed.time), &before, placed.call);
        if placed.kind == TranslationKind::Snat {
            subject.mark = self.mark_before(flow, (placed, &before));
        }
        let end = (placed.kind, placed.to);
        self.translation(placed.netns, placed.time, subject, end)
    }

    fn translation(
        &self,
        netns: NetnsId,
        time: u64,
        subject: Subject,
        (kind, to): (TranslationKind, Endpoint),
    ) -> Option<RuleReport> {
        let to = socket(to);
        let observed = match kind {
            TranslationKind::Dnat => Observed::Destination(to),
            TranslationKind::Snat => Observed::Source(to),
            // The way back follows from conntrack alone.
            TranslationKind::UnDnat | TranslationKind::UnSnat => return None,
        };
        self.explained(&Question {
            netns,
            time,
            subject,
            observed,
            came: None,
        })
    }

    /// The mark that the rules gave a flow's first packet before its source is rewritten, as the hook
    /// tells by which the packet came into the same namespace.
    fn mark_before(&self, flow: &Flow, (placed, before): (&FlowTranslation, &Tuple)) -> Bits {
        let question = self.coming(flow, placed, before);
        let marked = question.and_then(|question| {
            let after = self.ask(&question)?.after;
            let marks = after.into_iter().map(|subject| subject.mark);
            marks.reduce(Bits::merge)
        });
        marked.unwrap_or(Bits::UNKNOWN)
    }

    /// A flow's first packet where it comes into the namespace in which it is rewritten.
    fn coming(&self, flow: &Flow, placed: &FlowTranslation, before: &Tuple) -> Option<Question> {
        let mut there = flow.translations.iter();
        let dnat =
            there.find(|other| other.netns == placed.netns && other.kind == TranslationKind::Dnat);
        let own = flow.client_netns == Some(placed.netns);
        let (hook, tuple, time, call, observed) = match dnat {
            Some(dnat) => {
                let observed = Observed::Destination(socket(dnat.to));
                (
                    hook_of(dnat.stage?)?,
                    dnat.before?,
                    dnat.time,
                    dnat.call,
                    observed,
                )
            }
            // Nothing was rewritten before.
            None => {
                let hook = if own { Hook::Output } else { Hook::Prerouting };
                (hook, *before, placed.time, None, Observed::Passed)
            }
        };
        let mut subject = self.subject(hook, (placed.netns, time), &tuple, call);
        subject.connection.states = States::NEW;
        if hook == Hook::Prerouting {
            // A mark does not come along from another namespace or from outside.
            subject.mark = Bits::exactly(0);
        }
        Some(Question {
            netns: placed.netns,
            time,
            subject,
            observed,
            came: None,
        })
    }

    /// The rule that dropped a packet.
    pub(super) fn dropping(&self, packet: &Packet, dropped: &Dropped) -> Option<RuleReport> {
        let hop = self.dropped_by_rules(packet, dropped)?;
        let hook = hook_of(dropped.stage)?;
        // Inside a tunnel the rules see the tunnel's packet.
        let outer = hop.encapsulation.map(|around| around.outer);
        let tuple = outer.unwrap_or(hop.tuple);
        let mut subject = self.subject(hook, (hop.netns, hop.time), &tuple, hop.call);
        if outer.is_none() {
            self.describe(&mut subject, packet, hop);
        }
        self.explained(&Question {
            netns: hop.netns,
            time: hop.time,
            subject,
            observed: Observed::Dropped,
            came: self.came(packet, hop).map(Box::new),
        })
    }

    /// The hop whose rules dropped a packet, if rules did.
    fn dropped_by_rules<'p>(&self, packet: &'p Packet, dropped: &Dropped) -> Option<&'p Hop> {
        hook_of(dropped.stage)?;
        let reason = self.reasons.name(dropped.reason);
        let by_rules = reason
            .as_deref()
            .is_none_or(|reason| ["NETFILTER_DROP", "NOT_SPECIFIED"].contains(&reason));
        let mut hops = packet.hops.iter().rev();
        let hop = hops.find(|hop| hop.stage == dropped.stage && hop.netns == dropped.netns)?;
        (by_rules && hop.left.is_none()).then_some(hop)
    }

    /// Where rules did something to a packet that newer ones than those read so far may explain: rules are
    /// read a moment after they changed.
    #[must_use]
    pub fn awaited(&self, packet: &Packet, report: &PacketReport) -> Vec<Awaited> {
        let unexplained = |made: &TranslationReport| {
            let by_rules = !matches!(made.kind, Rewriting::UnDnat | Rewriting::UnSnat);
            by_rules && made.rule.is_none()
        };
        let hops = packet.hops.iter().zip(&report.hops);
        let translated = hops.filter(|(hop, reported)| {
            is_translated_there(packet, hop) && reported.translations.iter().any(unexplained)
        });
        let dropped = packet.dropped.as_ref();
        let dropped = dropped.and_then(|dropped| self.dropped_by_rules(packet, dropped));
        let explained = report.drop.as_ref().is_some_and(|drop| drop.rule.is_some());
        let places = translated.map(|(hop, _)| (hop, LONG));
        // What older rules explain, newer ones may explain better.
        let dropped = dropped.map(|hop| (hop, if explained { SHORT } else { LONG }));
        let awaited = places.chain(dropped).map(|(hop, longest)| Awaited {
            netns: hop.netns,
            time: hop.time,
            until: packet.hops.last().map_or(0, |last| last.time) + longest,
        });
        awaited.filter(|awaited| self.is_awaited(awaited)).collect()
    }

    /// Whether the rules there were not found to be others since.
    #[must_use]
    pub fn is_awaited(&self, &Awaited { netns, time, .. }: &Awaited) -> bool {
        let namespace = self.at(netns, time);
        let last = namespace.map(|namespace| namespace.rules.last());
        last.is_some_and(|last| last.is_none_or(|last| last.time <= time))
    }

    fn explained(&self, question: &Question) -> Option<RuleReport> {
        let mut report = RuleReport::new(self.ask(question)?)?;
        if report.service.is_none() && report.is_of(Source::Ipvs) {
            report.service = self.nameless_choice(question);
        }
        Some(report)
    }

    /// What the rules of the packet's time say; `None` where they explain nothing.
    fn ask(&self, question: &Question) -> Option<Explanation> {
        let namespace = self.at(question.netns, question.time)?;
        let versions: Vec<_> = namespace.rules.around(question.time).collect();
        let several = versions.len() > 1;
        let possible = versions.into_iter().filter(|version| {
            let came = question.came.as_deref().filter(|_| several);
            came.is_none_or(|came| {
                let after = explained_by(version, namespace, came).after;
                let destination = question.subject.destination;
                after.iter().any(|after| after.destination == destination)
            })
        });
        let explanations = possible.map(|version| explained_by(version, namespace, question));
        let mut explanations = explanations.filter(|explanation| !explanation.paths.is_empty());
        let first = explanations.next()?;
        Some(match explanations.next() {
            Some(other) if !first.is_alike(&other) => first.or(other),
            _ => first,
        })
    }
}

/// Whether a translation at a hop was chosen by rules for this packet, if there is one.
fn is_translated_there(packet: &Packet, hop: &Hop) -> bool {
    match hop.call.map(|call| call.tracking) {
        Some(Tracking::New) => true,
        // Where conntrack's word is not seen, a connection's first packet is known by itself.
        Some(Tracking::Nothing) => is_first(packet),
        _ => false,
    }
}

/// Whether a packet can be its connection's first one.
fn is_first(packet: &Packet) -> bool {
    const SYN_ACK: u8 = 2 | 16;
    packet.direction == Direction::Original
        && match packet.transport {
            Transport::Tcp { flags, .. } => flags & SYN_ACK == 2,
            _ => true,
        }
}

fn hook_of(stage: Stage) -> Option<Hook> {
    Some(match stage {
        Stage::Prerouting => Hook::Prerouting,
        Stage::Input => Hook::Input,
        Stage::Forward => Hook::Forward,
        Stage::Output => Hook::Output,
        Stage::Postrouting => Hook::Postrouting,
        _ => return None,
    })
}

fn socket(end: Endpoint) -> SocketAddr {
    SocketAddr::new(end.ip(), end.port)
}
