//! Numbers of which some bits are known.

use super::decision::Decision;

/// A number of which some bits are known: a mark, a status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bits {
    value: u32,
    known: u32,
}

impl Bits {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { value: 0, known: 0 };

    /// All is known.
    #[must_use]
    pub const fn exactly(value: u32) -> Self {
        Self {
            value,
            known: u32::MAX,
        }
    }

    /// The bits of `mask` are known to be those of `value`.
    #[must_use]
    pub const fn partly(value: u32, mask: u32) -> Self {
        Self {
            value: value & mask,
            known: mask,
        }
    }

    /// The number, where all of it is known.
    #[must_use]
    pub fn get(self) -> Option<u32> {
        (self.known == u32::MAX).then_some(self.value)
    }

    /// The bits that are known, and which those are.
    #[must_use]
    pub const fn parts(self) -> (u32, u32) {
        (self.value, self.known)
    }

    /// Whether the number's bits in `mask` are `wanted`.
    #[must_use]
    pub fn equals(self, wanted: u32, mask: u32, unknown: &'static str) -> Decision {
        if wanted & !mask != 0 || (self.value ^ wanted) & mask & self.known != 0 {
            Decision::No
        } else if mask & !self.known == 0 {
            Decision::Yes
        } else {
            Decision::unknown(unknown)
        }
    }

    /// Whether one of these bits is set.
    #[must_use]
    pub fn any_of(self, bits: u32, unknown: &'static str) -> Decision {
        if self.value & bits != 0 {
            Decision::Yes
        } else if bits & !self.known == 0 {
            Decision::No
        } else {
            Decision::unknown(unknown)
        }
    }

    /// The number with the bits of `clear` cleared and those of `flip` inverted, as
    /// `--set-xmark` does it.
    #[must_use]
    pub const fn cleared_and_flipped(self, clear: u32, flip: u32) -> Self {
        let known = self.known | clear;
        Self {
            value: ((self.value & !clear) ^ flip) & known,
            known,
        }
    }

    /// The bits of `mask` taken from another number, the others as they are.
    #[must_use]
    pub const fn with(self, other: Self, mask: u32) -> Self {
        Self {
            value: (self.value & !mask) | (other.value & mask),
            known: (self.known & !mask) | (other.known & mask),
        }
    }

    /// The number with the bits of `clear` cleared, then inverted where `other` has bits within
    /// `mask`, as `--save-mark` and `--restore-mark` do it.
    #[must_use]
    pub const fn mixed(self, clear: u32, other: Self, mask: u32) -> Self {
        let known = (self.known | clear) & (other.known | !mask);
        Self {
            value: ((self.value & !clear) ^ (other.value & mask)) & known,
            known,
        }
    }

    /// What is known if it is one of the two.
    #[must_use]
    pub const fn merge(self, other: Self) -> Self {
        let known = self.known & other.known & !(self.value ^ other.value);
        Self {
            value: self.value & known,
            known,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a number may be the one of which these bits are known.
    fn may_be(bits: Bits, number: u32) -> bool {
        (bits.value ^ number) & bits.known == 0
    }

    prop_compose! {
        /// Bits, and a number that they may be.
        fn known_bits()(number: u32, mask: u32) -> (Bits, u32) {
            (Bits::partly(number, mask), number)
        }
    }

    fn allows(decision: &Decision, truth: bool) -> bool {
        matches!(decision, Decision::Unknown(_)) || *decision == Decision::from(truth)
    }

    proptest! {
        #[test]
        fn what_is_known_of_bits_stays_true((bits, number) in known_bits(), (other, second) in known_bits(), a: u32, b: u32) {
            prop_assert!(may_be(bits.cleared_and_flipped(a, b), (number & !a) ^ b));
            prop_assert!(may_be(bits.with(other, a), (number & !a) | (second & a)));
            prop_assert!(may_be(bits.mixed(a, other, b), (number & !a) ^ (second & b)));
            let merged = bits.merge(other);
            prop_assert!(may_be(merged, number) && may_be(merged, second));
            prop_assert!(allows(&bits.equals(a, b, ""), number & b == a));
            prop_assert!(allows(&bits.any_of(a, ""), number & a != 0));
        }

        #[test]
        fn an_exact_number_is_always_decided(number: u32, a: u32, b: u32) {
            let bits = Bits::exactly(number);
            prop_assert_eq!(bits.get(), Some(number));
            prop_assert_eq!(bits.equals(a, b, ""), Decision::from(number & b == a));
            prop_assert_eq!(bits.any_of(a, ""), Decision::from(number & a != 0));
        }
    }
}
