//! What is held for the end: packets by flow, and flows that were over before.
//!
//! Bounded by bytes. What there is no room for is counted and said: a flow whose packets were not held is
//! shown without them, a flow that was not held is not shown.

use std::collections::BTreeMap;

use crate::journey::model::{Flow, FlowId, Packet};

/// How much is kept, bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// For packets that are shown at the end.
    pub packets: usize,
    /// For flows that are shown at the end.
    pub flows: usize,
    /// For packets that say what is wrong with flows.
    pub evidence: usize,
    /// For names that were looked up.
    pub lookups: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            packets: 60 << 20,
            flows: 30 << 20,
            evidence: 16 << 20,
            lookups: 8 << 20,
        }
    }
}

/// What a packet costs beside itself: its place in a list that may be half empty, and that list's.
const BESIDE_PACKET: usize = size_of::<Packet>() + 64;
/// What a flow costs beside itself: its place in the tree, and what its packets have shown.
const BESIDE_FLOW: usize = 1024;

/// Packets and flows that wait for the end.
#[derive(Debug)]
pub(super) struct Holding {
    most: Held,
    packets: BTreeMap<FlowId, Vec<Packet>>,
    flows: BTreeMap<FlowId, Box<Flow>>,
    packet_room: usize,
    flow_room: usize,
    /// Packets that there was no room for.
    pub(super) packets_let_go: u64,
    /// Flows that there was no room for.
    pub(super) flows_let_go: u64,
}

impl Holding {
    pub(super) fn new(most: Held) -> Self {
        Self {
            most,
            packets: BTreeMap::new(),
            flows: BTreeMap::new(),
            packet_room: 0,
            flow_room: 0,
            packets_let_go: 0,
            flows_let_go: 0,
        }
    }

    /// Holds a packet, if there is room.
    pub(super) fn packet(&mut self, mut packet: Packet) {
        if self.packet_room >= self.most.packets {
            self.packets_let_go += 1;
            return;
        }
        packet.hops.shrink_to_fit();
        self.packet_room += packet.room() + BESIDE_PACKET;
        let packets = self.packets.entry(packet.flow).or_default();
        if packets.len() == packets.capacity() {
            packets.reserve_exact(1 + packets.len() / 2);
        }
        packets.push(packet);
    }

    /// Holds a flow that is over, if there is room; says whether there was.
    pub(super) fn flow(&mut self, flow: Flow) -> bool {
        if self.flow_room >= self.most.flows {
            self.flows_let_go += 1;
            self.forget(flow.id);
            return false;
        }
        self.flow_room += flow.room() + BESIDE_FLOW;
        self.flows.insert(flow.id, Box::new(flow));
        true
    }

    /// Forgets what is held of a flow's packets.
    pub(super) fn forget(&mut self, id: FlowId) {
        self.packets_of(id);
    }

    /// Gives a flow's packets out.
    fn packets_of(&mut self, id: FlowId) -> Vec<Packet> {
        let packets = self.packets.remove(&id).unwrap_or_default();
        let room: usize = packets.iter().map(Packet::room).sum();
        self.packet_room -= room + packets.len() * BESIDE_PACKET;
        packets
    }

    /// Gives out the flow that came first, with its packets in the order of their beginning.
    pub(super) fn next(&mut self) -> Option<(Flow, Vec<Packet>)> {
        let (id, flow) = self.flows.pop_first()?;
        self.flow_room -= flow.room() + BESIDE_FLOW;
        let mut packets = self.packets_of(id);
        packets.sort_by_key(|packet| packet.hops.first().map(|hop| hop.time));
        Some((*flow, packets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journey::model::State, report::scenarios};

    fn flow(number: u64) -> Flow {
        Flow {
            id: FlowId(number),
            ..scenarios::flows::flow(6, "10.0.0.1:1", "10.0.0.2:2", State::Closed)
        }
    }

    fn packet(flow: u64) -> Packet {
        Packet {
            flow: FlowId(flow),
            ..scenarios::faults::unwanted(3, 0)
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_what_goes_out_makes_room() {
        let mut one = packet(1);
        one.hops.shrink_to_fit();
        let each = one.room() + BESIDE_PACKET;
        let mut holding = Holding::new(Held {
            packets: 3 * each,
            flows: 2 * (flow(1).room() + BESIDE_FLOW),
            ..Held::default()
        });
        for number in [1, 1, 2, 3, 4] {
            holding.packet(packet(number));
        }
        assert_eq!(holding.packets_let_go, 2);
        holding.forget(FlowId(2));
        holding.packet(packet(4));
        assert_eq!(holding.packets_let_go, 2);
        for number in [4, 1, 5] {
            holding.flow(flow(number));
        }
        assert_eq!(holding.flows_let_go, 1);
        let out: Vec<(u64, usize)> = std::iter::from_fn(|| holding.next())
            .map(|(flow, packets)| (flow.id.0, packets.len()))
            .collect();
        assert_eq!(out, [(1, 2), (4, 1)]);
        assert_eq!((holding.packet_room, holding.flow_room), (0, 0));
    }
}
