//! The traced command: `tracer run [--netns N|--pod P] -- CMD...`.
//!
//! The command runs in a cgroup of its own, by whose id the kernel side knows its packets. So the
//! order is: [`Prepared::new`] finds the program and the namespace and makes the cgroup; the caller
//! attaches the tracer with [`Prepared::cgroup_id`]; [`Prepared::start`] starts the command, which is
//! in the cgroup and in the network namespace before its first instruction.
//!
//! Prepare before anything else is set up: it forks the guardian, a small process that removes the
//! cgroup if the tracer is killed, and a copy of the tracer's mappings of BPF maps in there would
//! keep those maps that much longer. Threads may exist.
//!
//! Nothing of this outlives the tracer but what the command started. At the end, however it comes,
//! processes that still run in the cgroup go on undisturbed, back in the cgroup that the tracer came
//! from, and the cgroup is removed: by [`Running::close`], by dropping, or by the guardian. So when
//! the tracer is killed, the command runs on, untraced, as it does when `strace -f` is killed. The
//! network namespace is held by the command alone.
//!
//! Signals: Ctrl-C reaches the command by itself, being sent to the terminal's foreground process
//! group, and the caller has to survive it (`tokio::signal`). SIGTERM to the tracer is handed on to
//! the command.
//!
//! Limits: sockets that the command is given, or that another process opens on its behalf (`nscd`,
//! `systemd-resolved`), belong to the other's cgroup; so do processes that it has started elsewhere
//! (by systemd, by a container runtime) and those that move themselves to another cgroup. Before
//! Linux 5.15, sockets do not know their cgroup of version 2 where `net_cls` or `net_prio` of
//! version 1 are in use. SIGKILL to the tracer and the guardian leaves the cgroup until the next
//! `tracer run` from the same place; as process 1 of a container the tracer takes the guardian with
//! it, and the runtime removes the cgroup with the container's.

mod caller;
mod cgroup;
mod child;
mod configuration;
mod error;
mod guardian;
mod program;
mod vacate;

#[cfg(test)]
mod tests;

use std::{
    env,
    ffi::OsString,
    fs::File,
    io,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    path::{Path, PathBuf},
    process::ExitStatus,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use tokio::{
    process::{Child, Command},
    signal::unix::{self, SignalKind},
};

pub use self::{
    caller::Caller,
    error::{Error, Step},
};
use self::{
    cgroup::Leaf,
    child::{Failure, Inside, Way},
};
use crate::{
    node::{
        find, netns,
        pods::{HostRoot, PodName},
    },
    privilege,
    source::TracedCommand,
};

/// What to run, and where.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The network that it runs in.
    pub place: Place,
    /// Whether what the command writes to its standard output goes to the standard error.
    pub stdout_to_stderr: bool,
    /// What the tracer was given: from before it takes signals over or raises limits.
    pub caller: Caller,
}

/// Whose network a command runs in.
///
/// In another than the tracer's own, the command has a `/sys` that shows that network's devices, and
/// in `/etc` the files of `/etc/netns/NAME`, or the `resolv.conf` and `hosts` of the process.
#[derive(Clone, Debug, Default)]
pub enum Place {
    /// The tracer's own.
    #[default]
    Here,
    /// A network namespace: a name, a path, or the id of a process in it (see [`find::find`]).
    Netns(String),
    /// A pod, found below the node's root.
    Pod(PodName, HostRoot),
}

/// A command that can be started. Its cgroup exists, and is removed when this is dropped.
#[derive(Debug)]
pub struct Prepared {
    caller: Caller,
    leaf: Leaf,
    path: PathBuf,
    command: Vec<OsString>,
    netns: Option<find::Found>,
    files: Vec<configuration::EtcFile>,
    notes: Vec<String>,
    stdout_to_stderr: bool,
}

impl Prepared {
    /// Finds what is to be run and where, and makes the cgroup for it. Blocks for some
    /// milliseconds.
    ///
    /// # Errors
    /// When there is no such program, namespace or pod, or no cgroup can be made (no cgroup2, no
    /// permission).
    pub fn new(options: Options) -> Result<Self, Error> {
        let program = options.command.first().ok_or(Error::NoCommand)?;
        let path = program::look_up(program, env::var_os("PATH").as_deref())?;
        let (netns, (files, notes)) = match options.place {
            Place::Here => Default::default(),
            Place::Netns(word) => (Some(find::find(&word)?), configuration::files_for(&word)?),
            Place::Pod(name, root) => {
                let pod = find::find_pod(&name, root)?;
                let files = configuration::files_of_pod(&name, pod.process);
                (Some(pod.netns), files)
            }
        };
        Ok(Self {
            caller: options.caller,
            leaf: privilege::with_file_access(Leaf::create).map_err(file_access)??,
            path,
            command: options.command,
            netns,
            files,
            notes,
            stdout_to_stderr: options.stdout_to_stderr,
        })
    }

    /// What the kernel knows the command by, see [`crate::filter::cgroup_program`].
    #[must_use]
    pub fn cgroup_id(&self) -> u64 {
        self.leaf.id()
    }

