//! Drawing: the model and the app into a buffer, nothing else.

mod compare;
mod drops;
mod flows;
mod frame;
mod help;
mod journey;
mod lanes;
pub mod layout;
mod map;
mod node;
pub mod theme;

use ratatui::{
    buffer::Buffer,
    layout::{Rect, Size},
    text::Line,
};

use self::{
    layout::Layout,
    theme::{Theme, Tone},
};
use super::{
    app::{App, Screen},
    model::Model,
};

/// What is drawn on.
struct Canvas<'a> {
    buffer: &'a mut Buffer,
    theme: Theme,
}

impl Canvas<'_> {
    /// A line at a place, cut at the area's end.
    fn line(&mut self, area: Rect, y: u16, line: &Line<'_>) {
        if y < area.height && area.width > 0 {
            self.buffer.set_line(area.x, area.y + y, line, area.width);
        }
    }

    /// Turns a line round, over its whole width.
    fn select(&mut self, area: Rect, y: u16) {
        let line = Rect {
            y: area.y + y,
            height: 1,
            ..area
        };
        self.buffer
            .set_style(line, self.theme.style(Tone::Selected));
    }

    /// Lines below each other, from one of them on.
    fn lines<'b>(&mut self, area: Rect, lines: impl IntoIterator<Item = &'b Line<'b>>) {
        for (y, line) in (0..area.height).zip(lines) {
            self.line(area, y, line);
        }
    }
}

/// Draws the screen.
pub fn draw(app: &App, model: &Model, theme: Theme, buffer: &mut Buffer) {
    let Rect { width, height, .. } = buffer.area;
    let layout = Layout::of(app, Size { width, height });
    let mut canvas = Canvas { buffer, theme };
    frame::draw(&mut canvas, app, model, &layout);
    if let Some(line) = app.help {
        help::draw(&mut canvas, app, line, layout.body.union(layout.detail));
        return;
    }
    match (&app.journey, app.screen) {
        (Some(journey), _) => journey::draw(&mut canvas, journey, &layout),
        (None, Screen::Flows) => flows::draw(&mut canvas, app, model, &layout),
        (None, Screen::Drops) => drops::draw(&mut canvas, app, model, layout.body),
        (None, Screen::Map) => map::draw(&mut canvas, app, model, layout.body),
        (None, Screen::Node) => node::draw(&mut canvas, app, model, layout.body),
    }
}

/// Which lines of so many are shown when one has scrolled so far: what is scrolled beyond the end
/// stays at the end.
fn window(lines: usize, offset: usize, height: u16) -> usize {
    offset.min(lines.saturating_sub(usize::from(height)))
}

/// How many lines a screen has that is scrolled as a whole.
pub(super) fn length(screen: Screen, model: &Model, width: u16) -> usize {
    match screen {
        Screen::Map => map::length(Theme::default(), model, width),
        Screen::Node => node::length(Theme::default(), model, width),
        Screen::Flows | Screen::Drops => 0,
    }
}
