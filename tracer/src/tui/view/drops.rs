//! What is being dropped: by reason, place and rule, with whom it hits.

use ratatui::layout::Rect;

use super::{
    Canvas,
    theme::{Tone, age, count},
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
    let wide = area.width >= 100;
    let spark = if wide { SECONDS } else { 10 };
    let name_width = usize::from(area.width).saturating_sub(6 + 5 + 6 + spark + 4);
    let reason_width = (name_width / 2).min(32);
    let place_width = name_width.saturating_sub(reason_width + 1);
    let heading = format!(
        "  {} {} {:>6} {:>5} {}",
        theme.cell("REASON", reason_width),
        theme.cell("WHERE", place_width),
        "DROPS",
        "LAST",
        theme.cell(&format!("{spark}s"), spark),
    );
    if list.height >= 2 {
        canvas.line(list, 0, &theme.line(&[(Tone::Strong, &heading)]));
    }
    let top = u16::from(list.height >= 2);
    let selected = app.drops.line.min(kinds.len() - 1);
    let first = app.drops.offset.min(selected);
    // What is selected stays on the list also where the detail takes lines.
    let room = usize::from(list.height.saturating_sub(top)).max(1);
    let first = first.max((selected + 1).saturating_sub(room));
    for ((index, (kind, tally)), y) in kinds.iter().enumerate().skip(first).zip(top..list.height) {
        let line = {
            let seconds = tally.series.seconds(model.now());
            let recent = &seconds[seconds.len() - spark..];
            let ago = age(model.now().saturating_sub(tally.last));
            theme.line(&[
                (Tone::Plain, "  "),
                (Tone::Problem, &theme.cell(&kind.reason, reason_width)),
                (Tone::Plain, " "),
                (Tone::Plain, &theme.cell(&place(kind), place_width)),
                (Tone::Strong, &format!(" {:>6}", count(tally.count))),
                (Tone::Dim, &format!(" {ago:>5} ")),
                (Tone::Warning, &theme.sparkline(recent)),
            ])
        };
        canvas.line(list, y, &line);
        if index == selected {
            let line = Rect {
                y: list.y + y,
                height: 1,
                ..list
            };
            canvas.buffer.set_style(line, theme.style(Tone::Selected));
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
