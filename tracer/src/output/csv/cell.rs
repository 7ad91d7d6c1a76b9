//! What stands in one place of a table.

use std::borrow::Cow;

use crate::{
    event::Endpoint,
    output::{sanitize, text::words},
    report::{RuleReport, TranslationReport},
};

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell(String);

/// What a spreadsheet takes a cell for a formula by, also in the wide characters that some accept.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

impl Cell {
    /// Nothing is known, or there is nothing.
    pub(super) const EMPTY: Self = Self(String::new());

    /// Text, from outside or not.
    pub(super) fn text(text: &str) -> Self {
        let plain = sanitize::plain(text);
        if plain.trim_start().starts_with(FORMULA) {
            return Self(format!("'{plain}"));
        }
        Self(plain.into_owned())
    }

    /// Text that may not be known.
    pub(super) fn known(text: Option<&str>) -> Self {
        text.map_or(Self::EMPTY, Self::text)
    }

    /// A number.
    pub(super) fn number(number: impl Into<u64>) -> Self {
        Self(number.into().to_string())
    }

    /// A count.
    pub(super) fn count(count: usize) -> Self {
        Self(count.to_string())
    }

    /// A number that may not be known.
    pub(super) fn some<N: Into<u64>>(number: Option<N>) -> Self {
        number.map_or(Self::EMPTY, Self::number)
    }

    /// `true` or `false`.
    pub(super) fn truth(truth: bool) -> Self {
        Self(truth.to_string())
    }

    /// An address.
    pub(super) fn ip(endpoint: Endpoint) -> Self {
        Self(endpoint.ip().to_string())
    }

    /// A port, or an echo's identifier.
    pub(super) fn port(endpoint: Endpoint) -> Self {
        Self::number(endpoint.port)
    }

    /// `DNAT a -> b; masquerade c -> d`.
    pub(super) fn translations<'a>(
        protocol: u8,
        reports: impl Iterator<Item = &'a TranslationReport>,
    ) -> Self {
        let words: Vec<String> = reports
            .map(|report| words::translation(protocol, report))
            .collect();
        Self::text(&words.join("; "))
    }

    /// The rules that made them.
    pub(super) fn rules<'a>(reports: impl Iterator<Item = &'a TranslationReport>) -> Self {
        let rules = reports.filter_map(|report| report.rule.as_ref());
        let words: Vec<String> = rules.map(words::translating).collect();
        Self::text(&words.join("; "))
    }

    /// The rule that dropped.
    pub(super) fn dropping(rule: Option<&RuleReport>) -> Self {
        let words = rule.map(words::dropping);
        Self::known(words.as_deref())
    }

    /// The Service that one of them belongs to.
    pub(super) fn service<'a>(mut rules: impl Iterator<Item = &'a RuleReport>) -> Self {
        let choice = rules.find_map(|rule| rule.service.as_ref());
        let service = choice.map(|choice| choice.service.to_string());
        Self::known(service.as_deref())
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl From<Cow<'_, str>> for Cell {
    fn from(text: Cow<'_, str>) -> Self {
        Self::text(&text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_name_becomes_a_formula() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            (" \t=HYPERLINK(\"x\")", "' =HYPERLINK(\"x\")"),
            ("-A FORWARD -j DROP", "'-A FORWARD -j DROP"),
            ("＝1", "'＝1"),
            ("\u{1b}@x", "'@x"),
            ("app/a1", "app/a1"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(Cell::text(text).into_text(), cell);
        }
    }

    proptest! {
        #[test]
        fn nothing_begins_as_one(text: String) {
            prop_assert!(!Cell::text(&text).into_text().trim_start().starts_with(FORMULA));
        }
    }
}
