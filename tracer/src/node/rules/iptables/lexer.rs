//! Words of a rule, as `iptables-restore` takes them apart.
//!
//! Words are separated by blanks. Between double quotes blanks belong to the word, and a backslash
//! takes the meaning from what follows it. `iptables-save` quotes with these rules and prints a line
//! end within quotes as it is, so a rule may go on over several lines.

use std::{borrow::Cow, fmt};

/// A word of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'t> {
    /// Without quotes and backslashes.
    pub(super) text: Cow<'t, str>,
    /// Whether it had quotes: then it is no option whatever it looks like.
    pub(super) quoted: bool,
}

/// A quote that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unclosed;

/// Takes the words of one rule from the beginning of `text`. Returns them with what follows the
/// rule's line end.
pub(super) fn words(text: &str) -> Result<(Vec<Word<'_>>, &str), Unclosed> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r']);
        if let Some(after) = rest.strip_prefix('\n') {
            return Ok((words, after));
        }
        if rest.is_empty() {
            return Ok((words, rest));
        }
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after;
    }
}

fn word(text: &str) -> Result<(Word<'_>, &str), Unclosed> {
    let plain = text.find([' ', '\t', '\r', '\n', '"']);
    let plain = plain.unwrap_or(text.len());
    if !text[plain..].starts_with('"') {
        let word = Word {
            text: Cow::Borrowed(&text[..plain]),
            quoted: false,
        };
        return Ok((word, &text[plain..]));
    }
    quoted(text)
}

/// A word with quotes in it.
fn quoted(text: &str) -> Result<(Word<'_>, &str), Unclosed> {
    let mut word = String::new();
    let mut open = false;
    let mut characters = text.char_indices();
    let mut end = text.len();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => open = !open,
            '\\' if open => word.extend(characters.next().map(|(_, escaped)| escaped)),
            ' ' | '\t' | '\r' | '\n' if !open => {
                end = at;
                break;
            }
            other => word.push(other),
        }
    }
    if open {
        return Err(Unclosed);
    }
    let word = Word {
        text: Cow::Owned(word),
        quoted: true,
    };
    Ok((word, &text[end..]))
}

/// Writes a blank and the text, quoted as `xtables_save_string` does it: always, unless it consists
/// of letters, digits, `_` and `-` only.
pub(super) fn put_string(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    out.write_char(' ')?;
    if !text.is_empty() && text.chars().all(plain) {
        out.write_str(text)
    } else {
        put_quoted(out, text)
    }
}

/// Writes the text in quotes.
pub(super) fn put_quoted(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '\'') {
            out.write_char('\\')?;
        }
        out.write_char(character)?;
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let (words, rest) = words(line).unwrap();
        assert_eq!(rest, "");
        words.into_iter().map(|word| word.text.into()).collect()
    }

    #[test]
    fn words_are_taken_apart() {
        assert_eq!(texts("-A X  -j\tY\r\n"), ["-A", "X", "-j", "Y"]);
        assert_eq!(
            texts(r#"--comment "a \"b\" \\c" x"#),
            ["--comment", r#"a "b" \c"#, "x"]
        );
        assert_eq!(texts(r#"a"b c"d "" "#), ["ab cd", ""]);
        assert_eq!(texts("\"two\nlines\" x\n"), ["two\nlines", "x"]);
        assert_eq!(words("a\nb").unwrap().1, "b");
        assert_eq!(words("a \"b").unwrap_err(), Unclosed);
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_one_word(text in ".*") {
            let mut line = String::new();
            put_string(&mut line, &text).unwrap();
            let (found, rest) = words(&line).unwrap();
            prop_assert_eq!(rest, "");
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(&*found[0].text, text);
        }
    }
}
