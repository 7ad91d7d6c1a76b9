//! Text from outside, made safe for a terminal.
//!
//! Process names, DNS names, device names and whatever a recording holds can carry escape
//! sequences that recolour, overwrite or re-order what a person reads. Every sink passes such text
//! through here; what is kept (and compared) is the original.

use std::{borrow::Cow, fmt::Write};

/// Whether a character acts on the terminal or on the order of the text instead of being shown:
/// the control characters, line and paragraph separators, and the marks that reverse direction.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// The text without such characters.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(acts) {
        Cow::Owned(text.replace(acts, ""))
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON text with such characters escaped, which means the same JSON. (JSON itself asks that only
/// for those below U+0020.)
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if acts(character) {
            // All of them are below U+10000, and writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_lose_their_power() {
        assert_eq!(plain("a\x1b[31mred\x07\u{9b}0m"), "a[31mred0m");
        assert_eq!(plain("abc\u{202e}fed\r\n"), "abcfed");
        assert!(matches!(plain("größe 10µs"), Cow::Borrowed("größe 10µs")));
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(text: String) {
            prop_assert!(!plain(&text).contains(acts));
        }

        #[test]
        fn escaped_json_means_the_same(text: String) {
            let original = serde_json::to_string(&text).unwrap();
            let escaped = json(&original);
            prop_assert!(!escaped.contains(acts));
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }
    }
}
