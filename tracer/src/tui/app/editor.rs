//! A line that is typed: a cursor, the words of before, completion.

use crate::output::sanitize;

/// Characters of a line.
const LONGEST: usize = 1024;
/// Lines of before that are kept.
const REMEMBERED: usize = 100;

/// A line of text with a cursor in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    text: String,
    /// A character boundary of the text.
    cursor: usize,
}

impl Line {
    /// That text, with the cursor at its end.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            cursor: text.len(),
            text: text.to_owned(),
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is before the cursor.
    #[must_use]
    pub fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    /// Types a text.
    pub fn insert(&mut self, text: &str) {
        let plain = sanitize::plain(text);
        let room = LONGEST.saturating_sub(self.text.chars().count());
        let fitting: String = plain.chars().take(room).collect();
        self.text.insert_str(self.cursor, &fitting);
        self.cursor += fitting.len();
    }

    /// Deletes the character before the cursor; says whether there was any.
    pub fn backspace(&mut self) -> bool {
        let start = self.before().char_indices().next_back().map(|(at, _)| at);
        let Some(start) = start else { return false };
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
        true
    }

    /// Deletes the character at the cursor.
    pub fn delete(&mut self) {
        if self.right() {
            self.backspace();
        }
    }

    /// Deletes the word before the cursor.
    pub fn delete_word(&mut self) {
        let start = self.before().trim_end().rfind(' ').map_or(0, |at| at + 1);
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    /// Deletes everything before the cursor.
    pub fn delete_before(&mut self) {
        self.text.replace_range(..self.cursor, "");
        self.cursor = 0;
    }

    /// A character to the left.
    pub fn left(&mut self) {
        let before = self.before().char_indices().next_back();
        self.cursor = before.map_or(0, |(at, _)| at);
    }

    /// A character to the right; says whether there was any.
    pub fn right(&mut self) -> bool {
        let next = self
            .text
            .get(self.cursor..)
            .and_then(|rest| rest.chars().next());
        self.cursor += next.map_or(0, char::len_utf8);
        next.is_some()
    }

    /// To the begin.
    pub fn home(&mut self) {
        self.cursor = 0;
    }

    /// To the end.
    pub fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// The word that the cursor stands behind, as far as it is typed.
    #[must_use]
    pub fn word(&self) -> &str {
        let before = self.before();
        let start = before.rfind([' ', '(', ')']).map_or(0, |at| at + 1);
        before.get(start..).unwrap_or_default()
    }

    /// Puts another word in the place of the one that the cursor stands behind.
    pub fn replace_word(&mut self, word: &str) {
        let start = self.cursor - self.word().len();
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
        self.insert(word);
    }
}

/// Lines of before.
#[derive(Clone, Debug, Default)]
pub struct History {
    lines: Vec<String>,
    /// How far back one is shown: 0 is the line that is being typed.
    back: usize,
    typed: String,
}

impl History {
    /// A line was entered.
    pub fn entered(&mut self, line: &str) {
        self.back = 0;
        self.lines.retain(|before| before != line);
        if !line.trim().is_empty() {
            self.lines.push(line.to_owned());
        }
        if self.lines.len() > REMEMBERED {
            self.lines.remove(0);
        }
    }

    /// Goes to the line before.
    pub fn older(&mut self, line: &mut Line) {
        if self.back == 0 {
            line.text().clone_into(&mut self.typed);
        }
        if self.back < self.lines.len() {
            self.back += 1;
            self.show(line);
        }
    }

    /// Goes to the line after.
    pub fn newer(&mut self, line: &mut Line) {
        if self.back > 0 {
            self.back -= 1;
            self.show(line);
        }
    }

    fn show(&self, line: &mut Line) {
        let index = self.lines.len().checked_sub(self.back);
        let shown = match self.back {
            0 => Some(&self.typed),
            _ => index.and_then(|index| self.lines.get(index)),
        };
        if let Some(text) = shown {
            *line = Line::new(text);
        }
    }
}

/// What all of them begin with, if that is more than the word; else the word.
#[must_use]
pub fn completed<'a>(word: &'a str, candidates: &[&'a str]) -> &'a str {
    let Some((first, others)) = candidates.split_first() else {
        return word;
    };
    let common = others.iter().fold(*first, |common, other| {
        let same = common.char_indices().zip(other.chars());
        let end = same
            .take_while(|((_, a), b)| a == b)
            .last()
            .map_or(0, |((at, a), _)| at + a.len_utf8());
        common.get(..end).unwrap_or_default()
    });
    if common.len() >= word.len() {
        common
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_edited() {
        let mut line = Line::new("pod größe");
        line.insert("/a");
        line.left();
        assert!(line.backspace());
        assert_eq!(line.text(), "pod größea");
        line.delete_word();
        assert_eq!((line.text(), line.before()), ("pod a", "pod "));
        line.delete();
        line.insert("ap\x1b[3");
        assert_eq!((line.text(), line.word()), ("pod ap[3", "ap[3"));
        line.replace_word("app/web");
        assert_eq!(line.text(), "pod app/web");
        line.delete_before();
        assert_eq!(line.text(), "");
        assert!(!line.backspace());
    }

    #[test]
    fn lines_of_before_come_back() {
        let (mut history, mut line) = (History::default(), Line::default());
        history.entered("one");
        history.entered("two");
        history.entered("one");
        line.insert("thr");
        history.older(&mut line);
        assert_eq!(line.text(), "one");
        history.older(&mut line);
        history.older(&mut line);
        assert_eq!(line.text(), "two");
        history.newer(&mut line);
        history.newer(&mut line);
        assert_eq!(line.text(), "thr");
    }

    #[test]
    fn a_word_is_completed_as_far_as_it_is_sure() {
        assert_eq!(completed("a", &["app/web", "app/worker"]), "app/w");
        assert_eq!(completed("b", &["größe", "größer"]), "größe");
        assert_eq!(completed("x", &[]), "x");
    }

    proptest! {
        #[test]
        fn any_keys_leave_a_line(keys in prop::collection::vec(0u8..10, 0..60), text: String) {
            let mut line = Line::default();
            for key in keys {
                match key {
                    0 => line.insert(&text),
                    1 => line.insert("ä "),
                    2 => drop(line.backspace()),
                    3 => line.delete(),
                    4 => line.delete_word(),
                    5 => line.left(),
                    6 => drop(line.right()),
                    7 => line.replace_word("größe"),
                    8 => line.delete_before(),
                    _ => line.home(),
                }
                prop_assert!(line.text().is_char_boundary(line.before().len()));
            }
        }
    }
}
