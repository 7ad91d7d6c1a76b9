//! The bpf(2) call, for what no library does: empty programs, and asking for statistics.

use std::io;
use std::mem;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// An attribute to fill in.
pub(crate) fn zero() -> bpf_attr {
    // SAFETY: bpf_attr is integers and pointers as integers; zero is a value of each.
    unsafe { mem::zeroed() }
}

/// Does a command that returns a new descriptor.
///
/// # Errors
/// What the kernel said.
pub(crate) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the attribute is a whole bpf_attr, whoever filled it in lets its pointers live through
    // the call, and all commands used here return a new file descriptor, which is ours.
    unsafe {
        let result = libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        );
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let descriptor = RawFd::try_from(result).map_err(io::Error::other)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}
