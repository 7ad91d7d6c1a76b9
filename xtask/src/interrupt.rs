//! Staying alive through Ctrl-C, which the terminal sends to the whole foreground group, so that
//! what was raised is taken down when the interrupted child has ended.

use std::io;

use anyhow::Context as _;

/// Does nothing: unlike an ignored signal, a handled one is back at its default in the children.
extern "C" fn keep_going(_signal: libc::c_int) {}

/// From now on SIGINT does not end this process.
///
/// # Errors
/// When the handler cannot be installed.
pub(crate) fn outlive() -> anyhow::Result<()> {
    let handler = keep_going as extern "C" fn(libc::c_int);
    // SAFETY: the handler has the type `signal` asks for and touches nothing, so it is safe
    // wherever the signal interrupts.
    let previous = unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
    if previous == libc::SIG_ERR {
        return Err(io::Error::last_os_error()).context("cannot handle SIGINT");
    }
    Ok(())
}
