//! Where records come from: the running kernel, a recording, a scenario.
//!
//! One small trait. What it gives is what happened, in order, and nothing of how it was had: a
//! consumer cannot tell live from replay. Beside the records there are notices, which say how much
//! the records can be trusted: where netfilter hooks are seen, what was lost, how much there was.
//!
//! Limit: records of one CPU come in the order of their times; between CPUs the order is the one
//! in which the ring buffer's space was taken, which can differ from that of the times by
//! microseconds.

use std::{future::Future, net::SocketAddr};

mod hex;
mod shedding;

use serde::{Deserialize, Serialize};
use tracer_common::hook;

pub use shedding::Shedding;

use crate::event::Record;

/// Gives batches of records.
pub trait Source {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The next batch, as soon as there is anything in it; `None` when there will be no more.
    ///
    /// May be dropped while it waits (in `select!`) without losing anything.
    ///
    /// # Errors
    /// When the source is broken; what was read before has been given.
    fn next(&mut self) -> impl Future<Output = Result<Option<Batch>, Self::Error>>;

    /// Ends it: nothing new is looked for, what was seen before is still given by
    /// [`Source::next`], with the final statistics, and then `None`.
    fn finish(&mut self);
}

/// How a node's clock stands to that of the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeClock {
    /// The node's name.
    pub node: String,
    /// How many nanoseconds its clock shows more at the same time.
    pub ahead: i64,
    /// By how many nanoseconds that may be wrong; `None` where packets went one way only, or none.
    pub error: Option<u64>,
    /// By how many packets that is known: that came to the node from the first one, and back. Without any it
    /// is what the nodes' calendars say.
    pub packets: [u64; 2],
}

/// Some records, and what is to be known about them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// To be read first: a notice whose time lies before a record's is never in a later batch than
    /// that record.
    pub notices: Vec<Notice>,
    /// The records.
    pub records: Vec<Record>,
}

impl Batch {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.notices.is_empty() && self.records.is_empty()
    }
}

/// What is to be known about the records. Times are nanoseconds of `CLOCK_MONOTONIC`, as in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// Tracing began: there are no records from before. What is first seen soon afterwards may have
    /// been under way.
    Began {
        /// When everything was attached.
        time: u64,
    },
    /// From `time` on, all netfilter hooks of a network namespace are seen. Some may have been
    /// seen shortly before.
    NetfilterAttached {
        /// The namespace's inode number.
        netns: u32,
        /// Since when.
        time: u64,
    },
    /// From `time` on they are not seen any more: the namespace ended.
    NetfilterDetached {
        /// The namespace's inode number.
        netns: u32,
        /// Since when.
        time: u64,
    },
    /// From `time` on, all netfilter hooks of all network namespaces are seen.
    NetfilterEverywhere {
        /// Since when.
        time: u64,
    },
    /// The process that made a socket, before the first record that has the socket's cookie.
    Owner {
        /// The cookie, as in [`tracer_common::record::Head::detail`].
        cookie: u64,
        /// The process.
        process: SocketProcess,
    },
    /// The process that was found to hold the socket with these ends.
    Socket {
        /// The network namespace's inode number.
        netns: u32,
        /// The IP protocol number.
        protocol: u8,
        /// The socket's own end.
        local: SocketAddr,
        /// The other end.
        remote: SocketAddr,
        /// The process.
        process: SocketProcess,
    },
    /// Who listens at a port that refused somebody.
    Listeners {
        /// The network namespace's inode number.
        netns: u32,
        /// The IP protocol number.
        protocol: u8,
        /// The port.
        port: u16,
        /// When that was found.
        time: u64,
        /// The sockets.
        sockets: Vec<ListeningSocket>,
    },
    /// A packet's first bytes.
    Bytes(PacketBytes),
    /// Records are missing.
    Loss(Loss),
    /// How much there was up to now. The last one is final.
    Statistics(Box<Statistics>),
    /// Something that a person should know. Said once.
    Problem(String),
}

/// A packet's first bytes, from its IP header on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketBytes {
    /// When.
    pub time: u64,
    /// The `sk_buff`'s address, as in the event of the same hook just before.
    pub skb: u64,
    /// The network namespace's inode number.
    pub netns: u32,
    /// The hook.
    pub hook: u8,
    /// The packet's length from its IP header on.
    pub length: u32,
    /// The bytes, at most [`tracer_common::record::MAX_BYTES`].
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

/// A socket that waits for whoever comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListeningSocket {
    /// The address that it is bound to.
    pub local: SocketAddr,
    /// The process that holds it; `None` where that is none or several.
    pub process: Option<SocketProcess>,
}

/// A process at a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketProcess {
    /// Its id.
    pub pid: u32,
    /// Its name: hostile text.
    pub comm: String,
    /// The id of the cgroup (v2) that it was in; 0 where that is not known.
    pub cgroup: u64,
}

/// The command of `tracer run`: what tells its flows from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedCommand {
    /// The id of the cgroup (v2) that it runs in.
    pub cgroup: u64,
    /// The inode number of the network namespace that it begins in.
    pub netns: u32,
}

/// Records of one CPU that the ring buffer had no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The CPU.
    pub cpu: u16,
    /// How many.
    pub records: u64,
    /// They were lost after this time: that of the last record before them, 0 when there is none.
    pub after: u64,
    /// They were lost before this time.
    pub before: u64,
}

/// How much there was since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// When they were taken.
    pub time: u64,
    /// Of all hooks.
    pub total: Counts,
    /// By hook id.
    pub hooks: [Counts; hook::COUNT],
    /// Records that say a connection's two tuples.
    pub tuples: u64,
    /// Such records that were lost. Only the final statistics know.
    pub tuples_lost: u64,
    /// What is let go unseen from now on. Statistics are given whenever that changes.
    #[serde(default)]
    pub shedding: Shedding,
}

impl Statistics {
    /// With the total made of what the hooks have.
    #[must_use]
    pub fn new(time: u64, hooks: [Counts; hook::COUNT], tuples: u64) -> Self {
        let mut total = Counts::default();
        for counts in &hooks {
            total.seen += counts.seen;
            total.matched += counts.matched;
            total.emitted += counts.emitted;
            total.lost += counts.lost;
            total.shed += counts.shed;
        }
        Self {
            time,
            total,
            hooks,
            tuples,
            tuples_lost: 0,
            shedding: Shedding::None,
        }
    }
}

impl Statistics {
    /// Those of two nodes together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut hooks = self.hooks;
        for (counts, more) in hooks.iter_mut().zip(&other.hooks) {
            counts.seen += more.seen;
            counts.matched += more.matched;
            counts.emitted += more.emitted;
            counts.lost += more.lost;
            counts.shed += more.shed;
        }
        let time = self.time.max(other.time);
        Self {
            tuples_lost: self.tuples_lost + other.tuples_lost,
            shedding: self.shedding.max(other.shedding),
            ..Self::new(time, hooks, self.tuples + other.tuples)
        }
    }
}

/// Packets at a hook, or at all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Looked at.
    pub seen: u64,
    /// Matched by the filter or by a followed flow.
    pub matched: u64,
    /// Given as records. In the final statistics, this and `lost` make `matched`.
    pub emitted: u64,
    /// Matched, but the ring buffer had no room.
    pub lost: u64,
    /// Let go unseen, to keep a budget: nobody knows which of them would have matched.
    #[serde(default)]
    pub shed: u64,
}
