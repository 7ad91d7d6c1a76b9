//! Resource limits of this process, raised only where the kernel makes it necessary.
//!
//! Children inherit them, so what is not needed is left alone.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Before this version, the memory of maps and programs counted as locked memory.
const MEMORY_ACCOUNTED: (u32, u32) = (5, 11);

/// Lifts the limit on locked memory where it limits BPF. Loading says so if that was not enough.
pub(super) fn lift_locked_memory(version: Option<(u32, u32)>) {
    if version.is_some_and(|version| version < MEMORY_ACCOUNTED) {
        let none = Rlimit {
            current: None,
            maximum: None,
        };
        // Refused without CAP_SYS_RESOURCE.
        let _ = setrlimit(Resource::Memlock, none);
    }
}

/// Allows as many descriptors as this process may have; false when it was so already. Links are
/// descriptors, twenty for each namespace with rules.
pub(super) fn raise_descriptors() -> bool {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok()
}
