//! Walking a chain, as [`crate::node::rules::walk`] says.

use std::borrow::Cow;

use super::super::{
    super::{
        decision::{Decision, Undecided},
        outcome::Outcome,
        subject::{Family as Version, States, Subject, Surroundings},
        walk::{Walk, join},
    },
    RuleSet,
    model::{Expression, Rule, Statement, Verdict},
    packet::Packet,
};
use super::Spot;

/// What leads to a verdict.
#[derive(Clone)]
pub(super) struct Cause {
    pub(super) spot: Spot,
    /// The table that it is in.
    pub(super) table: usize,
    /// Conntrack has not seen the packet here.
    untracked: bool,
    /// What could not be decided of it so far.
    pub(super) why: Option<Undecided>,
}

/// A rule under way.
pub(super) struct UnderWay<'s> {
    pub(super) rule: &'s Rule,
    pub(super) cause: Cause,
    /// The packet as it came to the rule.
    before: Subject,
    /// The packet as the rule changed it.
    changed: Option<Subject>,
}

impl<'s> UnderWay<'s> {
    /// The packet as the next statement sees it.
    pub(super) fn subject(&self) -> &Subject {
        self.changed.as_ref().unwrap_or(&self.before)
    }

    pub(super) fn packet<'a>(&'a self, around: &'a dyn Surroundings) -> Packet<'a> {
        let subject = self.subject();
        Packet { subject, around }
    }

    /// The packet, to be changed.
    pub(super) fn change(&mut self) -> &mut Subject {
        self.changed.get_or_insert_with(|| self.before.clone())
    }

    fn doubt(&mut self, why: Undecided) {
        self.cause.why.get_or_insert(why);
    }

    /// What is known after the rule, when it did not decide. What it changed is certain only if
    /// everything before was.
    fn after(self) -> Subject {
        let mut before = self.before;
        match self.changed {
            None => before,
            Some(changed) if self.cause.why.is_none() => changed,
            Some(changed) => {
                before.merge(&changed);
                before
            }
        }
    }

    /// What is known after the rule, if it may not have been met: else nothing comes after it.
    fn unmet(self, complete: bool) -> Option<Subject> {
        (self.cause.why.is_some() || !complete).then(|| self.after())
    }
}

impl RuleSet {
    /// Walks a chain; the state with which the packet falls out of its end or returns.
    pub(super) fn chain(
        &self,
        walk: &mut Walk<'_, Spot>,
        chain: usize,
        untracked: bool,
        mut state: Subject,
    ) -> Option<Subject> {
        let mut returned = None;
        let entry = self.index.chains.get(chain)?;
        for number in 0..entry.rules.len() {
            walk.step()?;
            let Some(rule) = self.rule_in(chain, number) else {
                continue;
            };
            let rule = UnderWay {
                rule,
                cause: Cause {
                    spot: Spot::Rule(chain, number),
                    table: entry.table,
                    untracked,
                    why: None,
                },
                before: state,
                changed: None,
            };
            match self.rule(walk, rule, &mut returned) {
                Some(next) => state = next,
                None => return returned,
            }
        }
        join(returned, Some(state))
    }

    /// Walks a rule; the state with which the packet comes to the next one. States with which it
    /// leaves the chain otherwise are added to `returned`.
    fn rule(
        &self,
        walk: &mut Walk<'_, Spot>,
        mut rule: UnderWay<'_>,
        returned: &mut Option<Subject>,
    ) -> Option<Subject> {
        for statement in &rule.rule.statements {
            match statement {
                Statement::Match {
                    operator,
                    left,
                    right,
                } => {
                    let packet = rule.packet(walk.around);
                    match self.matches(packet, rule.cause.table, *operator, left, right) {
                        Decision::Yes => {}
                        Decision::No => break,
                        Decision::Unknown(why) => rule.doubt(why),
                    }
                }
                Statement::Verdict(Verdict::Continue) => break,
                Statement::Verdict(verdict) => {
                    let (cause, state) = (rule.cause.clone(), rule.subject().clone());
                    let next = self.verdict(walk, cause, verdict, state, returned);
                    return join(rule.unmet(true), next);
                }
                Statement::VerdictMap { key, data } => {
                    return self.verdict_map(walk, rule, key, data, returned);
                }
                Statement::Nat(nat) => {
                    if self.translates(nat, rule.subject()) {
                        let complete = self.translate(walk, &rule, nat);
                        return rule.unmet(complete);
                    }
                }
                Statement::Reject { kind, code, .. } => {
                    let version = rule.subject().family();
                    let outcome = rejected(kind.as_deref(), code.as_ref(), version);
                    walk.end(
                        rule.cause.spot,
                        rule.cause.why.clone(),
                        outcome,
                        rule.subject(),
                    );
                    return rule.unmet(true);
                }
                Statement::Queue(_) => {
                    walk.end(
                        rule.cause.spot,
                        rule.cause.why.clone(),
                        Outcome::Queued,
                        rule.subject(),
                    );
                    return rule.unmet(true);
                }
                Statement::Mangle { key, value } => mangle(walk, &mut rule, key, value),
                Statement::Passing { name, .. } => {
                    // Later it is too late (`nft_notrack_eval`).
                    if &**name == "notrack" && rule.cause.untracked {
                        rule.change().connection.states = States::UNTRACKED;
                    }
                }
                Statement::Opaque { name, .. } => {
                    rule.doubt(Undecided(Cow::Owned(format!("{name} cannot be decided"))));
                    if let "synproxy" | "fwd" = &**name {
                        let outcome = Outcome::Stolen(name.to_string());
                        walk.end(
                            rule.cause.spot,
                            rule.cause.why.clone(),
                            outcome,
                            rule.subject(),
                        );
                    }
                }
                Statement::Unknown(_) => {
                    rule.doubt(Undecided::because("a statement is not understood"));
                }
            }
        }
        Some(rule.after())
    }

