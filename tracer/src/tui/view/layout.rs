//! Where what stands on the screen, for drawing it and for finding what was clicked.

use ratatui::layout::{Rect, Size};

use super::super::app::{App, Screen, list::Column};

/// The screens' names stand at the left of the first line, this far apart.
pub(super) const TAB_GAP: u16 = 2;
/// The name of the program before them.
pub(super) const NAME: &str = "tracer";

/// A column of the table of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which.
    pub column: Column,
    /// From this column of the screen on.
    pub x: u16,
    /// So many columns.
    pub width: u16,
}

/// The regions of the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The first line.
    pub header: Rect,
    /// Between header and footer.
    pub body: Rect,
    /// Below the table of flows: more on the selected one. Empty where there is no room.
    pub detail: Rect,
    /// The line of a recording's time. Empty when live.
    pub timeline: Rect,
    /// The last line, or two while something is typed.
    pub footer: Rect,
    /// Of a journey: what the flow is.
    pub summary: Rect,
    /// Of a journey: its packets.
    pub packets: Rect,
    /// Of a journey: the packet's path.
    pub picture: Rect,
    /// The table's columns.
    pub columns: Vec<Placed>,
    tabs: Vec<(Screen, u16, u16)>,
    table: Option<Rect>,
}

impl Layout {
    /// For that screen.
    #[must_use]
    pub fn of(app: &App, size: Size) -> Self {
        let Size { width, height } = size;
        let rect = |y: u16, lines: u16| {
            Rect::new(0, y.min(height), width, lines.min(height - y.min(height)))
        };
        let footer_lines = match &app.prompt {
            Some(_) if height >= 6 => 2,
            _ => u16::from(height >= 2),
        };
        let timeline_lines = u16::from(app.playback.is_some() && height >= 7);
        let header_lines = u16::from(height >= 4);
        let below = footer_lines + timeline_lines;
        let body_lines = height.saturating_sub(header_lines + below);
        let detail_lines = match (app.screen, &app.journey) {
            (Screen::Flows, None) if body_lines >= 14 => 3,
            _ => 0,
        };
        let mut layout = Self {
            header: rect(0, header_lines),
            body: rect(header_lines, body_lines - detail_lines),
            detail: rect(header_lines + body_lines - detail_lines, detail_lines),
            timeline: rect(height.saturating_sub(below), timeline_lines),
            footer: rect(height.saturating_sub(footer_lines), footer_lines),
            columns: columns(width),
            tabs: tabs(width),
            ..Self::default()
        };
        if app.journey.is_some() {
            layout.split_journey();
        } else if matches!(app.screen, Screen::Flows | Screen::Drops) {
            let Rect {
                x,
                y,
                width,
                height,
            } = layout.body;
            let heading = u16::from(height >= 2);
            layout.table = Some(Rect::new(x, y + heading, width, height - heading));
        }
        layout
    }

    fn split_journey(&mut self) {
        let Rect {
            y, width, height, ..
        } = self.body;
        let summary = match height {
            0..=7 => u16::from(height >= 3),
            8..=17 => 3,
            _ => 5,
        };
        let rest = height - summary;
        self.summary = Rect::new(0, y, width, summary);
        let list = match width {
            0..=39 => 0,
            40..=99 => 22,
            100..=139 => 26,
            140..=159 => 34,
            _ => 44,
        };
        self.packets = Rect::new(0, y + summary, list, rest);
        let gap = u16::from(list > 0);
        self.picture = Rect::new(list + gap, y + summary, width - list - gap, rest);
    }

    /// How many lines of a table there is room for.
    #[must_use]
    pub fn lines(&self) -> u16 {
        self.table.unwrap_or(self.body).height
    }

    /// How many packets there is room for.
    #[must_use]
    pub fn packet_lines(&self) -> u16 {
        self.packets.height.saturating_sub(1)
    }

    /// The tabs: the screen, where its name begins and how long it is.
    pub(super) fn tabs(&self) -> &[(Screen, u16, u16)] {
        &self.tabs
    }

