//! JSON as `nft -j` writes it, kept small: what the parser reads from, and what it keeps of
//! expressions that it does not know.
//!
//! Not `serde_json::Value`: an object of that takes some hundred bytes even for one member, so
//! that a hostile text could take a hundred times its own length. Here an object is a list of
//! members in their order, and the number of values is bounded while they are read.

use std::{cell::Cell, fmt};

use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap as _, SerializeSeq as _},
};

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number without a sign or a fraction.
    Number(u64),
    /// A whole number below zero.
    Negative(i64),
    /// Any other number.
    Other(f64),
    /// A string.
    Text(Box<str>),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Members),
}

impl Json {
    /// A string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// An object of one member, as nft names expressions and statements.
    #[must_use]
    pub fn named(name: &str, value: Self) -> Self {
        Self::Object(Members(vec![(name.into(), value)]))
    }

    /// The string that it is.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number that it is.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The first member of an object with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// Name and value of an object that has exactly one member.
    #[must_use]
    pub fn single(&self) -> Option<(&str, &Self)> {
        match self {
            Self::Object(members) => match members.0.as_slice() {
                [(name, value)] => Some((name, value)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Equal as JSON: the order of an object's members is no part of it.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::Negative(a), Self::Negative(b)) => a == b,
            (Self::Other(a), Self::Other(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Json {}

/// Members of an object. Their order does not count.
#[derive(Clone, Debug, Default)]
pub struct Members(pub Vec<(Box<str>, Json)>);

impl Members {
    /// The member with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        let found = self.0.iter().find(|(key, _)| **key == *name);
        found.map(|(_, value)| value)
    }
}

impl PartialEq for Members {
    fn eq(&self, other: &Self) -> bool {
        let found = |(name, value): &(Box<str>, Json)| other.get(name) == Some(value);
        self.0.len() == other.0.len() && self.0.iter().all(found)
    }
}

impl Eq for Members {}

/// As one line of JSON.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => serializer.serialize_u64(*value),
            Self::Negative(value) => serializer.serialize_i64(*value),
            Self::Other(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    sequence.serialize_element(item)?;
                }
                sequence.end()
            }
            Self::Object(Members(members)) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// Reads one value; every value inside takes one from the counter, and none left is an error.
/// How deep values nest is bounded by `serde_json`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounded<'a>(pub(super) &'a Cell<usize>);

impl Bounded<'_> {
    fn take<E: Error>(self) -> Result<(), E> {
        let left = self.0.get().checked_sub(1);
        self.0
            .set(left.ok_or_else(|| E::custom("too many values"))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.take()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(u64::try_from(value).map_or(Json::Negative(value), Json::Number))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a whole number that a double has exactly"
    )]
    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        let whole = value.fract() == 0.0 && (0.0..EXACT).contains(&value);
        // Equal numbers are to be equal: 5.0 and -0 are written so by nobody, but may be.
        Ok(if whole {
            Json::Number(value as u64)
        } else {
            Json::Other(value)
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        array.shrink_to_fit();
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object: Vec<(Box<str>, Json)> = Vec::new();
        while let Some(name) = members.next_key::<Box<str>>()? {
            let value = members.next_value_seed(self)?;
            // Few members: looking through them is quick, and a name twice is no valid rule.
            if object.len() > MEMBERS || object.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format_args!(
                    "an object has too many members, or {name:?} twice"
                )));
            }
            object.push((name, value));
        }
        object.shrink_to_fit();
        Ok(Json::Object(Members(object)))
    }
}

/// The first number from which on a double has not every whole one.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Members of one object, at most; nft's have up to a dozen.
const MEMBERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, values: usize) -> Result<Json, serde_json::Error> {
        let budget = Cell::new(values);
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Bounded(&budget).deserialize(&mut reader)?;
        reader.end().map(|()| value)
    }

    #[test]
    fn values_are_read_and_written_alike() {
        let text = r#"{"a":[1,-2,0.5,true,null,"x\n"],"b":{},"c":[]}"#;
        let value = read(text, 20).unwrap();
        assert_eq!(read(&value.to_string(), 20).unwrap(), value);
        assert_eq!(value.get("b"), Some(&Json::Object(Members::default())));
    }

    #[test]
    fn the_order_of_members_does_not_count_and_that_of_items_does() {
        let pair = |a: &str, b: &str| (read(a, 9).unwrap(), read(b, 9).unwrap());
        let (a, b) = pair(r#"{"x":1,"y":2}"#, r#"{"y":2,"x":1}"#);
        assert_eq!(a, b);
        let (a, b) = pair("[1,2]", "[2,1]");
        assert_ne!(a, b);
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert!(read("[1,2,3]", 4).is_ok());
        let error = read("[1,2,3]", 3).unwrap_err().to_string();
        assert!(error.contains("too many values at line 1"), "{error}");
        assert!(read(&"[".repeat(1000), 5000).is_err());
        let twice = read(r#"{"x":1,"x":1}"#, 9).unwrap_err().to_string();
        assert!(twice.contains(r#""x" twice"#), "{twice}");
    }
}
