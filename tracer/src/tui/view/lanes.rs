//! A packet's path as a picture: namespaces are lanes, devices and hooks are stations, from the first
//! down to the last, with a bar for the time that led there.
//!
//! ```text
//!  +0.0µs ▏             app/a1 │ node1                  │ app/b1
//!  +1.2µs ▎ output eth0        │                        │
//!                              ● prerouting cni0        │
//!                              │  DNAT 10.96.0.81:80 -> 10.244.1.3:8080
//! ```
//!
//! Where there is no room for the lanes side by side, each place is a heading over its stations.

use ratatui::text::Line;
use unicode_width::UnicodeWidthStr as _;

use super::theme::{Theme, Tone};
use crate::{
    journey::model::Verdict,
    output::text::words::{self, Rung},
    report::{HopReport, PacketReport},
};

/// Columns of a lane that can be read.
const LEAST_LANE: usize = 24;
/// Columns of a lane that need not be wider.
const MOST_LANE: usize = 34;
/// Columns of time and its bar.
const TIME: usize = 9;
const BAR: usize = 6;
/// What stands before the lanes.
const MARGIN: usize = TIME + 1 + BAR + 1;

/// The picture.
pub(super) fn lines(theme: Theme, packet: &PacketReport, width: usize) -> Vec<Line<'static>> {
    let picture = Picture::new(theme, packet, width);
    let mut lines = vec![picture.title()];
    lines.extend(picture.headings());
    let (mut place, mut tunnel) = (None, None);
    for rung in words::rungs(packet) {
        lines.extend(picture.above(&rung, &mut place));
        lines.push(picture.station(&rung));
        // A tunnel is named where it begins.
        let named = tunnel == rung.hop.encapsulation;
        tunnel = rung.hop.encapsulation;
        lines.extend(picture.below(rung.hop, named));
    }
    lines.extend(picture.end());
    lines
}

struct Picture<'a> {
    theme: Theme,
    packet: &'a PacketReport,
    width: usize,
    /// The places in the order in which the packet came there.
    lanes: Vec<&'a str>,
    /// A lane's columns; `None` where there is no room for them side by side.
    lane: Option<usize>,
    /// The longest time between two hops.
    longest: u64,
}

/// What a hop's place is called.
fn place(hop: &HopReport) -> &str {
    hop.called().unwrap_or("?")
}

impl<'a> Picture<'a> {
    fn new(theme: Theme, packet: &'a PacketReport, width: usize) -> Self {
        let mut lanes: Vec<&str> = Vec::new();
        for hop in &packet.hops {
            if !lanes.contains(&place(hop)) {
                lanes.push(place(hop));
            }
        }
        let room = width.saturating_sub(MARGIN) / lanes.len().max(1);
        let longest = packet.hops.iter().map(|hop| hop.since_previous).max();
        Self {
            theme,
            packet,
            width,
            lane: (room >= LEAST_LANE).then(|| room.min(MOST_LANE)),
            lanes,
            longest: longest.unwrap_or(0),
        }
    }

