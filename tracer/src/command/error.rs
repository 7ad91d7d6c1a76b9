//! What can go wrong with running a command, and what to do about it.

use std::{ffi::OsString, io, path::PathBuf};

use rustix::io::Errno;

use crate::node::find::FindError;

/// Why the command could not be prepared, run or tidied up after.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to run.
    #[error("no command to run; write it after `--`, as in `tracer run -- curl http://10.96.0.10`")]
    NoCommand,
    /// There is no such program.
    #[error("cannot run {}: {}", program.display(), not_found(program))]
    NotFound {
        /// As it was given.
        program: OsString,
    },
    /// It exists and cannot be run.
    #[error("cannot run {}: {reason}", path.display())]
    NotExecutable {
        /// What was found.
        path: PathBuf,
        /// Why not, and what helps.
        reason: &'static str,
    },
    /// The kernel refused to run it.
    #[error("cannot run {}: {}", path.display(), exec_failure(source))]
    Exec {
        /// What was to be run.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The namespace cannot be found.
    #[error(transparent)]
    Netns(#[from] FindError),
    /// What the command would find in `/etc` cannot be read.
    #[error("cannot read {}: {source}; it holds the namespace's files for /etc", path.display())]
    Configuration {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No cgroups of version 2.
    #[error(
        "no cgroup2 file system is mounted, and the command is recognised by its cgroup; mount \
         one: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
    )]
    NoHierarchy,
    /// The command's cgroup cannot be made.
    #[error("cannot {action} the cgroup {}: {errno}{}", path.display(), advice(*errno))]
    Cgroup {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// No process that tidies up after this one.
    #[error(
        "cannot start the process that removes the command's cgroup should this one be killed: \
         {0}; it needs one more process and the system call close_range (Linux 5.9)"
    )]
    Guardian(io::Error),
    /// The command's process could not get to where it should run.
    #[error("cannot run the command: it cannot {}: {errno}; {}", step.verb(), step.advice())]
    Enter {
        /// Where it failed.
        step: Step,
        /// What the kernel said.
        errno: Errno,
    },
    /// The command's end cannot be waited for, or signals not be caught.
    #[error("cannot {action}: {source}")]
    Process {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Something holds the cgroup.
    #[error(
        "the cgroup {} is still in use ({errno}); a process named trace-guardian goes on trying \
         for half a minute, after that `rmdir` it",
        path.display()
    )]
    Remains {
        /// The cgroup.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
}

impl Error {
    /// The status for the tracer to exit with, as shells and `env(1)` do it: 127 for a command that
    /// does not exist, 126 for one that cannot be run; for all else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } | Self::Exec { .. } => 126,
            _ => 1,
        }
    }
}

fn not_found(program: &OsString) -> &'static str {
    if program.as_encoded_bytes().contains(&b'/') {
        "there is no such file"
    } else {
        "not found in PATH"
    }
}

fn exec_failure(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "the interpreter in its first line, or its dynamic loader, does \
                               not exist"
            .to_owned(),
        Some(Errno::NOEXEC) => "it is not a program for this machine".to_owned(),
        Some(Errno::ACCESS) => {
            "permission denied; look for a noexec mount and at its interpreter".to_owned()
        }
        _ => error.to_string(),
    }
}

fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ACCESS | Errno::PERM => {
            "; run as root, in a cgroup that is delegated to you, or with CAP_DAC_OVERRIDE"
        }
        Errno::ROFS => {
            "; cgroups are mounted read-only here: in a container, run it privileged, else \
             remount with `mount -o remount,rw`"
        }
        Errno::AGAIN => "; cgroup.max.descendants or cgroup.max.depth above it is reached",
        Errno::OPNOTSUPP => "; it is part of a threaded cgroup: run from another one",
        _ => "",
    }
}

/// A step of the command's process that can fail, before it is the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Moving itself into the cgroup.
    Cgroup,
    /// Entering the network namespace.
    Netns,
    /// Making a mount namespace.
    MountNamespace,
    /// Keeping its mounts from the rest of the system.
    Propagation,
    /// Putting a `/sys` of the network namespace over the other.
    Sys,
    /// Putting a file over one in `/etc`.
    Etc,
    /// Taking back what is the tracer's own.
    Caller,
}

impl Step {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Cgroup,
        Self::Netns,
        Self::MountNamespace,
        Self::Propagation,
        Self::Sys,
        Self::Etc,
        Self::Caller,
    ];

    /// Whether the command is not run when it fails.
    #[must_use]
    pub fn is_needed(self) -> bool {
        !matches!(self, Self::Sys | Self::Etc)
    }

    /// What helps.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Cgroup => {
                "run as root, in a cgroup that is delegated to you, or with CAP_DAC_OVERRIDE"
            }
            Self::Caller => "setrlimit(2) and sigaction(2) must be allowed",
            _ => "this needs CAP_SYS_ADMIN",
        }
    }

    /// What it does, after "cannot".
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Cgroup => "enter its cgroup",
            Self::Netns => "enter the network namespace",
            Self::MountNamespace => "get mounts of its own",
            Self::Propagation => "keep its mounts to itself",
            Self::Sys => "mount the network namespace's /sys",
            Self::Etc => "put the network namespace's file over",
            Self::Caller => "get its caller's limits and signals back",
        }
    }
}
