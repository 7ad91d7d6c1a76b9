//! A packet's ladder: a line for each hop, from the first down to the last.

use unicode_width::UnicodeWidthStr;

use super::{
    glyphs::{self, Page},
    label,
    line::{Line, Piece, Style},
    units::duration,
};
use crate::{
    event::Tuple,
    journey::model::{Encapsulation, Hole, Stage, Verdict},
    report::{DropReport, HopReport, PacketReport, Rewriting, TranslationReport},
};

/// Spaces before a hop's line.
const INDENT: usize = 2;
/// Spaces between columns.
const GAP: usize = 2;
/// What a label takes of a packet's line, so that what follows stands below each other.
const LABEL: usize = 18;
/// A queue that holds a packet for less than that, in nanoseconds, is not worth a line of its own.
const MERGE_BELOW: u64 = 10_000;
/// The port of Geneve.
const GENEVE: u16 = 6081;

/// One line for a packet that took a path already shown.
pub(super) fn same_path(page: &Page, packet: &PacketReport) -> Vec<Line> {
    let mut line = beginning(page, packet);
    line.pad(line.width() - label::of(packet).width() + LABEL);
    let time = duration(packet.duration(), &page.glyphs);
    let text = match packet.verdict {
        Verdict::Delivered => format!("same path, {time}"),
        _ => format!("same path, {}, {time}", verdict_words(packet.verdict)),
    };
    page.lay(line, vec![Piece::apart(Style::Plain, text)], INDENT)
}

/// The packet and all its hops.
pub(super) fn ladder(page: &Page, packet: &PacketReport) -> Vec<Line> {
    let ladder = Ladder::new(page, packet);
    let mut lines = page.lay(beginning(page, packet), vec![verdict(page, packet)], INDENT);
    let mut above = Above::default();
    for rung in rungs(packet) {
        lines.extend(ladder.hole(rung.hop));
        lines.extend(ladder.rung(&rung, &above));
        above = Above {
            time: Some(rung.hop.time),
            tuple: Some(rung.hop.tuple),
            encapsulation: rung.hop.encapsulation,
        };
    }
    lines.extend(ladder.end());
    lines
}

/// `flow 1 → SYN`.
fn beginning(page: &Page, packet: &PacketReport) -> Line {
    let mut line = Line::default();
    let arrow = page.arrow(packet.direction);
    line.push(Style::Strong, format!("flow {} {arrow} ", packet.flow));
    line.push(Style::Strong, label::of(packet));
    line
}

const fn verdict_words(verdict: Verdict) -> &'static str {
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
struct Rung<'a> {
    hop: &'a HopReport,
    transmitted: bool,
}

fn rungs(packet: &PacketReport) -> Vec<Rung<'_>> {
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
        && (&queue.netns, &queue.device, queue.tuple) == (&hop.netns, &hop.device, hop.tuple)
        && queue.encapsulation == hop.encapsulation
}

/// What the line above shows, so that only changes are said.
#[derive(Default)]
struct Above {
    time: Option<u64>,
    tuple: Option<Tuple>,
    encapsulation: Option<Encapsulation>,
}

/// How wide the columns are.
struct Columns {
    time: usize,
    /// `None` where the page is too narrow for it.
    delta: Option<usize>,
    netns: usize,
    stage: usize,
    device: usize,
}

