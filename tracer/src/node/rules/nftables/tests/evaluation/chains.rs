//! Chains, verdicts, marks: the way through the rules.

use super::{
    super::super::RuleSet,
    first,
    made::{DPORT, IIFNAME, STATE, droppers, input, matched, packet, table},
    seen, written,
};
use crate::node::rules::{
    outcome::Observed,
    subject::{Bits, DeviceName, Hook, States},
};

#[test]
fn the_first_rule_that_decides_is_it() {
    let port = matched(DPORT, "80");
    let rules = input(
        "drop",
        &[
            r#"{"counter":{"packets":0,"bytes":0}}"#,
            &format!(r#"{port},{{"drop":null}}"#),
            r#"{"drop":null}"#,
        ],
    );
    assert_eq!(droppers(&rules, &packet()), "11");
    let other = first(Hook::Input, 6, "10.0.0.1:1000 -> 10.0.0.2:81");
    assert_eq!(droppers(&rules, &other), "12");
    let nothing = input("drop", &[&format!(r#"{port},{{"accept":null}}"#)]);
    assert_eq!(droppers(&nothing, &packet()), "");
    assert_eq!(droppers(&nothing, &other), "policy");
}

#[test]
fn chains_are_jumped_to_left_and_returned_from() {
    let drop = r#"{"drop":null}"#;
    let port = matched(DPORT, "80");
    let jump = |to: &str| format!(r#"{{"jump":{{"target":"{to}"}}}}"#);
    let goto = |to: &str| format!(r#"{{"goto":{{"target":"{to}"}}}}"#);
    let returns = format!(r#"{port},{{"return":null}}"#);
    let rules = |first: &str, policy| {
        table(
            "ip",
            &[
                ("in", Some(policy), &[first, drop]),
                ("inner", None, &[&returns, drop]),
            ],
        )
    };
    // After a jump the chain goes on, after a goto its policy.
    assert_eq!(droppers(&rules(&jump("inner"), "accept"), &packet()), "11");
    assert_eq!(droppers(&rules(&goto("inner"), "accept"), &packet()), "");
    assert_eq!(
        droppers(&rules(&goto("inner"), "drop"), &packet()),
        "policy"
    );
    let other = first(Hook::Input, 6, "10.0.0.1:1000 -> 10.0.0.2:81");
    let way = written(&seen(
        &rules(&goto("inner"), "drop"),
        &other,
        Observed::Dropped,
    ));
    assert_eq!(
        way[0].lines().take(2).collect::<Vec<_>>(),
        [
            "ip t in rule 1 (handle 10)",
            "ip t inner rule 2 (handle 11)"
        ]
    );
    // A return in a base chain is its policy.
    let base = table(
        "ip",
        &[("in", Some("drop"), &[&returns, r#"{"accept":null}"#])],
    );
    assert_eq!(droppers(&base, &packet()), "policy");
    assert_eq!(droppers(&base, &other), "");
    // A loop, which no kernel takes, ends.
    let round = table("ip", &[("in", Some("drop"), &[&jump("in")])]);
    assert!(seen(&round, &packet(), Observed::Dropped).given_up);
}

#[test]
fn marks_are_carried_along() {
    let set = |value: &str| {
        format!(r#"{{"mangle":{{"key":{{"meta":{{"key":"mark"}}}},"value":{value}}}}}"#)
    };
    let or = r#"{"|":[{"meta":{"key":"mark"}},16384]}"#;
    let flip = r#"{"^":[{"meta":{"key":"mark"}},16384]}"#;
    let marked = format!(
        r#"{},{{"drop":null}}"#,
        matched(r#"{"&":[{"meta":{"key":"mark"}},16384]}"#, "16384")
    );
    let doubtful = format!("{},{}", matched(IIFNAME, r#""eth0""#), set(or));
    assert_eq!(
        droppers(&input("accept", &[&set(or), &marked]), &packet()),
        "11"
    );
    assert_eq!(
        droppers(&input("accept", &[&set("5"), &marked]), &packet()),
        ""
    );
    assert_eq!(
        droppers(
            &input("accept", &[&set(or), &set(flip), &marked]),
            &packet()
        ),
        ""
    );
    assert_eq!(
        droppers(&input("accept", &[&doubtful, &marked]), &packet()),
        "11?"
    );
    let mut subject = packet();
    subject.mark = Bits::exactly(0x4000);
    assert_eq!(
        droppers(&input("accept", &[&doubtful, &marked]), &subject),
        "11"
    );
    // What a rule sets before a match that fails stays set.
    let then_fails = format!("{},{}", set(or), matched(DPORT, "81"));
    assert_eq!(
        droppers(&input("accept", &[&then_fails, &marked]), &packet()),
        "11"
    );
}

#[test]
fn verdicts_are_looked_up_in_maps() {
    let map = |pairs: &str| format!(r#"{{"vmap":{{"key":{DPORT},"data":{{"set":[{pairs}]}}}}}}"#);
    let drops = map(r#"[22,{"accept":null}],[{"range":[80,90]},{"drop":null}]"#);
    assert_eq!(droppers(&input("accept", &[&drops]), &packet()), "10");
    let rest = map(r#"[22,{"accept":null}],["*",{"drop":null}]"#);
    assert_eq!(droppers(&input("accept", &[&rest]), &packet()), "10");
    let mut subject = packet();
    subject.destination_port = None;
    assert_eq!(droppers(&input("accept", &[&drops]), &subject), "10?");
    // Any of a random number's elements, and nothing after them.
    let random = r#"{"vmap":{"key":{"numgen":{"mode":"random","mod":2,"offset":0}},"data":{"set":[[0,{"drop":null}],[1,{"accept":null}]]}}}"#;
    assert_eq!(droppers(&input("drop", &[random]), &packet()), "10?");
}

#[test]
fn only_tables_of_ip_and_not_those_of_iptables_are_asked() {
    let drop: &[&str] = &[r#"{"drop":null}"#];
    for (family, expected) in [("ip", "10"), ("inet", "10"), ("ip6", ""), ("bridge", "")] {
        assert_eq!(
            droppers(&table(family, &[("in", Some("accept"), drop)]), &packet()),
            expected
        );
    }
    let opaque: &[&str] = &[r#"{"xt":{"type":"match","name":"comment"}},{"drop":null}"#];
    let rules = table("ip", &[("in", Some("accept"), opaque)]);
    assert_eq!(droppers(&rules, &packet()), "");
    assert_eq!(rules.tables_of_iptables().collect::<Vec<_>>(), ["ip t"]);
}

#[test]
fn an_established_connection_is_not_translated_again() {
    let text = r#"{"nftables":[{"table":{"family":"ip","name":"t"}},
        {"chain":{"family":"ip","table":"t","name":"pre","type":"nat","hook":"input","prio":0,"policy":"accept"}},
        {"rule":{"family":"ip","table":"t","chain":"pre","handle":10,"expr":[{"drop":null}]}}]}"#;
    let rules = RuleSet::parse(text).unwrap();
    assert_eq!(droppers(&rules, &packet()), "10");
    let mut subject = packet();
    subject.connection.states = States::ESTABLISHED;
    assert_eq!(droppers(&rules, &subject), "");
}

#[test]
fn conntrack_is_told_not_to_look_only_before_it_does() {
    let rules = |priority: i32| {
        let of = r#""family":"ip","table":"t""#;
        let chain = |name: &str, priority: i32, rule: &str| {
            format!(
                r#"{{"chain":{{{of},"name":"{name}","type":"filter","hook":"prerouting","prio":{priority},"policy":"accept"}}}},
                {{"rule":{{{of},"chain":"{name}","handle":10,"expr":[{rule}]}}}}"#
            )
        };
        let drop = format!(r#"{},{{"drop":null}}"#, matched(STATE, r#""untracked""#));
        let notrack = chain("first", priority, r#"{"notrack":null}"#);
        let text = format!(
            r#"{{"nftables":[{notrack},{}]}}"#,
            chain("second", 0, &drop)
        );
        RuleSet::parse(&text).unwrap()
    };
    let packet = first(Hook::Prerouting, 6, "10.0.0.1:1000 -> 10.0.0.2:80");
    assert_eq!(droppers(&rules(-300), &packet), "10");
    assert_eq!(droppers(&rules(-150), &packet), "");
    let mut looped = packet;
    looped.input = DeviceName::Is("lo".to_owned());
    assert_eq!(droppers(&rules(-300), &looped), "");
}
