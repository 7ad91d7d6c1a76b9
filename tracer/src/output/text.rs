//! Text for people: a ladder for a packet, a line for a flow.
//!
//! A connection's packets mostly take the same way, so by default a ladder is shown for the first
//! of each way and for those with a problem, and one line for each of the rest. Lines are laid out
//! as plain words with a style each and painted last, so that a colour never carries meaning alone
//! and never counts for the width.
//!
//! Limits: the ways already shown are remembered for a bounded number of flows; of an older flow a
//! ladder may be shown again.

mod flow;
mod glyphs;
mod label;
mod ladder;
mod line;
mod paths;
mod rule;
#[cfg(test)]
mod tests;
mod units;
pub(crate) mod words;

use std::io::{self, Write};

use super::{Sink, terminal::Terminal};
use crate::{
    report::{FlowReport, PacketReport, StatsReport},
    source::Shedding,
};
use glyphs::Page;
use line::{Line, Piece, Style};
use paths::Paths;

/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Flows only.
    Summary,
    /// Flows, and the ladders of packets that were dropped or have holes.
    Problems,
    /// Flows; the ladder of each way that packets took; a line for the other packets.
    #[default]
    Paths,
    /// Flows, and every packet's ladder.
    Packets,
}

/// What was written last, for the empty lines between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Ladder,
    Packet,
    Flow,
    Note,
}

/// Writes text.
#[derive(Debug)]
pub struct TextSink<W> {
    out: W,
    page: Page,
    color: bool,
    detail: Detail,
    paths: Paths,
    last: Option<Block>,
    lost: u64,
    shedding: Shedding,
}

impl<W: Write> TextSink<W> {
    /// A sink that writes to `out`, which can show what `terminal` says.
    pub fn new(out: W, terminal: Terminal, detail: Detail) -> Self {
        Self {
            out,
            page: Page::new(terminal),
            color: terminal.color,
            detail,
            paths: Paths::default(),
            last: None,
            lost: 0,
            shedding: Shedding::None,
        }
    }

    fn write(&mut self, block: Block, lines: &[Line]) -> io::Result<()> {
        let mut text = String::new();
        let apart = block == Block::Ladder || self.last != Some(block);
        if apart && self.last.is_some() {
            text.push('\n');
        }
        self.last = Some(block);
        for line in lines {
            line.render(self.color, &mut text);
            text.push('\n');
        }
        self.out.write_all(text.as_bytes())
    }

    /// Says what the ring buffer had no room for, when it is more than was said before.
    fn loss(&mut self, lost: u64) -> io::Result<()> {
        if lost <= self.lost {
            return Ok(());
        }
        self.lost = lost;
        let events = if lost == 1 { "event" } else { "events" };
        let text = format!("{lost} {events} lost: flows marked ? may be incomplete");
        self.note(Style::Warning, text)
    }

    /// Says that less is seen than everything, or everything again, when that changes.
    fn shedding(&mut self, shedding: Shedding) -> io::Result<()> {
        if shedding == self.shedding {
            return Ok(());
        }
        self.shedding = shedding;
        if shedding == Shedding::None {
            let text = "everything is seen again".to_owned();
            return self.note(Style::Good, text);
        }
        let text =
            format!("to keep --max-overhead, {shedding}; packets of flows marked ~ are a sample");
        self.note(Style::Warning, text)
    }

    fn note(&mut self, style: Style, text: String) -> io::Result<()> {
        let lines = self
            .page
            .lay(Line::default(), vec![Piece::apart(style, text)], 0);
        self.write(Block::Note, &lines)
    }
}

impl<W: Write> Sink for TextSink<W> {
    fn shows_packets(&self) -> bool {
        self.detail != Detail::Summary
    }

    fn packet(&mut self, packet: &PacketReport) -> io::Result<()> {
        let full = match self.detail {
            Detail::Summary => return Ok(()),
            Detail::Problems if !packet.is_problem() => return Ok(()),
            Detail::Problems | Detail::Packets => true,
            Detail::Paths => self.paths.is_new(packet) || packet.is_problem(),
        };
        if full {
            let lines = ladder::ladder(&self.page, packet);
            self.write(Block::Ladder, &lines)
        } else {
            let lines = ladder::same_path(&self.page, packet);
            self.write(Block::Packet, &lines)
        }
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        let lines = flow::lines(&self.page, flow);
        self.write(Block::Flow, &lines)
    }

    fn takes_ongoing(&self) -> bool {
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn stats(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.loss(stats.total.lost)?;
        self.shedding(stats.shedding)?;
        self.out.flush()
    }

    fn finish(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.loss(stats.total.lost)?;
        let shed = stats.total.shed;
        if shed > 0 {
            let text = format!(
                "{shed} times a packet passed a hook unseen, to keep --max-overhead: flows marked ~ had more packets, and others \
                 may not be seen at all"
            );
            self.note(Style::Warning, text)?;
        }
        if self.last.is_none() {
            let text = match stats.total.seen {
                0 => "the hooks saw no packet".to_owned(),
                seen => format!("no packet matched; the hooks saw {seen}"),
            };
            self.note(Style::Warning, text)?;
        }
        self.out.flush()
    }
}
