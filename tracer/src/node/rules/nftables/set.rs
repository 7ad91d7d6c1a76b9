//! Looking keys up in sets and maps: by hash where a key and the elements are exact, one by one
//! where not.

use std::collections::HashMap;

use super::{
    super::decision::Decision,
    field::Field,
    json::Json,
    kind::Kind,
    model::{Element, Elements, Expression, Set},
};

/// First and last number of each part of a key.
type Intervals = Box<[(u128, u128)]>;

/// A set made ready for looking up.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// The elements that are one key each, by that key.
    exact: HashMap<Box<[u128]>, u32>,
    /// The others that are understood.
    others: Vec<(Intervals, u32)>,
    /// Those that are not.
    unknown: Vec<u32>,
    /// The one for any other key.
    any: Option<u32>,
    /// Packets add and remove elements, so that the listing may be out of date.
    pub(super) changing: bool,
}

/// Elements that a key may be, with whether it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// None of them is certain not to be it.
    pub(super) elements: Vec<(u32, Decision)>,
    /// It is one of these.
    pub(super) complete: bool,
}

impl Found {
    /// Whether the key is in the set.
    pub(super) fn decision(&self) -> Decision {
        match self.elements.first() {
            None => Decision::No,
            Some(_) if self.complete => Decision::Yes,
            Some((_, decision)) => decision.clone(),
        }
    }
}

impl Index {
    /// Of a named set or map.
    pub(super) fn of_set(set: &Set) -> Self {
        let elements = set
            .elements
            .as_ref()
            .map_or(&[][..], |elements| &elements.list);
        match Kind::of_set(&set.kind) {
            Some(kinds) => Self::of(elements, &kinds),
            None => Self {
                unknown: (0u32..).take(elements.len()).collect(),
                ..Self::default()
            },
        }
    }

    /// Of elements that a rule compares with `key`.
    pub(super) fn of_elements(elements: &Elements, key: &Expression) -> Self {
        match Kind::of_key(key) {
            Some(kinds) => Self::of(&elements.list, &kinds),
            None => Self {
                unknown: (0u32..).take(elements.list.len()).collect(),
                ..Self::default()
            },
        }
    }

    fn of(elements: &[Element], kinds: &[Kind]) -> Self {
        let mut index = Self::default();
        for (number, element) in (0u32..).zip(elements) {
            if matches!(&element.key, Expression::Text(any) if &**any == "*") {
                index.any = Some(number);
                continue;
            }
            match intervals(&element.key, kinds) {
                None => index.unknown.push(number),
                Some(key) if key.iter().all(|(first, last)| first == last) => {
                    let key = key.iter().map(|(first, _)| *first).collect();
                    index.exact.entry(key).or_insert(number);
                }
                Some(key) => index.others.push((key, number)),
            }
        }
        index
    }

    /// The elements that a key may be.
    pub(super) fn find(&self, key: &[Field]) -> Found {
        if key.contains(&Field::Absent) {
            return Found::default();
        }
        let exact: Option<Vec<u128>> = key.iter().map(Field::get).collect();
        let mut elements = match &exact {
            Some(exact) => {
                let found = self.exact.get(exact.as_slice());
                found
                    .map(|&number| (number, Decision::Yes))
                    .into_iter()
                    .collect()
            }
            None => self.possible(key),
        };
        let others = self.others.iter();
        let others =
            others.map(|(intervals, number)| (*number, within(key, intervals.iter().copied())));
        elements.extend(others.filter(|(_, decision)| *decision != Decision::No));
        if elements
            .iter()
            .all(|(_, decision)| *decision != Decision::Yes)
        {
            let why = "an element is not understood";
            elements.extend(
                self.unknown
                    .iter()
                    .map(|&number| (number, Decision::unknown(why))),
            );
        }
        self.complete(elements, key)
    }

    /// The exact elements that an inexact key may be, in the order of the listing.
    fn possible(&self, key: &[Field]) -> Vec<(u32, Decision)> {
        let decided = self.exact.iter().map(|(values, &number)| {
            (
                number,
                within(key, values.iter().map(|&value| (value, value))),
            )
        });
        let mut possible: Vec<_> = decided
            .filter(|(_, decision)| *decision != Decision::No)
            .collect();
        possible.sort_unstable_by_key(|(number, _)| *number);
        possible
    }

    fn complete(&self, mut elements: Vec<(u32, Decision)>, key: &[Field]) -> Found {
        let sure = elements
            .iter()
            .position(|(_, decision)| *decision == Decision::Yes);
        if let Some(sure) = sure {
            elements = vec![elements.swap_remove(sure)];
        }
        let mut complete = sure.is_some() || self.covers(&elements, key);
        if let (Some(any), false) = (self.any, complete) {
            let first = elements.first().map(|(_, decision)| decision.clone());
            elements.push((any, first.unwrap_or(Decision::Yes)));
            complete = true;
        }
        Found { elements, complete }
    }

    /// Whether a generated number is one of these for certain.
    fn covers(&self, elements: &[(u32, Decision)], key: &[Field]) -> bool {
        match key {
            [Field::Between(first, last, _)] => {
                let numbers = (last - first).checked_add(1);
                numbers == u128::try_from(elements.len()).ok() && self.others.is_empty()
            }
            _ => false,
        }
    }
}

