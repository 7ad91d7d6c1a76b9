//! What the journey engine gives out: packets with their hops, and flows.
//!
//! Numbers only, no names: names are joined in `report`, which knows the node.

mod flow;
mod hop;
mod packet;

use std::fmt;

pub use flow::{Ends, Flow, FlowTranslation, Process, State};
pub use hop::{
    Device, Encapsulation, Hole, HookCall, Hop, Made, Stage, Tracking, Translation, TranslationKind,
};
pub use packet::{Dropped, Packet, Transport, Verdict};

/// A number that tells one thing of its kind from the others, in order of appearance from 1.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A flow.
    FlowId
);
id!(
    /// A packet.
    PacketId
);

/// A network namespace's inode number; 0 where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId(pub u32);

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// As the client's first packet.
    Original,
    /// As the answer.
    Reply,
}

impl Direction {
    /// The name in text and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Reply => "reply",
        }
    }
}
