//! The memory of this process and of the programs that it runs, at each moment.
//!
//! Looked at some thousand times a second by a thread of its own. Of a program counts the most that it had so
//! far, which the kernel keeps, so that of it nothing is missed as long as it is there.

use std::{
    fs, io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const BETWEEN: Duration = Duration::from_millis(1);

/// Does the work; the most that was resident at once meanwhile, in KiB.
pub(crate) fn watch<T>(work: impl FnOnce() -> T) -> io::Result<(T, u64)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            loop {
                let last = over.load(Ordering::Relaxed);
                most = most.max(sum()?);
                if last {
                    return Ok(most);
                }
                thread::sleep(BETWEEN);
            }
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let most = watching
            .join()
            .map_err(|_| io::Error::other("the thread that watches ended in a panic"))?;
        most.map(|most| (done, most))
    })
}

/// What is resident of this process now, and of its children so far.
fn sum() -> io::Result<u64> {
    let own = number(&fs::read_to_string("/proc/self/status")?, "VmRSS").unwrap_or_default();
    let this = u64::from(std::process::id());
    let mut children = 0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path.file_name().is_some_and(|name| {
            let name = name.as_encoded_bytes();
            name.iter().all(u8::is_ascii_digit)
        });
        if !is_process {
            continue;
        }
        // It may be gone.
        let Ok(status) = fs::read_to_string(path.join("status")) else {
            continue;
        };
        if number(&status, "PPid") == Some(this) {
            children += number(&status, "VmHWM").unwrap_or_default();
        }
    }
    Ok(own + children)
}

/// The number in a line of `/proc/PID/status`.
pub(crate) fn number(status: &str, line: &str) -> Option<u64> {
    let mut lines = status.lines();
    let value = lines.find_map(|it| it.strip_prefix(line)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}
