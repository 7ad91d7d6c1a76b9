//! What is being dropped: by reason, place and rule, with whom it hits.

use ratatui::{layout::Rect, text::Line};

use super::{
    Canvas,
    theme::{Theme, Tone, age, count},
};
use crate::{
    output::text::words,
    tui::{
        app::App,
        model::{
            Model,
            drops::{Kind, Tally},
        },
    },
};

/// Lines below the list: the rule and the victims.
const DETAIL: u16 = 6;
/// Seconds of the sparkline.
const SECONDS: usize = 30;

pub(super) fn draw(canvas: &mut Canvas<'_>, app: &App, model: &Model, area: Rect) {
    let theme = canvas.theme;
    let kinds = model.drops.by_time();
    if kinds.is_empty() {
        let text = if model.is_empty() {
            "no packets yet"
        } else {
            "nothing was dropped"
        };
        canvas.line(area, 1, &theme.line(&[(Tone::Dim, &format!("  {text}"))]));
        return;
    }
    let detail = if area.height >= 14 { DETAIL } else { 0 };
    let list = Rect {
        height: area.height - detail,
        ..area
    };
    let columns = Columns::of(area.width);
    let top = u16::from(list.height >= 2);
    if top > 0 {
        canvas.line(list, 0, &columns.heading(theme));
    }
    let selected = app.drops.line.min(kinds.len() - 1);
    let first = app.drops.offset.min(selected);
    // What is selected stays on the list also where the detail takes lines.
    let room = usize::from(list.height.saturating_sub(top)).max(1);
    let first = first.max((selected + 1).saturating_sub(room));
    for ((index, (kind, tally)), y) in kinds.iter().enumerate().skip(first).zip(top..list.height) {
        canvas.line(list, y, &columns.row(theme, kind, tally, model.now()));
        if index == selected {
            canvas.select(list, y);
        }
    }
    if let Some((kind, tally)) = kinds.get(selected).filter(|_| detail > 0) {
        let area = Rect {
            y: area.y + list.height,
            height: detail,
            ..area
        };
        self::detail(canvas, model, (kind, tally), area);
    }
}

/// How wide the columns are.
struct Columns {
    reason: usize,
    place: usize,
    /// Seconds of the sparkline.
    spark: usize,
}

impl Columns {
    fn of(width: u16) -> Self {
        let spark = if width >= 100 { SECONDS } else { 10 };
        let names = usize::from(width).saturating_sub(6 + 5 + 6 + spark + 4);
        let reason = (names / 2).min(32);
        Self {
            reason,
            place: names.saturating_sub(reason + 1),
            spark,
        }
    }

    fn heading(&self, theme: Theme) -> Line<'static> {
        let heading = format!(
            "  {} {} {:>6} {:>5} {}",
            theme.cell("REASON", self.reason),
            theme.cell("WHERE", self.place),
            "DROPS",
            "LAST",
            theme.cell(&format!("{}s", self.spark), self.spark),
        );
        theme.line(&[(Tone::Strong, &heading)])
    }

    fn row(&self, theme: Theme, kind: &Kind, tally: &Tally, now: u64) -> Line<'static> {
        let seconds = tally.series.seconds(now);
        let recent = &seconds[seconds.len() - self.spark..];
        let ago = age(now.saturating_sub(tally.last));
        theme.line(&[
            (Tone::Plain, "  "),
            (Tone::Problem, &theme.cell(&kind.reason, self.reason)),
            (Tone::Plain, " "),
            (Tone::Plain, &theme.cell(&place(kind), self.place)),
            (Tone::Strong, &format!(" {:>6}", count(tally.count))),
            (Tone::Dim, &format!(" {ago:>5} ")),
            (Tone::Warning, &theme.sparkline(recent)),
        ])
    }
}

fn place(kind: &Kind) -> String {
    match &kind.place {
        Some(place) => format!("{} in {place}", kind.stage),
        None => kind.stage.to_string(),
    }
}

fn detail(canvas: &mut Canvas<'_>, model: &Model, (kind, tally): (&Kind, &Tally), area: Rect) {
    let theme = canvas.theme;
    let width = usize::from(area.width);
    canvas.line(area, 0, &theme.line(&[(Tone::Dim, &"─".repeat(width))]));
    let mut lines = Vec::new();
    if let Some(rule) = &kind.rule {
        let folded = words::folded(&theme.text(rule), width);
        lines.extend(
            folded
                .iter()
                .take(2)
                .map(|text| theme.line(&[(Tone::Problem, text)])),
        );
    }
    for id in &tally.victims {
        if let Some(row) = model.row(*id) {
            let text = theme.short(&words::flow(&row.report), width);
            lines.push(theme.line(&[(Tone::Plain, &text)]));
        }
    }
    for (line, y) in lines.iter().zip(1..area.height) {
        canvas.line(area, y, line);
    }
}
