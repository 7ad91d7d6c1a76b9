//! A rule set as JSON again: equal, as JSON, to the listing that it was read from.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    json::{Json, Members},
    model::{
        BinaryOperator, Chain, Element, Elements, Expression, Nat, Object, Operator, Rule, Ruleset,
        Set, Statement, Table, Verdict, name_of,
    },
    read::{POLICIES, read},
};

impl Ruleset {
    /// The listing.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let objects = self.objects.iter().map(object).collect();
        Json::named("nftables", Json::Array(objects))
    }
}

/// As its listing.
impl Serialize for Ruleset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Listing<'a> {
            #[serde(serialize_with = "objects")]
            nftables: &'a [Object],
        }
        fn objects<S: Serializer>(objects: &[Object], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(objects.iter().map(object))
        }
        let nftables = &self.objects;
        Listing { nftables }.serialize(serializer)
    }
}

/// From its listing, under the bounds of [`read`].
impl<'de> Deserialize<'de> for Ruleset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        read(text.get()).map_err(D::Error::custom)
    }
}

fn object(object: &Object) -> Json {
    match object {
        Object::Table(Table { family, name, rest }) => Json::named(
            "table",
            members([text("family", family.as_str()), text("name", name)], rest),
        ),
        Object::Chain(chain) => Json::named("chain", self::chain(chain)),
        Object::Set(set) => {
            let kind = if set.map.is_some() { "map" } else { "set" };
            Json::named(kind, self::set(set))
        }
        Object::Rule(rule) => Json::named("rule", self::rule(rule)),
        Object::Other { kind, body } => Json::named(kind, body.clone()),
    }
}

