//! What this process may do, and giving up what it does not need any more.
//!
//! Attaching takes many privileges, tracing few. So, once everything is attached, each thread keeps
//! the capabilities of its [`Role`] and gives up the others for good, in all sets, with
//! `no_new_privs`. The kernel keeps these sets for each thread, and a thread begins with those of
//! the thread that makes it, so the long-lived ones are made by [`spawn`].
//!
//! Not before the traced command was started: it inherits the sets of the thread that forks it, and
//! is to have its caller's.
//!
//! Limits: threads share their memory, so this confines mistakes, not an attacker who runs code of
//! his own: he can make the thread that keeps the most work for him. Without `CAP_SETPCAP`, as with
//! file capabilities, the bounding set stays as it is; it only matters to programs that are
//! executed, which `no_new_privs` holds to what the thread has.

mod capability;
mod role;

use std::{
    io,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use rustix::{
    process::geteuid,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};

pub use self::{
    capability::{Capabilities, Capability, named},
    role::Role,
};

/// Gives up every privilege of the calling thread but these capabilities, as far as it has them.
///
/// Makes system calls only, so that it can be called after a fork.
///
/// # Errors
/// When the kernel, or a filter of system calls, refuses it.
pub fn keep_only(kept: &[Capability]) -> rustix::io::Result<()> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    let kept = set_of(kept, held.permitted);
    // While there may still be CAP_SETPCAP.
    shrink_bounding_set(kept)?;
    let sets = CapabilitySets {
        effective: held.effective & kept,
        permitted: held.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}

/// As bits. `CAP_SYS_ADMIN` stands for those that were split off it, where they are not there.
fn set_of(kept: &[Capability], permitted: CapabilitySet) -> CapabilitySet {
    let bit = |capability: &Capability| {
        let own = CapabilitySet::from_bits_retain(1 << capability.number());
        if capability.is_part_of_sys_admin() && !permitted.contains(own) {
            CapabilitySet::SYS_ADMIN
        } else {
            own
        }
    };
    kept.iter()
        .map(bit)
        .fold(CapabilitySet::empty(), |all, one| all | one)
}

fn shrink_bounding_set(kept: CapabilitySet) -> rustix::io::Result<()> {
    use rustix::io::Errno;

    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !kept.contains(capability) => {}
            Ok(_) => continue,
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
        match remove_capability_from_bounding_set(capability) {
            // Without CAP_SETPCAP.
            Err(Errno::PERM) => break,
            other => other?,
        }
    }
    Ok(())
}

/// The capabilities that open other users' files.
const FILE_ACCESS: CapabilitySet =
    CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH);

/// Lowers the calling thread's access to files to that of the user who called this program: what
/// its file may have given it (`setcap`) is not the user's, who names files to be read, written and
/// executed. Root's access stays. Threads made afterwards have as little, see [`with_file_access`].
///
/// # Errors
/// As [`keep_only`].
pub fn lower_file_access() -> rustix::io::Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let mut sets = capabilities(None)?;
    // Ambient capabilities, which are the caller's to hand on, are inheritable too.
    sets.effective &= !FILE_ACCESS | sets.inheritable;
    set_capabilities(None, sets)
}

/// Takes back what [`lower_file_access`] took, as far as it was not given up since.
///
/// Makes system calls only, so that it can be called after a fork.
///
/// # Errors
/// As [`keep_only`].
pub fn raise_file_access() -> rustix::io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective |= sets.permitted & FILE_ACCESS;
    set_capabilities(None, sets)
}

/// Runs `work`, in which the user has no say, with the access to files that this program has.
///
/// # Errors
/// As [`keep_only`]; `work` was not run then.
pub fn with_file_access<T>(work: impl FnOnce() -> T) -> rustix::io::Result<T> {
    let before = capabilities(None)?;
    raise_file_access()?;
    let result = work();
    // It takes away what was not there a moment ago.
    set_capabilities(None, before)?;
    Ok(result)
}

