//! Around the screens: their names and what is going on above, keys and what is typed below.

use ratatui::{
    style::Modifier,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr as _;

use super::{
    Canvas,
    layout::{Layout, NAME},
    theme::{Theme, Tone, count},
};
use crate::{
    output::text::words,
    tui::{
        app::{
            App, Screen, keymap,
            playback::Playback,
            prompt::{Kind, Prompt},
        },
        model::Model,
    },
};

pub(super) fn draw(canvas: &mut Canvas<'_>, app: &App, model: &Model, layout: &Layout) {
    header(canvas, app, model, layout);
    timeline(canvas, app, layout);
    footer(canvas, app, layout);
}

fn header(canvas: &mut Canvas<'_>, app: &App, model: &Model, layout: &Layout) {
    let theme = canvas.theme;
    if layout.header.height == 0 {
        return;
    }
    canvas.line(layout.header, 0, &theme.line(&[(Tone::Strong, NAME)]));
    let mut end = NAME.len();
    for &(screen, x, _) in layout.tabs() {
        let number = screen as usize + 1;
        let tone = if screen == app.screen {
            Tone::Selected
        } else {
            Tone::Plain
        };
        let name = format!("{number} {}", screen.title());
        let style = theme.style(tone);
        canvas.buffer.set_string(x, layout.header.y, &name, style);
        end = usize::from(x) + name.len();
    }
    // As many facts as there is room for, at the right.
    let room = usize::from(layout.header.width).saturating_sub(end + 1);
    let mut shown = Vec::new();
    let mut taken = 0;
    for (fact, tone) in facts(app, model) {
        let fact = theme.text(&fact);
        if taken + 2 + fact.width() > room {
            break;
        }
        taken += 2 + fact.width();
        shown.push((fact, tone));
    }
    let mut x = layout.header.width - u16::try_from(taken).unwrap_or(0);
    for (fact, tone) in shown {
        let width = u16::try_from(fact.width()).unwrap_or(0);
        let style = theme.style(tone);
        canvas
            .buffer
            .set_string(x + 2, layout.header.y, fact, style);
        x += width + 2;
    }
}

/// What is going on, the most important first.
fn facts(app: &App, model: &Model) -> Vec<(String, Tone)> {
    let lost = model.counters.last.total.lost;
    let let_go = model.let_go();
    let shown = app.list.is_narrowed() && app.list.grouping.is_none();
    let total = model.len();
    let mut facts = Vec::new();
    if app.list.frozen.is_some() {
        facts.push(("FROZEN".to_owned(), Tone::Warning));
    }
    if lost > 0 {
        facts.push((format!("{} events lost", count(lost)), Tone::Problem));
    }
    match model.counters.last.shedding.one_in() {
        1 => {}
        0 => facts.push(("DROPS ONLY (budget)".to_owned(), Tone::Problem)),
        one_in => facts.push((format!("1 IN {one_in} SEEN (budget)"), Tone::Problem)),
    }
    let flows = if shown {
        format!("{} of {total} flows", app.list.shown.len())
    } else {
        format!("{total} flows")
    };
    facts.push((flows, Tone::Plain));
    let drops = model.drops.total();
    if drops > 0 {
        let word = if drops == 1 { "drop" } else { "drops" };
        facts.push((format!("{} {word}", count(drops)), Tone::Problem));
    }
    let rate = model.packets.rate(model.now());
    facts.push((format!("{} packets/s", count(rate)), Tone::Plain));
    if let_go.flows > 0 {
        let text = format!("{} flows let go", count(let_go.flows));
        facts.push((text, Tone::Warning));
    }
    match model.problems.len() {
        0 => {}
        1 => facts.push(("1 note: 4".to_owned(), Tone::Warning)),
        more => facts.push((format!("{more} notes: 4"), Tone::Warning)),
    }
    if !app.subject.is_empty() {
        facts.push((
            words::shortened(&format!("[{}]", app.subject), 40),
            Tone::Dim,
        ));
    }
    facts
}

fn timeline(canvas: &mut Canvas<'_>, app: &App, layout: &Layout) {
    let Some(playback) = app.playback.filter(|_| layout.timeline.height > 0) else {
        return;
    };
    let theme = canvas.theme;
    let state = standing(&playback);
    let clock = clock(&playback);
    let total = seconds(playback.span.1.saturating_sub(playback.span.0));
    let at = seconds(playback.position.saturating_sub(playback.span.0));
    let text = format!(" {clock}  {at} of {total} ");
    let room = usize::from(layout.timeline.width).saturating_sub(state.width() + text.width() + 2);
    let bar = theme.bar(playback.part(), room);
    let empty = room.saturating_sub(bar.width());
    let line = theme.line(&[
        (Tone::Strong, &state),
        (Tone::Plain, &text),
        (Tone::Key, &bar),
        (Tone::Dim, &"─".repeat(empty)),
    ]);
    canvas.line(layout.timeline, 0, &line);
}

fn standing(playback: &Playback) -> String {
    let speed = match playback.speed {
        None => "all".to_owned(),
        Some(speed) if speed >= 1.0 => format!("{speed:.0}x"),
        Some(speed) => format!("1/{:.0}x", 1.0 / speed),
    };
    match (playback.at_end, playback.playing) {
        (true, _) => "end".to_owned(),
        (false, true) => format!("> {speed}"),
        (false, false) => format!("|| {speed}"),
    }
}

/// The time of day (UTC) at the position.
fn clock(playback: &Playback) -> String {
    let passed = playback.position.saturating_sub(playback.span.0);
    let at = playback.began + i128::from(passed);
    match jiff::Timestamp::from_nanosecond(at) {
        Ok(time) => time.strftime("%H:%M:%S%.3fZ").to_string(),
        Err(_) => String::new(),
    }
}

fn seconds(nanoseconds: u64) -> String {
    let tenths = nanoseconds / 100_000_000;
    format!("{}.{}s", tenths / 10, tenths % 10)
}

fn footer(canvas: &mut Canvas<'_>, app: &App, layout: &Layout) {
    let theme = canvas.theme;
    let area = layout.footer;
    if app.prompt.is_some() {
        prompt(canvas, app, layout);
    } else if let Some(message) = &app.message {
        let tone = if message.problem {
            Tone::Problem
        } else {
            Tone::Good
        };
        canvas.line(area, 0, &theme.line(&[(tone, &message.text)]));
    } else {
        canvas.line(area, 0, &hints(canvas, app));
    }
}

fn hints(canvas: &Canvas<'_>, app: &App) -> Line<'static> {
    let theme = canvas.theme;
    let mut spans = Vec::new();
    let contexts = if app.help.is_some() {
        vec![keymap::Context::Anywhere]
    } else {
        app.contexts()
    };
    let mut narrowed = Vec::new();
    if app.help.is_none() && app.journey.is_none() && app.screen == Screen::Flows {
        let list = &app.list;
        if let Some((text, _)) = &list.filter {
            narrowed.push(format!("filter {text}"));
        }
        if !list.search.is_empty() {
            narrowed.push(format!("search {}", list.search));
        }
        if let Some((_, name)) = &list.within {
            narrowed.push(name.clone());
        }
        if list.problems {
            narrowed.push("problems only".to_owned());
        }
    }
    if !narrowed.is_empty() {
        let text = words::shortened(&narrowed.join(", "), 50);
        spans.push(theme.span(Tone::Warning, format!("[{text}] ")));
        spans.push(theme.span(Tone::Key, "c"));
        spans.push(theme.span(Tone::Dim, " clears  "));
    }
    // Help and quit are always there to be seen.
    let (mut last, mut first): (Vec<_>, Vec<_>) =
        keymap::hints(&contexts).partition(|(_, word)| matches!(*word, "help" | "quit"));
    let mut all = Vec::new();
    all.append(&mut last);
    all.append(&mut first);
    for (key, word) in all {
        spans.push(theme.span(Tone::Key, key));
        spans.push(theme.span(Tone::Dim, format!(" {word}  ")));
    }
    spans.into()
}

fn prompt(canvas: &mut Canvas<'_>, app: &App, layout: &Layout) {
    let (theme, area) = (canvas.theme, layout.footer);
    let Some(prompt) = app.prompt.as_ref().filter(|_| area.height > 0) else {
        return;
    };
    let line = typed(theme, prompt, usize::from(area.width));
    canvas.line(area, area.height - 1, &line);
    if area.height >= 2 {
        canvas.line(area, 0, &aside(theme, prompt));
    }
}

/// What is typed, with the cursor, and what is wrong of it underlined.
fn typed(theme: Theme, prompt: &Prompt, width: usize) -> Line<'static> {
    let name = match prompt.kind {
        Kind::Search => "search: ",
        Kind::Filter => "filter: ",
    };
    let text = prompt.line.text();
    let before = prompt.line.before();
    let marked = prompt.error.as_ref().map_or(0..0, |(_, span)| span.clone());
    let mut spans = vec![theme.span(Tone::Strong, name)];
    // What is before the cursor must be on the screen.
    let room = width.saturating_sub(name.len() + 1);
    let mut skip = 0;
    while text
        .get(skip..before.len())
        .is_some_and(|shown| shown.width() > room)
    {
        skip += text[skip..].chars().next().map_or(1, char::len_utf8);
    }
    for (at, character) in text.char_indices().skip_while(|(at, _)| *at < skip) {
        let mut style = theme.style(if marked.contains(&at) {
            Tone::Problem
        } else {
            Tone::Plain
        });
        if marked.contains(&at) {
            style = style.add_modifier(Modifier::UNDERLINED);
        }
        if at == before.len() {
            style = style.add_modifier(Modifier::REVERSED);
        }
        let mut buffer = [0; 4];
        let text = theme.text(character.encode_utf8(&mut buffer));
        spans.push(Span::styled(text, style));
    }
    if before.len() == text.len() {
        spans.push(theme.span(Tone::Selected, " "));
    }
    spans.into()
}

/// What helps with it.
fn aside(theme: Theme, prompt: &Prompt) -> Line<'static> {
    if !prompt.candidates.is_empty() {
        return theme.line(&[(Tone::Dim, &prompt.candidates.join("  "))]);
    }
    if let Some((message, _)) = &prompt.error {
        return theme.line(&[(Tone::Problem, message)]);
    }
    let hint = match prompt.kind {
        Kind::Search => "Enter keeps it, Esc takes it back",
        Kind::Filter => "Enter filters, Tab completes, up and down: earlier ones, Esc leaves",
    };
    theme.line(&[(Tone::Dim, hint)])
}