    /// The inode number of the network namespace, if another was asked for.
    #[must_use]
    pub fn netns(&self) -> Option<u32> {
        self.netns.as_ref().map(|found| found.inode)
    }

    /// What tells the command's flows from others.
    ///
    /// # Errors
    /// When this process's own network namespace cannot be looked at.
    pub fn traced(&self) -> io::Result<TracedCommand> {
        let netns = match self.netns() {
            Some(netns) => netns,
            None => netns::inode_of(&File::open("/proc/self/ns/net")?)?,
        };
        let cgroup = self.cgroup_id();
        Ok(TracedCommand { cgroup, netns })
    }

    /// Starts the command. Needs a tokio runtime with signals and I/O.
    ///
    /// # Errors
    /// When its process cannot get to where it should run, or the program cannot be run; the
    /// cgroup is gone then.
    pub fn start(self) -> Result<Running, Error> {
        // Before the command, so that no SIGTERM comes too early to be handed on.
        let terminate = unix::signal(SignalKind::terminate()).map_err(process("catch SIGTERM"))?;
        let files: Vec<String> = self.files.iter().map(display_target).collect();
        let inside = self.netns.map(|found| Inside {
            netns: found.file.into(),
            files: self.files,
        });
        let (way, report) = Way::new(self.leaf.entrance()?, inside, self.caller)
            .map_err(|errno| process("make a pipe")(errno.into()))?;
        let command = command(&self.path, &self.command, self.stdout_to_stderr)
            .map_err(process("give the command its standard output"))?;
        let child = spawn(command, way);
        let failures = report.read();
        let child = child.map_err(|source| start_failure(source, &failures, self.path))?;
        let mut notes = self.notes;
        notes.extend(failures.iter().map(|failure| note(*failure, &files)));
        Ok(Running {
            leaf: self.leaf,
            child,
            terminate,
            notes,
        })
    }
}

/// A command that was started.
#[derive(Debug)]
pub struct Running {
    leaf: Leaf,
    child: Child,
    terminate: unix::Signal,
    notes: Vec<String>,
}

impl Running {
    /// What is not as it should be for the command, in sentences for the person: a file of the
    /// namespace that could not be put into its `/etc`, for example.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The command's process id, until its end was waited for.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the command to end, and hands it each SIGTERM that the tracer gets meanwhile.
    /// Processes that it started may go on. May be cancelled and called again.
    ///
    /// From the start of the command on, SIGTERM does not end the tracer any more.
    ///
    /// # Errors
    /// When the system cannot say how it ended.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        loop {
            tokio::select! {
                status = self.child.wait() => {
                    return status.map_err(process("wait for the command"));
                }
                Some(()) = self.terminate.recv() => {
                    let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
                    if let Some(pid) = pid {
                        // If it has just ended, that is what is waited for.
                        let _ = kill_process(pid, Signal::TERM);
                    }
                }
            }
        }
    }

    /// Removes the cgroup; what still runs in it, the command included, goes on in the tracer's
    /// cgroup, untraced from then on except for connections that it has already. How many
    /// processes that were. Blocks for some milliseconds, when processes are just ending up to a
    /// second.
    ///
    /// # Errors
    /// When the cgroup cannot be removed; the guardian goes on trying.
    pub fn close(self) -> Result<usize, Error> {
        self.leaf.remove()
    }
}

/// The status for the tracer to exit with, as shells give it: the command's, or 128 and the number
/// of the signal that ended it.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| Some(128 + status.signal()?))
        .and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(u8::MAX)
}

fn command(path: &Path, words: &[OsString], stdout_to_stderr: bool) -> io::Result<Command> {
    let mut command = Command::new(path);
    if let Some((program, arguments)) = words.split_first() {
        command.arg0(program).args(arguments);
    }
    if stdout_to_stderr {
        command.stdout(io::stderr().as_fd().try_clone_to_owned()?);
    }
    Ok(command)
}

/// Starts it on its way, of which nothing stays open here.
fn spawn(mut command: Command, way: Way) -> io::Result<Child> {
    // SAFETY: going the way takes system calls only, on what exists before the fork.
    unsafe { command.pre_exec(move || way.go()) };
    command.spawn()
}

fn start_failure(source: io::Error, failures: &[Failure], path: PathBuf) -> Error {
    match failures.last() {
        Some(&Failure { step, errno, .. }) if step.is_needed() => Error::Enter { step, errno },
        _ => Error::Exec { path, source },
    }
}

fn file_access(errno: Errno) -> Error {
    process("get access to cgroups")(errno.into())
}

fn process(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Process { action, source }
}

fn display_target(file: &configuration::EtcFile) -> String {
    file.target.to_string_lossy().into_owned()
}

fn note(failure: Failure, files: &[String]) -> String {
    let Failure { step, file, errno } = failure;
    let verb = step.verb();
    match files.get(usize::from(file)) {
        Some(file) if step == Step::Etc => {
            format!("the command sees this system's {file}: cannot {verb} it: {errno}")
        }
        _ => format!("the command sees this system's /sys: cannot {verb}: {errno}"),
    }
}
