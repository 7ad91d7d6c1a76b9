//! Addresses as two machine words.
//!
//! One form for both families keeps keys and comparisons branch-free in the kernel: an IPv4
//! address is its IPv4-mapped IPv6 address (`::ffff:a.b.c.d`), and the sixteen network-order bytes
//! are held as two native words, so that equality and masking need no byte swaps.

/// An IPv4 or IPv6 address: the sixteen network-order bytes as two native-endian words.
pub type Address = [u64; 2];

/// The address in a packet's own byte order.
#[must_use]
pub const fn to_bytes(address: Address) -> [u8; 16] {
    let (high, low) = (address[0].to_ne_bytes(), address[1].to_ne_bytes());
    [
        high[0], high[1], high[2], high[3], high[4], high[5], high[6], high[7], low[0], low[1],
        low[2], low[3], low[4], low[5], low[6], low[7],
    ]
}

/// The address whose sixteen network-order bytes are `b`.
#[must_use]
#[inline(always)]
pub const fn from_bytes(b: [u8; 16]) -> Address {
    [
        u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        u64::from_ne_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
    ]
}

/// The IPv4-mapped form of four network-order bytes.
#[must_use]
#[inline(always)]
pub const fn from_ipv4(b: [u8; 4]) -> Address {
    [
        0,
        u64::from_ne_bytes([0, 0, 0xff, 0xff, b[0], b[1], b[2], b[3]]),
    ]
}

/// As [`from_ipv4`], of the four bytes as they were read from memory into a word.
#[must_use]
#[inline(always)]
pub const fn from_ipv4_word(word: u32) -> Address {
    let high = if cfg!(target_endian = "little") {
        (word as u64) << 32
    } else {
        word as u64
    };
    [0, from_ipv4([0; 4])[1] | high]
}

/// The mask of the first `length` bits of the sixteen bytes (an IPv4 prefix counts from bit 96).
#[must_use]
pub const fn prefix_mask(length: u32) -> Address {
    let bits = if length == 0 {
        0
    } else {
        u128::MAX << (128 - if length > 128 { 128 } else { length })
    };
    from_bytes(bits.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_memory_is_the_same_address() {
        let bytes = [10, 96, 0, 10];
        assert_eq!(from_ipv4_word(u32::from_ne_bytes(bytes)), from_ipv4(bytes));
    }

    #[test]
    fn an_address_survives_the_round_trip() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        assert_eq!(to_bytes(from_bytes(bytes)), bytes);
    }

    #[test]
    fn ipv4_is_the_mapped_form() {
        let mapped = to_bytes(from_ipv4([10, 96, 0, 10]));
        assert_eq!(
            mapped,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 96, 0, 10]
        );
    }

    #[test]
    fn masks_cover_their_prefix() {
        assert_eq!(prefix_mask(0), [0, 0]);
        assert_eq!(prefix_mask(128), [u64::MAX, u64::MAX]);
        assert_eq!(to_bytes(prefix_mask(96 + 16))[13], 0xff);
        assert_eq!(to_bytes(prefix_mask(96 + 16))[14], 0);
    }
}
