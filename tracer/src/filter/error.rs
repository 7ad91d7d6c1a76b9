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

/// A character of the text as it is shown: its byte, its column, how many columns it takes.
struct Cell {
    at: usize,
    column: usize,
    shown: char,
    width: usize,
}

/// The part of the text around the span as it is to be shown, and the column and width of the span
/// in it.
fn excerpt(text: &str, span: &Range<usize>) -> (String, usize, usize) {
    let mut total = 0;
    let mut cells = Vec::new();
    for (at, c) in text.char_indices() {
        let (shown, width) = cell(c);
        cells.push(Cell {
            at,
            column: total,
            shown,
            width,
        });
        total += width;
    }
    let column_of = |byte: usize| {
        let cell = cells.iter().find(|cell| cell.at >= byte);
        cell.map_or(total, |cell| cell.column)
    };
    let (begin, end) = (column_of(span.start), column_of(span.end));
    let from = begin
        .saturating_sub(BEFORE)
        .min(total.saturating_sub(WIDTH));
    cells.retain(|cell| cell.column >= from && cell.column + cell.width <= from + WIDTH);

    let first = cells.first().map_or(0, |cell| cell.column);
    let last = cells.last().map_or(0, |cell| cell.column + cell.width);
    let lead = if first > 0 { "…" } else { "" };
    let trail = if last < total { "…" } else { "" };
    let line: String = cells.iter().map(|cell| cell.shown).collect();
    let (begin, end) = (begin.clamp(first, last), end.clamp(first, last));
    let shift = lead.chars().count();
    (
        format!("{lead}{line}{trail}"),
        begin - first + shift,
        (end - begin).max(1),
    )
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
    kind: &'static str,
    name: String,
    similar: Vec<String>,
    /// What more there is to say.
    hint: Option<&'static str>,
}

impl ResolveError {
    pub(super) fn netns(name: &str, similar: Vec<String>) -> Self {
        Self {
            kind: "network namespace",
            name: name.to_owned(),
            similar,
            hint: None,
        }
    }

    pub(super) fn pod(name: &str, similar: Vec<String>) -> Self {
        Self {
            kind: "pod on this node",
            name: name.to_owned(),
            similar,
            hint: None,
        }
    }

    pub(super) fn service(name: String, similar: Vec<String>, nameless: bool) -> Self {
        let hint = "IPVS keeps no names of Services: name the address, as in `host 10.96.0.10`";
        Self {
            kind: "Service in this node's rules",
            name,
            similar,
            hint: nameless.then_some(hint),
        }
    }

    /// The namespace, pod or Service that is not known.
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
        write!(f, "no {} is called {}", self.kind, shown(&self.name))?;
        if !self.similar.is_empty() {
            let names: Vec<_> = self.similar.iter().map(|name| shown(name)).collect();
            write!(f, "; similar: {}", names.join(", "))?;
        }
        if let Some(hint) = self.hint {
            write!(f, "; {hint}")?;
        }
        f.write_str("; `tracer names` lists those of this node")
    }
}
