//! The part of the time that is shown.

/// The time that is of interest, nanoseconds of the records' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From this time on.
    pub from: u64,
    /// Up to this time.
    pub to: u64,
}

impl Window {
    /// All times.
    pub const ALWAYS: Self = Self {
        from: 0,
        to: u64::MAX,
    };
    /// How long what began in it is waited for, in nanoseconds.
    const PATIENCE: u64 = 5_000_000_000;

    pub(super) fn meets(&self, first: u64, last: u64) -> bool {
        first <= self.to && last >= self.from
    }

    /// Whether nothing that comes at that time is of interest any more.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        now > self.to.saturating_add(Self::PATIENCE)
    }
}
