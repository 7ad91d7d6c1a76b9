//! How the tracer is attached, what each hook saw, and what that costs.

use ratatui::{layout::Rect, text::Line};

use super::{
    Canvas,
    theme::{Theme, Tone, count, size},
    window,
};
use crate::{
    output::text::words,
    report::Counts,
    tui::{app::App, model::Model},
};

pub(super) fn draw(canvas: &mut Canvas<'_>, app: &App, model: &Model, area: Rect) {
    let lines = lines(canvas.theme, model, area.width);
    let first = window(lines.len(), app.node, area.height);
    canvas.lines(area, &lines[first..]);
}

/// How many lines there are in a width.
pub(super) fn length(theme: Theme, model: &Model, width: u16) -> usize {
    lines(theme, model, width).len()
}

fn lines(theme: Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width);
    let mut lines = own(theme, model);
    lines.push(Line::default());
    lines.extend(hooks(theme, model));
    lines.extend(costs(theme, model));
    lines.push(Line::default());
    lines.push(theme.line(&[(Tone::Heading, "Attached")]));
    for [kind, choice, degraded] in &model.plan {
        let text = format!("{}{choice}", theme.cell(kind, 11));
        lines.push(theme.line(&[(Tone::Plain, &theme.short(&text, width))]));
        if !degraded.is_empty() {
            let folded = words::folded(&theme.text(degraded), width.saturating_sub(11));
            for text in folded {
                lines.push(theme.line(&[(Tone::Plain, "           "), (Tone::Warning, &text)]));
            }
        }
    }
    if !model.problems.is_empty() {
        lines.push(Line::default());
        lines.push(theme.line(&[(Tone::Heading, "Said")]));
        for problem in model.problems.iter().rev() {
            let folded = words::folded(&theme.text(problem), width);
            lines.extend(
                folded
                    .iter()
                    .map(|text| theme.line(&[(Tone::Warning, text)])),
            );
        }
    }
    lines
}

/// What the tracer takes and keeps.
fn own(theme: Theme, model: &Model) -> Vec<Line<'static>> {
    let let_go = model.let_go();
    let wrong = |number: u64| {
        if number > 0 {
            Tone::Warning
        } else {
            Tone::Plain
        }
    };
    let processor = format!("{:.1} % of a processor", model.own.processor * 100.0);
    vec![
        theme.line(&[(Tone::Heading, "The tracer")]),
        theme.line(&[
            (Tone::Plain, "takes      "),
            (Tone::Strong, &processor),
            (Tone::Plain, ", "),
            (Tone::Strong, &format!("{}B", size(model.own.memory))),
            (Tone::Plain, " of memory"),
        ]),
        theme.line(&[
            (Tone::Plain, "keeps      "),
            (Tone::Plain, &format!("{} flows, ", model.len())),
            (
                wrong(let_go.flows),
                &format!("{} let go for want of room, ", count(let_go.flows)),
            ),
            (
                wrong(let_go.packets),
                &format!("{} packets not kept", count(let_go.packets)),
            ),
        ]),
        theme.line(&[
            (Tone::Plain, "packets/s  "),
            (
                Tone::Key,
                &theme.sparkline(&model.packets.seconds(model.now())),
            ),
            (
                Tone::Plain,
                &format!(" {}", count(model.packets.rate(model.now()))),
            ),
        ]),
    ]
}

/// What the kernel says that each program takes.
fn costs(theme: Theme, model: &Model) -> Vec<Line<'static>> {
    if model.costs.is_empty() {
        return Vec::new();
    }
    let heading = format!(
        "{:<17}{:>8}{:>9}{:>12}",
        "PROGRAM", "RUNS/S", "NS/RUN", "% OF A CPU"
    );
    let mut lines = vec![Line::default(), theme.line(&[(Tone::Strong, &heading)])];
    for cost in &model.costs {
        let seconds = cost.within.as_secs_f64().max(0.001);
        let nanoseconds = cost.time.as_nanos() / u128::from(cost.runs.max(1));
        let part = cost.time.as_secs_f64() / seconds * 100.0;
        let within = cost.within.as_nanos().max(1);
        let per_second = u128::from(cost.runs) * 1_000_000_000 / within;
        let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        let taken = if cost.runs == 0 {
            String::new()
        } else {
            nanoseconds.to_string()
        };
        lines.push(theme.line(&[
            (Tone::Plain, &theme.cell(&cost.program, 17)),
            (Tone::Plain, &format!("{:>8}", count(per_second))),
            (Tone::Plain, &format!("{taken:>9}")),
            (Tone::Plain, &format!("{part:>12.2}")),
        ]));
    }
    lines
}

fn hooks(theme: Theme, model: &Model) -> Vec<Line<'static>> {
    let mut lines = vec![theme.line(&[(
        Tone::Strong,
        &format!(
            "{:<17}{:>8}{:>9}{:>9}{:>9}{:>8}",
            "HOOK", "SEEN/S", "SEEN", "MATCHED", "EMITTED", "LOST"
        ),
    )])];
    let counters = &model.counters;
    let line = |name: &str, hook: Option<&str>, counts: &Counts| {
        let per_second = counters.rate(hook, |counts| counts.seen);
        let lost = if counts.lost > 0 {
            Tone::Problem
        } else {
            Tone::Dim
        };
        theme.line(&[
            (Tone::Plain, &theme.cell(name, 17)),
            (Tone::Plain, &format!("{:>8}", count(per_second))),
            (Tone::Plain, &format!("{:>9}", count(counts.seen))),
            (Tone::Plain, &format!("{:>9}", count(counts.matched))),
            (Tone::Plain, &format!("{:>9}", count(counts.emitted))),
            (lost, &format!("{:>8}", count(counts.lost))),
        ])
    };
    for (name, counts) in &counters.last.hooks {
        lines.push(line(name, Some(name), counts));
    }
    lines.push(line("all", None, &counters.last.total));
    lines
}
