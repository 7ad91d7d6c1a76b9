//! How things look: styles for what words are, and the characters that the terminal has.

use std::borrow::Cow;

use ratatui::{
    style::{Color, Modifier, Style},
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr as _;

use crate::output::{sanitize, terminal::Terminal, text::words};

/// What a word is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// What matters most.
    Strong,
    /// What matters least.
    Dim,
    /// As it should be.
    Good,
    /// What went wrong.
    Problem,
    /// What may be wrong.
    Warning,
    /// A translation.
    Translation,
    /// A tunnel.
    Tunnel,
    /// A heading.
    Heading,
    /// A key that can be pressed.
    Key,
    /// What is selected.
    Selected,
}

/// What the terminal can show. Only its own sixteen colours are used, and nothing is told by colour
/// alone, so a terminal without any shows the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Theme {
    color: bool,
    unicode: bool,
}

impl Theme {
    /// For that terminal.
    #[must_use]
    pub fn new(terminal: Terminal) -> Self {
        Self {
            color: terminal.color,
            unicode: terminal.unicode,
        }
    }

    /// How such a word looks.
    #[must_use]
    pub fn style(self, tone: Tone) -> Style {
        let style = Style::default();
        let colored = |color: Color| if self.color { style.fg(color) } else { style };
        match tone {
            Tone::Plain => style,
            Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Dim => style.add_modifier(Modifier::DIM),
            Tone::Good => colored(Color::Green),
            Tone::Problem => colored(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Warning => colored(Color::Yellow).add_modifier(Modifier::BOLD),
            Tone::Translation | Tone::Key => colored(Color::Cyan),
            Tone::Tunnel => colored(Color::Magenta),
            Tone::Heading => style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            // The same over the whole line, whatever its words are.
            Tone::Selected => style
                .fg(Color::Reset)
                .remove_modifier(Modifier::DIM | Modifier::BOLD)
                .add_modifier(Modifier::REVERSED),
        }
    }

    /// A text that can be shown here: nothing that acts on the terminal, no character that it lacks.
    #[must_use]
    pub fn text(self, text: &str) -> String {
        let plain = sanitize::plain(text);
        if self.unicode {
            return plain.into_owned();
        }
        plain.chars().map(ascii).collect()
    }

    /// A word with its look.
    #[must_use]
    pub fn span(self, tone: Tone, text: impl AsRef<str>) -> Span<'static> {
        Span::styled(self.text(text.as_ref()), self.style(tone))
    }

    /// A line of words.
    #[must_use]
    pub fn line(self, words: &[(Tone, &str)]) -> Line<'static> {
        let spans = words.iter().map(|(tone, text)| self.span(*tone, text));
        spans.collect::<Vec<_>>().into()
    }

    /// A text in exactly so many columns: its middle is left out where it is longer.
    #[must_use]
    pub fn cell(self, text: &str, columns: usize) -> String {
        let mut text = self.short(text, columns);
        text.push_str(&" ".repeat(columns.saturating_sub(text.width())));
        text
    }

    /// The same, with its end left out instead.
    #[must_use]
    pub fn head(self, text: &str, columns: usize) -> String {
        let mut shown = String::new();
        for character in self.text(text).chars() {
            shown.push(character);
            if shown.width() > columns {
                shown.pop();
                break;
            }
        }
        shown.push_str(&" ".repeat(columns.saturating_sub(shown.width())));
        shown
    }

    /// The same of a name in a namespace, which is left out first.
    #[must_use]
    pub fn name(self, name: &str, columns: usize) -> String {
        match name.split_once('/') {
            Some((_, rest)) if self.text(name).width() > columns => self.cell(rest, columns),
            _ => self.cell(name, columns),
        }
    }

    /// The same, at the right.
    #[must_use]
    pub fn right(self, text: &str, columns: usize) -> String {
        let text = self.short(text, columns);
        let missing = columns.saturating_sub(text.width());
        format!("{}{text}", " ".repeat(missing))
    }

    /// A text in at most so many columns.
    #[must_use]
    pub fn short(self, text: &str, columns: usize) -> String {
        let text = self.text(text);
        if text.width() <= columns {
            return text;
        }
        if self.unicode && columns > 0 {
            return words::shortened(&text, columns);
        }
        // Each character is one column.
        match columns {
            0..=4 => text.chars().take(columns).collect(),
            _ => {
                let tail = (columns - 2) / 2;
                let head: String = text.chars().take(columns - 2 - tail).collect();
                let rest: String = text.chars().skip(text.len() - tail).collect();
                format!("{head}..{rest}")
            }
        }
    }

    /// A bar of so many columns that is filled to a part, in eighths of a column where the terminal
    /// has the characters.
    #[must_use]
    pub fn bar(self, part: f64, columns: usize) -> String {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let part = if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "between nought and eight times the screen's width"
        )]
        let eighths = (part * columns as f64 * 8.0).round() as usize;
        let (whole, rest) = (eighths / 8, eighths % 8);
        let mut bar = (if self.unicode { "█" } else { "#" }).repeat(whole);
        if self.unicode {
            bar.push_str(EIGHTHS[rest]);
        } else if rest >= 4 {
            bar.push('#');
        }
        bar
    }

    /// A line of columns, one for each value, the highest is full.
    #[must_use]
    pub fn sparkline(self, values: &[u64]) -> String {
        const UNICODE: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const ASCII: [char; 8] = ['.', '.', ':', ':', '-', '=', '+', '#'];
        let steps = if self.unicode { UNICODE } else { ASCII };
        let most = values.iter().max().copied().unwrap_or(0);
        let column = |value: &u64| match value {
            0 => ' ',
            value => {
                let step = u128::from(*value) * 8 / u128::from(most.max(1));
                let step = usize::try_from(step).unwrap_or(8).clamp(1, 8) - 1;
                steps[step]
            }
        };
        values.iter().map(column).collect()
    }
}

