//! Reading the listing: `nft -j list ruleset` as a [`Ruleset`].
//!
//! One object after the other, so that no more than the largest is in memory twice. A text that is
//! no listing is refused with its line and column; an object without what it needs (a rule without
//! a chain) with its number. What a rule says is never a reason to refuse: a statement or an
//! expression that is not understood to the last member is kept as it is.
//!
//! Bounds: [`MAX_BYTES`] of text, [`MAX_VALUES`] JSON values, and the depth that `serde_json`
//! allows (128).

mod expression;
mod statement;

use std::{cell::Cell, fmt};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{
    json::{Bounded, Json, Members},
    model::{Base, Chain, Expression, Family, Object, Policy, Rule, Ruleset, Set, Table, by_name},
};

/// The longest text that is read: some 60,000 rules.
pub const MAX_BYTES: usize = 64 << 20;
/// The most JSON values that are read.
pub const MAX_VALUES: usize = 4 << 20;

/// Why a text is no listing.
#[derive(Debug, thiserror::Error)]
#[error("not a listing of nftables: {0}")]
pub struct ReadError(String);

impl ReadError {
    fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

/// An expression by itself, as it stands in statements that are kept as JSON.
pub(super) fn value(json: &Json) -> Expression {
    expression::read(json)
}

/// Reads a listing.
///
/// # Errors
/// When the text is no such JSON or too large; the error says where.
pub fn read(text: &str) -> Result<Ruleset, ReadError> {
    if text.len() > MAX_BYTES {
        let megabytes = MAX_BYTES >> 20;
        return Err(ReadError::new(format_args!("longer than {megabytes} MiB")));
    }
    let values = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_str(text);
    let objects = reader
        .deserialize_map(Listing(&values))
        .map_err(ReadError::new)?;
    reader.end().map_err(ReadError::new)?;
    Ok(Ruleset { objects })
}

/// The outermost object: `{"nftables": [..]}`.
#[derive(Clone, Copy)]
struct Listing<'a>(&'a Cell<usize>);

impl<'de> Visitor<'de> for Listing<'_> {
    type Value = Vec<Object>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the member \"nftables\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Vec<Object>, A::Error> {
        let mut objects = None;
        while let Some(name) = members.next_key::<Box<str>>()? {
            if &*name == "nftables" && objects.is_none() {
                objects = Some(members.next_value_seed(Objects(self.0))?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        objects.ok_or_else(|| A::Error::missing_field("nftables"))
    }
}

/// The array in it.
#[derive(Clone, Copy)]
struct Objects<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Objects<'_> {
    type Value = Vec<Object>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Object>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = Vec<Object>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Object>, A::Error> {
        let mut objects = Vec::new();
        while let Some(item) = items.next_element_seed(Bounded(self.0))? {
            let number = objects.len() + 1;
            let object = object(item)
                .map_err(|what| A::Error::custom(format_args!("object {number}: {what}")))?;
            objects.push(object);
        }
        objects.shrink_to_fit();
        Ok(objects)
    }
}

fn object(json: Json) -> Result<Object, String> {
    let Json::Object(Members(mut members)) = json else {
        return Err("it is no JSON object".to_owned());
    };
    let (Some((kind, body)), true) = (members.pop(), members.is_empty()) else {
        return Err("it must have one member".to_owned());
    };
    let fields = |body| Fields::of(body, &kind);
    match &*kind {
        "table" => table(fields(body)?).map(Object::Table),
        "chain" => chain(fields(body)?).map(Object::Chain),
        "set" | "map" => set(fields(body)?, &kind).map(Object::Set),
        "rule" => rule(fields(body)?).map(Object::Rule),
        _ => Ok(Object::Other { kind, body }),
    }
}

fn table(mut fields: Fields<'_>) -> Result<Table, String> {
    Ok(Table {
        family: fields.family()?,
        name: fields.text("name")?,
        rest: fields.members,
    })
}

fn chain(mut fields: Fields<'_>) -> Result<Chain, String> {
    Ok(Chain {
        family: fields.family()?,
        table: fields.text("table")?,
        name: fields.text("name")?,
        base: base(&mut fields),
        rest: fields.members,
    })
}

