//! A packet's ladder: a line for each hop, from the first down to the last.

mod columns;
pub(super) mod remarks;

use unicode_width::UnicodeWidthStr;

use self::{
    columns::{Columns, GAP, INDENT},
    remarks::Above,
};
use super::{
    glyphs::Page,
    label,
    line::{Line, Piece, Style},
    rule,
    units::duration,
};
use crate::{
    journey::model::{Stage, Verdict},
    report::{HopReport, PacketReport},
};

/// What a label takes of a packet's line, so that what follows stands below each other.
const LABEL: usize = 18;
/// A queue that holds a packet for less than that, in nanoseconds, is not worth a line of its own.
const MERGE_BELOW: u64 = 10_000;

/// One line for a packet that took a path already shown.
pub(super) fn same_path(page: &Page, packet: &PacketReport) -> Vec<Line> {
    let label = label::of(packet);
    let mut line = beginning(page, packet, &label);
    line.pad(line.width() - label.width() + LABEL);
    let time = duration(packet.duration(), &page.glyphs);
    let text = match packet.verdict {
        Verdict::Delivered => format!("same path, {time}"),
        _ => format!("same path, {}, {time}", verdict_words(packet.verdict)),
    };
    page.lay(line, vec![Piece::apart(Style::Plain, text)], INDENT)
}

/// The packet and all its hops.
pub(super) fn ladder(page: &Page, packet: &PacketReport) -> Vec<Line> {
    let ladder = Ladder {
        page,
        packet,
        columns: Columns::new(page, packet),
        first: packet.hops.first().map_or(0, |hop| hop.time),
    };
    let beginning = beginning(page, packet, &label::of(packet));
    let mut lines = page.lay(beginning, vec![verdict(page, packet)], INDENT);
    let mut above = Above::default();
    for rung in rungs(packet) {
        if let Some(hole) = rung.hop.hole {
            lines.extend(ladder.aside(vec![remarks::hole(hole)]));
        }
        lines.extend(ladder.rung(&rung, &above));
        above = Above::from(rung.hop);
    }
    lines.extend(ladder.end());
    lines
}

/// `flow 1 → SYN`.
fn beginning(page: &Page, packet: &PacketReport, label: &str) -> Line {
    let arrow = page.arrow(packet.direction);
    let mut line = Line::default();
    line.push(
        Style::Strong,
        format!("flow {} {arrow} {label}", packet.flow),
    );
    line
}

pub(super) const fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "delivered",
        Verdict::Dropped => "DROPPED",
        Verdict::Left => "left the node",
        Verdict::Unknown => "end not seen",
    }
}

fn verdict(page: &Page, packet: &PacketReport) -> Piece {
    let (style, joint) = match packet.verdict {
        Verdict::Delivered => (Style::Good, "in"),
        Verdict::Dropped => (Style::Problem, "after"),
        Verdict::Left => (Style::Plain, "after"),
        Verdict::Unknown => (Style::Warning, "after"),
    };
    let words = verdict_words(packet.verdict);
    let time = duration(packet.duration(), &page.glyphs);
    let concluded = packet.verdict != Verdict::Unknown && !packet.verdict_observed;
    let inferred = if concluded { " (inferred)" } else { "" };
    Piece::apart(style, format!("{words} {joint} {time}{inferred}"))
}

/// One line's hop, and whether the device's transmit followed its queue so soon that one line is
/// enough.
pub(crate) struct Rung<'a> {
    pub(crate) hop: &'a HopReport,
    transmitted: bool,
}

impl Rung<'_> {
    /// The stage, or both.
    pub(crate) const fn stage(&self) -> &'static str {
        if self.transmitted {
            "queue+transmit"
        } else {
            self.hop.stage.as_str()
        }
    }
}

/// The lines of a packet, in order.
pub(crate) fn rungs(packet: &PacketReport) -> Vec<Rung<'_>> {
    let mut rungs: Vec<Rung<'_>> = Vec::with_capacity(packet.hops.len());
    for hop in &packet.hops {
        match rungs.last_mut() {
            Some(rung) if !rung.transmitted && transmits(rung.hop, hop) => rung.transmitted = true,
            _ => rungs.push(Rung {
                hop,
                transmitted: false,
            }),
        }
    }
    rungs
}

