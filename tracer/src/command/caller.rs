//! What is the tracer's own and not its caller's, taken back before the command is executed.
//!
//! The tracer raises limits on resources for itself, and catches signals that its caller may have it
//! ignore (`nohup`). The command is to begin as if its caller had started it. Its capabilities are
//! what exec makes of the caller's, for it is forked before any are given up.
//!
//! Limit: whether SIGPIPE was ignored is not known; for the command it is not.

use std::io;

use rustix::{
    io::{Errno, Result},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::signals::is_ignored;

/// The limits that the tracer may raise for itself, see `kernel::limits`.
const RAISED: [Resource; 2] = [Resource::Nofile, Resource::Memlock];

/// The signals that the tracer catches, see `cli::interrupts`.
const CAUGHT: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// What the tracer's caller gave to it, and the command is to have.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    limits: [Rlimit; RAISED.len()],
    /// Which of [`CAUGHT`] are ignored.
    ignored: [bool; CAUGHT.len()],
}

impl Caller {
    /// As it is now, before anything is changed.
    #[must_use]
    pub fn now() -> Self {
        Self {
            limits: RAISED.map(getrlimit),
            ignored: CAUGHT.map(is_ignored),
        }
    }

    /// Makes it so again. Only system calls; afterwards there may be no descriptor left to open
    /// anything with.
    pub(super) fn restore(&self) -> Result<()> {
        for (resource, limit) in RAISED.into_iter().zip(self.limits) {
            if getrlimit(resource) != limit {
                setrlimit(resource, limit)?;
            }
        }
        for (signal, ignored) in CAUGHT.into_iter().zip(self.ignored) {
            if ignored {
                // SAFETY: ignoring a signal runs no code.
                let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
                if before == libc::SIG_ERR {
                    return Err(
                        Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
                    );
                }
            }
        }
        Ok(())
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::now()
    }
}
