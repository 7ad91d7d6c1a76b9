//! Network namespaces: what they are called, and running code inside one.
//!
//! A namespace is known by its inode number, as the kernel's events carry it
//! (`net->ns.inum`). Everything here opens a namespace only for as long as the call lasts: an open
//! descriptor, a socket in it or a thread inside keeps a deleted pod's namespace alive.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::{
    fs::{AtFlags, CWD, Stat, fstat, statat},
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Why a namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is no such file, or it may not be opened.
    #[error("cannot open network namespace {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused `setns`.
    #[error(
        "cannot enter the network namespace: {0}; this needs CAP_SYS_ADMIN, and the file must be \
         a network namespace's"
    )]
    Enter(io::Error),
    /// The kernel did not answer inside.
    #[error("the kernel does not list the network namespace's devices: {0}")]
    Ask(#[from] io::Error),
    /// No thread could be started, or the code in it failed.
    #[error("cannot run a thread in the network namespace: {0}")]
    Thread(io::Error),
}

/// Runs `work` in a thread of its own inside the network namespace `netns`.
///
/// The caller's thread never changes namespace. Sockets that `work` opens stay in `netns` when they
/// are returned, and keep it alive.
///
/// # Errors
/// When the namespace cannot be entered or `work` panics.
pub fn in_netns<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    let inside = move || {
        enter(netns)?;
        Ok(work())
    };
    in_thread("netns", inside).map_err(NetnsError::Thread)?
}

/// Runs `work` in a thread of its own, called that, which may [`enter`] namespaces one after the other: it ends with
/// the work, and keeps the last one alive no longer.
///
/// # Errors
/// When no thread can be had, or `work` panics.
pub(crate) fn in_thread<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, work)?
            .join()
            .map_err(|_| io::Error::other("it panicked"))
    })
}

/// As [`in_netns`], for a namespace's file such as `/run/netns/NAME` or `/proc/PID/ns/net`.
///
/// # Errors
/// As [`in_netns`], and when the file cannot be opened.
pub fn in_netns_at<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let netns = File::open(path).map_err(|source| NetnsError::Open {
        path: path.to_owned(),
        source,
    })?;
    in_netns(netns.as_fd(), work)
}

/// Moves the calling thread, for good. Only for threads that end soon ([`in_thread`]).
pub(crate) fn enter(netns: BorrowedFd<'_>) -> Result<(), NetnsError> {
    let entered = move_into_link_name_space(netns, Some(LinkNameSpaceType::Network));
    entered.or_else(|errno| match errno {
        // Without the privilege a thread is still where it is.
        Errno::PERM if is_current(netns) => Ok(()),
        _ => Err(NetnsError::Enter(errno.into())),
    })
}

fn is_current(netns: BorrowedFd<'_>) -> bool {
    let current = statat(CWD, "/proc/thread-self/ns/net", AtFlags::empty());
    let same = |a: Stat, b: Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
    current.and_then(|current| Ok(same(current, fstat(netns)?))) == Ok(true)
}

/// The inode number of the namespace that a file is.
///
/// # Errors
/// When the file is gone or may not be looked at.
pub fn inode_of(file: &File) -> io::Result<u32> {
    let inode = file.metadata()?.ino();
    u32::try_from(inode).map_err(|_| io::Error::other("not a namespace's inode number"))
}

/// The inode number in the target of a `/proc/PID/ns/net` link, `net:[4026531840]`.
#[must_use]
pub fn inode_in_link(target: &str) -> Option<u32> {
    target
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// The network namespace of the calling thread.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn current() -> io::Result<u32> {
    inode_of(&File::open("/proc/thread-self/ns/net")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_carry_the_inode_number() {
        assert_eq!(inode_in_link("net:[4026531840]"), Some(4_026_531_840));
        for wrong in [
            "mnt:[4026531840]",
            "net:[]",
            "net:[99999999999]",
            "net:[1",
            "",
        ] {
            assert_eq!(inode_in_link(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_own_namespace_is_entered_without_a_privilege() {
        let own = File::open("/proc/self/ns/net").unwrap();
        let inside = thread::spawn(move || {
            use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::SYS_ADMIN);
            set_capabilities(None, sets).unwrap();
            in_netns(own.as_fd(), || current().unwrap()).unwrap()
        });
        assert_eq!(inside.join().unwrap(), current().unwrap());
    }

    #[test]
    fn a_path_that_is_no_namespace_is_refused() {
        let error = in_netns_at(Path::new("/nonexistent"), || ()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
        let file = File::open("/proc/self/stat").unwrap();
        let error = in_netns(file.as_fd(), || ()).unwrap_err();
        assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
    }
}
