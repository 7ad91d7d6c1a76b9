//! Which ways packets have taken: whether a ladder would show anything new.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    journey::model::{Direction, FlowId},
    report::{HopReport, PacketReport},
};

/// How many flows are remembered.
const FLOWS: usize = 4096;
/// How many ways of one flow.
const WAYS: usize = 64;

/// The ways that were shown, by flow.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    shown: BTreeMap<FlowId, Vec<(Direction, u64)>>,
}

impl Paths {
    /// Whether no packet of the flow has gone this way before, in this direction. It has from now.
    pub(crate) fn is_new(&mut self, packet: &PacketReport) -> bool {
        let ways = self.shown.entry(packet.flow).or_default();
        let way = (packet.direction, way(packet));
        if ways.contains(&way) {
            return false;
        }
        if ways.len() < WAYS {
            ways.push(way);
        }
        if self.shown.len() > FLOWS {
            self.shown.pop_first();
        }
        true
    }
}

/// A number for everything that a ladder shows of a packet but its times.
fn way(packet: &PacketReport) -> u64 {
    let mut hasher = DefaultHasher::new();
    packet.verdict.hash(&mut hasher);
    packet.hops_cut.hash(&mut hasher);
    for hop in &packet.hops {
        place(hop, &mut hasher);
    }
    hasher.finish()
}

fn place(hop: &HopReport, hasher: &mut DefaultHasher) {
    let device = hop.device.as_ref().map(|device| &device.name);
    (hop.stage, hop.called(), device, hop.tuple).hash(hasher);
    for translation in &hop.translations {
        (translation.kind, translation.from, translation.to).hash(hasher);
    }
    let tunnel = hop.encapsulation.map(|tunnel| {
        let outer = tunnel.outer;
        (
            tunnel.vni,
            outer.source.address,
            outer.destination.address,
            outer.destination.port,
        )
    });
    tunnel.hash(hasher);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scenarios;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut packet = scenarios::echo().packets.remove(0);
        let mut paths = Paths::default();
        for flow in 0..FLOWS as u64 + 10 {
            packet.flow = FlowId(flow);
            assert!(paths.is_new(&packet));
            assert!(!paths.is_new(&packet));
        }
        assert_eq!(paths.shown.len(), FLOWS);
        for port in 0..WAYS as u16 + 10 {
            packet.hops[0].tuple.source.port = port;
            assert!(paths.is_new(&packet));
        }
        assert!(paths.shown.values().all(|ways| ways.len() <= WAYS));
    }

    #[test]
    fn the_tunnels_source_port_is_no_other_way() {
        let mut packet = scenarios::vxlan().packets.remove(0);
        let mut paths = Paths::default();
        assert!(paths.is_new(&packet));
        for tunnel in packet
            .hops
            .iter_mut()
            .filter_map(|hop| hop.encapsulation.as_mut())
        {
            tunnel.outer.source.port += 1;
        }
        assert!(!paths.is_new(&packet));
        packet.direction = Direction::Reply;
        assert!(paths.is_new(&packet));
    }
}