/// A member of an object; `None` where it is absent.
type Member = Option<(&'static str, Json)>;

fn text(name: &'static str, value: &str) -> Member {
    Some((name, Json::text(value)))
}

fn members<const N: usize>(known: [Member; N], rest: &Members) -> Json {
    let known = known.into_iter().flatten();
    let known = known.map(|(name, value)| (name.into(), value));
    Json::Object(Members(known.chain(rest.0.iter().cloned()).collect()))
}

fn only<const N: usize>(known: [Member; N]) -> Json {
    members(known, &Members::default())
}

fn chain(chain: &Chain) -> Json {
    let base = chain.base.as_ref();
    members(
        [
            text("family", chain.family.as_str()),
            text("table", &chain.table),
            text("name", &chain.name),
            base.and_then(|base| text("type", &base.kind)),
            base.and_then(|base| text("hook", &base.hook)),
            base.map(|base| ("prio", signed(base.priority))),
            base.and_then(|base| text("policy", name_of(&POLICIES, &base.policy?))),
        ],
        &chain.rest,
    )
}

fn signed(number: i32) -> Json {
    u64::try_from(number).map_or(Json::Negative(number.into()), Json::Number)
}

fn set(set: &Set) -> Json {
    members(
        [
            text("family", set.family.as_str()),
            text("name", &set.name),
            text("table", &set.table),
            Some(("type", set.kind.clone())),
            set.map.clone().map(|map| ("map", map)),
            set.flags.clone().map(|flags| ("flags", flags)),
            set.elements.as_ref().map(|list| ("elem", elements(list))),
        ],
        &set.rest,
    )
}

fn rule(rule: &Rule) -> Json {
    let statements = rule.statements.iter().map(statement).collect();
    members(
        [
            text("family", rule.family.as_str()),
            text("table", &rule.table),
            text("chain", &rule.chain),
            (rule.handle != 0).then_some(("handle", Json::Number(rule.handle))),
            rule.comment.as_deref().and_then(|c| text("comment", c)),
            Some(("expr", Json::Array(statements))),
        ],
        &rule.rest,
    )
}

pub(super) fn statement(statement: &Statement) -> Json {
    match statement {
        Statement::Match {
            operator,
            left,
            right,
        } => Json::named(
            "match",
            only([
                text("op", name_of(&Operator::NAMES, operator)),
                Some(("left", expression(left))),
                Some(("right", expression(right))),
            ]),
        ),
        Statement::Verdict(verdict) => self::verdict(verdict),
        Statement::VerdictMap { key, data } => Json::named("vmap", pair("key", key, "data", data)),
        Statement::Mangle { key, value } => Json::named("mangle", pair("key", key, "value", value)),
        Statement::Reject { bare: true, .. } => Json::named("reject", Json::Null),
        Statement::Reject { kind, code, .. } => Json::named(
            "reject",
            only([
                kind.as_deref().and_then(|kind| text("type", kind)),
                code.as_ref().map(|code| ("expr", expression(code))),
            ]),
        ),
        Statement::Nat(nat) => Json::named(nat.kind.as_str(), self::nat(nat)),
        Statement::Queue(body) => Json::named("queue", body.clone()),
        Statement::Passing { name, body } | Statement::Opaque { name, body } => {
            Json::named(name, body.clone())
        }
        Statement::Unknown(json) => json.clone(),
    }
}

fn nat(nat: &Nat) -> Json {
    if nat.bare {
        return Json::Null;
    }
    let value = |name, value: &Option<Expression>| value.as_ref().map(|v| (name, expression(v)));
    only([
        nat.family.as_deref().and_then(|name| text("family", name)),
        value("addr", &nat.address),
        value("port", &nat.port),
        nat.flags.clone().map(|flags| ("flags", flags)),
        nat.type_flags.clone().map(|flags| ("type_flags", flags)),
    ])
}

fn pair(first: &'static str, a: &Expression, second: &'static str, b: &Expression) -> Json {
    only([Some((first, expression(a))), Some((second, expression(b)))])
}

fn verdict(verdict: &Verdict) -> Json {
    let (name, target) = verdict.parts();
    let body = target.map_or(Json::Null, |target| only([text("target", target)]));
    Json::named(name, body)
}

pub(super) fn expression(expression: &Expression) -> Json {
    let all = |items: &[Expression]| Json::Array(items.iter().map(self::expression).collect());
    match expression {
        Expression::Number(number) => Json::Number(*number),
        Expression::Text(text) => Json::Text(text.clone()),
        Expression::Bool(value) => Json::Bool(*value),
        Expression::Reference(name) => Json::text(&format!("@{name}")),
        Expression::List(items) => all(items),
        Expression::Concat(items) => Json::named("concat", all(items)),
        Expression::Set(set) => Json::named("set", elements(set)),
        Expression::Map(map) => Json::named("map", pair("key", &map.0, "data", &map.1)),
        Expression::Prefix(address, length) => {
            let address = Some(("addr", self::expression(address)));
            let length = Some(("len", Json::Number(u64::from(*length))));
            Json::named("prefix", only([address, length]))
        }
        Expression::Range(ends) => {
            let ends = [&ends.0, &ends.1].map(self::expression);
            Json::named("range", Json::Array(ends.to_vec()))
        }
        Expression::Binary(operator, operands) => {
            Json::named(name_of(&BinaryOperator::NAMES, operator), all(operands))
        }
        Expression::Verdict(verdict) => self::verdict(verdict),
        Expression::Unknown(json) => (**json).clone(),
        of_packet => self::of_packet(of_packet),
    }
}

fn of_packet(expression: &Expression) -> Json {
    let optional = |name, value: &Option<Box<str>>| value.as_deref().and_then(|v| text(name, v));
    match expression {
        Expression::Payload { protocol, field } => Json::named(
            "payload",
            only([text("protocol", protocol), text("field", field)]),
        ),
        Expression::Meta(key) => Json::named("meta", only([text("key", key)])),
        Expression::Ct {
            key,
            direction,
            family,
        } => Json::named(
            "ct",
            only([
                text("key", key),
                optional("dir", direction),
                optional("family", family),
            ]),
        ),
        Expression::Fib { result, flags } => Json::named(
            "fib",
            only([
                text("result", result),
                flags.clone().map(|flags| ("flags", flags)),
            ]),
        ),
        Expression::Numgen {
            mode,
            modulus,
            offset,
        } => Json::named(
            "numgen",
            only([
                text("mode", mode),
                Some(("mod", Json::Number(*modulus))),
                offset.map(|offset| ("offset", Json::Number(offset))),
            ]),
        ),
        other => self::expression(other),
    }
}

fn elements(elements: &Elements) -> Json {
    match elements.list.as_slice() {
        [one] if elements.single => element(one),
        list => Json::Array(list.iter().map(element).collect()),
    }
}

fn element(element: &Element) -> Json {
    let value = expression(&element.key);
    let key = match &element.attributes {
        None => value,
        Some(attributes) => Json::named("elem", members([Some(("val", value))], attributes)),
    };
    match &element.data {
        None => key,
        Some(data) => Json::Array(vec![key, expression(data)]),
    }
}

impl Verdict {
    /// Its name, and the chain that it leads to.
    #[must_use]
    pub fn parts(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Accept => ("accept", None),
            Self::Drop => ("drop", None),
            Self::Continue => ("continue", None),
            Self::Return => ("return", None),
            Self::Jump(target) => ("jump", Some(target)),
            Self::Goto(target) => ("goto", Some(target)),
        }
    }
}
