//! What a recording says of itself.

use std::fs;

use rustix::{
    rand::{GetRandomFlags, getrandom},
    system::uname,
    time::{ClockId, Timespec, clock_gettime},
};

use crate::{
    kernel::plan::Plan,
    node::reasons::DropReasons,
    output::origin::Origin,
    pipeline::When,
    source::TracedCommand,
    trace::{About, ClockRelation},
};

/// What a recording that begins now is.
///
/// # Errors
/// When the system has no random number, which names the recording.
pub(super) fn about(
    filter: &str,
    when: When,
    command: Option<TracedCommand>,
    plan: &Plan,
    reasons: &DropReasons,
) -> anyhow::Result<About> {
    let mut id = [0_u8; 16];
    getrandom(&mut id, GetRandomFlags::empty())?;
    let system = uname();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Ok(About {
        recording: format!("{:032x}", u128::from_ne_bytes(id)),
        part: 0,
        tracer: env!("CARGO_PKG_VERSION").to_owned(),
        host: system.nodename().to_string_lossy().into_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        boot: boot.trim().to_owned(),
        clock: clocks(),
        filter: filter.to_owned(),
        at_the_end: when == When::AtTheEnd,
        command,
        reasons: reasons.clone(),
        plan: serde_json::to_value(plan)?,
    })
}

/// Where a page comes from that is written now.
pub(super) fn origin(filter: &str) -> Origin {
    let system = uname();
    Origin {
        host: system.nodename().to_string_lossy().into_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        tracer: env!("CARGO_PKG_VERSION").to_owned(),
        filter: filter.to_owned(),
        clock: clocks(),
    }
}

fn clocks() -> ClockRelation {
    ClockRelation {
        monotonic: nanoseconds(clock_gettime(ClockId::Monotonic)),
        realtime: nanoseconds(clock_gettime(ClockId::Realtime)),
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
