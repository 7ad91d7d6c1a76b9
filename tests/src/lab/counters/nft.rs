//! Counters of nftables: given to rules that have none, and read from nft's JSON.

use anyhow::Context as _;
use serde_json::Value;

use super::{Counted, Counts, Place};

/// Words with which the deciding statement of a rule begins.
const ENDS: [&str; 8] = [
    "goto ",
    "jump ",
    "dnat ",
    "masquerade",
    "reject",
    "drop",
    "accept",
    "return",
];

/// A listing with counters: in maps, and in rules before what they do once everything matched.
pub(super) fn with_counters(listed: &str) -> String {
    let mut text = String::new();
    let mut chain = false;
    for line in listed.lines() {
        let words = line.trim_start();
        if let Some(head) = words.strip_suffix(" {") {
            chain = head.starts_with("chain ");
        }
        let definition = ["type ", "comment ", "policy "]
            .iter()
            .any(|w| words.starts_with(w));
        if words.starts_with("type ") && words.ends_with(": verdict") {
            text += line;
            text += "\n\t\tcounter";
        } else if chain && line.starts_with("\t\t") && !definition {
            text += &counting(line);
        } else {
            text += line;
        }
        text.push('\n');
    }
    text
}

fn counting(rule: &str) -> String {
    // A map's element counts for it, and one that has a counter needs no other.
    if rule.contains("vmap @") || rule.contains("counter") {
        return rule.to_owned();
    }
    let (rule, comment) = match rule.find(" comment \"") {
        Some(at) => rule.split_at(at),
        None => (rule, ""),
    };
    let starts = |at: usize| rule[..at].ends_with([' ', '\t']);
    let ends = ENDS
        .iter()
        .filter_map(|end| rule.rfind(end).filter(|at| starts(*at)));
    // Within a map of its own, the words are those of its elements.
    let own_map = rule.find("numgen ").filter(|_| rule.contains("vmap {"));
    match own_map.or(ends.max()) {
        Some(at) => format!("{}counter {}{comment}", &rule[..at], &rule[at..]),
        None => format!("{rule} counter{comment}"),
    }
}

pub(super) fn counts(listed: &str) -> anyhow::Result<Counts> {
    let listing: Value = serde_json::from_str(listed)?;
    let objects = listing["nftables"].as_array().context("no listing")?;
    let mut counts = Counts::new();
    for object in objects {
        let (rule, map) = (&object["rule"], &object["map"]);
        let table = |object: &Value| {
            let word = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", word("family"), word("table"))
        };
        for statement in rule["expr"].as_array().into_iter().flatten() {
            if let Some(packets) = statement["counter"]["packets"].as_u64() {
                let handle = rule["handle"].as_u64().context("a rule without handle")?;
                let counted = Counted {
                    tool: "nft",
                    table: table(rule),
                    chain: rule["chain"].as_str().unwrap_or_default().to_owned(),
                    place: Place::Handle(handle),
                    end: end(rule["expr"].as_array().and_then(|all| all.last())),
                };
                counts.insert(counted, packets);
            }
        }
        for pair in map["elem"].as_array().into_iter().flatten() {
            let element = &pair[0]["elem"];
            if let Some(packets) = element["counter"]["packets"].as_u64() {
                let counted = Counted {
                    tool: "nft",
                    table: table(map),
                    chain: map["name"].as_str().unwrap_or_default().to_owned(),
                    place: Place::Element(key(&element["val"])),
                    end: end(Some(&pair[1])),
                };
                counts.insert(counted, packets);
            }
        }
    }
    Ok(counts)
}

/// The name of a statement or verdict.
fn end(statement: Option<&Value>) -> String {
    let names = statement.and_then(Value::as_object);
    let name = names.and_then(|names| names.keys().next());
    name.cloned().unwrap_or_default()
}

/// A key as nft writes it.
fn key(value: &Value) -> String {
    let part = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value["concat"].as_array() {
        Some(parts) => parts.iter().map(part).collect::<Vec<_>>().join(" . "),
        None => part(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::since;
    use super::*;

    #[test]
    fn rules_count_once_everything_matched() {
        for (rule, expected) in [
            ("\t\tjump services", "\t\tcounter jump services"),
            (
                "\t\tip daddr 10.0.0.0/8 drop comment \"drop it\"",
                "\t\tip daddr 10.0.0.0/8 counter drop comment \"drop it\"",
            ),
            (
                "\t\tmeta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.0.0.1 . 80 }",
                "\t\tmeta l4proto tcp counter dnat ip to numgen random mod 1 map { 0 : 10.0.0.1 . 80 }",
            ),
            (
                "\t\tnumgen random mod 1 vmap { 0 : goto endpoint-x }",
                "\t\tcounter numgen random mod 1 vmap { 0 : goto endpoint-x }",
            ),
            (
                "\t\tmeta mark set meta mark | 0x4000 comment \"masquerade\"",
                "\t\tmeta mark set meta mark | 0x4000 counter comment \"masquerade\"",
            ),
            (
                "\t\tip daddr . th dport vmap @m",
                "\t\tip daddr . th dport vmap @m",
            ),
            (
                "\t\tmeta mark set 1 masquerade fully-random",
                "\t\tmeta mark set 1 counter masquerade fully-random",
            ),
        ] {
            assert_eq!(counting(rule), expected);
        }
    }

    #[test]
    fn maps_count_and_definitions_stay() {
        let listed = "table ip t {\n\tmap m {\n\t\ttype ipv4_addr : verdict\n\t}\n\n\tchain c {\n\t\ttype filter hook input priority filter; policy accept;\n\t\tdrop\n\t}\n}\n";
        let expected = "table ip t {\n\tmap m {\n\t\ttype ipv4_addr : verdict\n\t\tcounter\n\t}\n\n\tchain c {\n\t\ttype filter hook input priority filter; policy accept;\n\t\tcounter drop\n\t}\n}\n";
        assert_eq!(with_counters(listed), expected);
    }

    #[test]
    fn counts_are_read_and_compared() {
        let listed = |rule: u64, element: u64| {
            format!(
                r#"{{"nftables":[{{"rule":{{"family":"ip","table":"t","chain":"c","handle":7,"expr":[{{"counter":{{"packets":{rule},"bytes":1}}}},{{"drop":null}}]}}}},
                {{"map":{{"family":"ip","table":"t","name":"m","elem":[[{{"elem":{{"val":{{"concat":["10.0.0.1","tcp",80]}},"counter":{{"packets":{element},"bytes":1}}}}}},{{"goto":{{"target":"c"}}}}]]}}}}]}}"#
            )
        };
        let (before, after) = (
            counts(&listed(1, 2)).unwrap(),
            counts(&listed(1, 4)).unwrap(),
        );
        let grown = since(&before, &after);
        let grown: Vec<_> = grown.iter().collect();
        let [(counted, packets)] = grown.as_slice() else {
            panic!("{grown:?}");
        };
        assert_eq!(
            (&counted.place, **packets),
            (&Place::Element("10.0.0.1 . tcp . 80".to_owned()), 2)
        );
        assert_eq!(
            (counted.chain.as_str(), counted.end.as_str()),
            ("m", "goto")
        );
    }
}
