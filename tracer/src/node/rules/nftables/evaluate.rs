//! What a packet meets in these rules.
//!
//! Base chains of the families ip, ip6 and inet are walked; those of bridge, arp and netdev see
//! frames, of which too little is known. Tables that iptables-nft made are left to `iptables`.

mod chain;
mod condition;
mod translate;

pub(super) use translate::{ports, range};

use super::{
    super::{
        evaluate::{self, Answer, BaseChain, ChainKind},
        outcome::{Observed, Outcome},
        path::{Place, Source, Step},
        subject::{Connection, DeviceName, Family as Version, Hook, States, Subject, Surroundings},
        walk::Walk,
    },
    RuleSet,
    index::rule_at,
    model::{Element, Elements, Expression, Family, Policy, Rule, Statement},
};

/// A place in the rules: what a path is made of until it is put in people's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// A rule: its chain, and its number there from 0.
    Rule(usize, usize),
    /// An element of the map that a rule looks up: the rule's chain and number, the map if it has a
    /// name, the element's number from 0.
    Element(usize, usize, Option<usize>, u32),
    /// The policy of a chain.
    Policy(usize),
}

/// Where the kernel asks all chains of type nat, whatever their own priority: it orders them among
/// each other only (`nf_nat_register_fn`, 4.18 and later).
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;

impl evaluate::RuleSet for RuleSet {
    fn source(&self) -> Source {
        Source::Nftables
    }

    fn base_chains(&self, family: Version, hook: Hook) -> Vec<BaseChain> {
        let mut chains = Vec::new();
        // Of equal priority, the kernel asks the youngest first; the listing has the oldest first.
        for id in (0..self.index.chains.len()).rev() {
            let Some(chain) = self.index.chain_of(&self.listing, id) else {
                continue;
            };
            let table = &self.index.tables[self.index.chains[id].table];
            let sees = match chain.family {
                Family::Ip => family == Version::V4,
                Family::Ip6 => family == Version::V6,
                Family::Inet => true,
                Family::Arp | Family::Bridge | Family::Netdev => false,
            };
            let base = chain.base.as_ref();
            if let Some(base) = base.filter(|base| *base.hook == *hook.as_str())
                && sees
                && !table.of_iptables
            {
                let nat = &*base.kind == "nat";
                let priority = match (nat, hook) {
                    (false, _) => base.priority,
                    (true, Hook::Prerouting | Hook::Output) => DESTINATION_NAT,
                    (true, _) => SOURCE_NAT,
                };
                let kind = if nat {
                    ChainKind::Nat
                } else {
                    ChainKind::Filter
                };
                chains.push((base.priority, BaseChain { priority, kind, id }));
            }
        }
        chains.sort_by_key(|(own, chain)| (chain.priority, *own));
        chains.into_iter().map(|(_, chain)| chain).collect()
    }

    fn walk(
        &self,
        chain: &BaseChain,
        subject: &Subject,
        around: &dyn Surroundings,
        observed: Observed,
    ) -> Answer {
        let mut walk = Walk::new(around, observed);
        let base = self.index.chain_of(&self.listing, chain.id);
        let base = base.and_then(|chain| chain.base.as_ref());
        let untracked = base.is_some_and(|base| before_tracking(base.priority, subject));
        let mut state = subject.clone();
        if untracked {
            state.connection = Connection {
                states: States::INVALID,
                ..Connection::default()
            };
        }
        if let Some(state) = self.chain(&mut walk, chain.id, untracked, state) {
            let policy = base.and_then(|base| base.policy);
            let outcome = match policy {
                Some(Policy::Drop) => Outcome::Dropped,
                Some(Policy::Accept) | None => Outcome::Accepted,
            };
            walk.end(Spot::Policy(chain.id), None, outcome, &state);
        }
        let walked = walk.finish();
        let findings = walked.findings.iter();
        let services: Vec<_> = findings
            .map(|finding| self.choice(&finding.rules, &finding.outcome))
            .collect();
        let mut answer = walked.answer(observed, |spot| self.step(*spot));
        if let (true, Some(passed)) = (untracked, &mut answer.passed) {
            passed.connection = tracked(passed.connection.states, subject.connection);
        }
        for ((_, path), service) in answer.explanation.paths.iter_mut().zip(services) {
            path.service = service;
        }
        answer
    }
}

