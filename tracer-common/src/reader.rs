//! What the agent waits for between two looks at the ring: a word that it writes before it does.
//!
//! A wake-up interrupts the processor that the packets are on, and another one if the agent is there: in a
//! virtual machine many times what a record takes. So there is none while the agent looks by its clock and the
//! ring has room. Whoever wakes it writes [`AWAKE`], so that one wake-up is enough.

/// For nothing: it reads, or is about to, having been woken.
pub const AWAKE: u32 = 0;
/// For its clock. It is woken when a part of the ring is filled before that.
pub const BY_CLOCK: u32 = 1;
/// For the next record.
pub const BY_RECORD: u32 = 2;

/// By what the ring's bytes are divided for the part that, filled, wakes the agent.
pub const PART: u64 = 4;
