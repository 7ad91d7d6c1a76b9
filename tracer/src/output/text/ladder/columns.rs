//! How wide the columns of a ladder are, and what stands in them.

use unicode_width::UnicodeWidthStr;

use super::rungs;
use crate::{
    output::text::{glyphs::Page, units::duration},
    report::{HopReport, PacketReport},
};

/// Spaces before the first column.
pub(super) const INDENT: usize = 2;
/// Spaces between columns.
pub(super) const GAP: usize = 2;
/// What a place that is not known is called.
const NAMELESS: &str = "?";
/// Columns of the page that the others take at their usual widths; the rest is for pods and namespaces.
const OTHERS: usize = 66;
/// The page on which there is room for the time since the line above.
const WIDE_ENOUGH: usize = 72;

/// The width of each column.
pub(super) struct Columns {
    pub(super) time: usize,
    pub(super) delta: Option<usize>,
    pub(super) netns: usize,
    stage: usize,
    device: usize,
}

impl Columns {
    /// As wide as what this packet's hops put into them.
    pub(super) fn new(page: &Page, packet: &PacketReport) -> Self {
        let limit = page.width.map_or(usize::MAX, |width| {
            width.saturating_sub(OTHERS).clamp(8, 24)
        });
        let first = packet.hops.first().map_or(0, |hop| hop.time);
        let mut columns = Self {
            time: 7,
            delta: None,
            netns: 1,
            stage: 1,
            device: 0,
        };
        for rung in rungs(packet) {
            let time = duration(rung.hop.time.saturating_sub(first), &page.glyphs);
            let name = page.name(place(rung.hop));
            columns.time = columns.time.max(time.width());
            columns.netns = columns.netns.max(name.width().min(limit));
            columns.stage = columns.stage.max(rung.stage().width());
            columns.device = columns.device.max(page.name(device(rung.hop)).width());
        }
        let wide = page.width.is_none_or(|width| width >= WIDE_ENOUGH);
        columns.delta = wide.then_some(columns.time + 1);
        columns
    }

    /// Where the namespace begins.
    pub(super) fn netns_at(&self) -> usize {
        let delta = self.delta.map_or(0, |delta| delta + GAP);
        INDENT + self.time + GAP + delta
    }

    /// Where the stage begins.
    pub(super) fn stage_at(&self) -> usize {
        self.netns_at() + self.netns + GAP
    }

    /// Where the device begins.
    pub(super) fn device_at(&self) -> usize {
        self.stage_at() + self.stage + GAP
    }

    /// Where the last column ends.
    pub(super) fn end(&self) -> usize {
        self.device_at() + self.device
    }
}

pub(super) fn place(hop: &HopReport) -> &str {
    hop.called().unwrap_or(NAMELESS)
}

pub(super) fn device(hop: &HopReport) -> &str {
    hop.device.as_ref().map_or("", |device| &device.name)
}
