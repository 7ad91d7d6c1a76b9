//! The evaluation against a plain interpreter: for a packet of which everything is known, and luck
//! that is decided for it, what the interpreter does must be among what the evaluation says is
//! possible; where nothing is left to luck, it must be the only thing.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::{
    RuleSet, Tables,
    condition::{Condition, Test},
    target::{Setting, TargetKind},
};
use crate::node::rules::{
    evaluate::explain,
    outcome::{Observed, Outcome},
    path::Source,
    subject::{Bits, Elsewhere, Family, Hook, Subject},
};

/// Deeper than any rule set here that does not turn in circles.
const DEPTH: usize = 24;

/// Runs the packet through the chain. `Some` is the verdict's rule; `Err` is a loop.
struct Interpreter<'a> {
    tables: &'a Tables,
    mark: u32,
    subject: &'a Subject,
    luck: VecDeque<bool>,
    lucky: bool,
    trail: Vec<(String, usize)>,
}

enum Came {
    /// A verdict.
    End(Outcome),
    /// To the end of the chain, or back from it.
    Out,
    /// Nowhere.
    Loop,
}

impl Interpreter<'_> {
    fn holds(&mut self, condition: &Condition) -> bool {
        let holds = match &condition.test {
            Test::Source(network) => network.contains(self.subject.source),
            Test::Destination(network) => network.contains(self.subject.destination),
            Test::Mark(mark) => self.mark & mark.mask == mark.value,
            Test::Probability(_) => {
                self.lucky = true;
                self.luck.pop_front().unwrap_or(false)
            }
            Test::Module(_) | Test::Parameter(_) => true,
            other => panic!("{other:?}"),
        };
        holds != condition.inverted
    }

    fn chain(&mut self, index: usize, depth: usize) -> Came {
        if depth > DEPTH {
            return Came::Loop;
        }
        let chain = &self.tables.tables[0].chains[index];
        for (number, rule) in chain.rules.iter().enumerate() {
            // All of a rule's luck is drawn, or none: as the kernel, stop at the first that fails.
            if !rule
                .conditions
                .iter()
                .all(|condition| self.holds(condition))
            {
                continue;
            }
            let Some(target) = &rule.target else { continue };
            self.trail.push((chain.name.to_string(), number + 1));
            match (target.kind, &*target.name) {
                (_, "ACCEPT") => return Came::End(Outcome::Accepted),
                (_, "DROP") => return Came::End(Outcome::Dropped),
                (_, "RETURN") => {
                    self.trail.pop();
                    return Came::Out;
                }
                (_, "MARK") => {
                    let Setting::SetMark(mark) = target.settings[0] else {
                        unreachable!()
                    };
                    self.mark = (self.mark & !mark.mask) ^ mark.value;
                }
                (TargetKind::Jump(next), _) => match self.chain(next as usize, depth + 1) {
                    Came::Out => {}
                    other => return other,
                },
                (TargetKind::Goto(next), _) => {
                    let came = self.chain(next as usize, depth + 1);
                    if matches!(came, Came::Out) {
                        self.trail.pop();
                    }
                    return came;
                }
                other => panic!("{other:?}"),
            }
            self.trail.pop();
        }
        Came::Out
    }
}

fn condition() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("-s 10.0.0.1/32"),
        Just("! -s 10.0.0.1/32"),
        Just("-d 10.0.0.2/32"),
        Just("-d 10.0.0.3/32"),
        Just("-m mark --mark 0x1/0x1"),
        Just("-m mark ! --mark 0x2/0x3"),
        Just("-m statistic --mode random --probability 0.5"),
        Just("-m statistic --mode random ! --probability 0.5"),
    ]
}

fn rule() -> impl Strategy<Value = String> {
    let target = prop_oneof![
        2 => Just("-j ACCEPT"),
        2 => Just("-j DROP"),
        2 => Just("-j RETURN"),
        3 => Just("-j MARK --set-xmark 0x1/0x1"),
        2 => Just("-j MARK --set-xmark 0x3/0x2"),
        3 => Just("-j A"),
        3 => Just("-j B"),
        2 => Just("-g A"),
        2 => Just("-g B"),
        1 => Just(""),
    ];
    let chain = prop_oneof![Just("INPUT"), Just("A"), Just("B")];
    let conditions = prop::collection::vec(condition(), 0..3);
    (chain, conditions, target).prop_map(|(chain, conditions, target)| {
        format!("-A {chain} {} {target}", conditions.join(" "))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_happens_is_among_what_may_happen(
        rules in prop::collection::vec(rule(), 1..12),
        policy in prop_oneof![Just("ACCEPT"), Just("DROP")],
        luck in prop::collection::vec(any::<bool>(), 0..8),
        mark in 0u32..4,
        source in 1u8..3,
        destination in 2u8..4,
    ) {
        let text = format!("*filter\n:INPUT {policy} [0:0]\n:A - [0:0]\n:B - [0:0]\n{}\nCOMMIT\n", rules.join("\n"));
        let tables = Tables::parse(&text).unwrap();
        let ip = |last: u8| std::net::IpAddr::from([10, 0, 0, last]);
        let mut subject = Subject::new(Hook::Input, ip(source), ip(destination), 6);
        subject.mark = Bits::exactly(mark);
        let mut run = Interpreter { tables: &tables, mark, subject: &subject, luck: luck.into(), lucky: false, trail: Vec::new() };
        let came = run.chain(0, 0);
        let (trail, lucky) = (run.trail, run.lucky);
        let set = RuleSet::new(Family::V4, Source::IptablesNft, tables.clone());
        let explanation = explain(&[&set], &subject, &Elsewhere, Observed::Nothing);
        let outcome = match came {
            Came::End(outcome) => outcome,
            Came::Out if policy == "DROP" => Outcome::Dropped,
            Came::Out => Outcome::Accepted,
            // Rules that turn in circles: it is enough that both end.
            Came::Loop => return Ok(()),
        };
        if explanation.given_up || explanation.more > 0 {
            return Ok(());
        }
        let ways: Vec<_> = explanation.paths.iter().map(|(outcome, path)| {
            let steps = path.steps.iter().filter_map(|step| match step.place {
                crate::node::rules::path::Place::Rule { number, .. } => Some((step.chain.clone(), number as usize)),
                _ => None,
            });
            (outcome.clone(), steps.collect::<Vec<_>>())
        }).collect();
        prop_assert!(ways.contains(&(outcome.clone(), trail.clone())), "{text}{trail:?} {outcome:?} not in {ways:#?}");
        if !lucky {
            prop_assert_eq!(ways.len(), 1, "{}", text);
        }
    }
}
