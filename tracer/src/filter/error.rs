//! What is wrong with a filter, and the place in it, drawn under the text.
//!
//! The text is the user's, or a file's: nothing in it may move the cursor, and the mark must stand
//! under what it marks whatever the characters' widths.

use std::{
    fmt::{self, Display, Formatter},
    ops::Range,
};

use unicode_width::UnicodeWidthChar;

use super::MAX_LENGTH;

/// How many columns of the filter are shown.
const WIDTH: usize = 76;
/// How many of them before the mark, when not all fits.
const BEFORE: usize = 36;
/// The longest piece of the text that a sentence repeats, in characters.
const LONGEST_SHOWN: usize = 40;

/// Something wrong at a place of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    span: Range<usize>,
    message: String,
}

impl Problem {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }
}

/// Why a text is not a filter.
///
/// `Display` is a sentence that says what to do, then the filter with the place marked:
///
/// ```text
/// port `70000` is out of range; ports are 0 to 65535
///   tcp port 70000
///            ^~~~~
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    text: String,
    problem: Problem,
}

impl ParseError {
    pub(super) fn new(text: &str, problem: Problem) -> Self {
        // Of a text beyond the limit no more is kept than is shown.
        let kept = text.floor_char_boundary(MAX_LENGTH + WIDTH);
        Self {
            text: text[..kept].to_owned(),
            problem,
        }
    }

    /// The sentence alone.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.problem.message
    }

    /// The bytes of the text that it is about; empty at the end when something is missing there.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.problem.span.clone()
    }
}

impl std::error::Error for ParseError {}

impl Display for ParseError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        if self.text.is_empty() {
            return Ok(());
        }
        let (line, column, width) = excerpt(&self.text, &self.problem.span);
        let mark = "~".repeat(width.saturating_sub(1));
        write!(f, "\n  {line}\n  {:column$}^{mark}", "")
    }
}

/// The part of the text around the span as it is to be shown, and the column and width of the span
/// in it.
fn excerpt(text: &str, span: &Range<usize>) -> (String, usize, usize) {
    let cells: Vec<(usize, char, usize)> = text
        .char_indices()
        .map(|(at, c)| {
            let (c, width) = cell(c);
            (at, c, width)
        })
        .collect();
    let columns = |from: usize, to: usize| -> usize {
        cells
            .iter()
            .filter(|(at, ..)| (from..to).contains(at))
            .map(|(.., width)| width)
            .sum()
    };
    let begin = columns(0, span.start);
    let end = columns(0, span.end);
    let total = columns(0, usize::MAX);
    let first = if total <= WIDTH {
        0
    } else {
        begin
            .saturating_sub(BEFORE)
            .min(total.saturating_sub(WIDTH))
    };
    let mut line = String::new();
    let (mut column, mut skipped, mut used) = (0, 0, 0);
    if first > 0 {
        line.push('…');
        used = 1;
    }
    let lead = used;
    for (_, c, width) in &cells {
        if column < first {
            skipped += width;
        } else if column + width > first + WIDTH {
            line.push('…');
            break;
        } else {
            line.push(*c);
            used += width;
        }
        column += width;
    }
    let start = (begin - skipped.min(begin) + lead).min(used);
    let stop = (end - skipped.min(end) + lead).min(used);
    (line, start, stop.saturating_sub(start).max(1))
}

/// The character that is shown in the place of `c`, and its width in columns.
fn cell(c: char) -> (char, usize) {
    if c.is_whitespace() {
        return (' ', 1);
    }
    match c.width() {
        // Controls, and what has no place of its own or moves others: marks, direction overrides.
        None | Some(0) => (char::REPLACEMENT_CHARACTER, 1),
        Some(width) => (c, width),
    }
}

/// A piece of the text inside a sentence: in backquotes, cut short, with nothing unprintable.
pub(super) fn shown(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .take(LONGEST_SHOWN)
        .map(|c| cell(c).0)
        .collect();
    if text.chars().nth(LONGEST_SHOWN).is_some() {
        clean.push('…');
    }
    format!("`{clean}`")
}

/// Why a filter's names mean nothing on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    name: String,
    similar: Vec<String>,
}

impl ResolveError {
    pub(super) fn new(name: &str, similar: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            similar,
        }
    }

    /// The namespace that is not known.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names that are known and differ little, the nearest first.
    #[must_use]
    pub fn similar(&self) -> &[String] {
        &self.similar
    }
}

impl std::error::Error for ResolveError {}

impl Display for ResolveError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "no network namespace is called {}", shown(&self.name))?;
        if !self.similar.is_empty() {
            let names: Vec<_> = self.similar.iter().map(|name| shown(name)).collect();
            write!(f, "; similar: {}", names.join(", "))?;
        }
        f.write_str("; `tracer names` lists those of this node")
    }
}
