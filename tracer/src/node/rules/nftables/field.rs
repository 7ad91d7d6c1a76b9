//! What is known of a value that a rule takes from a packet, and comparisons with it.

use super::{
    super::{
        decision::Decision,
        subject::{Bits, States},
    },
    kind::{STATES, operate},
    model::{BinaryOperator, by_name},
};

/// A value of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// One of these; usually there is one.
    OneOf(Vec<Partly>, &'static str),
    /// Any number from the first to the last, chosen at random or not known.
    Between(u128, u128, &'static str),
    /// Nothing is known, and why.
    Unknown(&'static str),
    /// The packet has none: what asks for it does not hold, whatever it asks.
    Absent,
}

/// A number of which some bits are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partly {
    value: u128,
    known: u128,
}

impl Partly {
    fn exactly(value: u128) -> Self {
        let known = u128::MAX;
        Self { value, known }
    }

    /// The smallest and the largest number that it may be.
    fn bounds(self) -> (u128, u128) {
        (self.value, self.value | !self.known)
    }

    fn within(self, first: u128, last: u128) -> Option<bool> {
        let (low, high) = self.bounds();
        if first <= low && high <= last {
            Some(true)
        } else if high < first || last < low || (first == last && !self.may_be(first)) {
            Some(false)
        } else {
            None
        }
    }

    fn may_be(self, value: u128) -> bool {
        (self.value ^ value) & self.known == 0
    }

    fn has_bits(self, mask: u128) -> Option<bool> {
        if self.value & mask != 0 {
            Some(true)
        } else {
            (mask & !self.known == 0).then_some(false)
        }
    }

    fn operate(self, operator: BinaryOperator, constant: u128) -> Self {
        let known = match operator {
            BinaryOperator::And => self.known | !constant,
            BinaryOperator::Or => self.known | constant,
            BinaryOperator::Xor => self.known,
            // What is shifted in is zero.
            BinaryOperator::ShiftRight => !operate(operator, !self.known, constant),
            // What the kernel shifts out depends on the width, which is not known here.
            BinaryOperator::ShiftLeft => 0,
        };
        let value = operate(operator, self.value, constant) & known;
        Self { value, known }
    }
}

impl Field {
    /// It is this.
    pub(super) fn exactly(value: impl Into<u128>) -> Self {
        Self::OneOf(vec![Partly::exactly(value.into())], "")
    }

    /// It is this, where it is known.
    pub(super) fn maybe(value: Option<impl Into<u128>>, why: &'static str) -> Self {
        value.map_or(Self::Unknown(why), Self::exactly)
    }

    /// A mark, a status.
    pub(super) fn bits(bits: Bits, why: &'static str) -> Self {
        let (value, known) = bits.parts();
        let partly = Partly {
            value: value.into(),
            // Above its 32 bits it is zero.
            known: u128::from(known) | !u128::from(u32::MAX),
        };
        Self::OneOf(vec![partly], why)
    }

    /// Conntrack's state.
    pub(super) fn states(states: States) -> Self {
        let possible = [
            (States::INVALID, "invalid"),
            (States::ESTABLISHED, "established"),
            (States::RELATED, "related"),
            (States::NEW, "new"),
            (States::UNTRACKED, "untracked"),
        ];
        let possible = possible.iter().filter(|(state, _)| states.may_be(*state));
        let values = possible.filter_map(|(_, name)| by_name(&STATES, name));
        let why = "the connection's state is not known";
        Self::OneOf(values.map(Partly::exactly).collect(), why)
    }

    /// The number, where it is known to the last bit.
    pub(super) fn get(&self) -> Option<u128> {
        match self {
            Self::OneOf(values, _) => match values.as_slice() {
                [one] => (one.known == u128::MAX).then_some(one.value),
                _ => None,
            },
            Self::Between(first, last, _) => (first == last).then_some(*first),
            Self::Unknown(_) | Self::Absent => None,
        }
    }

    /// What is known of it as 32 bits.
    pub(super) fn as_bits(&self) -> Bits {
        match self {
            Self::OneOf(values, _) => {
                let low = |number: u128| u32::try_from(number & u128::from(u32::MAX)).unwrap_or(0);
                let bits = values
                    .iter()
                    .map(|v| Bits::partly(low(v.value), low(v.known)));
                bits.reduce(Bits::merge).unwrap_or(Bits::UNKNOWN)
            }
            other => other
                .get()
                .and_then(|v| u32::try_from(v).ok())
                .map_or(Bits::UNKNOWN, Bits::exactly),
        }
    }

    /// Whether it lies in an interval.
    pub(super) fn within(&self, (first, last): (u128, u128)) -> Decision {
        match self {
            Self::OneOf(values, why) => all(values, why, |value| value.within(first, last)),
            Self::Between(low, high, why) => {
                if first <= *low && *high <= last {
                    Decision::Yes
                } else if *high < first || last < *low {
                    Decision::No
                } else {
                    Decision::unknown(why)
                }
            }
            Self::Unknown(why) => Decision::unknown(why),
            Self::Absent => Decision::No,
        }
    }

    /// Whether it has one of these bits.
    pub(super) fn has_bits(&self, mask: u128) -> Decision {
        match self {
            Self::OneOf(values, why) => all(values, why, |value| value.has_bits(mask)),
            Self::Between(low, high, why) if low != high => Decision::unknown(why),
            Self::Between(value, _, _) => (value & mask != 0).into(),
            Self::Unknown(why) => Decision::unknown(why),
            Self::Absent => Decision::No,
        }
    }

    /// What an operation with a constant makes of it.
    pub(super) fn operate(self, operator: BinaryOperator, constant: u128) -> Self {
        match self {
            Self::OneOf(values, why) => {
                let values = values.into_iter();
                Self::OneOf(values.map(|v| v.operate(operator, constant)).collect(), why)
            }
            Self::Between(first, last, why) if first == last => {
                let one = Partly::exactly(first);
                Self::OneOf(vec![one.operate(operator, constant)], why)
            }
            // Of a masked value, some bits are known all the same.
            Self::Unknown(why) | Self::Between(_, _, why) => {
                let nothing = Partly { value: 0, known: 0 };
                Self::OneOf(vec![nothing.operate(operator, constant)], why)
            }
            Self::Absent => Self::Absent,
        }
    }
}

/// What a test says if it says the same of all.
fn all(values: &[Partly], why: &'static str, test: impl Fn(Partly) -> Option<bool>) -> Decision {
    let mut answers = values.iter().map(|value| test(*value));
    let first = answers.next().flatten();
    match first {
        Some(holds) if answers.all(|answer| answer == first) => holds.into(),
        _ => Decision::unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPERATORS: [BinaryOperator; 5] = [
        BinaryOperator::And,
        BinaryOperator::Or,
        BinaryOperator::Xor,
        BinaryOperator::ShiftLeft,
        BinaryOperator::ShiftRight,
    ];

    fn agrees(decision: &Decision, truth: bool) -> bool {
        matches!(decision, Decision::Unknown(_)) || *decision == Decision::from(truth)
    }

    /// Something known of a number, and the number.
    fn fields() -> impl Strategy<Value = (Field, u128)> {
        prop_oneof![
            (any::<u32>(), any::<u32>()).prop_map(|(number, mask)| {
                (
                    Field::bits(Bits::partly(number, mask), "why"),
                    number.into(),
                )
            }),
            (0u8..9, 0u8..9, 0u8..9).prop_map(|(a, b, c)| {
                let mut numbers = [a, b, c].map(u128::from);
                numbers.sort_unstable();
                let [first, middle, last] = numbers;
                (Field::Between(first, last, "why"), middle)
            }),
            (0u128..9).prop_map(|number| (Field::exactly(number), number)),
            (0u128..9).prop_map(|number| (Field::Unknown("why"), number)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_decided_is_true((field, number) in fields(), a in 0u128..12, b in 0u128..12, wide: u32) {
            let (first, last) = (a.min(b), a.max(b));
            for interval in [(first, last), (0, wide.into()), (wide.into(), u128::MAX), (a, a)] {
                let inside = (interval.0..=interval.1).contains(&number);
                prop_assert!(agrees(&field.within(interval), inside), "{field:?} {interval:?}");
            }
            for mask in [a, wide.into()] {
                prop_assert!(agrees(&field.has_bits(mask), number & mask != 0), "{field:?} {mask}");
            }
        }

        #[test]
        fn operations_keep_to_what_is_known((field, number) in fields(), constant in prop_oneof![0u128..12, any::<u32>().prop_map(u128::from)]) {
            for operator in OPERATORS {
                let result = operate(operator, number, constant);
                let known = field.clone().operate(operator, constant);
                prop_assert!(agrees(&known.within((result, result)), true), "{field:?} {operator:?} {constant}");
                prop_assert!(known.get().is_none_or(|value| value == result));
            }
        }

        #[test]
        fn an_exact_number_is_always_decided(number: u32, first: u32, last: u32) {
            let field = Field::exactly(number);
            prop_assert_eq!(field.within((first.into(), last.into())), Decision::from((first..=last).contains(&number)));
            prop_assert_eq!(field.has_bits(first.into()), Decision::from(number & first != 0));
            prop_assert_eq!(field.as_bits(), Bits::exactly(number));
        }
    }

    #[test]
    fn states_are_decided_where_all_possible_ones_agree() {
        let early = Field::states(States::NEW.or(States::RELATED));
        assert_eq!(early.has_bits(2), Decision::No);
        assert_eq!(early.has_bits(8 | 4), Decision::Yes);
        assert!(matches!(early.has_bits(8), Decision::Unknown(_)));
        assert_eq!(Field::Absent.has_bits(8), Decision::No);
        assert_eq!(Field::Absent.within((0, u128::MAX)), Decision::No);
    }
}