fn intervals(key: &Expression, kinds: &[Kind]) -> Option<Intervals> {
    match (key, kinds) {
        (Expression::Concat(parts), kinds) if parts.len() == kinds.len() => {
            let parts = parts.iter().zip(kinds);
            parts.map(|(part, kind)| kind.interval(part)).collect()
        }
        (one, [kind]) => Some(Box::new([kind.interval(one)?])),
        _ => None,
    }
}

fn within(key: &[Field], intervals: impl ExactSizeIterator<Item = (u128, u128)>) -> Decision {
    if key.len() != intervals.len() {
        return Decision::No;
    }
    let mut parts = key.iter().zip(intervals);
    parts
        .try_fold(Decision::Yes, |all, (part, interval)| {
            match all.and(|| part.within(interval)) {
                Decision::No => None,
                other => Some(other),
            }
        })
        .unwrap_or(Decision::No)
}

/// Whether an element is there for a while only.
pub(super) fn expires(element: &Element) -> bool {
    let attribute = |name| element.attribute(name).and_then(Json::as_number);
    attribute("expires").is_some() || attribute("timeout").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::rules::nftables::{model::Object, read::read};

    fn index(elements: &str, kind: &str) -> Index {
        let text = format!(
            r#"{{"nftables":[{{"set":{{"family":"inet","table":"t","name":"s","type":{kind},"elem":{elements}}}}}]}}"#
        );
        let Some(Object::Set(set)) = read(&text).unwrap().objects.pop() else {
            panic!("no set");
        };
        Index::of_set(&set)
    }

    fn ip(text: &str) -> Field {
        Field::maybe(Kind::Ipv4.value(&Expression::Text(text.into())), "")
    }

    fn sure(found: &Found) -> Option<u32> {
        match found.elements.as_slice() {
            [(number, Decision::Yes)] => Some(*number),
            _ => None,
        }
    }

    #[test]
    fn addresses_networks_and_ranges_are_found() {
        let index = index(
            r#"["1.2.3.4",{"prefix":{"addr":"10.0.0.0","len":8}},{"range":["192.168.1.1","192.168.1.9"]}]"#,
            r#""ipv4_addr""#,
        );
        for (address, expected) in [
            ("1.2.3.4", Some(0)),
            ("10.9.9.9", Some(1)),
            ("192.168.1.9", Some(2)),
            ("192.168.1.10", None),
        ] {
            let found = index.find(&[ip(address)]);
            assert_eq!(sure(&found), expected, "{address}");
            assert_eq!(found.complete, expected.is_some());
        }
        let found = index.find(&[Field::Unknown("who knows")]);
        assert_eq!(found.elements.len(), 3);
        assert_eq!(found.decision(), Decision::unknown("who knows"));
        assert!(index.find(&[Field::Absent]).elements.is_empty());
    }

    #[test]
    fn concatenations_are_found_by_all_their_parts() {
        let index = index(
            r#"[{"concat":["10.0.0.1","tcp",80]},{"concat":[{"prefix":{"addr":"10.1.0.0","len":16}},"udp",{"range":[53,54]}]}]"#,
            r#"["ipv4_addr","inet_proto","inet_service"]"#,
        );
        let find = |address, protocol: u8, port: u16| {
            sure(&index.find(&[ip(address), Field::exactly(protocol), Field::exactly(port)]))
        };
        assert_eq!(find("10.0.0.1", 6, 80), Some(0));
        assert_eq!(find("10.0.0.1", 17, 80), None);
        assert_eq!(find("10.1.2.3", 17, 54), Some(1));
        let unknown_port = [
            ip("10.0.0.1"),
            Field::exactly(6u8),
            Field::Unknown("no port"),
        ];
        let found = index.find(&unknown_port);
        assert_eq!(found.elements, [(0, Decision::unknown("no port"))]);
        assert!(!found.complete);
    }

    #[test]
    fn a_generated_number_is_one_of_the_elements() {
        let index = index("[[0,1],[1,2],[2,3]]", r#""mark""#);
        let found = index.find(&[Field::Between(0, 2, "random")]);
        assert_eq!(found.elements.len(), 3);
        assert!(found.complete);
        let found = index.find(&[Field::Between(0, 3, "random")]);
        assert!(!found.complete);
        assert_eq!(sure(&index.find(&[Field::Between(1, 1, "")])), Some(1));
    }

    #[test]
    fn the_element_for_any_other_key_takes_the_rest() {
        let index = index(r#"[[22,1],["*",2]]"#, r#""inet_service""#);
        assert_eq!(sure(&index.find(&[Field::exactly(22u8)])), Some(0));
        assert_eq!(sure(&index.find(&[Field::exactly(23u8)])), Some(1));
        let found = index.find(&[Field::Unknown("no port")]);
        assert_eq!(found.elements.len(), 2);
        assert!(found.complete);
    }

    #[test]
    fn what_is_not_understood_may_be_it() {
        let index = index(r#"["1.2.3.4","a.name"]"#, r#""ipv4_addr""#);
        assert_eq!(sure(&index.find(&[ip("1.2.3.4")])), Some(0));
        let found = index.find(&[ip("1.2.3.5")]);
        assert_eq!(
            found.elements,
            [(1, Decision::unknown("an element is not understood"))]
        );
        let index = self::index(r#"["x"]"#, r#""time""#);
        assert_eq!(index.find(&[ip("1.2.3.5")]).elements.len(), 1);
    }
}