/// Hands capabilities on to the programs that the calling thread executes. Root's get them anyway.
fn hand_on(handed: &[Capability]) -> rustix::io::Result<()> {
    if geteuid().is_root() || handed.is_empty() {
        return Ok(());
    }
    let mut sets = capabilities(None)?;
    sets.inheritable = sets.permitted & set_of(handed, sets.permitted);
    set_capabilities(None, sets)?;
    for capability in sets.inheritable.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Starts a thread that has what its role needs and nothing else; it is so when this returns.
///
/// # Errors
/// When no thread can be started, or it cannot give up the rest.
pub fn spawn(
    name: &str,
    role: Role,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (sender, given_up) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(name.to_owned());
    let thread = thread.spawn(move || {
        let kept = keep_only(role.needs()).and_then(|()| raise_file_access());
        let kept = kept.and_then(|()| hand_on(role.hands_on()));
        let sound = kept.is_ok();
        // The receiver waits for it.
        let _ = sender.send(kept);
        if sound {
            work();
        }
    })?;
    match given_up.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(errno)) => Err(io::Error::other(format!(
            "the thread {name} cannot give up its privileges: {errno}; capset(2) and prctl(2) \
             must be allowed"
        ))),
        Err(_) => Err(io::Error::other(format!("the thread {name} panicked"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::node::testing::{as_nobody, root};

    /// A line of the calling thread's status.
    fn status(key: &str) -> String {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().trim().to_owned()
    }

    fn bits(key: &str) -> u64 {
        u64::from_str_radix(&status(key), 16).unwrap()
    }

    const SETS: [&str; 5] = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];

    #[test]
    fn a_thread_keeps_what_it_needs_and_the_others_keep_all() {
        let before = SETS.map(bits);
        let (sender, found) = mpsc::channel();
        let work = move || {
            let inside = (SETS.map(bits), status("NoNewPrivs:"));
            // What a thread makes begins with what that thread has.
            let below = thread::spawn(|| SETS.map(bits)).join().unwrap();
            sender.send((inside, below)).unwrap();
        };
        spawn("test", Role::Node, work).unwrap().join().unwrap();
        let ((sets, no_new_privs), below) = found.recv().unwrap();
        let needed = set_of(Role::Node.needs(), CapabilitySet::all()).bits();
        let can_shrink = before[2] & CapabilitySet::SETPCAP.bits() != 0;
        let bounding = if can_shrink {
            before[3] & needed
        } else {
            before[3]
        };
        let expected = [0, before[1] & needed, before[2] & needed, bounding, 0];
        assert_eq!(sets, expected);
        assert_eq!(below, expected);
        assert_eq!(no_new_privs, "1");
        assert_eq!(SETS.map(bits), before);
        assert_eq!(status("NoNewPrivs:"), "0");
    }

    #[test]
    fn an_ordinary_user_has_no_say_in_files_of_others() {
        if !root() {
            return;
        }
        let readable = |path: &str| fs::File::open(path).is_ok();
        let secret = tempfile::NamedTempFile::new().unwrap();
        let path = secret.path().to_str().unwrap().to_owned();
        assert!(lower_file_access().is_ok() && readable(&path), "root's own");
        as_nobody(|| {
            let all = capabilities(None).unwrap();
            assert!(readable(&path), "by what the program has");
            lower_file_access().unwrap();
            assert!(!readable(&path));
            let lowered = capabilities(None).unwrap();
            assert_eq!(lowered.permitted, all.permitted);
            assert_eq!(all.effective - lowered.effective, FILE_ACCESS);
            assert!(with_file_access(|| readable(&path)).unwrap());
            assert!(!readable(&path));
            // What the caller hands on stays.
            let mut sets = lowered;
            sets.effective = sets.permitted;
            sets.inheritable = FILE_ACCESS;
            set_capabilities(None, sets).unwrap();
            lower_file_access().unwrap();
            assert!(readable(&path));
            // A thread of the program's own is not the user's.
            sets.inheritable = CapabilitySet::empty();
            set_capabilities(None, sets).unwrap();
            lower_file_access().unwrap();
            let (sender, found) = mpsc::channel();
            let work = move || sender.send(readable(&path)).unwrap();
            spawn("test", Role::Node, work).unwrap().join().unwrap();
            assert!(found.recv().unwrap());
        });
    }

    #[test]
    fn sys_admin_stands_for_what_was_split_off_it() {
        let needs = [Capability::Bpf, Capability::Kill];
        let with = |permitted| set_of(&needs, permitted);
        let kill = CapabilitySet::KILL;
        assert_eq!(with(CapabilitySet::all()), CapabilitySet::BPF | kill);
        assert_eq!(
            with(CapabilitySet::SYS_ADMIN),
            CapabilitySet::SYS_ADMIN | kill
        );
    }
}
