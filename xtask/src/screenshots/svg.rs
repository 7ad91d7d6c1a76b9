//! What a terminal shows, as a picture: text with the escape sequences of `tmux capture-pane -e` becomes
//! SVG, with the sixteen colours of a dark terminal.

use std::fmt::Write as _;

/// Pixels of a column and of a line.
const CELL: (usize, usize) = (8, 17);
const MARGIN: usize = 12;
const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d5d8df";
/// Black, red, green, yellow, blue, magenta, cyan, white.
const COLORS: [&str; 8] = [
    "#3b3f4a", "#ef6b73", "#8ccf7e", "#e5c76b", "#67b0e8", "#c47fd5", "#6cbfbf", "#d5d8df",
];

/// How a run of characters looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    color: Option<usize>,
    bold: bool,
    dim: bool,
    underlined: bool,
    reversed: bool,
}

impl Look {
    /// Takes the parameters of one SGR sequence.
    fn set(&mut self, parameters: &str) {
        let mut numbers = parameters
            .split(';')
            .map(|number| number.parse().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                4 => self.underlined = true,
                7 => self.reversed = true,
                22 => (self.bold, self.dim) = (false, false),
                24 => self.underlined = false,
                27 => self.reversed = false,
                30..=37 => self.color = Some(number - 30),
                90..=97 => self.color = Some(number - 90),
                // One of 256 colours, of which the first sixteen are the terminal's own.
                38 if numbers.next() == Some(5) => {
                    let color = numbers.next().filter(|color| *color < 16);
                    self.color = color.map(|color| color % 8);
                }
                39 => self.color = None,
                _ => {}
            }
        }
    }
}

/// Text of one look: the column that it begins at, and the text.
type Run = (Look, usize, String);

/// The picture.
pub(super) fn picture(screen: &str, size: (u16, u16)) -> String {
    let (columns, lines) = (usize::from(size.0), usize::from(size.1));
    let (width, height) = (columns * CELL.0 + 2 * MARGIN, lines * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\" \
         font-size=\"13.3\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    let mut look = Look::default();
    for (row, line) in screen.lines().take(lines).enumerate() {
        for run in runs(line, &mut look) {
            draw(&mut svg, row, &run);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Splits a line where its look changes; the look goes on to the next line.
fn runs(line: &str, look: &mut Look) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut column = 0;
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\x1b[") {
            let end = sequence.find(|c: char| c.is_ascii_alphabetic());
            let end = end.unwrap_or(sequence.len());
            if sequence[end..].starts_with('m') {
                look.set(&sequence[..end]);
            }
            rest = sequence.get(end + 1..).unwrap_or_default();
            continue;
        }
        match runs.last_mut() {
            Some((last, _, text)) if *last == *look => text.push(character),
            _ => runs.push((*look, column, character.to_string())),
        }
        column += 1;
        rest = &rest[character.len_utf8()..];
    }
    runs
}

fn draw(svg: &mut String, row: usize, (look, column, text): &Run) {
    let blank = text.trim().is_empty();
    if blank && !look.reversed && !look.underlined {
        return;
    }
    let columns = text.chars().count();
    let (x, y) = (MARGIN + column * CELL.0, MARGIN + row * CELL.1);
    let color = look
        .color
        .and_then(|color| COLORS.get(color))
        .unwrap_or(&FOREGROUND);
    let (ink, paper) = if look.reversed {
        (BACKGROUND, Some(*color))
    } else {
        (*color, None)
    };
    // Writing to a string cannot fail.
    if let Some(paper) = paper {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{paper}\"/>",
            columns * CELL.0,
            CELL.1
        );
    }
    if blank {
        return;
    }
    let mut style = String::new();
    if look.bold {
        style.push_str(" font-weight=\"bold\"");
    }
    if look.dim {
        style.push_str(" opacity=\"0.6\"");
    }
    if look.underlined {
        style.push_str(" text-decoration=\"underline\"");
    }
    let text = text.trim_end();
    let length = text.chars().count() * CELL.0;
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{}\" fill=\"{ink}\"{style} textLength=\"{length}\" \
         lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\">{escaped}</text>",
        y + 13
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_begin_and_end() {
        let mut look = Look::default();
        let line = "a\x1b[1;31mbad\x1b[0m \x1b[7mx";
        let found = runs(line, &mut look);
        let texts: Vec<_> = found
            .iter()
            .map(|(_, column, text)| (*column, text.as_str()))
            .collect();
        assert_eq!(texts, [(0, "a"), (1, "bad"), (4, " "), (5, "x")]);
        assert!(found[1].0.bold && found[1].0.color == Some(1));
        assert!(look.reversed);
        let mut look = Look::default();
        look.set("38;5;2");
        assert_eq!(
            look,
            Look {
                color: Some(2),
                ..Look::default()
            }
        );
    }

    #[test]
    fn markup_in_a_screen_is_text() {
        let svg = picture("<b>&\x1b[32m>", (10, 1));
        assert!(svg.contains("&lt;b&gt;&amp;"), "{svg}");
        assert!(!svg.contains("<b>"));
    }
}
