//! Seeing less than everything, so that tracing costs no more than it may.

use std::fmt;

use serde::{Deserialize, Serialize};
use tracer_common::shed;

/// What is let go unseen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Shedding {
    /// Nothing.
    #[default]
    None,
    /// Packets but for one in 2 to the power of that, for drops, and for what begins and ends
    /// connections.
    Halved(u32),
    /// All but drops.
    Rest,
}

impl Shedding {
    /// The word for the BPF programs.
    #[must_use]
    pub fn word(self) -> u32 {
        match self {
            Self::None => shed::NONE,
            Self::Halved(halvings) => shed::one_in_two_to(halvings),
            Self::Rest => shed::REST,
        }
    }

    /// Of how many packets one is seen; 0: none.
    #[must_use]
    pub fn one_in(self) -> u32 {
        match self {
            Self::None => 1,
            Self::Halved(halvings) => 1 << halvings.min(31),
            Self::Rest => 0,
        }
    }
}

impl fmt::Display for Shedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("everything is seen"),
            Self::Halved(_) => write!(
                f,
                "1 packet in {} is seen, with what begins and ends connections, and drops",
                self.one_in()
            ),
            Self::Rest => f.write_str("only drops are seen"),
        }
    }
}