    /// `→ SYN  delivered in 131µs`.
    fn title(&self) -> Line<'static> {
        let packet = self.packet;
        let tone = match packet.verdict {
            Verdict::Delivered => Tone::Good,
            Verdict::Dropped => Tone::Problem,
            Verdict::Left => Tone::Plain,
            Verdict::Unknown => Tone::Warning,
        };
        let verdict = words::verdict(packet.verdict);
        let time = words::duration(packet.duration());
        let inferred = if packet.verdict_observed || packet.verdict == Verdict::Unknown {
            ""
        } else {
            " (inferred)"
        };
        let tuple = packet
            .hops
            .first()
            .map_or(String::new(), |hop| words::tuple(&hop.tuple));
        self.theme.line(&[
            (Tone::Strong, words::arrow(packet.direction)),
            (Tone::Strong, " "),
            (Tone::Strong, &words::label(packet)),
            (Tone::Plain, "  "),
            (tone, &format!("{verdict} in {time}{inferred}")),
            (Tone::Dim, &format!("  {tuple}")),
        ])
    }

    fn headings(&self) -> Option<Line<'static>> {
        let lane = self.lane?;
        let mut text = " ".repeat(MARGIN);
        for name in &self.lanes {
            text.push_str(&self.theme.cell(name, lane - 1));
            text.push(' ');
        }
        Some(self.theme.line(&[(Tone::Heading, text.trim_end())]))
    }

    /// What stands before a station: the place where there are no lanes, and a hole.
    fn above(&self, rung: &Rung<'a>, at: &mut Option<&'a str>) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        let here = place(rung.hop);
        if self.lane.is_none() && *at != Some(here) {
            *at = Some(here);
            lines.push(self.theme.line(&[(Tone::Strong, here)]));
        }
        if let Some(hole) = rung.hop.hole {
            lines.extend(self.aside(rung.hop, &words::hole(hole), Tone::Warning));
        }
        lines
    }

    /// `  +1.2µs ▎  │  ● device.receive veth8a38  │`.
    fn station(&self, rung: &Rung<'_>) -> Line<'static> {
        let (theme, hop) = (self.theme, rung.hop);
        let time = theme.right(&format!("+{}", words::duration(hop.since_previous)), TIME);
        #[expect(clippy::cast_precision_loss, reason = "for a bar of a few columns")]
        let part = hop.since_previous as f64 / self.longest.max(1) as f64;
        let bar = theme.cell(&theme.bar(part, BAR), BAR);
        let slow = part > 0.5 && hop.since_previous > 10_000;
        let device = hop
            .device
            .as_ref()
            .map_or("", |device| device.name.as_str());
        let spent = hop.spent.filter(|spent| *spent >= 1_000);
        let spent = spent.map_or(String::new(), |spent| {
            format!(" {}", words::duration(spent))
        });
        let text = format!("● {} {device}", short(rung.stage()));
        let room = self
            .lane
            .map_or(self.width.saturating_sub(MARGIN), |lane| lane - 1);
        let spent = if text.width() + spent.width() <= room {
            spent
        } else {
            String::new()
        };
        let text = format!("{text}{spent}");
        let tone = if hop.translations.is_empty() {
            Tone::Plain
        } else {
            Tone::Translation
        };
        let mut spans = vec![
            theme.span(Tone::Dim, time),
            theme.span(Tone::Plain, " "),
            theme.span(if slow { Tone::Warning } else { Tone::Dim }, bar),
            theme.span(Tone::Plain, " "),
        ];
        match self.lane {
            Some(lane) => {
                let index = self.index(hop);
                spans.extend(self.rails(0..index));
                spans.push(theme.span(tone, theme.cell(&text, lane)));
                spans.extend(self.rails(index + 1..self.lanes.len()));
            }
            None => {
                let room = self.width.saturating_sub(MARGIN);
                spans.push(theme.span(tone, theme.short(text.trim_end(), room)));
            }
        }
        spans.into()
    }

    fn index(&self, hop: &HopReport) -> usize {
        let found = self.lanes.iter().position(|lane| *lane == place(hop));
        found.unwrap_or(0)
    }

    /// Lanes where nothing happens.
    fn rails(&self, lanes: std::ops::Range<usize>) -> Vec<ratatui::text::Span<'static>> {
        let Some(lane) = self.lane else {
            return Vec::new();
        };
        let rail = format!("│{}", " ".repeat(lane - 1));
        lanes.map(|_| self.theme.span(Tone::Dim, &rail)).collect()
    }

    /// What a station did: translations with their rules, and tunnels.
    fn below(&self, hop: &HopReport, tunnel_named: bool) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        for translation in &hop.translations {
            let text = words::translation(self.packet.protocol, translation);
            lines.extend(self.aside(hop, &text, Tone::Translation));
            if let Some(rule) = &translation.rule {
                let rule = words::translating(rule);
                lines.extend(self.aside(hop, &rule, Tone::Translation));
            }
        }
        if let Some(tunnel) = hop.encapsulation.filter(|_| !tunnel_named) {
            lines.extend(self.aside(hop, &words::tunnel(tunnel), Tone::Tunnel));
        }
        lines
    }

    /// A remark beside a hop's lane, folded.
    fn aside(&self, hop: &HopReport, text: &str, tone: Tone) -> Vec<Line<'static>> {
        let indent = MARGIN;
        let index = self.index(hop);
        let before = match self.lane {
            Some(lane) => indent + lane * index,
            None => indent,
        };
        // A long remark may go over the lanes at its right, and begins further left where that is
        // not enough.
        let text = self.theme.text(text);
        let needed = text.width().min(30) + 4;
        let before = before.min(self.width.saturating_sub(needed)).max(2);
        let room = self.width.saturating_sub(before + 4).max(10);
        let folded = words::folded(&text, room);
        let line = |text: &String| {
            let mut spans = vec![self.theme.span(Tone::Plain, " ".repeat(before))];
            spans.push(self.theme.span(Tone::Dim, "│   "));
            spans.push(self.theme.span(tone, text));
            spans.into()
        };
        folded.iter().map(line).collect()
    }

    fn end(&self) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        if self.packet.hops_cut > 0 {
            let text = format!("{} more hops were not kept", self.packet.hops_cut);
            lines.push(self.theme.line(&[(Tone::Warning, &text)]));
        }
        let Some(hop) = self.packet.hops.last() else {
            return lines;
        };
        if let Some(drop) = &self.packet.drop {
            lines.extend(self.aside(hop, &words::drop(drop), Tone::Problem));
            if let Some(rule) = &drop.rule {
                lines.extend(self.aside(hop, &words::dropping(rule), Tone::Problem));
            }
        }
        lines
    }
}

/// A stage without the family that its name begins with.
fn short(stage: &str) -> &str {
    stage.strip_prefix("device.").unwrap_or(stage)
}
