//! Rules that are ready to be evaluated.

use std::{collections::HashMap, net::IpAddr, sync::OnceLock};

use serde::{Deserialize, Serialize};

use super::{
    At, Chain, Family, Policy, Rule, Table, Tables,
    condition::{Condition, Test},
    effect::Effect,
    kube::Kube,
};
use crate::node::{
    rules::{
        decision::{Decision, Undecided},
        evaluate::{Answer, BaseChain, ChainKind, RuleSet as Evaluated},
        outcome::{Observed, Outcome},
        path::{Place, Source, Step},
        subject::{Hook, Subject, Surroundings},
        walk::{Walk, join},
    },
    services::Service,
};

/// The rules of one family and back end in one namespace, ready to be evaluated.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct RuleSet {
    saved: Saved,
    bases: Vec<Base>,
    /// By table and chain; made when first asked for.
    indexes: Vec<Vec<OnceLock<Index>>>,
    kube: OnceLock<Kube>,
}

/// What is saved of a rule set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    family: Family,
    source: Source,
    tables: Tables,
}

/// A chain that a hook calls.
#[derive(Clone, Copy, Debug)]
struct Base {
    hook: Hook,
    priority: i32,
    kind: ChainKind,
    table: usize,
    chain: usize,
}

impl From<Saved> for RuleSet {
    fn from(saved: Saved) -> Self {
        let tables = &saved.tables.tables;
        let mut bases = Vec::new();
        for (table_index, table) in tables.iter().enumerate() {
            for (chain_index, chain) in table.chains.iter().enumerate() {
                bases.extend(base(table, table_index, chain, chain_index));
            }
        }
        let indexes = tables
            .iter()
            .map(|table| table.chains.iter().map(|_| OnceLock::new()).collect());
        Self {
            bases,
            indexes: indexes.collect(),
            kube: OnceLock::new(),
            saved,
        }
    }
}

impl From<RuleSet> for Saved {
    fn from(rules: RuleSet) -> Self {
        rules.saved
    }
}

impl Clone for RuleSet {
    fn clone(&self) -> Self {
        Self::from(self.saved.clone())
    }
}

impl PartialEq for RuleSet {
    fn eq(&self, other: &Self) -> bool {
        self.saved == other.saved
    }
}

/// The chain's place at its hook, if a hook calls it.
fn base(table: &Table, table_index: usize, chain: &Chain, chain_index: usize) -> Option<Base> {
    chain.policy?;
    let hook = Hook::ALL
        .into_iter()
        .find(|hook| hook.as_str().eq_ignore_ascii_case(&chain.name))?;
    let (priority, kind) = match &*table.name {
        "raw" => (-300, ChainKind::Filter),
        "mangle" => (-150, ChainKind::Filter),
        "filter" => (0, ChainKind::Filter),
        "security" => (50, ChainKind::Filter),
        "nat" if matches!(hook, Hook::Prerouting | Hook::Output) => (-100, ChainKind::Nat),
        "nat" => (100, ChainKind::Nat),
        _ => return None,
    };
    Some(Base {
        hook,
        priority,
        kind,
        table: table_index,
        chain: chain_index,
    })
}

impl RuleSet {
    /// The rules of a family, from the tables that one of the two back ends printed.
    #[must_use]
    pub fn new(family: Family, source: Source, tables: Tables) -> Self {
        Self::from(Saved {
            family,
            source,
            tables,
        })
    }