/// The nearest ASCII character.
fn ascii(character: char) -> char {
    match character {
        '\u{20}'..='\u{7e}' => character,
        'µ' => 'u',
        '→' | '▶' => '>',
        '←' | '◀' => '<',
        '✗' => 'x',
        '…' | '·' => '.',
        '│' => '|',
        '─' => '-',
        '●' => 'o',
        '└' | '┌' | '├' | '┬' | '┴' | '┼' | '┐' | '┘' => '+',
        _ => '?',
    }
}

/// A count in four columns or five: `950`, `12.3k`, `4.5M`.
#[must_use]
pub fn count(number: u64) -> Cow<'static, str> {
    scaled(number, 1000, ["", "k", "M", "G", "T", "P", "E"])
}

/// A size: `950`, `12.3K`, `4.5M`, in powers of 1024.
#[must_use]
pub fn size(bytes: u64) -> Cow<'static, str> {
    scaled(bytes, 1024, ["", "K", "M", "G", "T", "P", "E"])
}

fn scaled(number: u64, step: u64, units: [&'static str; 7]) -> Cow<'static, str> {
    let mut unit = 0;
    let mut scale = 1_u64;
    while number / scale >= step && unit + 1 < units.len() {
        scale *= step;
        unit += 1;
    }
    let (whole, rest) = (number / scale, number % scale);
    // The rest is below 2^60.
    let tenth = rest * 10 / scale;
    Cow::Owned(match unit {
        0 => number.to_string(),
        _ if whole < 100 => format!("{whole}.{tenth}{}", units[unit]),
        _ => format!("{whole}{}", units[unit]),
    })
}

/// How long ago, in four columns at most: `5s`, `12m`, `3h`, `9d`.
#[must_use]
pub fn age(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    match seconds {
        0..=99 => format!("{seconds}s"),
        100..=5_999 => format!("{}m", seconds / 60),
        6_000..=359_999 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FULL: Theme = Theme {
        color: true,
        unicode: true,
    };
    const PLAIN: Theme = Theme {
        color: false,
        unicode: false,
    };

    #[test]
    fn numbers_keep_their_width() {
        let counts = [0, 999, 1000, 12_345, 999_999, 1_000_000, u64::MAX].map(count);
        assert_eq!(
            counts,
            ["0", "999", "1.0k", "12.3k", "999k", "1.0M", "18.4E"]
        );
        assert_eq!([1023, 1024, 1_500_000].map(size), ["1023", "1.0K", "1.4M"]);
        let ages = [0, 99, 100, 5_999, 6_000, 400_000].map(|s| age(s * 1_000_000_000));
        assert_eq!(ages, ["0s", "99s", "1m", "99m", "1h", "4d"]);
    }

    #[test]
    fn bars_and_sparklines() {
        assert_eq!(FULL.bar(0.5, 4), "██");
        assert_eq!(FULL.bar(0.55, 4), "██▎");
        assert_eq!(PLAIN.bar(0.9, 4), "####");
        assert_eq!(PLAIN.bar(f64::NAN, 4), "");
        assert_eq!(FULL.sparkline(&[0, 1, 4, 8]), " ▁▄█");
        assert_eq!(PLAIN.sparkline(&[8, 0]), "# ");
    }

    proptest! {
        #[test]
        fn a_cell_has_its_width(text: String, columns in 0usize..40) {
            for theme in [FULL, PLAIN] {
                let cell = theme.cell(&text, columns);
                // A wide character at the cut may leave a column empty, which is filled.
                prop_assert_eq!(cell.width(), columns, "{:?}", cell);
                prop_assert_eq!(theme.right(&text, columns).width(), columns);
                prop_assert_eq!(theme.head(&text, columns).width(), columns);
                prop_assert_eq!(theme.name(&text, columns).width(), columns);
            }
            prop_assert!(PLAIN.text(&text).is_ascii());
        }

        #[test]
        fn any_number_fits(number: u64) {
            prop_assert!(count(number).len() <= 5 && size(number).len() <= 6);
            prop_assert!(age(number).len() <= 7);
        }
    }
}
