//! The cgroup that the command runs in, so that the kernel side can tell its packets from others.
//!
//! It is made inside the tracer's own cgroup: so the limits, the cgroup BPF programs and the
//! firewall rules on cgroup paths that hold for a command typed at the same place hold for the
//! traced one too, and whoever removes the session's or container's cgroup removes this one with
//! it. Where that cannot be (not visible, threaded, not writable), at the top of the mount.
//!
//! No controller is enabled in it, so it costs nothing, and the rule against processes in inner
//! cgroups does not matter.
//!
//! Its owner keeps it locked (`flock`). A cgroup by our name that nobody has locked is one that an
//! owner who was killed together with its guardian has left: it is removed when the next is made
//! beside it.

use std::{
    ffi::{CStr, CString},
    hash::{BuildHasher, Hasher, RandomState},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{Dir, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat},
    io::{Errno, fcntl_dupfd_cloexec, read},
};

use super::{
    error::Error,
    guardian::Guardian,
    vacate::{PROCS, Removal},
};
use crate::{
    node::hierarchy::{self, Directory, Hierarchy},
    privilege,
};

/// How the names of our cgroups begin.
const PREFIX: &str = "tracer-run-";
/// Of [`Removal::carry_out`], for the own cgroup: up to a second.
const ATTEMPTS: u32 = 20;
/// The same, for one that was left over: some milliseconds.
const ATTEMPTS_LEFTOVER: u32 = 3;
/// How often another tracer may take the fresh cgroup for left over, and remove it.
const RETRIES: usize = 8;

/// The command's cgroup, locked. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Leaf {
    place: Place,
    id: u64,
    procs: OwnedFd,
    /// Held for its lock.
    _directory: OwnedFd,
}

impl Leaf {
    /// Makes one where that is possible.
    pub(super) fn create() -> Result<Self, Error> {
        let Hierarchy { own, roots } = hierarchy::find().ok_or(Error::NoHierarchy)?;
        let mut first = None;
        for parent in own.iter().chain(&roots) {
            match Self::below(parent, own.as_ref()) {
                Ok(leaf) => return Ok(leaf),
                Err(error) => _ = first.get_or_insert(error),
            }
        }
        Err(first.unwrap_or(Error::NoHierarchy))
    }

    fn below(parent: &Directory, own: Option<&Directory>) -> Result<Self, Error> {
        // Back to where the tracer came from, or, where that is not visible, just out.
        let refuge = own
            .and_then(|own| open_refuge(own).ok())
            .map_or_else(|| open_refuge(parent), Ok)
            .map_err(|errno| failed("move processes into", parent.path.clone(), errno))?;
        remove_leftovers(parent, refuge.as_fd());
        let mut tries = 0..RETRIES;
        loop {
            match Self::make(parent, refuge.as_fd()) {
                Err(Error::Cgroup {
                    errno: Errno::NOENT | Errno::NODEV,
                    ..
                }) if tries.next().is_some() => {}
                result => return result,
            }
        }
    }

    fn make(parent: &Directory, refuge: BorrowedFd<'_>) -> Result<Self, Error> {
        let place = Place::make(parent, refuge)?;
        let fail = |action| {
            let path = place.path.clone();
            move |errno| failed(action, path, errno)
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(&place.parent, &place.name, flags, Mode::empty()).map_err(fail("open"))?;
        flock(&directory, FlockOperation::LockExclusive).map_err(fail("lock"))?;
        if kind(&directory).map_err(fail("look at"))? != Kind::Domain {
            return Err(fail("use")(Errno::OPNOTSUPP));
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let procs =
            openat(&directory, PROCS, flags, Mode::empty()).map_err(fail("move processes into"))?;
        let id = fstat(&directory).map_err(fail("look at"))?.st_ino;
        Ok(Self {
            place,
            id,
            procs,
            _directory: directory,
        })
    }

    /// What the kernel calls its id: `cgroup->kn->id`, the inode number of the directory.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// What a process writes `0` to in order to move there.
    pub(super) fn entrance(&self) -> Result<OwnedFd, Error> {
        duplicate(self.procs.as_fd())
            .map_err(|errno| failed("open", self.place.path.clone(), errno))
    }

    /// Moves its processes to where the tracer came from and removes it; how many were moved.
    /// Should it fail, the guardian goes on trying.
    pub(super) fn remove(mut self) -> Result<usize, Error> {
        self.place.remove()
    }

    /// The directory, for tests.
    #[cfg(test)]
    pub(super) fn path(&self) -> &std::path::Path {
        &self.place.path
    }

    /// The guardian's process, for tests.
    #[cfg(test)]
    pub(super) fn guardian(&self) -> Option<rustix::process::Pid> {
        self.place.guardian.as_ref().map(Guardian::pid)
    }
}

/// A directory that is ours, with what is needed to remove it.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    parent: OwnedFd,
    name: CString,
    refuge: OwnedFd,
    /// While it stands.
    guardian: Option<Guardian>,
}

impl Place {
    fn make(parent: &Directory, refuge: BorrowedFd<'_>) -> Result<Self, Error> {
        let name = unique_name();
        let path = parent.path.join(&name);
        let name = CString::new(name).map_err(|_| Error::NoHierarchy)?;
        let fail = |action| {
            let path = path.clone();
            move |errno| failed(action, path, errno)
        };
        let removal = Removal {
            parent: parent.file.as_fd(),
            name: &name,
            refuge,
        };
        // First the guardian, then what it guards.
        let guardian = Guardian::start(removal).map_err(Error::Guardian)?;
        let place = Self {
            parent: duplicate(parent.file.as_fd()).map_err(fail("open"))?,
            refuge: duplicate(refuge).map_err(fail("open"))?,
            guardian: Some(guardian),
            path: path.clone(),
            name,
        };
        mkdirat(&place.parent, &place.name, Mode::from_raw_mode(0o755)).map_err(fail("create"))?;
        Ok(place)
    }

