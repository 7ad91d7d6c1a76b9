//! A packet's journey as a picture: a lane for each place, a dot for each hop, from top to bottom.
//!
//! Widths of text are reckoned: the page's type is a monospaced one, of which a column takes at most
//! `COLUMN` units. A picture's texts stand in it as text, so that they can be searched and copied.

use maud::{Markup, html};
use unicode_width::UnicodeWidthStr;

use crate::{
    journey::model::Stage,
    output::{
        sanitize,
        text::words::{self, Rung},
    },
    report::{HopReport, PacketReport},
};

/// What a column of text takes.
const COLUMN: usize = 8;
/// The height of a line.
const LINE: usize = 20;
/// Where the times end, and the lanes begin.
const TIMES: usize = 150;
/// The distance of lanes.
const LANE: usize = 130;
/// Columns of a lane's name.
const NAME: usize = 15;
/// Lanes that have room; places beyond share the last one.
const LANES: usize = 12;
/// Columns of what is said of a hop.
const REMARK: usize = 110;

/// What kind of text it is, for its colour: a class of the style sheet.
type Class = &'static str;

/// A hop with its lane and the lines that stand beside it.
struct Row<'a> {
    hop: &'a HopReport,
    lane: usize,
    top: usize,
    lines: Vec<(Class, String)>,
}

/// The picture.
pub(super) fn picture(packet: &PacketReport) -> Markup {
    let names = lanes(packet);
    let rows = rows(packet, &names);
    let text_at = TIMES + names.len() * LANE;
    let widest = rows.iter().flat_map(|row| &row.lines);
    let columns = widest.map(|(_, line)| line.width()).max().unwrap_or(0);
    let width = text_at + columns.max(20) * COLUMN;
    let height = rows
        .last()
        .map_or(0, |row| row.top + row.lines.len().max(1) * LINE)
        + 10;
    let first = packet.hops.first().map_or(0, |hop| hop.time);
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) role="img"
            aria-label=(format!("the journey of {}", words::label(packet)))
            {
            @for (number, name) in names.iter().enumerate() {
                (lane(number, name, height))
            }
            @for pair in rows.windows(2) {
                (way(&pair[0], &pair[1]))
            }
            @for (number, row) in rows.iter().enumerate() {
                (times(row, first, number.checked_sub(1).and_then(|at| rows.get(at))))
                (dot(row))
                @for (line, (class, text)) in row.lines.iter().enumerate() {
                    text class=(class) x=(text_at) y=(row.top + line * LINE + 4) { (text) }
                }
            }
        }
    }
}

/// The places in order of appearance.
fn lanes(packet: &PacketReport) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for hop in &packet.hops {
        let name = place(hop);
        if !names.contains(&name) && names.len() < LANES {
            names.push(name);
        }
    }
    names
}

fn place(hop: &HopReport) -> String {
    sanitize::plain(hop.called().unwrap_or("?")).into_owned()
}

fn rows<'a>(packet: &'a PacketReport, names: &[String]) -> Vec<Row<'a>> {
    let mut top = 2 * LINE;
    let mut above: Option<&HopReport> = None;
    let mut rows = Vec::new();
    for rung in words::rungs(packet) {
        let lines = remarks(packet, &rung, above);
        let name = place(rung.hop);
        let lane = names.iter().position(|known| *known == name);
        rows.push(Row {
            hop: rung.hop,
            lane: lane.unwrap_or(names.len().saturating_sub(1)),
            top,
            lines,
        });
        let last = rows.last().map_or(1, |row| row.lines.len().max(1));
        top += last * LINE + 4;
        above = Some(rung.hop);
    }
    rows
}

/// What is said of a hop, line by line.
fn remarks(
    packet: &PacketReport,
    rung: &Rung<'_>,
    above: Option<&HopReport>,
) -> Vec<(Class, String)> {
    let hop = rung.hop;
    let mut lines = Vec::new();
    let mut add = |class: Class, text: &str| {
        let folded = words::folded(&sanitize::plain(text), REMARK);
        lines.extend(folded.into_iter().map(|line| (class, line)));
    };
    if let Some(hole) = hop.hole {
        add("hole", &words::hole(hole));
    }
    let drop = packet.drop.as_ref().filter(|_| hop.stage == Stage::Drop);
    if let Some(drop) = drop {
        add("drop", &words::drop(drop));
        if let Some(rule) = &drop.rule {
            add("drop", &words::dropping(rule));
        }
        return lines;
    }
    let mut text = rung.stage().to_owned();
    if let Some(device) = &hop.device {
        text.push_str(&format!("  {}", device.name));
    }
    if let Some(spent) = hop.spent {
        text.push_str(&format!("  took {}", words::duration(spent)));
    }
    if above.is_none_or(|above| above.tuple != hop.tuple) {
        text.push_str(&format!("  {}", words::tuple(&hop.tuple)));
    }
    add("", &text);
    let tunnel = hop.encapsulation;
    if let Some(tunnel) = tunnel.filter(|_| above.is_none_or(|a| a.encapsulation != tunnel)) {
        add("tunnel", &words::tunnel(tunnel));
    }
    for report in &hop.translations {
        add("nat", &words::translation(packet.protocol, report));
        if let Some(rule) = &report.rule {
            add("nat", &words::translating(rule));
        }
    }
    lines
}

fn x_of(lane: usize) -> usize {
    TIMES + lane * LANE + LANE / 2
}

fn lane(number: usize, name: &str, height: usize) -> Markup {
    let x = x_of(number);
    html! {
        line class="lane" x1=(x) y1=(LINE) x2=(x) y2=(height) {}
        text class="name" x=(x) y="14" { title { (name) } (words::shortened(name, NAME)) }
    }
}

/// The packet's way from one hop to the next.
fn way(from: &Row<'_>, to: &Row<'_>) -> Markup {
    let class = match (to.hop.hole, to.hop.stage) {
        (Some(_), _) => "way hole",
        (None, Stage::Drop) => "way drop",
        _ => "way",
    };
    let (x1, x2) = (x_of(from.lane), x_of(to.lane));
    html! {
        line class=(class) x1=(x1) y1=(from.top) x2=(x2) y2=(to.top) {}
    }
}

/// The time since the first hop, and since the one above.
fn times(row: &Row<'_>, first: u64, above: Option<&Row<'_>>) -> Markup {
    let since = |before: u64| words::duration(row.hop.time.saturating_sub(before));
    html! {
        text class="time" x="70" y=(row.top + 4) { (since(first)) }
        @if let Some(above) = above {
            text class="time" x=(TIMES - 5) y=(row.top + 4) { "+" (since(above.hop.time)) }
        }
    }
}

fn dot(row: &Row<'_>) -> Markup {
    let (x, y) = (x_of(row.lane), row.top);
    let class = match row.hop.stage {
        Stage::Drop => "drop",
        Stage::Socket => "end",
        _ if !row.hop.translations.is_empty() => "nat",
        _ => "dot",
    };
    html! {
        @if row.hop.stage == Stage::Drop {
            path class="cross" d=(format!("M{} {}l12 12m0 -12l-12 12", x - 6, y - 6)) {}
        } @else {
            circle class=(class) cx=(x) cy=(y) r="5" {}
        }
    }
}
