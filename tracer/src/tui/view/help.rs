//! All keys.

use super::{Canvas, theme::Tone, window};
use crate::tui::app::{
    App,
    keymap::{BINDINGS, Context},
};
use ratatui::{layout::Rect, text::Line};

pub(super) fn draw(canvas: &mut Canvas<'_>, app: &App, first: usize, area: Rect) {
    let theme = canvas.theme;
    let mut lines: Vec<Line<'static>> = Vec::new();
    for context in Context::ALL {
        if context == Context::Replay && app.playback.is_none() {
            continue;
        }
        lines.push(theme.line(&[(Tone::Heading, context.title())]));
        for binding in BINDINGS.iter().filter(|binding| binding.context == context) {
            let keys: Vec<String> = binding.keys.iter().map(|key| key.name()).collect();
            let keys = theme.cell(&format!("  {}", keys.join(", ")), 18);
            lines.push(theme.line(&[(Tone::Key, &keys), (Tone::Plain, binding.help)]));
        }
        lines.push(Line::default());
    }
    lines.push(theme.line(&[(
        Tone::Plain,
        "The mouse selects, a second click opens, headings sort, the wheel scrolls.",
    )]));
    let marks = "Before a flow: x something is wrong with it, ! packets of it were dropped, ? a hole or lost events.";
    lines.push(theme.line(&[(Tone::Plain, marks)]));
    let first = window(lines.len(), first, area.height);
    canvas.lines(area, &lines[first..]);
}
