//! Room of packets that are over, for those to come: without it, each packet would cost two allocations
//! of kilobytes.

use super::packet::Trail;
use crate::journey::model::{Hop, Packet};

/// How much is kept: more than end and begin between two looks.
const KEPT: usize = 512;
/// Hops of a usual packet.
const HOPS: usize = 32;

/// Empty lists with room.
#[derive(Debug, Default)]
pub(in crate::journey) struct Spare {
    hops: Vec<Vec<Hop>>,
    trails: Vec<Trail>,
}

impl Spare {
    pub(in crate::journey) fn hops(&mut self) -> Vec<Hop> {
        let spare = self.hops.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(HOPS))
    }

    pub(in crate::journey) fn trail(&mut self) -> Trail {
        let spare = self.trails.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(HOPS))
    }

    pub(in crate::journey) fn take_packet(&mut self, packet: Packet) {
        let mut hops = packet.hops;
        // What had uncommonly much is not worth keeping.
        if self.hops.len() < KEPT && hops.capacity() <= 2 * HOPS {
            hops.clear();
            self.hops.push(hops);
        }
    }

    pub(in crate::journey) fn take_trail(&mut self, mut trail: Trail) {
        if self.trails.len() < KEPT && trail.capacity() > 0 {
            trail.clear();
            self.trails.push(trail);
        }
    }
}
