//! What became of a packet and its copies.

use foldhash::HashMap;

use crate::journey::model::{Packet, PacketId, Stage, Verdict};

/// What became of a packet and its copies so far.
#[derive(Debug, Default)]
struct Siblings {
    /// How many are under way.
    live: u32,
    /// One of them arrived, and was given out.
    arrived: bool,
    /// The one among those dropped that says the most, for when none arrives.
    dropped: Option<(u8, Box<Packet>)>,
}

/// By origin, for packets that have copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    by_origin: HashMap<PacketId, Siblings>,
    /// Bytes of the packets that are kept.
    room: usize,
}

impl Copies {
    /// Bytes of the packets that are kept.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Another copy of that origin is under way.
    pub(super) fn add(&mut self, origin: PacketId) {
        let first = Siblings {
            live: 1,
            ..Siblings::default()
        };
        self.by_origin.entry(origin).or_insert(first).live += 1;
    }

    /// Whether there are copies.
    pub(super) fn has(&self, origin: PacketId) -> bool {
        self.by_origin.contains_key(&origin)
    }

    /// What is to be given out when a packet has ended, or was lost sight of for good (`None`). Of
    /// several copies the one that arrives is the packet. When none does, it is the dropped one
    /// that says the most (`telling`), or else the last.
    pub(super) fn settle(
        &mut self,
        origin: PacketId,
        packet: Option<Packet>,
        telling: impl Fn(&Packet) -> u8,
    ) -> Option<Packet> {
        let Some(copies) = self.by_origin.get_mut(&origin) else {
            return packet;
        };
        let before = copies.room();
        copies.live = copies.live.saturating_sub(1);
        let over = copies.live == 0;
        let verdict = packet.as_ref().map(|packet| packet.verdict);
        let given = match (verdict, packet) {
            (Some(Verdict::Delivered | Verdict::Left), packet) => {
                copies.arrived = true;
                copies.dropped = None;
                packet
            }
            _ if copies.arrived => None,
            (Some(Verdict::Dropped), Some(packet)) => {
                let rank = telling(&packet);
                if copies.dropped.as_ref().is_none_or(|(best, _)| rank > *best) {
                    copies.dropped = Some((rank, Box::new(packet)));
                }
                copies.the_dropped(over)
            }
            (_, packet) if over => copies.the_dropped(true).or(packet),
            _ => None,
        };
        self.room = self.room + copies.room() - before;
        if over {
            self.by_origin.remove(&origin);
        }
        given
    }
}

impl Siblings {
    fn room(&self) -> usize {
        let dropped = self.dropped.as_ref();
        dropped.map_or(0, |(_, packet)| packet.room())
    }

    fn the_dropped(&mut self, over: bool) -> Option<Packet> {
        let dropped = self.dropped.take_if(|_| over);
        dropped.map(|(_, packet)| *packet)
    }
}

/// How much a drop says of why the packet did not arrive: a socket that had no room for it more
/// than a host that it was not for. `bystander`: the reason is that of the latter.
pub(in crate::journey) fn telling(packet: &Packet, bystander: impl Fn(u32) -> bool) -> u8 {
    /// `SKB_DROP_REASON_NOT_SPECIFIED`.
    const NOT_SPECIFIED: u32 = 2;
    match &packet.dropped {
        Some(dropped) if dropped.stage == Stage::Socket => 3,
        Some(dropped) if bystander(dropped.reason) => 0,
        Some(dropped) if dropped.reason <= NOT_SPECIFIED => 1,
        _ => 2,
    }
}
