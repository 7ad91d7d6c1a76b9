//! By what flows are known: each tuple under which a packet was seen, with the namespace where that was.
//!
//! A name belongs to the flow that was seen with it last. A flow that lost one to another, or took one, looks
//! its names up in the table of all from then on.

use std::hash::{Hash, Hasher};

use tracer_common::flow::FlowKey;

use super::{Flows, Seat};
use crate::{
    event::{Endpoint, Tuple},
    journey::model::NetnsId,
};

/// A tuple in a namespace, whichever way it points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) key: FlowKey,
    pub(super) netns: NetnsId,
}

/// Word by word, which is what hashing is fast with.
impl Hash for Alias {
    fn hash<H: Hasher>(&self, to: &mut H) {
        let FlowKey {
            low,
            high,
            low_port,
            high_port,
            protocol,
        } = self.key;
        for word in [low[0], low[1], high[0], high[1]] {
            to.write_u64(word);
        }
        let ports = u64::from(low_port) << 48 | u64::from(high_port) << 32;
        to.write_u64(ports | u64::from(protocol));
        to.write_u32(self.netns.0);
    }
}

impl Alias {
    pub(super) fn new(tuple: &Tuple, netns: NetnsId) -> Self {
        let (a, b) = (tuple.source, tuple.destination);
        Self {
            key: FlowKey::new(a.address, a.port, b.address, b.port, tuple.protocol),
            netns,
        }
    }
}

/// Which flow an alias names, and which end is the client's there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub(super) seat: Seat,
    pub(super) client: Endpoint,
}

/// A flow's own alias, with which end is the client's there: as the table of all has it, as long as no
/// other flow took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnName {
    pub(super) alias: Alias,
    pub(super) client: Endpoint,
}

impl Flows {
    /// Makes the flow known by the tuple in the namespace; `client` is the client's end of it.
    pub(super) fn name(&mut self, seat: Seat, tuple: &Tuple, netns: NetnsId, client: Endpoint) {
        let Some(entry) = self.table.beside(seat) else {
            return;
        };
        let alias = Alias::new(tuple, netns);
        let own = OwnName { alias, client };
        if !entry.robbed && entry.has_name(&own) {
            return;
        }
        let named = Named { seat, client };
        let before = self.by_alias.insert(alias, named);
        if before.is_some_and(|before| before.seat == seat) {
            entry.name_again(&own);
            return;
        }
        // What the other flow does to its names later may concern this one as well.
        entry.robbed |= before.is_some();
        if !entry.add_name(own) {
            self.by_alias.remove(&alias);
        }
        self.table.count_again(seat);
        if let Some(before) = before
            && let Some(robbed) = self.table.beside(before.seat)
        {
            robbed.robbed = true;
        }
    }
}
