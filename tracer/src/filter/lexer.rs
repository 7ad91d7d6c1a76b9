//! Text to tokens.
//!
//! Tokens borrow nothing but their place; words are told apart by the parser, since a word after
//! `netns` or `dev` is a name whatever it says.

use std::ops::Range;

use super::{
    MAX_LENGTH,
    error::{Problem, shown},
    words,
};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    /// A name in double quotes, its escapes resolved.
    Quoted(String),
    Open,
    Close,
    And,
    Or,
    Not,
}

/// A token and its bytes in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

/// Splits the text into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Problem> {
    if text.len() > MAX_LENGTH {
        return Err(Problem::new(
            MAX_LENGTH..text.len(),
            format!(
                "the filter has {} bytes, more than the limit of {MAX_LENGTH}; name networks and \
                 port ranges instead of single hosts and ports",
                text.len()
            ),
        ));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let token = token(text, at, c)?;
        at = token.span.end;
        tokens.push(token);
    }
    Ok(tokens)
}

/// The token that begins with `c` at `at`.
fn token(text: &str, at: usize, c: char) -> Result<Token, Problem> {
    let rest = &text[at..];
    let (kind, length) = match c {
        '(' => (Kind::Open, 1),
        ')' => (Kind::Close, 1),
        '!' if rest.starts_with("!=") => {
            return Err(Problem::new(at..at + 2, words::NO_COMPARISONS));
        }
        '!' => (Kind::Not, 1),
        '&' if rest.starts_with("&&") => (Kind::And, 2),
        '|' if rest.starts_with("||") => (Kind::Or, 2),
        '&' => return Err(Problem::new(at..at + 1, "write `&&` or `and`")),
        '|' => return Err(Problem::new(at..at + 1, "write `||` or `or`")),
        '"' => return quoted(text, at),
        c if c.is_control() => {
            return Err(Problem::new(
                at..at + c.len_utf8(),
                "a control character stands here; remove it",
            ));
        }
        _ => {
            let end = rest
                .find(|c| !words::is_word_character(c))
                .unwrap_or(rest.len());
            let kind = match &rest[..end] {
                "and" => Kind::And,
                "or" => Kind::Or,
                "not" => Kind::Not,
                _ => Kind::Word,
            };
            (kind, end)
        }
    };
    Ok(Token {
        kind,
        span: at..at + length,
    })
}

/// The quoted name that begins at `start`.
fn quoted(text: &str, start: usize) -> Result<Token, Problem> {
    let mut name = String::new();
    let mut characters = text[start + 1..].char_indices();
    while let Some((index, c)) = characters.next() {
        let at = start + 1 + index;
        match c {
            '"' => {
                return Ok(Token {
                    kind: Kind::Quoted(name),
                    span: start..at + 1,
                });
            }
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => name.push(escaped),
                _ => {
                    return Err(Problem::new(
                        at..at + 1,
                        "in quotes, write a backslash as `\\\\` and a quote as `\\\"`",
                    ));
                }
            },
            c if c.is_control() => {
                return Err(Problem::new(
                    at..at + c.len_utf8(),
                    "a name cannot hold a control character; remove it",
                ));
            }
            c => name.push(c),
        }
    }
    Err(Problem::new(
        start..text.len(),
        format!("the quote is not closed; write \" after {}", shown(&name)),
    ))
}