fn transmits(queue: &HopReport, hop: &HopReport) -> bool {
    queue.stage == Stage::DeviceQueue
        && hop.stage == Stage::DeviceTransmit
        && hop.hole.is_none()
        && hop.time.saturating_sub(queue.time) < MERGE_BELOW
        && (queue.called(), &queue.device, queue.tuple) == (hop.called(), &hop.device, hop.tuple)
        && queue.encapsulation == hop.encapsulation
}

struct Ladder<'a> {
    page: &'a Page,
    packet: &'a PacketReport,
    columns: Columns,
    /// When the first hop was.
    first: u64,
}

impl Ladder<'_> {
    fn rung(&self, rung: &Rung<'_>, above: &Above) -> Vec<Line> {
        let (page, columns) = (self.page, &self.columns);
        let mut line = self.times(rung.hop.time, above.time);
        let drop = self.packet.drop.as_ref();
        if let Some(drop) = drop.filter(|_| rung.hop.stage == Stage::Drop) {
            line.pad(columns.netns_at() - 1);
            let mut lines = page.lay(line, remarks::drop(page, drop), columns.netns_at());
            lines.extend(self.rule_of_drop(columns.netns_at()));
            return lines;
        }
        line.pad(columns.netns_at());
        line.push(
            Style::Plain,
            page.short_name(columns::place(rung.hop), columns.netns),
        );
        line.pad(columns.stage_at());
        line.push(Style::Plain, rung.stage());
        line.pad(columns.device_at());
        line.push(Style::Plain, page.name(columns::device(rung.hop)));
        line.pad(columns.end());
        let pieces = remarks::of(page, self.packet.protocol, rung.hop, above);
        let mut lines = page.lay(line, pieces, columns.stage_at());
        let translations = rung.hop.translations.iter();
        for rule in translations.filter_map(|report| report.rule.as_ref()) {
            lines.extend(self.below(rule::translation(page, rule), columns.stage_at()));
        }
        lines
    }

    fn rule_of_drop(&self, indent: usize) -> Vec<Line> {
        let drop = self.packet.drop.as_ref();
        let rule = drop.and_then(|drop| drop.rule.as_ref());
        rule.map_or(Vec::new(), |rule| {
            self.below(rule::drop(self.page, rule), indent)
        })
    }

    /// Lines that belong to the one above.
    fn below(&self, pieces: Vec<Piece>, indent: usize) -> Vec<Line> {
        let mut line = Line::default();
        line.pad(indent - 1);
        self.page.lay(line, pieces, indent)
    }

    /// The time since the packet's first hop, and since the line above.
    fn times(&self, time: u64, above: Option<u64>) -> Line {
        let since = |before| duration(time.saturating_sub(before), &self.page.glyphs);
        let (total, width) = (since(self.first), self.columns.time);
        let mut text = format!("{:INDENT$}{total:>width$}", "");
        if let (Some(width), Some(above)) = (self.columns.delta, above) {
            let delta = format!("+{}", since(above));
            text.push_str(&format!("{:GAP$}{delta:>width$}", ""));
        }
        let mut line = Line::default();
        line.push(Style::Plain, text);
        line
    }

    /// What stands below the last hop.
    fn end(&self) -> Vec<Line> {
        let packet = self.packet;
        let mut lines = Vec::new();
        if packet.hops_cut > 0 {
            let text = format!("?? {} more hops, not kept", packet.hops_cut);
            lines.extend(self.aside(vec![Piece::on(Style::Warning, text)]));
        }
        let last = packet.hops.last().map(|hop| hop.stage);
        if let Some(drop) = packet.drop.as_ref().filter(|_| last != Some(Stage::Drop)) {
            lines.extend(self.aside(remarks::drop(self.page, drop)));
            lines.extend(self.rule_of_drop(INDENT));
        }
        lines
    }

    /// A line between the hops.
    fn aside(&self, pieces: Vec<Piece>) -> Vec<Line> {
        let mut line = Line::default();
        line.pad(INDENT - 1);
        self.page.lay(line, pieces, INDENT)
    }
}
