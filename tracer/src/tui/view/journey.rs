//! A flow's journey: what it is, its packets, the picture of one packet's path, or two compared.

use std::sync::Arc;

use ratatui::{layout::Rect, text::Line};

use super::{
    Canvas, compare, flows, lanes,
    layout::Layout,
    theme::{Theme, Tone, count, size},
    window,
};
use crate::{
    journey::model::Verdict,
    output::text::words,
    report::PacketReport,
    tui::{app::journey::Journey, model::times::Times},
};

pub(super) fn draw(canvas: &mut Canvas<'_>, journey: &Journey, layout: &Layout) {
    summary(canvas, journey, layout.summary);
    packets(canvas, journey, layout.packets);
    if layout.packets.width > 0 {
        rule(canvas, layout.packets);
    }
    let Some(packet) = journey.current() else {
        let text = "no packet of it is kept";
        let line = canvas.theme.line(&[(Tone::Dim, text)]);
        canvas.line(layout.picture, 0, &line);
        return;
    };
    let area = layout.picture;
    let width = usize::from(area.width);
    let lines = match journey.compared() {
        Some(other) => compare::lines(canvas.theme, other, packet, width),
        None => lanes::lines(canvas.theme, packet, width),
    };
    let first = window(lines.len(), journey.scroll, area.height);
    canvas.lines(area, &lines[first..]);
    let below = lines.len().saturating_sub(first + usize::from(area.height));
    if below > 0 {
        let more = format!("{below} more lines, PgDn");
        let last = area.height.saturating_sub(1);
        let blank = " ".repeat(width);
        canvas.line(area, last, &canvas.theme.line(&[(Tone::Plain, &blank)]));
        canvas.line(area, last, &canvas.theme.line(&[(Tone::Dim, &more)]));
    }
}

/// The line between packets and picture.
fn rule(canvas: &mut Canvas<'_>, packets: Rect) {
    let style = canvas.theme.style(Tone::Dim);
    let bar = canvas.theme.text("│");
    for y in packets.y..packets.y + packets.height {
        canvas
            .buffer
            .set_string(packets.x + packets.width, y, &bar, style);
    }
}

fn summary(canvas: &mut Canvas<'_>, journey: &Journey, area: Rect) {
    let theme = canvas.theme;
    let report = &journey.row.report;
    let folded = |tone: Tone, text: &str| -> Vec<Line<'static>> {
        let lines = words::folded(&theme.text(text), usize::from(area.width));
        lines
            .iter()
            .map(|text| theme.line(&[(tone, text)]))
            .collect()
    };
    let diagnosis = report.diagnosis.as_ref();
    // What is wrong is worth more lines than the ends.
    let for_ends = match area.height {
        0..=3 => 1,
        _ if diagnosis.is_some() => 1,
        _ => 2,
    };
    let mut lines = folded(Tone::Strong, &words::flow(report));
    lines.truncate(for_ends);
    lines.push(facts(theme, journey));
    if let Some(diagnosis) = diagnosis {
        let sentence = format!("✗ {}", diagnosis.sentence());
        lines.extend(folded(Tone::Problem, &sentence));
    } else {
        for placed in &report.translations {
            let what = words::translation(report.protocol, &placed.translation);
            let rule = placed.translation.rule.as_ref().map(words::translating);
            let text = format!("{what} {}", rule.unwrap_or_default());
            lines.extend(folded(Tone::Translation, &text));
        }
    }
    canvas.lines(area, &lines);
}

/// State, counts and times.
fn facts(theme: Theme, journey: &Journey) -> Line<'static> {
    let row = &journey.row;
    let report = &row.report;
    let [packets, bytes] = [report.packets, report.bytes].map(|pair| pair[0] + pair[1]);
    let time = |name: &str, times: &Times| {
        let of = |percent| times.percentile(percent).map(words::duration);
        match (of(50), of(99)) {
            (Some(half), Some(tail)) => format!("  {name} {half} (p99 {tail})"),
            _ => String::new(),
        }
    };
    let missing = if report.affected_by_loss {
        "  events were lost"
    } else if report.sampled {
        "  a sample"
    } else {
        ""
    };
    theme.line(&[
        (flows::state_tone(report.state), report.state.as_str()),
        (
            Tone::Plain,
            &format!("  {} packets {}", count(packets), size(bytes)),
        ),
        (Tone::Plain, &time("rtt", &row.round_trips)),
        (Tone::Plain, &time("path", &row.path_times)),
        (
            wrong(report.drops, Tone::Problem),
            &format!("  {} drops", report.drops),
        ),
        (
            wrong(report.holes, Tone::Warning),
            &format!(" {} holes", report.holes),
        ),
        (Tone::Warning, missing),
        (Tone::Warning, if journey.kept { "" } else { "  (let go)" }),
    ])
}

const fn wrong(number: u64, tone: Tone) -> Tone {
    if number > 0 { tone } else { Tone::Dim }
}

fn packets(canvas: &mut Canvas<'_>, journey: &Journey, area: Rect) {
    if area.width == 0 || area.height == 0 {
        return;
    }
    let theme = canvas.theme;
    let all = journey.packets();
    let index = journey.index(&all);
    let begin = all
        .first()
        .and_then(|packet| packet.hops.first())
        .map_or(0, |hop| hop.time);
    let not_kept = match journey.row.not_kept {
        0 => String::new(),
        more => format!(", {} not kept", count(more)),
    };
    let heading = format!(
        "{} of {} packets{not_kept}",
        index + usize::from(!all.is_empty()),
        all.len()
    );
    canvas.line(area, 0, &theme.line(&[(Tone::Strong, &heading)]));
    let shown = all.iter().enumerate().skip(journey.offset);
    for ((at, packet), y) in shown.zip(1..area.height) {
        let pinned = journey.pinned == Some(packet.id);
        let line = packet_line(theme, packet, begin, usize::from(area.width), pinned);
        canvas.line(area, y, &line);
        if at == index {
            canvas.select(area, y);
        }
    }
}

/// `→ SYN  +0.0µs  131µs`.
fn packet_line(
    theme: Theme,
    packet: &Arc<PacketReport>,
    begin: u64,
    width: usize,
    pinned: bool,
) -> Line<'static> {
    let arrow = words::arrow(packet.direction);
    let tone = match packet.verdict {
        _ if packet.is_problem() && packet.verdict != Verdict::Dropped => Tone::Warning,
        Verdict::Delivered | Verdict::Left => Tone::Plain,
        Verdict::Dropped => Tone::Problem,
        Verdict::Unknown => Tone::Warning,
    };
    let mark = if pinned { "=" } else { " " };
    let first = packet.hops.first().map_or(0, |hop| hop.time);
    let after = words::duration(first.saturating_sub(begin));
    let took = words::duration(packet.duration());
    let (after_width, took_width) = if width >= 34 { (9, 8) } else { (0, 8) };
    let label = words::label(packet);
    let label = label.strip_suffix(" bytes").unwrap_or(&label);
    let label_width = width.saturating_sub(4 + after_width + took_width);
    let after = if after_width > 0 {
        theme.right(&format!("+{after}"), after_width)
    } else {
        String::new()
    };
    theme.line(&[
        (Tone::Strong, mark),
        (tone, arrow),
        (Tone::Plain, " "),
        (tone, &theme.cell(label, label_width)),
        (Tone::Dim, &after),
        (Tone::Plain, " "),
        (Tone::Plain, &theme.right(&took, took_width)),
    ])
}
