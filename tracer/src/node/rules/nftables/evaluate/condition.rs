//! Whether a match holds, and what a key leads to in a map.

use super::super::{
    super::decision::Decision,
    RuleSet,
    field::Field,
    kind::Kind,
    model::{Element, Expression, Operator},
    packet::Packet,
    set::{self, Found},
};

/// Elements that a key may be, and the map that they are of.
pub(super) struct Looked<'s> {
    pub(super) found: Found,
    pub(super) elements: &'s [Element],
    /// The map, when it has a name.
    pub(super) set: Option<usize>,
}

impl RuleSet {
    /// Whether a match holds.
    pub(super) fn matches(
        &self,
        packet: Packet<'_>,
        table: usize,
        operator: Operator,
        left: &Expression,
        right: &Expression,
    ) -> Decision {
        let key = packet.key(left);
        if key.contains(&Field::Absent) {
            return Decision::No;
        }
        if let Expression::Reference(_) | Expression::Set(_) = right {
            let Some(looked) = self.look_up(table, left, right, &key) else {
                return Decision::unknown("the set is not known");
            };
            let inside = self.is_in(&looked);
            return inside.inverted(operator == Operator::NotEqual);
        }
        match (key.as_slice(), Kind::of(left)) {
            ([field], Some(kind)) => compare(field, kind, operator, right),
            _ => Decision::unknown("an expression is not understood"),
        }
    }

    /// Whether a key is in a set, given that packets may change the set.
    fn is_in(&self, looked: &Looked<'_>) -> Decision {
        let changing = looked
            .set
            .is_some_and(|set| self.index.sets[set].keys.changing);
        let decision = looked.found.decision();
        let brief = |(number, _): &(u32, Decision)| {
            let element = looked.elements.get(*number as usize);
            element.is_some_and(set::expires)
        };
        match decision {
            Decision::No if changing => Decision::unknown("packets add to the set"),
            Decision::Yes if looked.found.elements.iter().any(brief) => {
                Decision::unknown("the element is there for a time only")
            }
            decision => decision,
        }
    }

    /// What a key may be in a set or map; `None` where that is not known.
    pub(super) fn look_up<'s>(
        &'s self,
        table: usize,
        key: &Expression,
        data: &'s Expression,
        values: &[Field],
    ) -> Option<Looked<'s>> {
        match data {
            Expression::Reference(name) => {
                let &number = self.index.tables.get(table)?.sets.get(name)?;
                let set = self.index.set_of(&self.listing, number)?;
                Some(Looked {
                    found: self.index.sets[number].keys.find(values),
                    elements: set.elements.as_ref().map_or(&[], |elements| &elements.list),
                    set: Some(number),
                })
            }
            Expression::Set(elements) => Some(Looked {
                found: set::Index::of_elements(elements, key).find(values),
                elements: &elements.list,
                set: None,
            }),
            _ => None,
        }
    }
}

/// A comparison with a constant.
fn compare(field: &Field, kind: Kind, operator: Operator, right: &Expression) -> Decision {
    let unknown = Decision::unknown("a value is not understood");
    let (interval, value) = (kind.interval(right), kind.value(right));
    match operator {
        Operator::Equal => interval.map_or(unknown, |interval| field.within(interval)),
        Operator::NotEqual => interval.map_or(unknown, |interval| !field.within(interval)),
        Operator::HasBits => value.map_or(unknown, |mask| field.has_bits(mask)),
        Operator::HasNoBits => value.map_or(unknown, |mask| !field.has_bits(mask)),
        Operator::LessOrEqual => value.map_or(unknown, |last| field.within((0, last))),
        Operator::Greater => value.map_or(unknown, |last| !field.within((0, last))),
        Operator::Less | Operator::GreaterOrEqual => {
            let below = match value {
                None => unknown,
                Some(0) => Decision::No,
                Some(value) => field.within((0, value - 1)),
            };
            below.inverted(operator == Operator::GreaterOrEqual)
        }
    }
}
