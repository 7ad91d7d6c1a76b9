//! `--memory`: one bound of the tracer's own memory, from which all others are derived.
//!
//! What traffic makes it keep is bounded by bytes: flows, packets under way, packets for the end of `run`,
//! packets' first bytes, what the live view shows and what it can save, the ring. The rest does not
//! depend on traffic ([`FIXED`]). What had to be let go is counted and said where it is shown.
//!
//! Limits: what the node knows of itself (rules, pods) is not traffic, and is bounded by itself; where
//! there are tens of thousands of rules, it is some tens of megabytes more
//! (docs/performance.md). Maps of the kernel side are the kernel's memory, not the tracer's. A ring whose size
//! is asked for (`--ring-size`) comes on top, as far as it is larger than what goes with the memory.

use crate::{
    journey::Limits,
    pipeline::{Held, When},
    tui::model::Bounds,
};

/// The program, what it knows of kernel and node, buffers, and what allocators keep in reserve.
const FIXED: u64 = 40 << 20;
/// The ring is not made larger than that, unless it is asked for.
const LARGEST_RING: u64 = 64 << 20;

/// How much memory the tracer may take.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct MemoryArgs {
    /// How much memory the tracer may take, in bytes or with K, M or G, at least 64M; what it keeps of
    /// packets and flows, and the ring, are bounded by it
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = memory)]
    memory: u64,
}

/// Gives back to the system what is free again since the start, which takes tens of megabytes (the kernel's
/// types and symbols): glibc keeps it else, in arenas that what is kept of traffic is not made in.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A number of bytes, with K, M or G: 1024 and its powers.
pub(super) fn quantity(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err("give a number, with K, M or G if you like".to_owned());
    }
    // The only error left is a number too large for the type.
    let number: u64 = number.parse().unwrap_or(u64::MAX);
    Ok(number.saturating_mul(unit))
}

fn memory(text: &str) -> Result<u64, String> {
    /// With the ring that is made for it.
    const SMALLEST: u64 = 64 << 20;
    let bytes = quantity(text)?;
    if bytes < SMALLEST {
        return Err("less than 64M is too little to work with".to_owned());
    }
    Ok(bytes)
}

impl MemoryArgs {
    /// The ring's bytes, where it is not said how many: an eighth of the memory is too much for 64M and a
    /// sixteenth enough for 128M.
    pub(super) fn ring(self) -> u32 {
        let ring = (self.memory / 16).clamp(1 << 20, LARGEST_RING);
        // It is in range now.
        1 << u64::ilog2(ring)
    }

    /// What is left for what traffic makes the tracer keep. Beside the ring that goes with the memory, also for a
    /// recording, which has none, and with a ring of another size: so a replay has the same room as
    /// what it replays, and shows the same.
    pub(super) fn room(self) -> Room {
        let left = self.memory.saturating_sub(FIXED + u64::from(self.ring()));
        Room(usize::try_from(left).unwrap_or(usize::MAX / 2))
    }
}

/// Memory for what traffic makes the tracer keep, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room(usize);

impl Room {
    /// What `--memory` of so many bytes leaves.
    #[must_use]
    pub fn within(memory: u64) -> Self {
        MemoryArgs { memory }.room()
    }

    /// How many bytes it is in all.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0
    }

    fn sixteenths(self, parts: usize) -> usize {
        self.0 / 16 * parts
    }

    /// For what says what is wrong with flows, and names that were looked up.
    fn held(self, evidence: usize) -> Held {
        Held {
            packets: 0,
            flows: 0,
            evidence: self.sixteenths(evidence),
            lookups: self.sixteenths(1),
        }
    }

    /// For a stream of text, or a recording: flows and packets under way; a part remains for a batch that
    /// is read, for what is told about its packets, and for what a file is written from.
    #[must_use]
    pub fn stream(self) -> (Limits, Held) {
        (Limits::within(self.sixteenths(9)), self.held(3))
    }

    /// For what is shown at the end: flows and packets under way, and those held.
    #[must_use]
    pub fn at_the_end(self) -> (Limits, Held) {
        let held = Held {
            packets: self.sixteenths(5),
            flows: self.sixteenths(3),
            ..self.held(2)
        };
        (Limits::within(self.sixteenths(4)), held)
    }

    /// For the live view: flows and packets under way.
    #[must_use]
    pub fn view(self) -> (Limits, Held) {
        (Limits::within(self.sixteenths(4)), self.held(2))
    }

    /// For a file that is made of a recording: what remains beside [`Self::sink`].
    #[must_use]
    pub fn file(self, when: When) -> (Limits, Held) {
        Self(self.sixteenths(9)).of(when)
    }

    /// For what the maker of a file keeps to put it in order, or to choose from, in bytes.
    #[must_use]
    pub fn sink(self) -> usize {
        self.sixteenths(6)
    }

    /// For what is shown like that.
    #[must_use]
    pub fn of(self, when: When) -> (Limits, Held) {
        match when {
            When::AtTheEnd => self.at_the_end(),
            When::AsTheyEnd => self.stream(),
            When::AsTheyChange => self.view(),
        }
    }

    /// For what the live view shows.
    #[must_use]
    pub fn shown(self) -> Bounds {
        Bounds::within(self.sixteenths(5))
    }

    /// For what the live view keeps for saving, in bytes.
    #[must_use]
    pub fn kept(self) -> usize {
        self.sixteenths(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_given_with_its_least() {
        assert_eq!(quantity("8G"), Ok(8 << 30));
        assert_eq!(memory("128M"), Ok(128 << 20));
        assert_eq!(memory("1G"), Ok(1 << 30));
        assert!(memory("63M").unwrap_err().contains("64M"));
        assert!(memory("much").is_err());
    }

    #[test]
    fn all_parts_together_are_no_more_than_there_is() {
        for megabytes in [64, 96, 128, 256, 1024, 16 << 10] {
            let args = MemoryArgs {
                memory: megabytes << 20,
            };
            let ring = args.ring();
            assert!(ring.is_power_of_two() && u64::from(ring) <= args.memory / 16);
            let room = args.room();
            assert!(room.0 >= 16 << 20);
            let most = room.0;
            let engine = |limits: Limits| limits.packet_room + limits.flow_room + limits.byte_room;
            let all = |(limits, held): (Limits, Held)| {
                engine(limits) + held.packets + held.flows + held.evidence + held.lookups
            };
            let rest = most / 16;
            assert!(all(room.stream()) <= most - 3 * rest);
            assert!(all(room.at_the_end()) <= most - rest);
            for when in [When::AtTheEnd, When::AsTheyEnd] {
                assert!(all(room.file(when)) + room.sink() <= most - rest);
            }
            let shown = room.shown().bytes;
            assert!(all(room.view()) + shown + room.kept() <= most - rest);
        }
    }
}
