//! What matches hold, and what is not known.

use super::{
    super::super::RuleSet,
    made::{DPORT, IIFNAME, MARK, SADDR, STATE, dropped_by, droppers, input, matched, packet},
};
use crate::node::rules::subject::{Bits, DeviceName, Subject};

#[test]
fn matches_of_every_kind_are_decided() {
    for (left, right, holds) in [
        (SADDR, r#""10.0.0.1""#, true),
        (SADDR, r#"{"prefix":{"addr":"10.0.0.0","len":8}}"#, true),
        (SADDR, r#"{"range":["10.0.0.2","10.0.0.9"]}"#, false),
        (
            SADDR,
            r#"{"set":["10.0.0.9",{"prefix":{"addr":"10.0.0.0","len":30}}]}"#,
            true,
        ),
        (DPORT, r#"{"set":[22,{"range":[80,90]}]}"#, true),
        (
            r#"{"payload":{"protocol":"th","field":"dport"}}"#,
            "80",
            true,
        ),
        (
            r#"{"payload":{"protocol":"udp","field":"dport"}}"#,
            "80",
            false,
        ),
        (
            r#"{"payload":{"protocol":"ip6","field":"saddr"}}"#,
            r#""::1""#,
            false,
        ),
        (r#"{"meta":{"key":"l4proto"}}"#, r#""tcp""#, true),
        (
            r#"{"meta":{"key":"l4proto"}}"#,
            r#"{"set":["udp",6]}"#,
            true,
        ),
        (r#"{"meta":{"key":"nfproto"}}"#, r#""ipv6""#, false),
        (
            r#"{"payload":{"protocol":"ip","field":"protocol"}}"#,
            r#""tcp""#,
            true,
        ),
        (
            r#"{"concat":[{"payload":{"protocol":"ip","field":"saddr"}},{"payload":{"protocol":"tcp","field":"dport"}}]}"#,
            r#"{"set":[{"concat":["10.0.0.1",{"range":[70,90]}]}]}"#,
            true,
        ),
        (
            r#"{"fib":{"result":"type","flags":["daddr"]}}"#,
            r#""local""#,
            false,
        ),
        (
            r#"{"fib":{"result":"type","flags":["saddr"]}}"#,
            r#""unicast""#,
            true,
        ),
        (r#"{"ct":{"key":"direction"}}"#, r#""original""#, true),
        (STATE, r#"{"set":["new","untracked"]}"#, true),
    ] {
        let expected = if holds { "10" } else { "" };
        assert_eq!(
            dropped_by(left, right, &packet()),
            expected,
            "{left} {right}"
        );
    }
}

#[test]
fn what_is_not_known_makes_candidates() {
    let unknown = [
        (MARK, "1"),
        (IIFNAME, r#""eth0""#),
        (r#"{"payload":{"protocol":"ip","field":"ttl"}}"#, "1"),
        (r#"{"payload":{"protocol":"ip","field":"length"}}"#, "1"),
        (r#"{"meta":{"key":"skuid"}}"#, "0"),
        (r#"{"ct":{"key":"helper"}}"#, r#""ftp""#),
        (r#"{"future":{"key":1}}"#, "1"),
        (SADDR, r#""a.name""#),
        (SADDR, r#""@nowhere""#),
    ];
    for (left, right) in unknown {
        assert_eq!(dropped_by(left, right, &packet()), "10?", "{left} {right}");
    }
    let rules = input(
        "accept",
        &[
            r#"{"limit":{"rate":1,"burst":5,"per":"second"}},{"drop":null}"#,
            r#"{"new-thing":null},{"drop":null}"#,
            r#"{"drop":null}"#,
        ],
    );
    assert_eq!(droppers(&rules, &packet()), "10? 11? 12?");
}

#[test]
fn operators_are_nfts() {
    let dropped = |operator: &str, left: &str, right: &str, subject: &Subject| {
        let rule = format!(
            r#"{{"match":{{"op":"{operator}","left":{left},"right":{right}}}}},{{"drop":null}}"#
        );
        droppers(&input("accept", &[&rule]), subject)
    };
    let mut subject = packet();
    subject.mark = Bits::exactly(0x4001);
    subject.tcp_flags = Some(2);
    let flags = r#"{"payload":{"protocol":"tcp","field":"flags"}}"#;
    let masked =
        r#"{"&":[{"payload":{"protocol":"tcp","field":"flags"}},["fin","syn","rst","ack"]]}"#;
    let bit = r#"{"&":[{"meta":{"key":"mark"}},16384]}"#;
    for (operator, left, right, holds) in [
        ("<", DPORT, "81", true),
        ("<", DPORT, "80", false),
        ("<", DPORT, "0", false),
        ("<=", DPORT, "80", true),
        (">", DPORT, "80", false),
        (">=", DPORT, "80", true),
        (">=", DPORT, "0", true),
        ("!=", DPORT, "80", false),
        (
            "!=",
            SADDR,
            r#"{"prefix":{"addr":"10.0.0.0","len":8}}"#,
            false,
        ),
        ("in", STATE, r#"["established","related"]"#, false),
        ("in", STATE, r#""new""#, true),
        ("in", flags, r#""syn""#, true),
        ("!", flags, r#"["fin","rst"]"#, true),
        ("==", masked, r#""syn""#, true),
        ("==", bit, "16384", true),
        ("!=", bit, "0", true),
        ("==", MARK, "1", false),
        // A packet without such a header does not match, whatever the operator.
        (
            "!=",
            r#"{"payload":{"protocol":"udp","field":"dport"}}"#,
            "53",
            false,
        ),
        (
            "!=",
            r#"{"payload":{"protocol":"ip6","field":"saddr"}}"#,
            r#""::1""#,
            false,
        ),
    ] {
        let expected = if holds { "10" } else { "" };
        assert_eq!(
            dropped(operator, left, right, &subject),
            expected,
            "{left} {operator} {right}"
        );
    }
    // Of the mark, one bit is known.
    subject.mark = Bits::partly(0x4000, 0x4000);
    assert_eq!(dropped("==", bit, "16384", &subject), "10");
    assert_eq!(dropped("==", MARK, "1", &subject), "");
    assert_eq!(dropped("==", MARK, "16385", &subject), "10?");
}

#[test]
fn devices_are_compared_by_name() {
    let mut subject = packet();
    subject.input = DeviceName::Is("eth0".to_owned());
    assert_eq!(dropped_by(IIFNAME, r#""eth0""#, &subject), "10");
    assert_eq!(dropped_by(IIFNAME, r#""eth*""#, &subject), "10");
    assert_eq!(dropped_by(IIFNAME, r#""cni0""#, &subject), "");
    assert_eq!(
        dropped_by(r#"{"meta":{"key":"iif"}}"#, r#""eth0""#, &subject),
        "10"
    );
    assert_eq!(
        dropped_by(IIFNAME, r#"{"set":["lo","eth*"]}"#, &subject),
        "10"
    );
    // There is no outgoing device at input.
    assert_eq!(
        dropped_by(r#"{"meta":{"key":"oifname"}}"#, r#""eth0""#, &subject),
        ""
    );
}

#[test]
fn fragments_have_no_ports() {
    let mut subject = packet();
    subject.fragment = Some(true);
    (subject.source_port, subject.destination_port) = (None, None);
    assert_eq!(dropped_by(DPORT, "80", &subject), "");
    subject.fragment = None;
    assert_eq!(dropped_by(DPORT, "80", &subject), "10?");
}

#[test]
fn elements_that_come_and_go_are_not_certain() {
    let text = |flags: &str, elements: &str, rule: &str| {
        let of = r#""family":"ip","table":"t""#;
        let look = format!(r#"{},{{"drop":null}}"#, matched(SADDR, r#""@s""#));
        RuleSet::parse(&format!(
            r#"{{"nftables":[{{"table":{{"family":"ip","name":"t"}}}},
            {{"set":{{{of},"name":"s","type":"ipv4_addr","flags":{flags},"elem":{elements}}}}},
            {{"chain":{{{of},"name":"in","type":"filter","hook":"input","prio":0,"policy":"accept"}}}},
            {{"rule":{{{of},"chain":"in","handle":10,"expr":[{look}]}}}},
            {{"rule":{{{of},"chain":"in","handle":11,"expr":[{rule}]}}}}]}}"#
        ))
        .unwrap()
    };
    let adds = r#"{"set":{"op":"update","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@s"}}"#;
    let log = r#"{"log":null}"#;
    let brief = r#"[{"elem":{"val":"10.0.0.1","expires":5}}]"#;
    for (flags, elements, rule, expected) in [
        (r#"["interval"]"#, r#"["10.0.0.1"]"#, log, "10"),
        (r#"["interval"]"#, "[]", log, ""),
        (r#"["timeout"]"#, brief, log, "10?"),
        (r#"["timeout"]"#, "[]", log, ""),
        (r#"["timeout"]"#, "[]", adds, "10?"),
        (r#""dynamic""#, "[]", log, "10?"),
    ] {
        let rules = text(flags, elements, rule);
        assert_eq!(
            droppers(&rules, &packet()),
            expected,
            "{flags} {elements} {rule}"
        );
    }
}
