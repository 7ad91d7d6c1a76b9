//! Which way a packet goes, where conntrack knows better than the order of appearance.

use super::{Flows, Membership};
use crate::{
    event::{Endpoint, Event},
    journey::model::Direction,
};

/// `IP_CT_ESTABLISHED_REPLY` and `IP_CT_RELATED_REPLY` (uapi): the low bits of `_nfct`.
const CTINFO_REPLY: u64 = 3;
const CTINFO_MASK: u64 = 7;

/// What conntrack says of the packet's direction, where it has seen this packet.
pub(super) fn tracked_direction(event: &Event) -> Option<Direction> {
    // Around a tunnel, the connection is the tunnel's.
    if event.record.conntrack <= CTINFO_MASK || event.outer().is_some() || event.quoted().is_some()
    {
        return None;
    }
    let info = event.record.conntrack & CTINFO_MASK;
    Some(if info >= CTINFO_REPLY {
        Direction::Reply
    } else {
        Direction::Original
    })
}

impl Flows {
    /// Turns the flow round where conntrack knows better than the order of appearance.
    pub(super) fn settle_direction(&mut self, member: &mut Membership, event: &Event) {
        let Some(direction) = tracked_direction(event) else {
            return;
        };
        let Some(entry) = self
            .by_id
            .get_mut(&member.flow)
            .filter(|entry| !entry.certain)
        else {
            return;
        };
        entry.certain = true;
        if direction == member.direction {
            return;
        }
        member.direction = direction;
        let flow = &mut entry.flow;
        std::mem::swap(&mut flow.client, &mut flow.destination);
        flow.packets.reverse();
        flow.bytes.reverse();
        (flow.client_netns, flow.backend, flow.backend_netns) = (None, None, None);
        (flow.client_seen, flow.backend_seen) = (0, 0);
        (flow.client_process, flow.backend_process) = (None, None);
        for sighting in &mut flow.subjects {
            sighting.reply = !sighting.reply;
        }
        for alias in &entry.aliases {
            if let Some(named) = self.by_alias.get_mut(alias) {
                let (key, client) = (&alias.key, named.client);
                let low = Endpoint {
                    address: key.low,
                    port: key.low_port,
                };
                named.client = if client == low {
                    Endpoint {
                        address: key.high,
                        port: key.high_port,
                    }
                } else {
                    low
                };
            }
        }
    }
}
