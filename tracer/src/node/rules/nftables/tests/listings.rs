//! Recorded listings: read, printed as JSON and as text, and compared with what nft printed.

use std::collections::BTreeMap;

use super::{
    super::{
        json::Json,
        model::{Object, Rule, Statement},
        read::read,
    },
    EXPRESSIONS, IPTABLES_1_30, IPTABLES_1_36, PROXY_1_30, PROXY_1_36, fixture,
};

const ALL: [&str; 5] = [
    EXPRESSIONS,
    PROXY_1_36,
    PROXY_1_30,
    IPTABLES_1_36,
    IPTABLES_1_30,
];

fn rules(text: &str) -> Vec<Rule> {
    let objects = read(text).unwrap().objects.into_iter();
    let rules = objects.filter_map(|object| match object {
        Object::Rule(rule) => Some(rule),
        _ => None,
    });
    rules.collect()
}

#[test]
fn printed_they_are_the_same_json() {
    for text in ALL {
        let ruleset = read(text).unwrap();
        let printed = serde_json::to_string(&ruleset).unwrap();
        let [original, printed]: [serde_json::Value; 2] =
            [text, &printed].map(|text| serde_json::from_str(text).unwrap());
        assert!(printed == original, "another JSON");
        assert!(ruleset.to_json().to_string() == serde_json::to_string(&ruleset).unwrap());
        let again: super::super::model::Ruleset = serde_json::from_value(printed).unwrap();
        assert!(again == ruleset, "another rule set");
    }
}

#[test]
fn kube_proxys_are_understood_to_the_last_statement() {
    for text in [PROXY_1_36, PROXY_1_30] {
        for rule in rules(text) {
            for statement in &rule.statements {
                let known = !matches!(statement, Statement::Opaque { .. } | Statement::Unknown(_));
                assert!(
                    known && !format!("{statement:?}").contains("Unknown"),
                    "{rule}"
                );
            }
        }
    }
}

/// The rules of a text listing (`nft -a list ruleset`) by table and handle.
fn listed(text: &str) -> BTreeMap<(String, u64), &str> {
    let mut table = String::new();
    let mut listed = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("table ") {
            name.split(" {").next().unwrap().clone_into(&mut table);
        } else if let Some((rule, handle)) = line.rsplit_once(" # handle ")
            && let Ok(handle) = handle.parse()
            && line.starts_with("\t\t")
        {
            listed.insert((table.clone(), handle), rule.trim());
        }
    }
    listed
}

/// What is printed otherwise than by nft: what is kept as JSON.
fn is_kept(text: &str) -> bool {
    [
        "jhash",
        "symhash",
        "meter",
        "tproxy",
        "socket",
        "osf",
        "ipsec in",
        "rt ",
        "@nh",
        "counter name ip",
    ]
    .iter()
    .any(|word| text.starts_with(word) || text.contains(&format!(" {word}")))
}

#[test]
fn rules_read_as_nft_prints_them() {
    let recorded = [
        (EXPRESSIONS, fixture!("nftables/expressions.txt")),
        (
            PROXY_1_36,
            fixture!("kube-proxy/1.36-nft-a-list-ruleset.txt"),
        ),
        (
            PROXY_1_30,
            fixture!("kube-proxy/1.30-nft-a-list-ruleset.txt"),
        ),
    ];
    let mut compared = 0;
    for (json, text) in recorded {
        let listed = listed(text);
        for rule in rules(json) {
            let table = format!("{} {}", rule.family.as_str(), rule.table);
            let expected = listed[&(table, rule.handle)];
            let comment = rule.comment.as_deref();
            let comment = comment.map_or_else(String::new, |text| format!(" comment \"{text}\""));
            let ours = format!("{rule}{comment}");
            if ours != expected {
                assert!(is_kept(expected), "\n ours {ours}\n nft  {expected}");
            } else {
                compared += 1;
            }
        }
    }
    assert!(compared > 340, "only {compared}");
}

#[test]
fn what_this_kernel_could_not_list_reads_as_well() {
    let rule = |statements: &str| {
        let rule = format!(
            r#"{{"nftables":[{{"rule":{{"family":"ip","table":"t","chain":"c","expr":{statements}}}}}]}}"#
        );
        rules(&rule).pop().unwrap().to_string()
    };
    assert_eq!(
        rule(r#"[{"queue":{"num":3,"flags":["bypass","fanout"]}}]"#),
        "queue flags bypass,fanout to 3"
    );
    assert_eq!(rule(r#"[{"reject":null}]"#), "reject");
    assert_eq!(
        rule(r#"[{"xt":{"type":"match","name":"comment"}}]"#),
        r#"xt match "comment""#
    );
    assert_eq!(
        rule(r#"[{"log":{"prefix":"a b","level":"info"}},{"future":{"x":[1,null]}}]"#),
        r#"log prefix "a b" level info future {"x":[1,null]}"#
    );
}

#[test]
fn members_of_later_versions_are_kept_and_not_taken_for_understood() {
    let text = r#"{"nftables":[{"rule":{"family":"ip","table":"t","chain":"c","handle":1,"new":{"a":1},
        "expr":[{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":1,"new":2}}]}}]}"#;
    let rule = rules(text).pop().unwrap();
    assert_eq!(*rule.rest.0[0].0, *"new");
    assert!(
        matches!(&rule.statements[0], Statement::Opaque { name, body: Json::Object(_) } if &**name == "match")
    );
}