    /// Its version of IP.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.saved.family
    }

    /// The tables.
    #[must_use]
    pub const fn tables(&self) -> &Tables {
        &self.saved.tables
    }

    /// The Services that kube-proxy made of them.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.kube().services
    }

    fn kube(&self) -> &Kube {
        self.kube
            .get_or_init(|| Kube::read(&self.saved.tables, self.saved.source))
    }

    fn table(&self, at: At) -> Option<&Table> {
        self.saved.tables.tables.get(at.table)
    }

    fn rules(&self, at: At) -> &[Rule] {
        let chain = self.table(at).and_then(|table| table.chains.get(at.chain));
        chain.map_or(&[], |chain| &chain.rules)
    }

    fn index(&self, at: At) -> Option<&Index> {
        let index = self.indexes.get(at.table)?.get(at.chain)?;
        Some(index.get_or_init(|| Index::new(self.rules(at))))
    }

    /// Walks a chain; `None` when the packet cannot fall out of its end.
    fn chain(&self, walk: &mut Walk<'_, At>, at: At, state: Subject) -> Option<Subject> {
        let mut state = Some(state);
        // What left the chain before its end and goes on where it was called.
        let mut back = None;
        let candidates = self.index(at)?.candidates(state.as_ref()?.destination);
        for number in candidates {
            let (Some(here), Some(rule)) = (&state, self.rules(at).get(number)) else {
                break;
            };
            walk.step()?;
            let why = match rule.decide(here, walk.around) {
                Decision::No => continue,
                Decision::Yes => None,
                Decision::Unknown(why) => Some(why),
            };
            let at = At {
                rule: Some(number),
                ..at
            };
            state = self.take(walk, at, rule, why, state, &mut back);
        }
        join(state, back)
    }

    /// A rule that holds, or may hold for the reason given. Returns the state in which the next rule
    /// sees the packet.
    fn take(
        &self,
        walk: &mut Walk<'_, At>,
        at: At,
        rule: &Rule,
        why: Option<Undecided>,
        state: Option<Subject>,
        back: &mut Option<Subject>,
    ) -> Option<Subject> {
        let here = state?;
        // Where it is not sure that the rule holds, the packet may also just go on.
        let aside = why.is_some().then(|| here.clone());
        let inner = |chain| At {
            chain,
            rule: None,
            ..at
        };
        match Effect::of(rule.target.as_ref(), here.hook) {
            Effect::Nothing => Some(here),
            Effect::End(outcome) => {
                walk.end(at, why, outcome, &here);
                aside
            }
            Effect::Return => {
                *back = join(back.take(), Some(here));
                aside
            }
            Effect::Jump(chain) => {
                let inside = |walk: &mut Walk<'_, At>| self.chain(walk, inner(chain), here);
                join(aside, walk.inside(at, why, inside))
            }
            Effect::Goto(chain) => {
                let inside = |walk: &mut Walk<'_, At>| self.chain(walk, inner(chain), here);
                *back = join(back.take(), walk.inside(at, why, inside));
                aside
            }
            Effect::Change(change) => {
                let mut changed = here;
                change.apply(&mut changed);
                join(aside, Some(changed))
            }
            Effect::Unknown => {
                let name = rule.target.as_ref().map_or("", |target| &target.name);
                let why = Undecided(format!("what {name} does cannot be decided here").into());
                walk.end(at, Some(why), Outcome::Stolen(name.to_owned()), &here);
                Some(here)
            }
        }
    }

    /// A rule in people's terms.
    fn step(&self, at: At) -> Step {
        let table = self.table(at);
        let chain = table.and_then(|table| table.chains.get(at.chain));
        let name = chain.map_or("", |chain| &*chain.name);
        let rule = at
            .rule
            .and_then(|number| Some((number, chain?.rules.get(number)?)));
        let (place, text, comment) = match rule {
            Some((number, rule)) => {
                let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
                let place = Place::Rule {
                    number,
                    handle: None,
                };
                let comment = rule.comment().map(str::to_owned);
                (place, rule.in_chain(name).to_string(), comment)
            }
            None => {
                let policy = chain.and_then(|chain| chain.policy);
                let policy = policy.map_or("-", Policy::as_str);
                (Place::Policy, format!("-P {name} {policy}"), None)
            }
        };
        Step {
            source: self.saved.source,
            table: table.map_or("", |table| &*table.name).to_owned(),
            chain: name.to_owned(),
            place,
            text,
            comment,
        }
    }
}

impl Evaluated for RuleSet {
    fn source(&self) -> Source {
        self.saved.source
    }

    fn base_chains(&self, family: Family, hook: Hook) -> Vec<BaseChain> {
        let bases = self.bases.iter().enumerate();
        bases
            .filter(|(_, base)| base.hook == hook && family == self.saved.family)
            .map(|(id, base)| BaseChain {
                priority: base.priority,
                kind: base.kind,
                id,
            })
            .collect()
    }

    fn walk(
        &self,
        chain: &BaseChain,
        subject: &Subject,
        around: &dyn Surroundings,
        observed: Observed,
    ) -> Answer {
        let Some(base) = self.bases.get(chain.id) else {
            return Answer::default();
        };
        let at = At {
            table: base.table,
            chain: base.chain,
            rule: None,
        };
        let mut walk = Walk::new(around, observed);
        if let Some(end) = self.chain(&mut walk, at, subject.clone()) {
            let policy = self
                .table(at)
                .and_then(|table| table.chains.get(at.chain)?.policy);
            let outcome = match policy {
                Some(Policy::Drop) => Outcome::Dropped,
                _ => Outcome::Accepted,
            };
            walk.end(at, None, outcome, &end);
        }
        let walked = walk.finish();
        let choices: Vec<_> = walked
            .findings
            .iter()
            .map(|finding| self.kube().choice(&self.saved.tables, &finding.rules))
            .collect();
        let mut answer = walked.answer(observed, |at| self.step(*at));
        for ((_, path), choice) in answer.explanation.paths.iter_mut().zip(choices) {
            path.service = choice;
        }
        answer
    }
}

/// Which rules of a chain can be about a destination. In a chain with a rule for each Service, that
/// is a few of thousands.
#[derive(Debug, Default)]
struct Index {
    /// By the one destination that a rule is for.
    by_destination: HashMap<IpAddr, Vec<usize>>,
    /// The others.
    others: Vec<usize>,
}

impl Index {
    fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            let only = rule
                .conditions
                .iter()
                .find_map(|condition| match condition {
                    Condition {
                        inverted: false,
                        test: Test::Destination(network),
                    } => network.host(),
                    _ => None,
                });
            match only {
                Some(address) => index
                    .by_destination
                    .entry(address)
                    .or_default()
                    .push(number),
                None => index.others.push(number),
            }
        }
        index
    }

    /// The rules that can hold for a destination, in order.
    fn candidates(&self, destination: IpAddr) -> impl Iterator<Item = usize> {
        let of_it = self.by_destination.get(&destination);
        let mut of_it = of_it.map_or(&[][..], Vec::as_slice).iter().peekable();
        let mut others = self.others.iter().peekable();
        std::iter::from_fn(move || match (of_it.peek(), others.peek()) {
            (Some(a), Some(b)) if a < b => of_it.next().copied(),
            (Some(_), None) => of_it.next().copied(),
            _ => others.next().copied(),
        })
    }
}
