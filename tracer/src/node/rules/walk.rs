//! A walk of one packet through one base chain, in any form of rules.
//!
//! Where a match cannot be decided, both ways are possible. They are not walked apart, which could
//! double the work at each such rule: what the rule leads to is walked as a possibility, and where it
//! comes back, the two states are merged ([`Subject::merge`]). So each rule is visited about once for
//! each way that leads to its chain, and the work is bounded by [`STEPS`] whatever the rules.
//!
//! How a form walks a chain, `None` meaning that the packet cannot come out of it:
//!
//! ```text
//! fn chain(walk, chain, state) -> Option<Subject>      the state with which it falls out of the end
//!     for each rule: walk.step()?                      else None
//!         No                                           go on
//!         Yes, verdict                                 walk.end(rule, None, outcome, &state); return None
//!         Unknown(why), verdict                        walk.end(rule, Some(why), outcome, &state); go on
//!         Yes, jump                                    state = walk.inside(rule, None, |walk| chain(walk, target, state))?
//!         Unknown(why), jump                           state = join(Some(state), walk.inside(rule, Some(why), ..))
//!         Yes, change of a mark                        change the state
//!         Unknown, change of a mark                    merge the changed state into the state
//! ```
//!
//! A base chain ends with its policy, by `end`.

use super::{
    decision::Undecided,
    evaluate::Answer,
    outcome::{Explanation, Observed, Outcome},
    path::{Certainty, RulePath, Step},
    subject::{Subject, Surroundings},
};

/// Rules looked at before a walk is given up: some ten times what kube-proxy's rules need for
/// 5,000 Services without any index.
pub const STEPS: usize = 1 << 18;
/// Chains entered one within the other. The kernel's own limit for nftables is 16.
pub const DEPTH: usize = 64;
/// Ways that are kept.
pub const CANDIDATES: usize = 16;

/// A way that leads to what was seen. `R` is how a form names a rule of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<R> {
    /// The rules that matched, the one that decided last.
    pub rules: Vec<R>,
    /// What could not be decided on this way.
    pub undecided: Vec<Undecided>,
    /// What the last rule does.
    pub outcome: Outcome,
}

/// A walk under way.
pub struct Walk<'a, R> {
    /// Answers about the namespace.
    pub around: &'a dyn Surroundings,
    observed: Observed,
    stack: Vec<R>,
    undecided: Vec<Undecided>,
    steps_left: usize,
    result: Walked<R>,
}

/// What a walk came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked<R> {
    /// The ways that lead to what was seen.
    pub findings: Vec<Finding<R>>,
    /// Ways that were too many to be kept.
    pub more: usize,
    /// The walk was given up.
    pub given_up: bool,
    /// What is known of the packet if it goes on; `None` if it cannot have gone on unchanged.
    pub passed: Option<Subject>,
    /// The destinations to which it may have been rewritten, with what is known of it then.
    pub rewritten: Vec<(Outcome, Subject)>,
}

impl<R> Default for Walked<R> {
    fn default() -> Self {
        Self {
            findings: Vec::new(),
            more: 0,
            given_up: false,
            passed: None,
            rewritten: Vec::new(),
        }
    }
}

impl<'a, R: Clone> Walk<'a, R> {
    /// A walk that looks for ways to what was seen.
    #[must_use]
    pub fn new(around: &'a dyn Surroundings, observed: Observed) -> Self {
        Self {
            around,
            observed,
            stack: Vec::new(),
            undecided: Vec::new(),
            steps_left: STEPS,
            result: Walked::default(),
        }
    }

    /// To be called before each rule; `None` when the walk is to be given up.
    #[must_use]
    pub fn step(&mut self) -> Option<()> {
        if self.steps_left == 0 {
            self.result.given_up = true;
            return None;
        }
        self.steps_left -= 1;
        Some(())
    }

    /// Walks what a rule leads to; `why` says what could not be decided of the rule itself.
    ///
    /// Too deep, it is given up, and `None` is returned as of a chain that nothing comes out of.
    pub fn inside<T>(
        &mut self,
        rule: R,
        why: Option<Undecided>,
        inner: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        if self.stack.len() >= DEPTH {
            self.result.given_up = true;
            return None;
        }
        let assumed = self.undecided.len();
        self.stack.push(rule);
        self.undecided.extend(why);
        let result = inner(self);
        self.undecided.truncate(assumed);
        self.stack.pop();
        result
    }

    /// A rule, or a policy, decides: `state` is what is known of the packet there. `why` says what
    /// could not be decided of the rule itself.
    pub fn end(&mut self, rule: R, why: Option<Undecided>, outcome: Outcome, state: &Subject) {
        match &outcome {
            Outcome::Dnat(_) | Outcome::Redirect(_) => {
                if self.result.rewritten.len() < CANDIDATES {
                    self.result.rewritten.push((outcome.clone(), state.clone()));
                }
            }
            outcome if outcome.is_drop() => {}
            Outcome::Stolen(_) => {}
            _ => self.result.passed = join(self.result.passed.take(), Some(state.clone())),
        }
        if !self.observed.allows(&outcome) {
            return;
        }
        if self.result.findings.len() >= CANDIDATES {
            self.result.more += 1;
            return;
        }
        let mut rules = self.stack.clone();
        rules.push(rule);
        self.result.findings.push(Finding {
            rules,
            undecided: self.undecided.iter().cloned().chain(why).collect(),
            outcome,
        });
    }

    /// What it came to.
    #[must_use]
    pub fn finish(self) -> Walked<R> {
        self.result
    }
}

/// What is known where two ways meet; `None` for a way that does not come there.
#[must_use]
pub fn join(one: Option<Subject>, other: Option<Subject>) -> Option<Subject> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            one.merge(&other);
            Some(one)
        }
        (one, other) => one.or(other),
    }
}

impl<R> Walked<R> {
    /// All of it in people's terms, where `step` says what a rule is.
    pub fn answer(self, observed: Observed, step: impl FnMut(&R) -> Step) -> Answer {
        Answer {
            explanation: self.explanation(observed, step),
            passed: self.passed,
            rewritten: self.rewritten,
        }
    }

    /// The findings in people's terms, where `step` says what a rule is.
    ///
    /// A single way is certain if nothing on it was undecided, or if a translation was seen: only
    /// this rule can have made it. A drop has causes beside rules, so elimination proves nothing.
    pub fn explanation(&self, observed: Observed, mut step: impl FnMut(&R) -> Step) -> Explanation {
        let alone = self.findings.len() == 1 && self.more == 0 && !self.given_up;
        let seen = matches!(observed, Observed::Destination(_) | Observed::Source(_));
        let paths = self.findings.iter().map(|finding| {
            let certainty = if alone && (seen || finding.undecided.is_empty()) {
                Certainty::Certain
            } else {
                Certainty::Candidate(finding.undecided.clone())
            };
            let path = RulePath {
                steps: finding.rules.iter().map(&mut step).collect(),
                certainty,
                service: None,
            };
            (finding.outcome.clone(), path)
        });
        Explanation {
            paths: paths.collect(),
            more: self.more,
            given_up: self.given_up,
            after: Vec::new(),
        }
    }
}