    /// What a verdict comes to; the state with which the packet goes on in the chain.
    fn verdict(
        &self,
        walk: &mut Walk<'_, Spot>,
        cause: Cause,
        verdict: &Verdict,
        state: Subject,
        returned: &mut Option<Subject>,
    ) -> Option<Subject> {
        let Cause {
            spot,
            table,
            untracked,
            why,
        } = cause;
        let chain = |name| self.index.tables.get(table)?.chains.get(name).copied();
        match verdict {
            Verdict::Accept => walk.end(spot, why, Outcome::Accepted, &state),
            Verdict::Drop => walk.end(spot, why, Outcome::Dropped, &state),
            Verdict::Continue => return Some(state),
            Verdict::Return => *returned = join(returned.take(), Some(state)),
            Verdict::Jump(name) => match chain(name) {
                Some(chain) => {
                    return walk
                        .inside(spot, why, |walk| self.chain(walk, chain, untracked, state));
                }
                None => return Some(state),
            },
            Verdict::Goto(name) => {
                if let Some(chain) = chain(name) {
                    let end =
                        walk.inside(spot, why, |walk| self.chain(walk, chain, untracked, state));
                    *returned = join(returned.take(), end);
                }
            }
        }
        None
    }

    fn verdict_map(
        &self,
        walk: &mut Walk<'_, Spot>,
        mut rule: UnderWay<'_>,
        key: &Expression,
        data: &Expression,
        returned: &mut Option<Subject>,
    ) -> Option<Subject> {
        let values = rule.packet(walk.around).key(key);
        let Some(looked) = self.look_up(rule.cause.table, key, data, &values) else {
            rule.doubt(Undecided::because("the map is not known"));
            return Some(rule.after());
        };
        let mut next = None;
        for (number, decision) in &looked.found.elements {
            let element = looked.elements.get(*number as usize);
            let Some(Expression::Verdict(verdict)) = element.and_then(|e| e.data.as_ref()) else {
                continue;
            };
            let why = match decision {
                Decision::Unknown(why) => Some(why.clone()),
                Decision::Yes | Decision::No => None,
            };
            let Spot::Rule(chain, place) = rule.cause.spot else {
                continue;
            };
            let cause = Cause {
                spot: Spot::Element(chain, place, looked.set, *number),
                table: rule.cause.table,
                untracked: rule.cause.untracked,
                why,
            };
            let state = rule.subject().clone();
            let state = walk.inside(rule.cause.spot, rule.cause.why.clone(), |walk| {
                self.verdict(walk, cause, verdict, state, returned)
            });
            next = join(next, state);
        }
        join(rule.unmet(looked.found.complete), next)
    }
}

/// Sets a mark, an address or a port.
fn mangle(walk: &Walk<'_, Spot>, rule: &mut UnderWay<'_>, key: &Expression, value: &Expression) {
    let field = rule.packet(walk.around).field(value);
    match key {
        Expression::Meta(name) if &**name == "mark" => rule.change().mark = field.as_bits(),
        Expression::Ct { key, .. } if &**key == "mark" => {
            rule.change().connection.mark = field.as_bits();
        }
        Expression::Payload { protocol, field } => {
            let port = match value {
                Expression::Number(port) => u16::try_from(*port).ok(),
                _ => None,
            };
            let address = match value {
                Expression::Text(address) => address.parse().ok(),
                _ => None,
            };
            match (&**field, address) {
                ("sport", _) => rule.change().source_port = port,
                ("dport", _) => rule.change().destination_port = port,
                ("saddr", Some(address)) if &**protocol != "ether" => {
                    rule.change().source = address;
                }
                ("daddr", Some(address)) if &**protocol != "ether" => {
                    rule.change().destination = address;
                }
                _ => {}
            }
        }
        _ => {}
    }
}

/// A refusal, named as iptables names it.
fn rejected(kind: Option<&str>, code: Option<&Expression>, version: Version) -> Outcome {
    let family = match version {
        Version::V4 => "icmp",
        Version::V6 => "icmp6",
    };
    Outcome::Rejected(match (kind, code) {
        (Some("tcp reset"), _) => "tcp-reset".to_owned(),
        (_, Some(code)) => format!("{family}-{code}"),
        (_, None) => format!("{family}-port-unreachable"),
    })
}
