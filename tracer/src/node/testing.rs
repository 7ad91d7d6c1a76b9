//! Real network namespaces for tests.

use std::{process::Command, thread};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Whether tests that need root can run; says so when they cannot.
pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root for network namespaces");
    }
    root
}

/// Runs `work` in a thread with a network namespace of its own, which ends with the thread.
pub(crate) fn in_new_netns<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = || {
            // SAFETY: only the network namespace is unshared; descriptors stay shared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            work()
        };
        scope.spawn(inside).join().unwrap()
    })
}

/// Runs a command line in the calling thread's network namespace; false when it fails or is absent.
pub(crate) fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("{line}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(error) => {
            println!("{line}: {error}");
            false
        }
    }
}