/// What makes a chain a base chain; what does not look like it stays where it is.
fn base(fields: &mut Fields<'_>) -> Option<Base> {
    let get = |name| fields.members.get(name);
    let priority = match get("prio")? {
        Json::Number(number) => i32::try_from(*number).ok()?,
        Json::Negative(number) => i32::try_from(*number).ok()?,
        _ => return None,
    };
    let policy = match get("policy") {
        None => None,
        Some(policy) => Some(by_name(&POLICIES, policy.as_text()?)?),
    };
    let base = Base {
        kind: get("type")?.as_text()?.into(),
        hook: get("hook")?.as_text()?.into(),
        priority,
        policy,
    };
    for name in ["type", "hook", "prio", "policy"] {
        fields.take(name);
    }
    Some(base)
}

/// The names of policies.
pub(super) const POLICIES: [(&str, Policy); 2] =
    [("accept", Policy::Accept), ("drop", Policy::Drop)];

fn set(mut fields: Fields<'_>, object: &str) -> Result<Set, String> {
    let is_map = object == "map";
    let elements = fields.take("elem").map(|list| expression::elements(&list));
    Ok(Set {
        family: fields.family()?,
        table: fields.text("table")?,
        name: fields.text("name")?,
        kind: fields.need("type")?,
        map: is_map.then(|| fields.need("map")).transpose()?,
        flags: fields.take("flags"),
        elements,
        rest: fields.members,
    })
}

fn rule(mut fields: Fields<'_>) -> Result<Rule, String> {
    let Json::Array(statements) = fields.need("expr")? else {
        return Err("\"expr\" of a rule is no array".to_owned());
    };
    Ok(Rule {
        family: fields.family()?,
        table: fields.text("table")?,
        chain: fields.text("chain")?,
        handle: fields.number("handle"),
        comment: fields.optional_text("comment"),
        statements: statements.into_iter().map(statement::read).collect(),
        rest: fields.members,
    })
}

/// The members of an object that have not been taken.
struct Fields<'a> {
    object: &'a str,
    members: Members,
}

impl<'a> Fields<'a> {
    fn of(body: Json, object: &'a str) -> Result<Self, String> {
        match body {
            Json::Object(members) => Ok(Self { object, members }),
            _ => Err(format!("\"{object}\" is no JSON object")),
        }
    }

    fn take(&mut self, name: &str) -> Option<Json> {
        let place = self.members.0.iter().position(|(key, _)| **key == *name)?;
        Some(self.members.0.remove(place).1)
    }

    fn need(&mut self, name: &str) -> Result<Json, String> {
        let object = self.object;
        self.take(name)
            .ok_or_else(|| format!("\"{object}\" has no \"{name}\""))
    }

    fn text(&mut self, name: &str) -> Result<Box<str>, String> {
        match self.need(name)? {
            Json::Text(text) => Ok(text),
            _ => Err(format!("\"{name}\" of \"{}\" is no string", self.object)),
        }
    }

    fn family(&mut self) -> Result<Family, String> {
        let name = self.text("family")?;
        by_name(&Family::NAMES, &name)
            .ok_or_else(|| format!("\"{}\" is of an unknown family, {name:?}", self.object))
    }

    /// A number, taken only when it is one and not 0, which stands for none.
    fn number(&mut self, name: &str) -> u64 {
        let place = self.members.0.iter().position(|(key, _)| **key == *name);
        match place.map(|place| (place, &self.members.0[place].1)) {
            Some((place, &Json::Number(number))) if number != 0 => {
                self.members.0.remove(place);
                number
            }
            _ => 0,
        }
    }

    /// A string, taken only when it is one.
    fn optional_text(&mut self, name: &str) -> Option<Box<str>> {
        let place = self.members.0.iter().position(|(key, _)| **key == *name)?;
        match self.members.0.remove(place) {
            (_, Json::Text(text)) => Some(text),
            other => {
                self.members.0.insert(place, other);
                None
            }
        }
    }
}

/// The members with these names; `None` when it is no object or has any other member.
fn members<'j, const N: usize>(json: &'j Json, names: [&str; N]) -> Option<[Option<&'j Json>; N]> {
    let Json::Object(Members(members)) = json else {
        return None;
    };
    let mut found = [None; N];
    for (name, value) in members {
        let place = names.iter().position(|known| *known == &**name)?;
        found[place] = Some(value);
    }
    Some(found)
}