impl Columns {
    fn new(page: &Page, packet: &PacketReport) -> Self {
        let widest =
            |widths: &mut dyn Iterator<Item = usize>, least| widths.fold(least, usize::max);
        // As much for namespaces as the other columns leave at their usual widths.
        let netns_limit = page
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(66).clamp(8, 40));
        let hops = || packet.hops.iter();
        let first = hops().next().map_or(0, |hop| hop.time);
        let times =
            &mut hops().map(|hop| duration(hop.time.saturating_sub(first), &page.glyphs).width());
        let time = widest(times, 7);
        let names = &mut hops().map(|hop| page.name(netns(hop)).width().min(netns_limit));
        let netns = widest(names, 1);
        let stage = widest(&mut rungs(packet).iter().map(|rung| stage(rung).len()), 1);
        let device = widest(&mut hops().map(|hop| page.name(device(hop)).width()), 1);
        Self {
            time,
            delta: page
                .width
                .is_none_or(|width| width >= 72)
                .then_some(time + 1),
            netns,
            stage,
            device,
        }
    }

    /// Where the namespace begins.
    fn after_times(&self) -> usize {
        let delta = self.delta.map_or(0, |delta| delta + GAP);
        INDENT + self.time + GAP + delta
    }

    /// Where the stage begins.
    fn after_netns(&self) -> usize {
        self.after_times() + self.netns + GAP
    }
}

/// What to call a namespace or a device that is not known.
const NAMELESS: &str = "?";

fn netns(hop: &HopReport) -> &str {
    hop.netns.as_deref().unwrap_or(NAMELESS)
}

fn device(hop: &HopReport) -> &str {
    hop.device.as_ref().map_or("", |device| &device.name)
}

fn stage(rung: &Rung<'_>) -> &'static str {
    if rung.transmitted {
        "queue+transmit"
    } else {
        rung.hop.stage.as_str()
    }
}

struct Ladder<'a> {
    page: &'a Page,
    packet: &'a PacketReport,
    columns: Columns,
    first: u64,
}

impl<'a> Ladder<'a> {
    fn new(page: &'a Page, packet: &'a PacketReport) -> Self {
        Self {
            page,
            packet,
            columns: Columns::new(page, packet),
            first: packet.hops.first().map_or(0, |hop| hop.time),
        }
    }

    fn duration(&self, nanoseconds: u64) -> String {
        duration(nanoseconds, &self.page.glyphs)
    }

    /// A line of its own, at the times' column.
    fn aside(&self, style: Style, text: String) -> Vec<Line> {
        let mut line = Line::default();
        line.pad(INDENT);
        let Piece { text, .. } = Piece::apart(style, text);
        line.push(style, text);
        self.page.lay(line, Vec::new(), INDENT)
    }

    fn hole(&self, hop: &HopReport) -> Vec<Line> {
        let text = match hop.hole {
            None => return Vec::new(),
            Some(Hole::Missing(stage)) => format!("?? hole: no {stage} event here"),
            Some(Hole::Beginning) => "?? hole: first seen here, where no packet begins".to_owned(),
            Some(Hole::NetfilterUnobserved) => {
                "?? hole: netfilter hooks not observed here".to_owned()
            }
        };
        self.aside(Style::Warning, text)
    }

    fn rung(&self, rung: &Rung<'_>, above: &Above) -> Vec<Line> {
        let hop = rung.hop;
        let mut line = self.times(hop.time, above.time);
        if let Some(drop) = self
            .packet
            .drop
            .as_ref()
            .filter(|_| hop.stage == Stage::Drop)
        {
            let piece = Piece::on(Style::Problem, self.dropped(drop));
            return self.page.lay(line, vec![piece], INDENT);
        }
        let netns = self.page.short_name(netns(hop), self.columns.netns);
        line.push(Style::Plain, netns);
        line.pad(self.columns.after_netns());
        line.push(Style::Plain, stage(rung));
        line.pad(self.columns.after_netns() + self.columns.stage + GAP);
        let device = self.page.name(device(hop));
        line.push(Style::Plain, device);
        let end = self.columns.after_netns() + self.columns.stage + GAP + self.columns.device;
        line.pad(end);
        let pieces = self.remarks(hop, above);
        self.page.lay(line, pieces, self.columns.after_netns())
    }