/// Whether conntrack has not seen a packet yet where a chain of this priority sees it. What came
/// over the loopback device was seen before it was sent.
fn before_tracking(priority: i32, subject: &Subject) -> bool {
    /// `NF_IP_PRI_CONNTRACK`.
    const TRACKING: i32 = -200;
    let first = matches!(subject.hook, Hook::Prerouting | Hook::Output);
    let looped = subject.input == DeviceName::Is("lo".to_owned());
    first && priority < TRACKING && !looped
}

/// The connection of a packet as conntrack finds it after chains that came before it, which may
/// have told it not to look (`notrack`).
fn tracked(before: States, connection: Connection) -> Connection {
    if before == States::UNTRACKED {
        Connection {
            states: States::UNTRACKED,
            ..Connection::default()
        }
    } else if before.may_be(States::UNTRACKED) {
        Connection {
            states: connection.states.or(States::UNTRACKED),
            ..connection
        }
    } else {
        connection
    }
}

impl RuleSet {
    /// A place in people's terms.
    pub(super) fn step(&self, spot: Spot) -> Step {
        let (Spot::Rule(chain, _) | Spot::Element(chain, ..) | Spot::Policy(chain)) = spot;
        let table = self.index.chains.get(chain).map(|chain| chain.table);
        let table = table.and_then(|table| self.index.tables.get(table));
        let table = table.map_or_else(String::new, |table| {
            format!("{} {}", table.family.as_str(), table.name)
        });
        let object = self.index.chain_of(&self.listing, chain);
        let name = object.map_or("", |chain| &chain.name);
        let rule = |number| self.rule_in(chain, number);
        let (chain, place, text, comment) = match spot {
            Spot::Rule(_, number) => {
                let rule = rule(number);
                let place = Place::Rule {
                    number: u32::try_from(number + 1).unwrap_or(u32::MAX),
                    handle: rule.map(|rule| rule.handle).filter(|handle| *handle != 0),
                };
                let text = rule.map_or_else(String::new, |rule| rule.abbreviated().to_string());
                (
                    name,
                    place,
                    text,
                    rule.and_then(|rule| rule.comment.as_deref()),
                )
            }
            Spot::Element(_, number, set, element) => {
                let set = set.and_then(|set| self.index.set_of(&self.listing, set));
                let elements = match set {
                    Some(set) => set.elements.as_ref(),
                    None => rule(number).and_then(own_map),
                };
                let element = elements.and_then(|all| all.list.get(element as usize));
                let text = element.map_or_else(String::new, |e| e.bare().to_string());
                let chain = set.map_or(name, |set| &set.name);
                (
                    chain,
                    Place::Element,
                    text,
                    element.and_then(Element::comment),
                )
            }
            Spot::Policy(_) => {
                let policy = object.and_then(|chain| chain.base.as_ref()?.policy);
                let drops = policy == Some(Policy::Drop);
                let text = if drops {
                    "policy drop"
                } else {
                    "policy accept"
                };
                (name, Place::Policy, text.to_owned(), None)
            }
        };
        Step {
            source: Source::Nftables,
            table,
            chain: chain.to_owned(),
            place,
            text,
            comment: comment.map(str::to_owned),
        }
    }

    /// A rule by its chain and its number there.
    pub(super) fn rule_in(&self, chain: usize, number: usize) -> Option<&Rule> {
        let place = self.index.chains.get(chain)?.rules.get(number)?;
        rule_at(&self.listing, *place)
    }
}

/// The map without a name by which a rule decides or translates.
pub(super) fn own_map(rule: &Rule) -> Option<&Elements> {
    let data = rule
        .statements
        .iter()
        .find_map(|statement| match statement {
            Statement::VerdictMap { data, .. } => Some(data),
            Statement::Nat(nat) => match &nat.address {
                Some(Expression::Map(map)) => Some(&map.1),
                _ => None,
            },
            _ => None,
        })?;
    match data {
        Expression::Set(elements) => Some(elements),
        _ => None,
    }
}
