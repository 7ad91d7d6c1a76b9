//! The bpf(2) call, for what aya does not do.

use std::{
    io, mem,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};

/// How often a program is given to the verifier when signals interrupt it.
const ATTEMPTS: usize = 16;

/// An attribute to fill in.
pub(super) fn zero() -> bpf_attr {
    // SAFETY: bpf_attr is integers and pointers as integers; zero is a value of each.
    unsafe { mem::zeroed() }
}

/// Does a command that returns a new descriptor: BPF_PROG_LOAD, BPF_LINK_CREATE.
///
/// # Errors
/// What the kernel said.
pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the attribute is a whole bpf_attr, whoever filled it in lets its pointers live through
    // the call, and the commands used return a new file descriptor, which is ours.
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
        Ok(OwnedFd::from_raw_fd(
            RawFd::try_from(result).map_err(io::Error::other)?,
        ))
    }
}

/// Has a program verified and loaded, under as much of its name as the kernel keeps. What the verifier says goes
/// into `log`, unless that is empty.
///
/// # Errors
/// What the kernel said; [`interrupted`] is one to try again after.
pub(super) fn load(
    kind: bpf_prog_type,
    attach: bpf_attach_type,
    name: &str,
    instructions: &[bpf_insn],
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let mut attr = zero();
    // SAFETY: the member of the union that BPF_PROG_LOAD reads; all of it is integers.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = kind as u32;
    load.expected_attach_type = attach as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    load.license = c"GPL".as_ptr() as u64;
    for (to, from) in load.prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from.cast_signed();
    }
    if !log.is_empty() {
        load.log_level = 1;
        load.log_size = u32::try_from(log.len()).unwrap_or(u32::MAX);
        load.log_buf = log.as_mut_ptr() as u64;
    }
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// Whether the verifier stopped because this thread has a signal to handle (`bpf_check`), such as
/// that a child has ended.
pub(super) fn interrupted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAGAIN)
}

/// Does it again as long as it was interrupted, up to [`ATTEMPTS`] times.
pub(super) fn persist<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    interrupted: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut last = attempt();
    for _ in 1..ATTEMPTS {
        match last {
            Err(error) if interrupted(&error) => last = attempt(),
            result => return result,
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_interrupted_is_done_again_and_what_was_refused_is_not() {
        let outcome = |interruptions: usize, then: Result<u8, i32>| {
            let mut calls = 0;
            let attempt = || {
                calls += 1;
                let now = if calls > interruptions {
                    then
                } else {
                    Err(libc::EAGAIN)
                };
                now.map_err(io::Error::from_raw_os_error)
            };
            let result = persist(attempt, interrupted);
            let errno = |error: io::Error| error.raw_os_error().unwrap();
            (result.map_err(errno), calls)
        };
        assert_eq!(outcome(0, Ok(1)), (Ok(1), 1));
        assert_eq!(outcome(3, Ok(1)), (Ok(1), 4));
        assert_eq!(outcome(1, Err(libc::EPERM)), (Err(libc::EPERM), 2));
        let most = outcome(usize::MAX, Ok(1));
        assert_eq!(most, (Err(libc::EAGAIN), ATTEMPTS));
    }
}
