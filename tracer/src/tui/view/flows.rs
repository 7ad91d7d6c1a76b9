//! The table of flows, or of groups of them, and below it more on the selected one.

use std::borrow::Cow;

use ratatui::{style::Modifier, text::Line};
use unicode_width::UnicodeWidthStr as _;

use super::{
    Canvas,
    layout::{Layout, Placed},
    theme::{Theme, Tone, age, count, size},
};
use crate::{
    journey::model::State,
    output::text::words,
    report::{FlowReport, Party, protocol_name},
    tui::{
        app::{
            App,
            list::{Column, Group, Selected, is_problem},
        },
        model::{Model, Row},
    },
};

pub(super) fn draw(canvas: &mut Canvas<'_>, app: &App, model: &Model, layout: &Layout) {
    if app.list.grouping.is_some() {
        groups(canvas, app, layout);
        return;
    }
    heading(canvas, app, layout);
    let list = &app.list;
    let selected = list.index();
    let top = u16::from(layout.body.height >= 2);
    let flow = |index: usize| match list.shown.get(index) {
        Some(Selected::Flow(id)) => list.row(model, *id),
        _ => None,
    };
    for (index, y) in (list.offset..list.shown.len()).zip(top..layout.body.height) {
        if let Some(row) = flow(index) {
            let line = self::row(canvas.theme, row, model.now(), &layout.columns);
            canvas.line(layout.body, y, &line);
        }
        if index == selected {
            canvas.select(layout.body, y);
        }
    }
    if list.shown.is_empty() {
        canvas.line(layout.body, top + 1, &nothing(canvas.theme, app, model));
    }
    if let Some(row) = flow(selected) {
        detail(canvas, &row.report, layout);
    }
}

/// Why there is nothing.
fn nothing(theme: Theme, app: &App, model: &Model) -> Line<'static> {
    let text = if !model.is_empty() {
        "  no flow is let through; c shows all again"
    } else if app.waiting.is_empty() {
        "  no packets yet"
    } else {
        return theme.line(&[(Tone::Dim, &format!("  {}", app.waiting))]);
    };
    theme.line(&[(Tone::Dim, text)])
}

fn heading(canvas: &mut Canvas<'_>, app: &App, layout: &Layout) {
    if layout.body.height < 2 {
        return;
    }
    let theme = canvas.theme;
    for placed in &layout.columns {
        let sorted = placed.column == app.list.column;
        let mut title = placed.column.title().to_owned();
        if sorted && placed.width as usize > title.len() {
            title.push(if app.list.reversed { '^' } else { 'v' });
        }
        let width = usize::from(placed.width);
        let text = if is_named(placed.column) {
            theme.cell(&title, width)
        } else {
            theme.right(&title, width)
        };
        let mut style = theme.style(Tone::Strong);
        if sorted {
            style = style.add_modifier(Modifier::UNDERLINED);
        }
        canvas
            .buffer
            .set_string(placed.x, layout.body.y, text, style);
    }
}

/// Whether a column has words, which stand at the left.
const fn is_named(column: Column) -> bool {
    matches!(
        column,
        Column::Client | Column::Service | Column::Backend | Column::Protocol | Column::State
    )
}

fn row(theme: Theme, row: &Row, now: u64, columns: &[Placed]) -> Line<'static> {
    let report = &row.report;
    let (mark, tone) = match () {
        () if report.diagnosis.is_some() => ("✗", Tone::Problem),
        // Kernels drop packets of healthy flows, too.
        () if report.drops > 0 => ("!", Tone::Warning),
        () if is_problem(row) => ("?", Tone::Warning),
        () => (" ", Tone::Plain),
    };
    let mut spans = vec![theme.span(tone, mark), theme.span(Tone::Plain, " ")];
    for placed in columns {
        let width = usize::from(placed.width);
        let (text, tone) = cell(row, now, placed.column, width);
        let text = if is_named(placed.column) {
            theme.name(&text, width)
        } else {
            theme.right(&text, width)
        };
        spans.push(theme.span(tone, text));
        spans.push(theme.span(Tone::Plain, " "));
    }
    spans.into()
}

fn cell(row: &Row, now: u64, column: Column, width: usize) -> (String, Tone) {
    let report = &*row.report;
    let plain = |text: String| (text, Tone::Plain);
    let sum = |pair: [u64; 2]| pair[0] + pair[1];
    let time = |nanoseconds: Option<u64>| plain(nanoseconds.map_or(String::new(), words::duration));
    let problem = |number: u64, tone| match number {
        0 => ("0".to_owned(), Tone::Dim),
        number => (count(number).into_owned(), tone),
    };
    match column {
        Column::Client => plain(client(report, width)),
        Column::Service => service(report),
        Column::Backend => backend(report),
        Column::Protocol => plain(protocol_name(report.protocol).into_owned()),
        Column::State => (
            state(report.state, width).to_owned(),
            state_tone(report.state),
        ),
        Column::Packets if width >= 11 => both(report.packets, count),
        Column::Packets => plain(count(sum(report.packets)).into_owned()),
        Column::Bytes if width >= 12 => both(report.bytes, size),
        Column::Bytes => plain(size(sum(report.bytes)).into_owned()),
        Column::Rate => match row.bytes.rate(now) {
            0 => (String::new(), Tone::Dim),
            rate => plain(format!("{}/s", size(rate))),
        },
        Column::RoundTrip => time(row.round_trips.percentile(50)),
        Column::RoundTripTail => time(row.round_trips.percentile(99)),
        Column::Path => time(row.path_times.percentile(50)),
        Column::PathTail => time(row.path_times.percentile(99)),
        Column::Drops => problem(report.drops, Tone::Problem),
        Column::Holes => problem(report.holes, Tone::Warning),
        Column::Age => plain(age(now.saturating_sub(report.first))),
    }
}

