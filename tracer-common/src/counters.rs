//! The per-CPU counters, one row per hook.

/// What one hook did on one CPU since the programs were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HookCounters {
    /// Packets the hook looked at (IP packets; others are not counted).
    pub seen: u64,
    /// Packets that the filter or a followed flow matched.
    pub matched: u64,
    /// Events the ring buffer took; `matched - emitted` were lost.
    pub emitted: u64,
}

const _: () = assert!(size_of::<HookCounters>() == 24);
