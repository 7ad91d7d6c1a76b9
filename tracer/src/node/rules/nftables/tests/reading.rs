//! Any text is a rule set or refused with a place; any rule set is printed as it was.

use proptest::{collection::vec, prelude::*};

use super::{
    super::{
        json::{Json, Members},
        read::{MAX_BYTES, read},
    },
    EXPRESSIONS,
};

/// Words that mean something, so that random JSON comes near to rules.
const WORDS: [&str; 34] = [
    "match", "op", "left", "right", "==", "in", "payload", "protocol", "field", "meta", "key",
    "mark", "concat", "set", "elem", "val", "comment", "vmap", "map", "data", "jump", "target",
    "accept", "drop", "dnat", "addr", "port", "numgen", "mod", "prefix", "len", "range", "@x", "&",
];

fn texts() -> impl Strategy<Value = Box<str>> {
    prop_oneof![
        6 => prop::sample::select(&WORDS[..]).prop_map(Into::into),
        1 => "[ -~\\n\u{e9}]{0,6}".prop_map(Into::into),
    ]
}

fn values() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (0u64..5).prop_map(Json::Number),
        any::<u64>().prop_map(Json::Number),
        Just(Json::Other(-1.5)),
        texts().prop_map(Json::Text),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::Array),
            vec((texts(), inner), 0..4).prop_map(|mut members| {
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                members.dedup_by(|(a, _), (b, _)| a == b);
                Json::Object(Members(members))
            }),
        ]
    })
}

/// Objects of a listing with anything in the places that are read.
pub(super) fn objects() -> impl Strategy<Value = Json> {
    let kinds = ["rule", "set", "map", "chain", "table", "counter"];
    let types = ["filter", "nat", "ipv4_addr", "inet_service", "mark"];
    let types = prop_oneof![
        3 => prop::sample::select(types.to_vec()).prop_map(Json::text),
        1 => values(),
    ];
    let kind = prop::sample::select(kinds.to_vec());
    (kind, types, values(), values(), values()).prop_map(|(kind, of, a, b, c)| {
        let matched = Json::named("match", c.clone());
        let verdict = Json::named("jump", Json::named("target", Json::text("n")));
        let statements = Json::Array(vec![a.clone(), matched, b.clone(), verdict]);
        let members = [
            ("family", Json::text("inet")),
            ("table", Json::text("t")),
            ("name", Json::text("n")),
            ("chain", Json::text("n")),
            ("type", of),
            ("map", a),
            ("prio", Json::Number(0)),
            ("hook", Json::text("input")),
            ("policy", Json::text("accept")),
            ("elem", b),
            ("expr", statements),
        ];
        let members = members.map(|(name, value)| (name.into(), value));
        Json::named(kind, Json::Object(Members(members.into())))
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\\n]{0,80}") {
        let _ = read(&text);
    }

    #[test]
    fn a_listing_cut_or_changed_is_read_or_refused_with_its_place(
        at in 0..EXPRESSIONS.len(), byte in prop::sample::select(&b"{}[]\",:0a"[..]), cut: bool,
    ) {
        let mut bytes = EXPRESSIONS.as_bytes().to_vec();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        if let Err(error) = read(std::str::from_utf8(&bytes).unwrap()) {
            prop_assert!(error.to_string().contains("line 1 column"), "{error}");
        }
    }

    #[test]
    fn printed_and_read_again_it_is_the_same(objects in vec(objects(), 0..4)) {
        let listing = Json::named("nftables", Json::Array(objects));
        let ruleset = read(&listing.to_string()).unwrap();
        prop_assert_eq!(&ruleset.to_json(), &listing);
        prop_assert_eq!(&read(&ruleset.to_json().to_string()).unwrap(), &ruleset);
        for object in &ruleset.objects {
            if let super::super::model::Object::Rule(rule) = object {
                let _ = rule.to_string();
            }
        }
    }
}

#[test]
fn errors_say_where() {
    let error = |text: &str| read(text).unwrap_err().to_string();
    assert_eq!(
        error(""),
        "not a listing of nftables: EOF while parsing a value at line 1 column 0"
    );
    assert!(error("{}").contains("missing field `nftables`"));
    assert!(error("[]").contains("expected an object with the member \"nftables\""));
    let no_chain = r#"{"nftables":[{"metainfo":{}},
{"rule":{"family":"ip","table":"t","expr":[]}}]}"#;
    let error = error(no_chain);
    assert!(
        error.contains("object 2: \"rule\" has no \"chain\" at line 2"),
        "{error}"
    );
}

#[test]
fn what_is_too_large_or_too_deep_is_refused() {
    let long = " ".repeat(MAX_BYTES + 1);
    assert!(
        read(&long)
            .unwrap_err()
            .to_string()
            .contains("longer than 64 MiB")
    );
    let many = format!("{{\"nftables\":[{{\"x\":[{}0]}}]}}", "0,".repeat(5 << 20));
    assert!(
        read(&many)
            .unwrap_err()
            .to_string()
            .contains("too many values")
    );
    let deep = format!("{{\"nftables\":{}", "[".repeat(100_000));
    assert!(
        read(&deep)
            .unwrap_err()
            .to_string()
            .contains("recursion limit")
    );
    let deep = format!("{{\"nftables\":[{{\"x\":{}", "{\"a\":".repeat(100_000));
    assert!(
        read(&deep)
            .unwrap_err()
            .to_string()
            .contains("recursion limit")
    );
}
