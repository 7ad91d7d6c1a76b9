//! What the command's process does between fork and exec: into the cgroup, into the network
//! namespace, and into a mount namespace of its own where `/sys` and `/etc` fit that network.
//!
//! As `ip netns exec` does it, but what is mounted inside `/sys` (cgroups, BPF objects, tracing)
//! stays visible, so that other tools of this kind work in the command, too.
//!
//! Only system calls on what was prepared before the fork, because the process is a copy of one
//! with threads. What fails is told through a pipe that exec closes: of what hinders the command to
//! be where it should be, it ends; about the rest (a `/sys` that cannot be replaced, a file for
//! `/etc` whose place does not exist) there is a note, and the command runs.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{CWD, Mode, OFlags, fchmod, fstatfs, open, statvfs},
    io::{Errno, Result, write},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
        mount_bind_recursive, mount_change, move_mount, open_tree, unmount,
    },
    pipe::{PipeFlags, pipe_with},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use super::{
    caller::Caller,
    configuration::{EtcFile, Source},
    error::Step,
};

const SYS: &CStr = c"/sys";
/// Where contents for `/etc` are put for a moment, on a file system that is then hidden.
const STAGE: &CStr = c"/sys/file";
/// What may be mounted inside `/sys` and is not part of a network namespace.
const KEPT: [&CStr; 5] = [
    c"/sys/fs/cgroup",
    c"/sys/fs/bpf",
    c"/sys/kernel/debug",
    c"/sys/kernel/tracing",
    c"/sys/kernel/security",
];
/// `SYSFS_MAGIC`
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// A step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    /// Which file for `/etc`, else 0.
    pub(super) file: u16,
    pub(super) errno: Errno,
}

impl Failure {
    fn at(step: Step) -> impl Fn(Errno) -> Self {
        move |errno| Self {
            step,
            file: 0,
            errno,
        }
    }

    fn to_bytes(self) -> [u8; 8] {
        let [a, b] = self.file.to_ne_bytes();
        let [c, d, e, f] = self.errno.raw_os_error().to_ne_bytes();
        [self.step as u8, 0, a, b, c, d, e, f]
    }

    fn from_bytes([step, _, a, b, c, d, e, f]: [u8; 8]) -> Option<Self> {
        Some(Self {
            step: *Step::ALL.get(usize::from(step))?,
            file: u16::from_ne_bytes([a, b]),
            errno: Errno::from_raw_os_error(i32::from_ne_bytes([c, d, e, f])),
        })
    }
}

/// A network namespace to enter, and the files for its `/etc`.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) netns: OwnedFd,
    pub(super) files: Vec<EtcFile>,
}

/// Where the command's process goes.
#[derive(Debug)]
pub(super) struct Way {
    /// The `cgroup.procs` of the cgroup, open for writing.
    cgroup: OwnedFd,
    inside: Option<Inside>,
    caller: Caller,
    report: OwnedFd,
}

/// What the process said on its way, once it has begun to run the command.
#[derive(Debug)]
pub(super) struct Report(OwnedFd);

impl Way {
    pub(super) fn new(
        cgroup: OwnedFd,
        inside: Option<Inside>,
        caller: Caller,
    ) -> Result<(Self, Report)> {
        // Not blocking: a full pipe must not stop the process, nor one that stays open the reader.
        let (reader, report) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let way = Self {
            cgroup,
            inside,
            caller,
            report,
        };
        Ok((way, Report(reader)))
    }

    /// Goes it. Only system calls.
    pub(super) fn go(&self) -> io::Result<()> {
        self.enter().map_err(|failure| {
            self.tell(failure);
            failure.errno.into()
        })
    }

    fn enter(&self) -> std::result::Result<(), Failure> {
        // First, so that no packet of it comes from elsewhere.
        write(&self.cgroup, b"0").map_err(Failure::at(Step::Cgroup))?;
        if let Some(inside) = &self.inside {
            self.enter_netns(inside)?;
        }
        // Last: the rest needs descriptors.
        self.caller.restore().map_err(Failure::at(Step::Caller))
    }

