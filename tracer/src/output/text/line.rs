//! A line of text: words with a style each, painted when everything else is decided.

use unicode_width::UnicodeWidthStr;

/// What a word is, for its colour. Only the terminal's own sixteen colours are used, so that they
/// fit its background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    #[default]
    Plain,
    Strong,
    Good,
    Problem,
    Warning,
    Translation,
    Tunnel,
}

impl Style {
    /// The parameters of the escape sequence that sets it.
    const fn parameters(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Good => "32",
            Self::Problem => "1;31",
            Self::Warning => "1;33",
            Self::Translation => "36",
            Self::Tunnel => "35",
        }
    }
}

/// What stays together on a line.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) style: Style,
    pub(super) text: String,
    /// What stands between it and the piece before on the same line.
    pub(super) gap: &'static str,
}

impl Piece {
    /// A piece that stands apart.
    pub(super) fn apart(style: Style, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            style,
            text,
            gap: "  ",
        }
    }

    /// A piece that goes on with the one before.
    pub(super) fn on(style: Style, text: impl Into<String>) -> Self {
        let gap = " ";
        Self {
            gap,
            ..Self::apart(style, text)
        }
    }
}

/// A line.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    words: Vec<(Style, String)>,
}

impl Line {
    pub(super) fn push(&mut self, style: Style, text: impl Into<String>) {
        self.words.push((style, text.into()));
    }

    pub(super) fn width(&self) -> usize {
        self.words.iter().map(|(_, text)| text.width()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether nothing of it would be seen.
    pub(super) fn is_blank(&self) -> bool {
        let mut words = self.words.iter();
        words.all(|(_, text)| text.trim_end().is_empty())
    }

    /// Fills up with spaces to that many columns.
    pub(super) fn pad(&mut self, columns: usize) {
        let missing = columns.saturating_sub(self.width());
        if missing > 0 {
            self.push(Style::Plain, " ".repeat(missing));
        }
    }

    /// Cuts what is beyond that many columns, and marks the cut.
    pub(super) fn cut(&mut self, columns: usize, mark: &str) {
        if self.width() <= columns {
            return;
        }
        let mut room = columns.saturating_sub(mark.width());
        for (_, text) in &mut self.words {
            text.truncate(fitting(text, room));
            room -= text.width();
        }
        self.words.retain(|(_, text)| !text.is_empty());
        if mark.width() <= columns {
            self.push(Style::Plain, mark);
        }
    }

    /// Writes the line without its trailing spaces.
    pub(super) fn render(&self, color: bool, out: &mut String) {
        let blank = |text: &str| text.trim_end().is_empty();
        let end = self.words.iter().rposition(|(_, text)| !blank(text));
        let shown = end.map_or(0, |last| last + 1);
        for (at, (style, text)) in self.words.iter().take(shown).enumerate() {
            let text = if at + 1 == shown {
                text.trim_end()
            } else {
                text
            };
            match style.parameters() {
                parameters if color && !parameters.is_empty() => {
                    out.push_str(&format!("\x1b[{parameters}m{text}\x1b[0m"));
                }
                _ => out.push_str(text),
            }
        }
    }
}

/// How many bytes of the text have room in that many columns.
pub(super) fn fitting(text: &str, columns: usize) -> usize {
    let ends = text
        .char_indices()
        .map(|(start, character)| start + character.len_utf8());
    ends.take_while(|&end| text.get(..end).is_some_and(|part| part.width() <= columns))
        .last()
        .unwrap_or(0)
}

/// Splits a text at spaces into parts of that many columns; a longer word stays whole.
pub(super) fn fold(text: &str, columns: usize) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match parts.last_mut() {
            Some(part) if part.width() + 1 + word.width() <= columns => {
                part.push(' ');
                part.push_str(word);
            }
            _ => parts.push(word.to_owned()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(line: &Line, color: bool) -> String {
        let mut text = String::new();
        line.render(color, &mut text);
        text
    }

    #[test]
    fn colours_stand_around_words_and_count_for_nothing() {
        let mut line = Line::default();
        line.push(Style::Plain, "a ");
        line.push(Style::Problem, "bad");
        line.pad(8);
        assert_eq!(line.width(), 8);
        assert_eq!(rendered(&line, false), "a bad");
        assert_eq!(rendered(&line, true), "a \x1b[1;31mbad\x1b[0m");
    }

    #[test]
    fn what_is_cut_is_marked() {
        let mut line = Line::default();
        line.push(Style::Plain, "größe");
        line.push(Style::Strong, "漢字漢字");
        line.cut(9, "…");
        assert_eq!(rendered(&line, false), "größe漢…");
        line.cut(0, "…");
        assert_eq!(rendered(&line, false), "");
    }

    #[test]
    fn texts_are_folded_at_spaces() {
        assert_eq!(fold("aa bb ccccccc d", 5), ["aa bb", "ccccccc", "d"]);
        assert_eq!(fold("", 5), [""]);
    }
}
