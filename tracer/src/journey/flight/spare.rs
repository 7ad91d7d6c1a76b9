//! Room of packets that are over, for those to come: without it, each packet would cost two allocations
//! of kilobytes.

use super::InFlight;
use crate::journey::model::{Hop, Packet};

/// How much is kept at most: more than end and begin between two looks.
const KEPT: usize = 512;
/// Hops of a usual packet.
const HOPS: usize = 32;

/// Empty lists with room, and packets that were under way.
#[derive(Debug, Default)]
pub(in crate::journey) struct Spare {
    kept: usize,
    hops: Vec<Vec<Hop>>,
    #[expect(clippy::vec_box, reason = "they go in and out by their boxes")]
    buffers: Vec<Box<InFlight>>,
}

impl Spare {
    /// At most a quarter of that many bytes.
    pub(in crate::journey) fn within(room: usize) -> Self {
        let largest = 2 * HOPS * size_of::<Hop>() + 2 * size_of::<InFlight>();
        Self {
            kept: KEPT.min(room / 4 / largest),
            ..Self::default()
        }
    }

    pub(in crate::journey) fn hops(&mut self) -> Vec<Hop> {
        let spare = self.hops.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(HOPS))
    }

    /// A packet under way, made in the room of one that is over; it gets that one's trail.
    pub(in crate::journey) fn buffer(
        &mut self,
        begin: impl FnOnce(super::packet::Trail) -> InFlight,
    ) -> Box<InFlight> {
        match self.buffers.pop() {
            Some(mut buffer) => {
                let trail = buffer.take_trail();
                *buffer = begin(trail);
                buffer
            }
            None => Box::new(begin(Vec::with_capacity(HOPS))),
        }
    }

    pub(in crate::journey) fn take_packet(&mut self, packet: Packet) {
        let mut hops = packet.hops;
        // What had uncommonly much is not worth keeping.
        if self.hops.len() < self.kept && hops.capacity() <= 2 * HOPS {
            hops.clear();
            self.hops.push(hops);
        }
    }

    /// Takes a packet that is over, and of which nothing is needed any more.
    pub(in crate::journey) fn take_buffer(&mut self, buffer: Box<InFlight>) {
        if self.buffers.len() < self.kept && buffer.has_room() {
            self.buffers.push(buffer);
        }
    }
}
