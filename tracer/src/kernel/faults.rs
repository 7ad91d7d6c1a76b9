//! Loads through what is no pointer.

/// What becomes of a BPF program that loads through a pointer that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// It reads zero.
    Handled,
    /// The kernel may panic: a program with functions has two entries in the tree of programs, of
    /// which one lacks the table of loads that may fault.
    Fatal,
}

impl Faults {
    /// For a kernel of that version. Mended in 6.4 (`jit_subprogs`), and in some later releases of
    /// series before, which the version does not always tell: 5.10 never was.
    #[must_use]
    pub fn of(version: Option<(u32, u32)>) -> Self {
        if version.is_some_and(|version| version >= (6, 4)) {
            Self::Handled
        } else {
            Self::Fatal
        }
    }
}
