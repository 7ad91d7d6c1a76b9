//! Bytes as hexadecimal digits, for JSON.

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
use tracer_common::record::MAX_BYTES;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    let digits =
        |byte: &u8| [byte >> 4, byte & 15].map(|half| char::from(DIGITS[usize::from(half)]));
    let text: String = bytes.iter().flat_map(digits).collect();
    to.serialize_str(&text)
}

/// No more than a record has: what is read may be anybody's.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(from)?;
    if text.len() > 2 * MAX_BYTES || !text.len().is_multiple_of(2) {
        return Err(D::Error::custom("bytes of a wrong length"));
    }
    let half = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|half| u8::try_from(half).ok())
    };
    let byte = |pair: &[u8]| Some(half(*pair.first()?)? << 4 | half(*pair.get(1)?)?);
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks_exact(2).map(byte).collect();
    bytes.ok_or_else(|| D::Error::custom("bytes that are not hexadecimal"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::source::PacketBytes;

    fn of(bytes: Vec<u8>) -> PacketBytes {
        PacketBytes {
            time: 1,
            skb: 2,
            netns: 3,
            hook: 4,
            length: 5,
            bytes,
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..640)) {
            let written = serde_json::to_string(&of(bytes.clone())).unwrap();
            let read: PacketBytes = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(read, of(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let json = serde_json::to_string(&of(vec![0xab])).unwrap();
            let json = json.replace("\"ab\"", &serde_json::to_string(&text).unwrap());
            if let Ok(read) = serde_json::from_str::<PacketBytes>(&json) {
                prop_assert_eq!(read.bytes.len() * 2, text.len());
            }
        }
    }

    #[test]
    fn no_more_than_a_record_has() {
        let json = serde_json::to_string(&of(vec![0; 641])).unwrap();
        assert!(serde_json::from_str::<PacketBytes>(&json).is_err());
    }
}
