//! Columns of integers: the building stone of an events chunk.
//!
//! One field of many records stands in one run of bytes, as variable-length integers (seven bits a
//! byte, low bits first) and signed ones folded so that small magnitudes stay small. A reader never
//! goes beyond its column, and a number that does not end or does not fit is an error.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Why a column cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// There are more records than values.
    #[error("a column ends too early")]
    Short,
    /// A number has more bits than its field.
    #[error("a number in a column is too large")]
    Large,
    /// An index names nothing.
    #[error("a column refers to an entry that is not there")]
    Entry,
    /// Columns overlap the chunk's end, or bytes are left over.
    #[error("the columns do not fill the chunk")]
    Layout,
}

/// The longest encoding of 64 bits.
const LONGEST: usize = 10;

/// Appends an integer.
pub(super) fn put(column: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        column.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    column.put_u8(u8::try_from(value).unwrap_or(0));
}

/// Appends the step from one number to another, wrapping.
pub(super) fn put_step(column: &mut BytesMut, from: u64, to: u64) {
    let step = to.wrapping_sub(from).cast_signed();
    put(column, ((step << 1) ^ (step >> 63)).cast_unsigned());
}

/// Takes an integer.
///
/// # Errors
/// [`ColumnError::Short`] and [`ColumnError::Large`].
pub(super) fn take(column: &mut Bytes) -> Result<u64, ColumnError> {
    let bytes: &[u8] = column;
    // Most numbers have one byte.
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        column.advance(1);
        return Ok(u64::from(first));
    }
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().take(LONGEST).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * at;
        if shift == 63 && bits > 1 {
            return Err(ColumnError::Large);
        }
        value |= bits << shift;
        if byte < 0x80 {
            column.advance(at + 1);
            return Ok(value);
        }
    }
    Err(if bytes.len() < LONGEST {
        ColumnError::Short
    } else {
        ColumnError::Large
    })
}

/// Takes an integer of a narrower field.
///
/// # Errors
/// As [`take`].
pub(super) fn take_as<T: TryFrom<u64>>(column: &mut Bytes) -> Result<T, ColumnError> {
    T::try_from(take(column)?).map_err(|_| ColumnError::Large)
}

/// Takes a step from a number, wrapping.
///
/// # Errors
/// As [`take`].
pub(super) fn take_step(column: &mut Bytes, from: u64) -> Result<u64, ColumnError> {
    let folded = take(column)?;
    let step = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
    Ok(from.wrapping_add(step.cast_unsigned()))
}

/// A step that stays within 32 bits.
///
/// # Errors
/// As [`take`].
pub(super) fn take_step_u32(column: &mut Bytes, from: u32) -> Result<u32, ColumnError> {
    u32::try_from(take_step(column, u64::from(from))?).map_err(|_| ColumnError::Large)
}

/// Takes some bytes.
///
/// # Errors
/// [`ColumnError::Short`].
pub(super) fn take_bytes(column: &mut Bytes, length: usize) -> Result<Bytes, ColumnError> {
    if column.len() < length {
        return Err(ColumnError::Short);
    }
    Ok(column.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in proptest::collection::vec(any::<u64>(), 0..50)) {
            let mut column = BytesMut::new();
            for &value in &values {
                put(&mut column, value);
            }
            let mut column = column.freeze();
            for &value in &values {
                prop_assert_eq!(take(&mut column), Ok(value));
            }
            prop_assert_eq!(take(&mut column), Err(ColumnError::Short));
        }

        #[test]
        fn steps_come_back(from in any::<u64>(), to in any::<u64>()) {
            let mut column = BytesMut::new();
            put_step(&mut column, from, to);
            prop_assert_eq!(take_step(&mut column.freeze(), from), Ok(to));
        }

        #[test]
        fn any_bytes_are_numbers_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut column = Bytes::from(bytes);
            while take(&mut column).is_ok() {}
        }
    }

    #[test]
    fn small_steps_are_small() {
        let mut column = BytesMut::new();
        put_step(&mut column, 100, 163);
        put_step(&mut column, 100, 37);
        assert_eq!(column.len(), 2);
    }

    #[test]
    fn a_number_of_65_bits_is_refused() {
        let mut column =
            Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]);
        assert_eq!(take(&mut column), Err(ColumnError::Large));
        let mut column = Bytes::from_static(&[0x80, 0x80]);
        assert_eq!(take(&mut column), Err(ColumnError::Short));
    }
}
