//! Rules made for one thing each.

use super::{super::super::RuleSet, first, seen, written};
use crate::node::rules::{
    outcome::Observed,
    subject::{Hook, Subject},
};

/// An inet table whose input chain has these rules (as JSON, one array of statements each).
pub(super) fn input(policy: &str, rules: &[&str]) -> RuleSet {
    table("inet", &[("in", Some(policy), rules)])
}

pub(super) fn table(family: &str, chains: &[(&str, Option<&str>, &[&str])]) -> RuleSet {
    let of = format!(r#""family":"{family}","table":"t""#);
    let mut objects = vec![format!(r#"{{"table":{{"family":"{family}","name":"t"}}}}"#)];
    for (name, policy, _) in chains {
        let base = policy.map_or_else(String::new, |policy| {
            format!(r#","type":"filter","hook":"input","prio":0,"policy":"{policy}""#)
        });
        objects.push(format!(r#"{{"chain":{{{of},"name":"{name}"{base}}}}}"#));
    }
    for (name, _, rules) in chains {
        for (number, rule) in rules.iter().enumerate() {
            objects.push(format!(
                r#"{{"rule":{{{of},"chain":"{name}","handle":{},"expr":[{rule}]}}}}"#,
                number + 10
            ));
        }
    }
    RuleSet::parse(&format!(r#"{{"nftables":[{}]}}"#, objects.join(","))).unwrap()
}

pub(super) fn packet() -> Subject {
    first(Hook::Input, 6, "10.0.0.1:1000 -> 10.0.0.2:80")
}

/// The rules that may have dropped a packet: `10`, or `10?` where that is not certain.
pub(super) fn droppers(rules: &RuleSet, subject: &Subject) -> String {
    let explanation = seen(rules, subject, Observed::Dropped);
    let ways = written(&explanation);
    let ways = ways.iter().map(|way| {
        let rule = way.lines().find(|line| line.contains("(handle"));
        let name = match rule {
            Some(rule) => rule.split("handle ").nth(1).unwrap().trim_end_matches(')'),
            None => "policy",
        };
        let sure = if way.ends_with("certain") { "" } else { "?" };
        format!("{name}{sure}")
    });
    ways.collect::<Vec<_>>().join(" ")
}

pub(super) fn matched(expression: &str, right: &str) -> String {
    format!(r#"{{"match":{{"op":"==","left":{expression},"right":{right}}}}}"#)
}

pub(super) fn dropped_by(left: &str, right: &str, subject: &Subject) -> String {
    let rule = format!(r#"{},{{"drop":null}}"#, matched(left, right));
    droppers(&input("accept", &[&rule]), subject)
}

pub(super) const SADDR: &str = r#"{"payload":{"protocol":"ip","field":"saddr"}}"#;
pub(super) const DPORT: &str = r#"{"payload":{"protocol":"tcp","field":"dport"}}"#;
pub(super) const MARK: &str = r#"{"meta":{"key":"mark"}}"#;
pub(super) const IIFNAME: &str = r#"{"meta":{"key":"iifname"}}"#;
pub(super) const STATE: &str = r#"{"ct":{"key":"state"}}"#;
