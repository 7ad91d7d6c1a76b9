//! Screens rendered to text from scenarios, and keys driven through the state.

mod bounds;
mod hostile;
mod keys;
mod screens;

use std::{collections::BTreeMap, sync::Arc};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{buffer::Buffer, layout::Rect, layout::Size};

use super::{
    app::{App, Effect},
    model::{Bounds, Model},
    view::{self, theme::Theme},
};
use crate::{
    filter::{Filter, FlowFacts, ResolveError, ResolvedFilter, Sighting},
    journey::model::{FlowId, PacketId},
    node::snapshot::Snapshot,
    output::terminal::Terminal,
    report::{
        Counts, StatsReport,
        scenarios::{self, Scenario},
    },
};

const SECOND: u64 = 1_000_000_000;

/// Nothing has a name here.
fn resolve(filter: &Filter, _: &Snapshot) -> Result<ResolvedFilter, ResolveError> {
    filter.resolve(&BTreeMap::new())
}

/// All scenarios, a flow each.
fn model() -> Model {
    let mut model = Model::new(Bounds::default());
    model.tick(scenarios::START, &Arc::new(scenarios::snapshot()));
    for (index, (_, scenario)) in scenarios::all().into_iter().enumerate() {
        add(&mut model, index as u64 + 1, scenario);
    }
    let counts = |seen| Counts {
        seen,
        matched: seen / 2,
        emitted: seen / 2 - 3,
        lost: 3,
        ..Counts::default()
    };
    let stats = |seen| StatsReport {
        total: counts(seen * 2),
        hooks: vec![("device.queue", counts(seen)), ("prerouting", counts(seen))],
        ..StatsReport::default()
    };
    model.count(&stats(1_000));
    model.tick(
        scenarios::START + 2 * SECOND,
        &Arc::new(scenarios::snapshot()),
    );
    model.count(&stats(2_500_000));
    model.plan = vec![
        ["devices", "tp_btf tracepoints", ""].map(str::to_owned),
        [
            "netfilter",
            "not observed",
            "translations are not seen; boot a newer kernel",
        ]
        .map(str::to_owned),
    ];
    model.cost(vec![super::model::ProgramCost {
        program: "net_dev_queue".to_owned(),
        runs: 12_000,
        time: std::time::Duration::from_micros(900),
        within: std::time::Duration::from_secs(1),
    }]);
    model.problem("12 packets were too many to keep");
    model
}

/// A scenario as a flow of that number.
fn add(model: &mut Model, number: u64, scenario: Scenario) {
    let mut report = scenario.flow;
    report.id = FlowId(number);
    let seen = Sighting {
        subject: tracer_common::filter::Subject::default(),
        reply: false,
    };
    let facts = FlowFacts {
        hops: vec![seen],
        dropped: report.drops > 0,
        ..FlowFacts::default()
    };
    model.flow(report, facts);
    for (index, mut packet) in scenario.packets.into_iter().enumerate() {
        packet.flow = FlowId(number);
        packet.id = PacketId(number * 100 + index as u64);
        model.packet(Arc::new(packet));
    }
    model.over(FlowId(number));
}

fn app() -> App {
    App::new("", resolve)
}

fn theme() -> Theme {
    Theme::new(Terminal {
        width: None,
        color: true,
        unicode: true,
    })
}

/// What is on a screen of that size.
fn screen(app: &mut App, model: &Model, (width, height): (u16, u16)) -> String {
    themed(app, model, (width, height), theme())
}

fn themed(app: &mut App, model: &Model, (width, height): (u16, u16), theme: Theme) -> String {
    app.fit(model, Size { width, height });
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    view::draw(app, model, theme, &mut buffer);
    lines(&buffer).join("\n")
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let Rect { width, height, .. } = buffer.area;
    let line = |y| {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A wide character covers the next column.
            x += u16::try_from(unicode_width::UnicodeWidthStr::width(symbol).max(1)).unwrap();
        }
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

/// Presses keys: characters, and `\n` for Enter, `\x1b` for Esc, `\t` for Tab, `^` for up, `v` for down.
fn press(app: &mut App, model: &Model, keys: &str) -> Vec<Effect> {
    let size = Size {
        width: 120,
        height: 40,
    };
    let mut effects = Vec::new();
    for character in keys.chars() {
        let code = match character {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\t' => KeyCode::Tab,
            '\u{2191}' => KeyCode::Up,
            '\u{2193}' => KeyCode::Down,
            other => KeyCode::Char(other),
        };
        effects.extend(app.key(key(code), model, size));
        app.fit(model, size);
    }
    effects
}