    /// The time since the packet's first hop, and since the line above.
    fn times(&self, time: u64, above: Option<u64>) -> Line {
        let mut line = Line::default();
        let since_first = self.duration(time.saturating_sub(self.first));
        line.push(
            Style::Plain,
            format!(
                "{:INDENT$}{since_first:>time$}",
                "",
                time = self.columns.time
            ),
        );
        if let Some(width) = self.columns.delta {
            let delta = above.map_or_else(String::new, |above| {
                format!("+{}", self.duration(time.saturating_sub(above)))
            });
            line.push(Style::Plain, format!("{:GAP$}{delta:>width$}", ""));
        }
        line.pad(self.columns.after_times());
        line
    }

    /// What is to be said of a hop beyond its columns.
    fn remarks(&self, hop: &HopReport, above: &Above) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if let Some(spent) = hop.spent {
            let text = format!("took {}", self.duration(spent));
            pieces.push(Piece::apart(Style::Plain, text));
        }
        if above.tuple != Some(hop.tuple) {
            let text = glyphs::tuple(&hop.tuple);
            pieces.push(Piece::apart(Style::Plain, text));
        }
        if hop.encapsulation != above.encapsulation {
            let text = tunnel(hop.encapsulation, above.encapsulation);
            pieces.push(Piece::apart(Style::Tunnel, text));
        }
        for report in &hop.translations {
            let text = translation(self.packet.protocol, report);
            pieces.push(Piece::apart(Style::Translation, text));
        }
        pieces
    }

    /// What stands below the last hop.
    fn end(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.packet.hops_cut > 0 {
            let text = format!("{} more hops, not kept", self.packet.hops_cut);
            lines.extend(self.aside(Style::Warning, text));
        }
        let shown = |hop: &HopReport| hop.stage == Stage::Drop;
        match &self.packet.drop {
            Some(drop) if !self.packet.hops.last().is_some_and(shown) => {
                lines.extend(self.aside(Style::Problem, self.dropped(drop)));
            }
            _ => {}
        }
        lines
    }

    /// `✗ DROPPED at forward in node1: NETFILTER_DROP (nf_hook_slow+0xa6)`.
    fn dropped(&self, drop: &DropReport) -> String {
        let mut text = format!("{} DROPPED", self.page.glyphs.dropped);
        if drop.stage != Stage::Drop {
            text.push_str(&format!(" at {}", drop.stage));
        }
        if let Some(netns) = &drop.netns {
            text.push_str(&format!(" in {}", self.page.name(netns)));
        }
        let reason = match (&drop.reason, drop.reason_number) {
            (Some(reason), _) => self.page.name(reason),
            (None, 0) => "the kernel gives no reason".to_owned(),
            (None, number) => format!("reason {number}"),
        };
        let place = match (&drop.function, drop.address) {
            (Some(function), _) => format!(" ({})", self.page.name(function)),
            (None, 0) => String::new(),
            (None, address) => format!(" ({address:#x})"),
        };
        text.push_str(&format!(": {reason}{place}"));
        text
    }
}

fn tunnel(now: Option<Encapsulation>, before: Option<Encapsulation>) -> String {
    let name = |tunnel: Encapsulation| match tunnel.outer.destination.port {
        GENEVE => "Geneve",
        _ => "VXLAN",
    };
    match (now, before) {
        (Some(tunnel), _) => {
            let (from, to) = (tunnel.outer.source.ip(), tunnel.outer.destination.ip());
            format!("{} vni {} {from} -> {to}", name(tunnel), tunnel.vni)
        }
        (None, Some(tunnel)) => format!("out of {}", name(tunnel)),
        (None, None) => String::new(),
    }
}

/// `DNAT 10.96.0.81:80 -> 10.244.1.3:8080`.
fn translation(protocol: u8, &TranslationReport { kind, from, to }: &TranslationReport) -> String {
    let word = match kind {
        Rewriting::Dnat => "DNAT",
        Rewriting::Snat => "SNAT",
        Rewriting::Masquerade => "masquerade",
        Rewriting::UnDnat => "(un-DNAT)",
        Rewriting::UnSnat => "(un-SNAT)",
    };
    format!("{word} {}", glyphs::change(protocol, from, to))
}
