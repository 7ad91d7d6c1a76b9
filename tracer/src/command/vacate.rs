//! Removing a cgroup whose processes are to live on: they are moved to another one first.
//!
//! Only system calls, no allocation and no panic, because the guardian does this in a process that
//! was forked from one with threads. Done again, it changes nothing, so the tracer and the guardian
//! can both do it, even at the same time.
//!
//! cgroups that the command made inside go as well, and their processes move likewise. Limits: a
//! few levels of them; of a threaded cgroup the processes cannot be listed, so it stays.

use std::{
    ffi::CStr,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, unlinkat},
    io::{Errno, Result, read, write},
    thread::{Timespec, nanosleep},
};

/// The file that lists a cgroup's processes, and through which they are moved there.
pub(super) const PROCS: &CStr = c"cgroup.procs";
/// Levels of cgroups inside that are emptied too.
const DEPTH: u8 = 8;
/// How often the list of processes is read anew: they can fork while they are moved.
const PASSES: usize = 1000;
/// The pause before the second attempt; it doubles from one to the next up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: i64 = 1_000_000;
/// In nanoseconds, as above.
const LONGEST_PAUSE: i64 = 64_000_000;

/// A cgroup to be removed, and where its processes go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal<'a> {
    /// The directory above.
    pub(super) parent: BorrowedFd<'a>,
    /// Its name in there.
    pub(super) name: &'a CStr,
    /// The `cgroup.procs` of the cgroup for the processes, open for writing.
    pub(super) refuge: BorrowedFd<'a>,
}

impl Removal<'_> {
    /// Moves the processes and removes the cgroup; how many were moved. A cgroup that is not there
    /// is removed.
    ///
    /// A process that is just ending holds its cgroup until it has ended, so this tries `attempts`
    /// times: 20 take at most a second, 500 half a minute.
    pub(super) fn carry_out(self, attempts: u32) -> Result<usize> {
        let mut moved = 0;
        let mut pause = FIRST_PAUSE;
        let mut last = Errno::BUSY;
        for attempt in 0..attempts {
            if attempt > 0 {
                // Cut short by a signal it is only tried sooner.
                let _ = nanosleep(&Timespec {
                    tv_sec: 0,
                    tv_nsec: pause,
                });
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            match self.attempt(DEPTH, &mut moved) {
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => return Ok(moved),
                Err(errno) => last = errno,
            }
        }
        Err(last)
    }

    fn attempt(self, depth: u8, moved: &mut usize) -> Result<()> {
        let remove = || unlinkat(self.parent, self.name, AtFlags::REMOVEDIR);
        match remove() {
            Err(Errno::BUSY) => {}
            other => return other,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(self.parent, self.name, flags, Mode::empty())?;
        let mut result = self.move_processes(&directory, moved);
        if depth > 0 {
            result = result.and(self.remove_children(&directory, depth - 1, moved));
        }
        // Why the processes stay says more than that the directory is busy.
        remove().map_err(|errno| result.err().unwrap_or(errno))
    }

    fn move_processes(self, directory: &OwnedFd, moved: &mut usize) -> Result<()> {
        for _ in 0..PASSES {
            let procs = openat(
                directory,
                PROCS,
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let mut list = [0; 4096];
            let length = read(&procs, &mut list)?;
            let list = list.get(..length).unwrap_or_default();
            let before = *moved;
            let mut result = Ok(());
            // A last line that is cut off comes whole in the next pass.
            for line in list.split_inclusive(|&byte| byte == b'\n') {
                // 0 stands for a process that this pid namespace does not show, and written it
                // would mean the writer.
                if line == b"0\n" || !line.ends_with(b"\n") {
                    continue;
                }
                match write(self.refuge, line) {
                    Ok(_) => *moved += 1,
                    Err(Errno::SRCH) => {}
                    Err(errno) => result = Err(errno),
                }
            }
            if *moved == before {
                return result;
            }
        }
        Err(Errno::BUSY)
    }

    fn remove_children(self, directory: &OwnedFd, depth: u8, moved: &mut usize) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(directory, &mut buffer);
        let mut result = Ok(());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type() != FileType::Directory || name == c"." || name == c".." {
                continue;
            }
            let child = Removal {
                parent: directory.as_fd(),
                name,
                refuge: self.refuge,
            };
            result = result.and(child.attempt(depth, moved));
        }
        result
    }
}
