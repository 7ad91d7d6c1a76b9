//! All rules of a hook, of all forms, in the order in which the kernel asks them.
//!
//! A hook asks its base chains by priority. A packet that one accepts goes on to the next; a drop
//! ends it. So a base chain is evaluated with what the ones before it left: a mark, and the
//! destinations to which the packet may have been rewritten.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    outcome::{Explanation, NatRange, Observed, Outcome},
    path::{Certainty, Source},
    subject::{Bits, Family, Hook, States, Subject, Surroundings, status},
};

/// Who asks a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// Every packet.
    Filter,
    /// The first packet of a connection.
    Nat,
}

/// A base chain of a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// Chains of lower priority come first.
    pub priority: i32,
    /// Who asks it.
    pub kind: ChainKind,
    /// What its rule set knows it by.
    pub id: usize,
}

/// What one base chain says of a packet.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The ways that lead to what was seen.
    pub explanation: Explanation,
    /// What is known of the packet if it goes on as it is; `None` if it cannot.
    pub passed: Option<Subject>,
    /// The destinations to which it may have been rewritten, with what is known of it just before.
    pub rewritten: Vec<(Outcome, Subject)>,
}

/// The rules of one form in one namespace.
pub trait RuleSet {
    /// Which form it is.
    fn source(&self) -> Source;

    /// Its base chains at a hook, in any order.
    fn base_chains(&self, family: Family, hook: Hook) -> Vec<BaseChain>;

    /// Walks one of them.
    fn walk(
        &self,
        chain: &BaseChain,
        subject: &Subject,
        around: &dyn Surroundings,
        observed: Observed,
    ) -> Answer;
}

/// Destinations that are followed on from a chain that translates.
const DESTINATIONS: usize = 16;
/// States in which the kernel asks a chain of the NAT kind: a connection without translation yet.
const FIRST: States = States::NEW.or(States::RELATED);

/// Why what was seen happened to the packet at its hook.
///
/// For a translation the packet is taken as its connection's first one, since that is when the rules
/// were asked.
#[must_use]
pub fn explain(
    sets: &[&dyn RuleSet],
    subject: &Subject,
    around: &dyn Surroundings,
    observed: Observed,
) -> Explanation {
    let mut subject = subject.clone();
    let translated = matches!(observed, Observed::Destination(_) | Observed::Source(_));
    if translated {
        subject.connection.states = States::NEW;
    }
    let mut explanation = Explanation::default();
    let chains = ordered(sets, &subject);
    let mut states = vec![Seen {
        subject,
        rewritten: false,
    }];
    for (set, chain) in chains {
        let nat = chain.kind == ChainKind::Nat;
        let aside = translated && !nat;
        let mut after = Vec::new();
        for state in states {
            let possible = state.subject.connection.states;
            // IPVS translates by itself, whatever NAT did.
            let done = state.rewritten && set.source() != Source::Ipvs;
            if nat && (done || !possible.may_be(FIRST)) {
                after.push(state);
                continue;
            }
            let wanted = if aside { Observed::Passed } else { observed };
            let answer = set.walk(&chain, &state.subject, around, wanted);
            if !aside {
                add(&mut explanation, answer.explanation);
            }
            let passed = answer.passed.map(|subject| Seen {
                subject,
                rewritten: false,
            });
            after.extend(passed);
            after.extend(answer.rewritten.into_iter().map(rewrite));
            if nat && !possible.only(FIRST) {
                after.push(state);
            }
        }
        states = distinct(after, &mut explanation.given_up);
    }
    settle(&mut explanation);
    let after = states.into_iter().map(|state| state.subject);
    explanation.after = after.filter(|subject| arrives(subject, observed)).collect();
    explanation
}

/// Whether a packet that went on can be the one that was seen.
fn arrives(subject: &Subject, observed: Observed) -> bool {
    match observed {
        Observed::Destination(to) => {
            subject.destination == to.ip()
                && subject
                    .destination_port
                    .is_none_or(|port| port == to.port())
        }
        _ => true,
    }
}

/// A packet between two base chains.
struct Seen {
    subject: Subject,
    /// It was given another destination here: no other chain of the NAT kind is asked.
    rewritten: bool,
}

fn ordered<'s>(sets: &[&'s dyn RuleSet], subject: &Subject) -> Vec<(&'s dyn RuleSet, BaseChain)> {
    let chains = sets.iter().flat_map(|&set| {
        let chains = set.base_chains(subject.family(), subject.hook);
        chains.into_iter().map(move |chain| (set, chain))
    });
    let mut chains: Vec<_> = chains.collect();
    chains.sort_by_key(|(_, chain)| chain.priority);
    chains
}

fn add(explanation: &mut Explanation, more: Explanation) {
    for (outcome, path) in more.paths {
        // The same rule, reached with another destination.
        let known = explanation
            .paths
            .iter_mut()
            .find(|(_, known)| known.steps == path.steps);
        match known {
            Some((_, known)) if path.certainty == Certainty::Certain => {
                known.certainty = Certainty::Certain;
            }
            Some(_) => {}
            None => explanation.paths.push((outcome, path)),
        }
    }
    explanation.more += more.more;
    explanation.given_up |= more.given_up;
}

/// One of several is not certain, even if each would be by its own chain.
fn settle(explanation: &mut Explanation) {
    if explanation.paths.len() > 1 || explanation.more > 0 || explanation.given_up {
        for (_, path) in &mut explanation.paths {
            if path.certainty == Certainty::Certain {
                path.certainty = Certainty::Candidate(Vec::new());
            }
        }
    }
}

/// What later chains see of a packet that was given another destination.
fn rewrite((outcome, mut subject): (Outcome, Subject)) -> Seen {
    let range = match outcome {
        Outcome::Dnat(range) => range,
        Outcome::Redirect(range) if subject.hook == Hook::Output => NatRange {
            addresses: Some(match subject.family() {
                Family::V4 => both(Ipv4Addr::LOCALHOST.into()),
                Family::V6 => both(Ipv6Addr::LOCALHOST.into()),
            }),
            ..range
        },
        _ => NatRange::default(),
    };
    if let Some((first, last)) = range.addresses
        && first == last
    {
        subject.destination = first;
    }
    if let Some((first, last)) = range.ports {
        subject.destination_port = (first == last).then_some(first);
    }
    let connection = &mut subject.connection;
    connection.status = connection
        .status
        .with(Bits::exactly(status::DST_NAT), status::DST_NAT);
    Seen {
        subject,
        rewritten: true,
    }
}

fn both(address: IpAddr) -> (IpAddr, IpAddr) {
    (address, address)
}

/// States with equal destinations become one; too many are cut off, which is said by `given_up`.
fn distinct(states: Vec<Seen>, given_up: &mut bool) -> Vec<Seen> {
    let mut kept: Vec<Seen> = Vec::new();
    for state in states {
        let same = kept.iter().position(|kept| {
            let (kept_subject, subject) = (&kept.subject, &state.subject);
            kept_subject.destination == subject.destination
                && kept_subject.destination_port == subject.destination_port
                && kept.rewritten == state.rewritten
        });
        match same {
            Some(index) => kept[index].subject.merge(&state.subject),
            None if kept.len() < DESTINATIONS => kept.push(state),
            None => *given_up = true,
        }
    }
    kept
}