    fn remove(&mut self) -> Result<usize, Error> {
        let Some(guardian) = self.guardian.take() else {
            return Ok(0);
        };
        let removal = Removal {
            parent: self.parent.as_fd(),
            name: &self.name,
            refuge: self.refuge.as_fd(),
        };
        let moved = privilege::with_file_access(|| removal.carry_out(ATTEMPTS))
            .flatten()
            .map_err(|errno| Error::Remains {
                path: self.path.clone(),
                errno,
            })?;
        guardian.dismiss();
        Ok(moved)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What fails here, the guardian tries again.
        let _ = self.remove();
    }
}

fn failed(action: &'static str, path: PathBuf, errno: Errno) -> Error {
    Error::Cgroup {
        action,
        path,
        errno,
    }
}

fn duplicate(file: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    fcntl_dupfd_cloexec(file, 3)
}

/// Opens a cgroup for processes to be moved there.
fn open_refuge(cgroup: &Directory) -> rustix::io::Result<OwnedFd> {
    // The top has no type, and takes all.
    match kind(&cgroup.file) {
        Ok(Kind::Threaded) => return Err(Errno::OPNOTSUPP),
        Ok(Kind::Domain | Kind::Other) | Err(_) => {}
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    openat(&cgroup.file, PROCS, flags, Mode::empty())
}

/// What a cgroup takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Processes.
    Domain,
    /// Threads of processes of the domain that it is part of.
    Threaded,
    /// Nothing (`domain invalid`), or processes without limits between them (`domain threaded`).
    Other,
}

fn kind(cgroup: &OwnedFd) -> rustix::io::Result<Kind> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(cgroup, c"cgroup.type", flags, Mode::empty())?;
    let mut kind = [0; 32];
    let length = read(&file, &mut kind)?;
    Ok(match kind.get(..length) {
        Some(b"domain\n") => Kind::Domain,
        Some(b"threaded\n") => Kind::Threaded,
        _ => Kind::Other,
    })
}

/// A name that nothing has or had: the guardian of one cgroup must never remove another.
fn unique_name() -> String {
    // Keyed by the system's randomness anew for each.
    let random = RandomState::new().build_hasher().finish();
    format!("{PREFIX}{}-{random:016x}", std::process::id())
}

/// Removes what tracers have left beside `parent`'s other children. What fails stays.
fn remove_leftovers(parent: &Directory, refuge: BorrowedFd<'_>) {
    let Ok(entries) = Dir::read_from(&parent.file) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_bytes().starts_with(PREFIX.as_bytes()) {
            remove_if_left(parent, name, refuge);
        }
    }
}

fn remove_if_left(parent: &Directory, name: &CStr, refuge: BorrowedFd<'_>) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(directory) = openat(&parent.file, name, flags, Mode::empty()) else {
        return;
    };
    if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
        let removal = Removal {
            parent: parent.file.as_fd(),
            name,
            refuge,
        };
        let _ = removal.carry_out(ATTEMPTS_LEFTOVER);
    }
}