    fn enter_netns(&self, inside: &Inside) -> std::result::Result<(), Failure> {
        move_into_link_name_space(inside.netns.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(Failure::at(Step::Netns))?;
        // SAFETY: only the mount namespace, of a process with one thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
            .map_err(Failure::at(Step::MountNamespace))?;
        let propagation = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change(c"/", propagation).map_err(Failure::at(Step::Propagation))?;
        for (index, file) in (0..).zip(&inside.files) {
            if let Err(errno) = cover(file) {
                let failure = Failure::at(Step::Etc)(errno);
                self.tell(Failure {
                    file: index,
                    ..failure
                });
            }
        }
        if let Err(errno) = replace_sys() {
            self.tell(Failure::at(Step::Sys)(errno));
        }
        Ok(())
    }

    fn tell(&self, failure: Failure) {
        // With nobody to hear it, there is nothing more to do.
        let _ = write(&self.report, &failure.to_bytes());
    }
}

impl Report {
    /// What failed, in order.
    pub(super) fn read(self) -> Vec<Failure> {
        let mut bytes = Vec::new();
        // Ends with an error when another process was just forked and still holds the other end.
        let _ = File::from(self.0).read_to_end(&mut bytes);
        let (records, _) = bytes.as_chunks();
        records
            .iter()
            .copied()
            .filter_map(Failure::from_bytes)
            .collect()
    }
}

/// Puts the file over the one in `/etc`.
fn cover(file: &EtcFile) -> Result<()> {
    match &file.source {
        Source::Path(path) => mount_bind_recursive(path.as_c_str(), file.target.as_c_str()),
        Source::Contents(contents) => {
            mount(
                c"tmpfs",
                SYS,
                c"tmpfs",
                MountFlags::NOSUID | MountFlags::NODEV,
                None,
            )?;
            let staged =
                stage(contents).and_then(|()| mount_bind_recursive(STAGE, file.target.as_c_str()));
            // The file lives on where it is bound.
            staged.and(unmount(SYS, UnmountFlags::DETACH))
        }
    }
}

fn stage(contents: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = open(STAGE, flags, Mode::empty())?;
    let mut rest = contents;
    while !rest.is_empty() {
        let written = write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    // Whatever the umask is.
    fchmod(&file, Mode::from_raw_mode(0o644))
}

/// Mounts a sysfs over `/sys`, which shows the devices of the network namespace it is mounted in.
fn replace_sys() -> Result<()> {
    let kept = KEPT.map(|path| keep(path).ok().flatten());
    // Where it is read-only, it stays so. (`ST_` and `MS_` are the same for these.)
    let same = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let flags = u32::try_from(statvfs(SYS)?.f_flag.bits()).unwrap_or_default();
    let flags = MountFlags::from_bits_truncate(flags) & same;
    mount(c"sysfs", SYS, c"sysfs", flags, None)?;
    for (path, tree) in KEPT.iter().zip(&kept) {
        if let Some(tree) = tree {
            // What cannot be moved is missing, as under `ip netns exec`.
            let _ = move_mount(
                tree,
                c"",
                CWD,
                *path,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            );
        }
    }
    Ok(())
}

/// A copy of what is mounted at `path`; `None` when nothing is.
fn keep(path: &CStr) -> Result<Option<OwnedFd>> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, flags)?;
    let system = u64::try_from(fstatfs(&tree)?.f_type);
    Ok((system != Ok(SYSFS_MAGIC)).then_some(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_through_the_pipe_as_they_were() {
        let (cgroup, _reader) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (way, report) = Way::new(cgroup, None, Caller::now()).unwrap();
        let failures = Step::ALL.map(|step| Failure {
            step,
            file: 258,
            errno: Errno::PERM,
        });
        for failure in failures {
            way.tell(failure);
        }
        write(&way.report, b"\xff2345678torn").unwrap();
        drop(way);
        assert_eq!(report.read(), failures);
    }

    #[test]
    fn a_pipe_that_stays_open_does_not_stop_the_reader() {
        let (cgroup, _reader) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (way, report) = Way::new(cgroup, None, Caller::now()).unwrap();
        assert_eq!(report.read(), []);
        drop(way);
    }
}
