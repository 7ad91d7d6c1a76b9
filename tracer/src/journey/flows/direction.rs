//! Which way a packet goes, where conntrack knows better than the order of appearance.

use foldhash::HashMap;

use super::{
    Membership,
    entry::Entry,
    names::{Alias, Named},
};
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

impl Entry {
    /// Turns the flow round where conntrack knows better than the order of appearance.
    pub(super) fn settle_direction(
        &mut self,
        by_alias: &mut HashMap<Alias, Named>,
        member: &mut Membership,
        event: &Event,
    ) {
        let Some(direction) = tracked_direction(event) else {
            return;
        };
        self.certain = true;
        if direction == member.direction {
            return;
        }
        member.direction = direction;
        self.turned = true;
        let flow = &mut self.flow;
        std::mem::swap(&mut flow.client, &mut flow.destination);
        flow.packets.reverse();
        flow.bytes.reverse();
        (flow.client_netns, flow.backend, flow.backend_netns) = (None, None, None);
        (flow.client_seen, flow.backend_seen) = (0, 0);
        (flow.client_process, flow.backend_process) = (None, None);
        for sighting in &mut flow.subjects {
            sighting.reply = !sighting.reply;
        }
        for own in &mut self.aliases {
            let key = &own.alias.key;
            let low = Endpoint {
                address: key.low,
                port: key.low_port,
            };
            let high = Endpoint {
                address: key.high,
                port: key.high_port,
            };
            let other = |client| if client == low { high } else { low };
            own.client = other(own.client);
            if let Some(named) = by_alias.get_mut(&own.alias) {
                named.client = other(named.client);
            }
        }
    }
}