/// `6/5`: of the original direction and of the replies.
fn both(pair: [u64; 2], shown: fn(u64) -> Cow<'static, str>) -> (String, Tone) {
    let [original, reply] = pair.map(shown);
    (format!("{original}/{reply}"), Tone::Plain)
}

/// The pod or namespace, else the address; and the process where there is room.
fn client(report: &FlowReport, width: usize) -> String {
    let Party { endpoint, .. } = &report.client;
    let address = || words::endpoint(report.protocol, *endpoint);
    let name = report.client.called().map_or_else(address, str::to_owned);
    match &report.client.process {
        Some(process) if name.width() + 1 + process.comm.width() <= width => {
            format!("{name} {}", process.comm)
        }
        _ => name,
    }
}

/// The Service, else the name that was asked for, else the address.
fn service(report: &FlowReport) -> (String, Tone) {
    match (&report.service, &report.asked) {
        (Some(service), _) => (service.to_string(), Tone::Translation),
        (None, Some(asked)) => (asked.name.clone(), Tone::Plain),
        (None, None) => {
            let same = report
                .backend
                .as_ref()
                .is_some_and(|backend| backend.endpoint == report.destination);
            let address = words::endpoint(report.protocol, report.destination);
            (address, if same { Tone::Dim } else { Tone::Plain })
        }
    }
}

fn backend(report: &FlowReport) -> (String, Tone) {
    match &report.backend {
        Some(party) => {
            let address = || words::endpoint(report.protocol, party.endpoint);
            (
                party.called().map_or_else(address, str::to_owned),
                Tone::Plain,
            )
        }
        None => ("-".to_owned(), Tone::Dim),
    }
}

/// The state; in the words of `ss` where there is little room.
const fn state(state: State, width: usize) -> &'static str {
    match state {
        State::SynReceived if width < 12 => "syn-recv",
        State::Established if width < 12 => "estab",
        _ => state.as_str(),
    }
}

pub(super) const fn state_tone(state: State) -> Tone {
    match state {
        State::Closed | State::Established | State::Closing | State::Replied => Tone::Good,
        State::Refused | State::Reset => Tone::Problem,
        State::SynSent | State::SynReceived | State::Unreplied => Tone::Warning,
    }
}

/// Below the table: the flow in full, and what is wrong with it.
fn detail(canvas: &mut Canvas<'_>, report: &FlowReport, layout: &Layout) {
    if layout.detail.height == 0 {
        return;
    }
    let theme = canvas.theme;
    let width = usize::from(layout.detail.width);
    let rule = "─".repeat(width);
    canvas.line(layout.detail, 0, &theme.line(&[(Tone::Dim, &rule)]));
    let mut lines: Vec<Line<'static>> = Vec::new();
    let text = words::flow(report);
    let mut texts = words::folded(&theme.text(&text), width);
    if let Some(diagnosis) = &report.diagnosis {
        texts.truncate(1);
        lines.extend(texts.iter().map(|text| theme.line(&[(Tone::Plain, text)])));
        let text = format!("✗ {}", diagnosis.sentence());
        let wrong = words::folded(&theme.text(&text), width);
        lines.extend(
            wrong
                .iter()
                .map(|text| theme.line(&[(Tone::Problem, text)])),
        );
    } else {
        lines.extend(texts.iter().map(|text| theme.line(&[(Tone::Plain, text)])));
    }
    for (line, y) in lines.iter().zip(1..layout.detail.height) {
        canvas.line(layout.detail, y, line);
    }
}

fn groups(canvas: &mut Canvas<'_>, app: &App, layout: &Layout) {
    let theme = canvas.theme;
    let area = layout.body;
    let groups = &app.list.groups;
    let name_width = usize::from(area.width).saturating_sub(47).max(10);
    let title = app.list.grouping.map_or("", |grouping| grouping.title());
    if area.height >= 2 {
        let words = format!(
            "  {} {:>6} {:>8} {:>6} {:>6} {:>8} {:>5}",
            theme.cell(title, name_width),
            "FLOWS",
            "PROBLEMS",
            "PKTS",
            "BYTES",
            "RATE",
            "DROP"
        );
        canvas.line(area, 0, &theme.line(&[(Tone::Strong, &words)]));
    }
    let selected = match &app.list.selected {
        Some(Selected::Group(name)) => groups.iter().position(|group| group.name == *name),
        _ => None,
    };
    let top = u16::from(area.height >= 2);
    let shown = groups.iter().enumerate().skip(app.list.offset);
    for ((index, group), y) in shown.zip(top..area.height) {
        canvas.line(area, y, &self::group(theme, group, name_width));
        if index == selected.unwrap_or(0) {
            canvas.select(layout.body, y);
        }
    }
}

fn group(theme: Theme, group: &Group, name_width: usize) -> Line<'static> {
    let wrong = |number: u64| if number > 0 { Tone::Problem } else { Tone::Dim };
    let name = theme.cell(&group.name, name_width);
    let rate = match group.rate {
        0 => String::new(),
        rate => format!("{}/s", size(rate)),
    };
    theme.line(&[
        (Tone::Plain, "  "),
        (Tone::Plain, &name),
        (Tone::Plain, &format!(" {:>6}", count(group.flows))),
        (
            wrong(group.problems),
            &format!(" {:>8}", count(group.problems)),
        ),
        (Tone::Plain, &format!(" {:>6}", count(group.packets))),
        (Tone::Plain, &format!(" {:>6}", size(group.bytes))),
        (Tone::Plain, &format!(" {rate:>8}")),
        (wrong(group.drops), &format!(" {:>5}", count(group.drops))),
    ])
}