    /// The screen whose name stands there.
    #[must_use]
    pub fn tab_at(&self, x: u16, y: u16) -> Option<Screen> {
        let mut tabs = self.tabs.iter();
        let here = tabs.find(|(_, from, width)| (*from..from + width).contains(&x));
        here.filter(|_| self.header.height > 0 && y == self.header.y)
            .map(|(screen, ..)| *screen)
    }

    /// The column whose heading stands there.
    #[must_use]
    pub fn heading_at(&self, x: u16, y: u16) -> Option<Column> {
        let mut columns = self.columns.iter();
        let here = columns.find(|placed| (placed.x..placed.x + placed.width).contains(&x));
        here.filter(|_| self.body.height >= 2 && y == self.body.y)
            .map(|placed| placed.column)
    }

    /// Which of the table's shown lines is there.
    #[must_use]
    pub fn line_at(&self, x: u16, y: u16) -> Option<usize> {
        let table = self.table?;
        let inside = table.contains((x, y).into());
        inside.then(|| usize::from(y - table.y))
    }

    /// Which of the shown packets is there.
    #[must_use]
    pub fn packet_at(&self, x: u16, y: u16) -> Option<usize> {
        let inside = self.packets.contains((x, y).into());
        let line = y.checked_sub(self.packets.y + 1)?;
        inside.then(|| usize::from(line))
    }
}

fn tabs(width: u16) -> Vec<(Screen, u16, u16)> {
    let mut x = NAME.len() as u16 + TAB_GAP;
    let mut tabs = Vec::new();
    for screen in Screen::ALL {
        // "1 Flows"
        let length = screen.title().len() as u16 + 2;
        if x + length <= width {
            tabs.push((screen, x, length));
        }
        x += length + TAB_GAP;
    }
    tabs
}

/// The columns that there is room for: those with names share what the numbers leave.
fn columns(width: u16) -> Vec<Placed> {
    use Column as C;
    let from = |least: u16, columns: &[(C, u16)]| {
        if width >= least {
            columns.to_vec()
        } else {
            Vec::new()
        }
    };
    let named = match width {
        0..=29 => vec![C::Client],
        30..=49 => vec![C::Client, C::Service],
        _ => vec![C::Client, C::Service, C::Backend],
    };
    let mut numbers = Vec::new();
    numbers.extend(from(110, &[(C::Protocol, 5)]));
    numbers.extend(from(40, &[(C::State, if width >= 110 { 12 } else { 9 })]));
    // Both ways where there is room, else the sum.
    let (packets, bytes) = if width >= 140 { (11, 12) } else { (6, 6) };
    numbers.extend(from(64, &[(C::Packets, packets)]));
    numbers.extend(from(110, &[(C::Bytes, bytes), (C::Rate, 8)]));
    numbers.extend(from(130, &[(C::RoundTrip, 8)]));
    numbers.extend(from(160, &[(C::RoundTripTail, 8)]));
    numbers.extend(from(130, &[(C::Path, 8)]));
    numbers.extend(from(160, &[(C::PathTail, 8)]));
    numbers.extend(from(56, &[(C::Drops, 4)]));
    numbers.extend(from(100, &[(C::Holes, 4)]));
    numbers.extend(from(30, &[(C::Age, 4)]));
    // A mark stands before each line.
    let gaps = (named.len() + numbers.len()) as u16;
    let taken: u16 = 1 + gaps + numbers.iter().map(|(_, width)| width).sum::<u16>();
    let left = width.saturating_sub(taken);
    let share = left / named.len() as u16;
    let mut spare = left % named.len() as u16;
    let named = named.into_iter().map(|column| {
        let more = u16::from(spare > 0);
        spare -= more;
        (column, share + more)
    });
    let mut x = 2;
    let mut placed = Vec::new();
    for (column, width) in named.chain(numbers) {
        placed.push(Placed { column, x, width });
        x += width + 1;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_never_leave_the_screen() {
        for width in 0..400 {
            for placed in columns(width) {
                assert!(
                    width < 10 || placed.x + placed.width <= width,
                    "{width}: {placed:?}"
                );
            }
        }
    }
}
