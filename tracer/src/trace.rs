//! Recordings: what a source gave, what the node knew, and the clock, as they passed.
//!
//! A recording holds the steps that the live tracer took (batches of records, notices, ticks of
//! its clock, changes of the node's snapshot) in their order, so that the same code takes the same
//! decisions again, on another machine and without privilege. The bytes are described in
//! docs/recording.md; [`chunk`] is the outer shape, [`events`] the inner one.
//!
//! A recording is read as hostile input: every length is bounded, a damaged chunk costs itself
//! only, and what is missing is said.

mod chunk;
mod column;
mod events;
mod index;
mod nodes;
mod reader;
pub mod recorder;
mod standing;
mod steps;
#[cfg(test)]
mod tests;
mod timeline;
mod writer;

use std::{io::Read, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

pub use chunk::{ChunkKind, VERSION};
pub use column::ColumnError;
pub use index::IndexEntry;
pub use nodes::{Nodes, NodesError};
pub use reader::{OpenError, ReadError, Reader};
pub(crate) use standing::Standing;
pub use steps::{Step, Steps};
pub use timeline::{Timeline, TimelineError};
pub use writer::{Storage, Writer};

use crate::{
    event::Record,
    node::{reasons::DropReasons, snapshot::Snapshot},
    source::{Notice, TracedCommand},
};

/// Whether a file is there that begins as a recording.
#[must_use]
pub fn is_recording(path: &Path) -> bool {
    let mut begin = [0; chunk::SIGNATURE.len()];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == chunk::SIGNATURE
}

/// What a recording is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The same in all parts of one recording, and in no other: 32 hexadecimal digits.
    pub recording: String,
    /// Which part of a rotation, from 0.
    pub part: u32,
    /// The tracer's version.
    pub tracer: String,
    /// The node's host name.
    pub host: String,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// The kernel's boot id: times of one boot can be compared.
    pub boot: String,
    /// What the records' clock read when the recording began.
    pub clock: ClockRelation,
    /// The filter's text; empty for none.
    pub filter: String,
    /// Whether it was shown at its end, flow by flow, as `tracer run` does.
    pub at_the_end: bool,
    /// The command of `tracer run`, whose flows it is about. Since 1.2.
    pub command: Option<TracedCommand>,
    /// What drop reasons mean on that kernel.
    pub reasons: DropReasons,
    /// The attach plan, as `tracer doctor --json` has it.
    pub plan: serde_json::Value,
}

/// Two clocks read at once, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRelation {
    /// `CLOCK_MONOTONIC`, which the records have.
    pub monotonic: u64,
    /// `CLOCK_REALTIME`: since 1970.
    pub realtime: u64,
}

impl ClockRelation {
    /// A record's time as nanoseconds since 1970.
    #[must_use]
    pub fn to_realtime(self, time: u64) -> u64 {
        self.realtime
            .saturating_add(time)
            .saturating_sub(self.monotonic)
    }

    /// Nanoseconds since 1970 as a record's time.
    #[must_use]
    pub fn from_realtime(self, time: u64) -> u64 {
        self.monotonic
            .saturating_add(time)
            .saturating_sub(self.realtime)
    }
}

/// One step of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// From here on, this is what the node knows.
    Node(Arc<Snapshot>),
    /// Records came.
    Records(Vec<Record>),
    /// A notice came.
    Notice(Notice),
    /// Everything up to this time (nanoseconds of `CLOCK_MONOTONIC`) was looked at.
    Clock(u64),
    /// What function drops packets at a kernel address.
    Location {
        /// The address.
        address: u64,
        /// The function, as `nf_hook_slow+0xa6`.
        function: String,
    },
    /// Something of the recording cannot be read.
    Damage(Damage),
}

/// What of a recording cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there, for people.
    pub what: String,
    /// How many records are missing, where that is known.
    pub records: Option<u32>,
    /// The times that are missing, where they are known.
    pub times: Option<(u64, u64)>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "damaged at byte {}: {}", self.offset, self.what)?;
        match self.records {
            Some(records) => write!(f, "; {records} records are missing"),
            None => Ok(()),
        }
    }
}
