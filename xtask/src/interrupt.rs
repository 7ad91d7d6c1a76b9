//! What Ctrl-C does, which the terminal sends to the whole foreground group.

use std::io;

use anyhow::Context as _;

/// Does nothing: unlike an ignored signal, a handled one is back at its default in the children.
extern "C" fn keep_going(_signal: libc::c_int) {}

/// From now on SIGINT does not end this process, so that what was raised is taken down when the interrupted
/// child has ended.
///
/// # Errors
/// When the handler cannot be installed.
pub(crate) fn outlive() -> anyhow::Result<()> {
    let handler = keep_going as extern "C" fn(libc::c_int);
    set(libc::SIGINT, handler as libc::sighandler_t)
}

/// From now on SIGINT and SIGQUIT end this process and what it starts, whoever started it: a shell has both ignored
/// in what it runs in the background, and what is ignored is inherited.
///
/// # Errors
/// When that cannot be set.
pub(crate) fn heed() -> anyhow::Result<()> {
    set(libc::SIGINT, libc::SIG_DFL)?;
    set(libc::SIGQUIT, libc::SIG_DFL)
}

fn set(signal: libc::c_int, handler: libc::sighandler_t) -> anyhow::Result<()> {
    // SAFETY: the handler is the default, or one that has the type `signal` asks for and touches nothing, so that
    // it is safe wherever the signal interrupts.
    let previous = unsafe { libc::signal(signal, handler) };
    if previous == libc::SIG_ERR {
        return Err(io::Error::last_os_error()).context("cannot say what a signal does");
    }
    Ok(())
}
