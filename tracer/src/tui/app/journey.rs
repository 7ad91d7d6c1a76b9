//! A flow's journey: which packet is looked at, which one it is compared with.

use std::sync::Arc;

use super::super::model::{Model, Row};
use crate::{
    journey::model::{FlowId, PacketId},
    report::PacketReport,
};

/// The state of the screen.
#[derive(Clone, Debug)]
pub struct Journey {
    /// The flow as it stood last; it may have been let go since.
    pub row: Row,
    /// Whether it is still among the flows.
    pub kept: bool,
    /// The packet that is looked at; `None`: the first.
    pub packet: Option<PacketId>,
    /// The packet that it is compared with.
    pub pinned: Option<PacketId>,
    /// Lines of the picture that are above what is shown.
    pub scroll: usize,
    /// Packets of the list that are above what is shown.
    pub offset: usize,
}

impl Journey {
    /// Of a flow, at its first packet.
    #[must_use]
    pub fn of(model: &Model, flow: FlowId) -> Option<Self> {
        Some(Self {
            row: model.row(flow)?.clone(),
            kept: true,
            packet: None,
            pinned: None,
            scroll: 0,
            offset: 0,
        })
    }

    /// Takes what came meanwhile.
    pub fn refresh(&mut self, model: &Model) {
        match model.row(self.row.report.id) {
            Some(row) => self.row = row.clone(),
            None => self.kept = false,
        }
    }

    /// Its packets in the order in which they began.
    #[must_use]
    pub fn packets(&self) -> Vec<&Arc<PacketReport>> {
        let mut packets: Vec<_> = self.row.packets.iter().collect();
        packets.sort_by_key(|packet| (packet.hops.first().map(|hop| hop.time), packet.id));
        packets
    }

    /// The place of the packet that is looked at.
    #[must_use]
    pub fn index(&self, packets: &[&Arc<PacketReport>]) -> usize {
        let found = packets
            .iter()
            .position(|packet| Some(packet.id) == self.packet);
        found.unwrap_or(0)
    }

    /// The packet that is looked at.
    #[must_use]
    pub fn current(&self) -> Option<&Arc<PacketReport>> {
        let packets = self.packets();
        packets.get(self.index(&packets)).copied()
    }

    /// The packet that it is compared with, if that is another one.
    #[must_use]
    pub fn compared(&self) -> Option<&Arc<PacketReport>> {
        let current = self.current()?.id;
        let pinned = self.pinned.filter(|pinned| *pinned != current)?;
        self.row.packets.iter().find(|packet| packet.id == pinned)
    }

    /// Looks at another packet.
    pub fn select(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let packets = self.packets();
        let last = packets.len().saturating_sub(1);
        let index = to(self.index(&packets), last).min(last);
        let chosen = packets.get(index).map(|packet| packet.id);
        self.packet = chosen;
        self.scroll = 0;
    }

    /// Looks at the next packet with a problem; says whether there is any.
    pub fn next_problem(&mut self) -> bool {
        let packets = self.packets();
        let at = self.index(&packets);
        let round = (at + 1..packets.len()).chain(0..=at);
        let found = round
            .filter_map(|index| packets.get(index))
            .find(|packet| packet.is_problem())
            .map(|packet| packet.id);
        if let Some(id) = found {
            self.packet = Some(id);
            self.scroll = 0;
        }
        found.is_some()
    }

    /// Marks the packet that is looked at for comparing, or takes the mark away.
    pub fn pin(&mut self) {
        let current = self.current().map(|packet| packet.id);
        self.pinned = if self.pinned == current {
            None
        } else {
            current
        };
    }
}
