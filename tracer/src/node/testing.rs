//! Real network namespaces for tests.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

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

/// What a program has that an ordinary user runs and whose file has capabilities, in a thread.
pub(crate) fn as_nobody(work: impl FnOnce() + Send) {
    use rustix::{
        fs::{Gid, Uid},
        thread::{
            capabilities, set_capabilities, set_keep_capabilities, set_thread_gid, set_thread_uid,
        },
    };
    let become_nobody = || {
        set_keep_capabilities(true).unwrap();
        set_thread_gid(Gid::from_raw(65534)).unwrap();
        set_thread_uid(Uid::from_raw(65534)).unwrap();
        let mut sets = capabilities(None).unwrap();
        sets.effective = sets.permitted;
        set_capabilities(None, sets).unwrap();
        work();
    };
    thread::scope(|scope| scope.spawn(become_nobody).join().unwrap());
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

/// A named network namespace, deleted at the end of the test.
pub(crate) struct Named {
    pub(crate) name: String,
}

impl Named {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("tn{}-{name}", std::process::id());
        assert!(run(&format!("ip netns add {name}")), "ip is needed");
        Self { name }
    }

    /// Runs `ip` with these words in the namespace.
    pub(crate) fn ip(&self, words: &str) {
        assert!(run(&format!("ip -n {} {words}", self.name)), "ip {words}");
    }

    /// Deletes its name, and with it the namespace unless something else holds it.
    pub(crate) fn delete(self) {}

    pub(crate) fn inode(&self) -> u32 {
        let path = format!("/run/netns/{}", self.name);
        super::netns::inode_of(&std::fs::File::open(path).unwrap()).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.name));
    }
}

/// Waits until something holds, as long as a slow machine may need.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "waited in vain: {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}
