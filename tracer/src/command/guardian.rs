//! The process that removes the command's cgroup should the tracer not live to do it.
//!
//! The kernel takes back everything else of the tracer when it is killed (programs, links and maps
//! go with their descriptors), but a cgroup is a directory and stays. So, before the directory is
//! made, a small process is forked that waits for the end of a pipe which only the tracer holds:
//! it comes when the tracer ends, in whatever way. Then the guardian moves what still runs in the
//! cgroup back to where the tracer came from, removes the cgroup, and ends. When the tracer has
//! done that itself, there is nothing left to remove, and it ends at once.
//!
//! It is in a session of its own, so that neither Ctrl-C nor a hang-up nor a signal to the
//! tracer's process group reaches it; it blocks all signals that can be blocked; it has no
//! descriptors but three, so it holds no terminal and no pipe that someone waits on; it keeps no
//! privilege but that of writing to cgroups. It is named `trace-guardian`, which `pkill tracer` does
//! not match.
//!
//! Between fork and its end it makes system calls only: no allocation, no lock, no panic. So it can
//! be forked from a process with threads. Fork it before BPF maps are mapped into memory, for the
//! copy of the mapping would keep them until the guardian ends.
//!
//! Limits: SIGKILL to the guardian as well, before it has done its work, leaves the cgroup; the
//! next `tracer run` in the same place removes it (see [`super::cgroup`]). While a process in the
//! cgroup cannot be moved or does not finish dying, the guardian tries for half a minute.

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read, write},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, WaitOptions, chdir, pidfd_open, setsid, waitpid},
    thread::set_name,
};

use super::vacate::Removal;
use crate::{
    privilege::{self, Role},
    signals::Blocked,
};

/// What `ps` shows; no longer than the 15 bytes that the kernel keeps of a name.
const NAME: &CStr = c"trace-guardian";
/// See [`Removal::carry_out`].
const ATTEMPTS: u32 = 500;
/// How long its end may take that has nothing to do, in seconds.
const END: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// The guardian of one cgroup, seen from the tracer. Dropped, it does its work.
#[derive(Debug)]
pub(super) struct Guardian {
    pid: Pid,
    /// The end of the pipe that it watches.
    lifeline: OwnedFd,
}

impl Guardian {
    /// Starts one for a cgroup, which need not exist yet.
    pub(super) fn start(removal: Removal<'_>) -> io::Result<Self> {
        let (watched, lifeline) = pipe_with(PipeFlags::CLOEXEC)?;
        let (ready, report) = pipe_with(PipeFlags::CLOEXEC)?;
        let line = CommandLine::find();
        // It never drops them.
        let blocked = Blocked::all()?;
        // SAFETY: the child runs `guard` only, which makes nothing but system calls.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            guard(removal, line, watched.as_raw_fd(), report.as_raw_fd());
        }
        drop(blocked);
        drop(report);
        let pid = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 0);
        let guardian = Self {
            pid: pid.ok_or_else(io::Error::last_os_error)?,
            lifeline,
        };
        let mut errno = [0; 4];
        match read_all(&ready, &mut errno)? {
            0 => Ok(guardian),
            _ => {
                guardian.dismiss();
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
            }
        }
    }

    /// Ends it, when there is nothing left to do for it.
    pub(super) fn dismiss(self) {
        drop(self.lifeline);
        if let Ok(pidfd) = pidfd_open(self.pid, PidfdFlags::empty()) {
            // Only so that it leaves no zombie; if it does not end, so be it.
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&END));
        }
        let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
    }

    /// The process, for tests.
    #[cfg(test)]
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }
}

fn read_all(from: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match read(from, &mut *buffer) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// All of the guardian's life.
fn guard(removal: Removal<'_>, line: Option<CommandLine>, watched: RawFd, report: RawFd) -> ! {
    let errno = match settle(removal, line, watched) {
        Ok((removal, watched)) => {
            while matches!(read(watched, &mut [0; 1]), Ok(1..) | Err(Errno::INTR)) {}
            removal.carry_out(ATTEMPTS).err()
        }
        Err(errno) => {
            // SAFETY: settling failed before it closed this.
            let report = unsafe { BorrowedFd::borrow_raw(report) };
            let _ = write(report, &errno.raw_os_error().to_ne_bytes());
            Some(errno)
        }
    };
    // SAFETY: ends the process at once, without what the tracer registered for its own end.
    unsafe { libc::_exit(errno.is_some().into()) }
}

/// Gets away from the tracer's session, and rid of all that it has open.
fn settle(
    removal: Removal<'_>,
    line: Option<CommandLine>,
    watched: RawFd,
) -> Result<(Removal<'_>, BorrowedFd<'_>), Errno> {
    setsid()?;
    chdir(c"/")?;
    set_name(NAME)?;
    if let Some(line) = line {
        // SAFETY: the only thread is this one.
        unsafe { line.set() };
    }
    // Standard input, output and error of a Rust program are always open, so none of these three
    // is among the targets.
    let parent = removal.parent.as_raw_fd();
    let refuge = removal.refuge.as_raw_fd();
    for (from, to) in [(watched, 0), (parent, 1), (refuge, 2)] {
        // SAFETY: nothing in this process uses what is replaced.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(last_errno());
        }
    }
    // SAFETY: from here on, the three are all that is used.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } < 0 {
        return Err(last_errno());
    }
    privilege::keep_only(Role::Guardian.needs())?;
    privilege::raise_file_access()?;
    // SAFETY: they stay open until the process ends.
    unsafe {
        let removal = Removal {
            parent: BorrowedFd::borrow_raw(1),
            refuge: BorrowedFd::borrow_raw(2),
            ..removal
        };
        Ok((removal, BorrowedFd::borrow_raw(0)))
    }
}

/// Where the kernel shows the command line of this process: the memory its arguments came in.
#[derive(Clone, Copy, Debug)]
struct CommandLine {
    start: usize,
    length: usize,
}

impl CommandLine {
    /// `None` when the system does not say.
    fn find() -> Option<Self> {
        /// Fields `arg_start` and `arg_end` of `/proc/PID/stat`, counted after the name.
        const START: usize = 45;
        let stat = fs::read("/proc/self/stat").ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let (_, after_name) = stat.rsplit_once(") ")?;
        let mut fields = after_name.trim_end().split(' ').skip(START);
        let start = fields.next()?.parse().ok().filter(|&start| start > 0)?;
        let end: usize = fields.next()?.parse().ok()?;
        Some(Self {
            start,
            length: end.checked_sub(start)?,
        })
    }

    /// Makes it the guardian's name, instead of a copy of the tracer's.
    ///
    /// # Safety
    /// No thread of this process may use its arguments any more.
    unsafe fn set(self) {
        let line: *mut u8 = ptr::with_exposed_provenance_mut(self.start);
        let name = NAME.to_bytes();
        // The last byte stays 0, or the kernel goes on reading in the environment.
        let shown = name.len().min(self.length.saturating_sub(1));
        // SAFETY: the kernel put the arguments there, on the stack, which stays mapped.
        unsafe {
            line.write_bytes(0, self.length);
            line.copy_from_nonoverlapping(name.as_ptr(), shown);
        }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
