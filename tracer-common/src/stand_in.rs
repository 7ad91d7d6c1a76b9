//! Instructions of the BPF object that the agent completes for the running kernel, before it loads it.
//!
//! Rust emits no CO-RE relocations. A value in `.rodata` would do, for the verifier knows it; but the machine loads
//! it each time that it is used, by an address of eight bytes, and most of what the programs do is to read members
//! of structures. So the object has stand-ins where such a value belongs: loads whose offset, and moves whose
//! immediate, is the number of a constant in a range where no program has numbers of its own. What a kernel lacks
//! stays a stand-in where it is loaded, which its verifier refuses unless that is dead code.

use crate::fields::FIELDS;

/// The constants, by number: first the offsets of [`FIELDS`], or [`ABSENT`](crate::fields::ABSENT); then these.
/// Whether a load through a pointer that is none may panic the kernel; not 0 for yes.
pub const FAULTS_ARE_FATAL: usize = FIELDS.len();
/// The BTF id of the structure that packets' bytes are read as: see [`crate::cast`].
pub const CAST_WORDS: usize = FIELDS.len() + 1;
/// The same of `sk_buff`.
pub const CAST_BUFFER: usize = FIELDS.len() + 2;
/// By how much the stack pointer is higher when a function has returned than when it was entered: the size of the
/// return address, where calls leave that on the stack.
pub const RETURN_ADDRESS: usize = FIELDS.len() + 3;
/// How many there are.
pub const COUNT: usize = FIELDS.len() + 4;

/// The first offset of a load that stands for one.
const LOADS: usize = 0x4000;
/// How far behind a member can be read: the offsets for each of them.
const REACH: usize = 64;
/// The first immediate of a move that stands for one.
const VALUES: i32 = 0x7661_0000;

const _: () = assert!(LOADS + COUNT * REACH <= i16::MAX as usize);

/// The offset of the load that stands for one at the constant and `behind` bytes more.
#[must_use]
pub const fn load(constant: usize, behind: usize) -> usize {
    assert!(constant < COUNT && behind < REACH);
    LOADS + constant * REACH + behind
}

/// What a load with that offset stands for: the constant, and how far behind.
#[must_use]
pub const fn of_load(offset: i16) -> Option<(usize, u16)> {
    let number = (offset.cast_unsigned() as usize).wrapping_sub(LOADS);
    if number < COUNT * REACH {
        Some((number / REACH, (number % REACH) as u16))
    } else {
        None
    }
}

/// The immediate of the move that stands for one of the constant.
#[must_use]
pub const fn value(constant: usize) -> i32 {
    assert!(constant < COUNT);
    VALUES.wrapping_add_unsigned(constant as u32)
}

/// The constant that a move of that immediate stands for.
#[must_use]
pub const fn of_value(immediate: i32) -> Option<usize> {
    let number = immediate.wrapping_sub(VALUES).cast_unsigned() as usize;
    if number < COUNT { Some(number) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_constant_says_which() {
        for constant in 0..COUNT {
            for behind in [0, 8, REACH - 1] {
                let offset = i16::try_from(load(constant, behind)).unwrap();
                assert_eq!(of_load(offset), Some((constant, behind as u16)));
            }
            assert_eq!(of_value(value(constant)), Some(constant));
        }
        for offset in [0, 8, -8, i16::MIN, i16::MAX, 0x3fff] {
            assert_eq!(of_load(offset), None);
        }
        for immediate in [0, -1, i32::MIN, i32::MAX, VALUES - 1, value(COUNT - 1) + 1] {
            assert_eq!(of_value(immediate), None);
        }
    }
}
