//! Which packets are let go unseen when there are more than tracing may cost: one rule for the kernel
//! and for the agent.
//!
//! The agent writes one word. 0: everything is looked at. [`REST`]: nothing but drops. Otherwise a mask:
//! a packet is chosen when what tells it from others ([`spread`] out) has none of the mask's bits, so
//! that a longer mask chooses among what a shorter one does. What tells a packet is what translations and
//! routing leave alone, so a packet that is chosen at one hook is chosen at all of them.

/// Everything is looked at.
pub const NONE: u32 = 0;
/// Nothing is looked at but drops.
pub const REST: u32 = u32::MAX;
/// The most halvings: one packet in so many times two.
pub const MOST_HALVINGS: u32 = 16;

/// The word that chooses one packet in 2^`halvings`.
#[must_use]
pub const fn one_in_two_to(halvings: u32) -> u32 {
    match halvings {
        0 => NONE,
        // The highest bits are those that multiplication mixes best.
        1..=MOST_HALVINGS => u32::MAX << (32 - halvings),
        _ => u32::MAX << (32 - MOST_HALVINGS),
    }
}

/// Spreads what tells a packet over 32 bits (the multiplier is 2^64 by the golden ratio).
#[must_use]
#[inline(always)]
pub const fn spread(telling: u64) -> u32 {
    // Folded twice: sequence numbers differ in few bits, and one multiplication carries upwards only.
    let mixed = (telling ^ (telling >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Whether a packet is chosen.
#[must_use]
#[inline(always)]
pub const fn chooses(word: u32, telling: u64) -> bool {
    spread(telling) & word == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn about_one_in_so_many_is_chosen_of_what_comes_in_order() {
        // Steps as sequence numbers of full segments, of small datagrams' numbers, of echo requests.
        for step in [1_u64, 1448, 0x0001_0000, 1 << 32] {
            for halvings in [1, 2, 4, 6, 8] {
                let word = one_in_two_to(halvings);
                let all = 1_u64 << 16;
                let chosen = (0..all).filter(|n| chooses(word, n * step)).count() as u64;
                let expected = all >> halvings;
                let range = expected * 3 / 4..=expected * 5 / 4;
                assert!(
                    range.contains(&chosen),
                    "{step} {halvings}: {chosen} of {all}"
                );
            }
        }
    }

    #[test]
    fn the_words_ends() {
        assert_eq!(one_in_two_to(0), NONE);
        assert_eq!(one_in_two_to(1), 1 << 31);
        assert_eq!(one_in_two_to(40), one_in_two_to(MOST_HALVINGS));
        assert!(one_in_two_to(40) != REST);
    }

    proptest! {
        #[test]
        fn what_few_choose_more_choose_too(telling: u64, halvings in 0..=MOST_HALVINGS) {
            if chooses(one_in_two_to(halvings), telling) {
                for fewer in 0..halvings {
                    prop_assert!(chooses(one_in_two_to(fewer), telling));
                }
            }
            prop_assert!(chooses(NONE, telling));
        }
    }
}
