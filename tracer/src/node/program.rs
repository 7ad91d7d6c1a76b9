//! Asking the system's own programs (`nft`, `iptables-save`): finding one, running it in the calling
//! thread's namespace, taking what it says.
//!
//! They are asked to list and nothing else. One that does not end is ended, one that says too much is
//! not listened to any further.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// How long a program may take: some 50,000 rules on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is kept of its complaints.
const MAX_COMPLAINT: usize = 4096;
/// Where programs are when the search path has no directories of the administrator's, and where alone
/// they are looked for when the user is not root: they are handed capabilities that he has not.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// Why a program did not say what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It failed, or said something that is no text.
    #[error("{program} failed: {complaint}")]
    Failed {
        /// Its name.
        program: String,
        /// What it said of it: not safe to print.
        complaint: String,
    },
    /// It did not end.
    #[error("{program} did not end within {} s", PATIENCE.as_secs())]
    Patience {
        /// Its name.
        program: String,
    },
}

/// The program of a name, where there is one.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").filter(|_| rustix::process::geteuid().is_root());
    let path = path.unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(DIRECTORIES.map(PathBuf::from));
    let mut programs = directories.map(|directory| directory.join(name));
    programs.find(|program| rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok())
}

/// What a program says, of `most` bytes, in the namespaces of the calling thread, which it inherits.
///
/// # Errors
/// When it cannot be run, fails, does not end, or says more.
pub fn output(program: &Path, arguments: &[&str], most: usize) -> Result<String, ProgramError> {
    let name = || {
        let name = program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let run = |source| ProgramError::Run {
        program: name(),
        source,
    };
    let failed = |complaint| ProgramError::Failed {
        program: name(),
        complaint,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run)?;
    let said = listen(&mut child, most);
    if said.is_err() {
        // It is not waited for any longer.
        let _ = child.kill();
    }
    let status = child.wait().map_err(run)?;
    let (said, complaint) = said.map_err(|stopped| match stopped {
        Stopped::Patience => ProgramError::Patience { program: name() },
        Stopped::TooMuch => failed(format!("it says more than {} MiB", most >> 20)),
        Stopped::System(source) => run(source),
    })?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        let line = complaint.lines().next().unwrap_or_default();
        return Err(failed(format!("{line} ({status})")));
    }
    String::from_utf8(said).map_err(|error| failed(error.to_string()))
}

/// Why a program is not listened to any further.
enum Stopped {
    Patience,
    TooMuch,
    System(io::Error),
}

/// One of the child's two pipes.
struct Pipe {
    end: OwnedFd,
    open: bool,
    kept: Vec<u8>,
    /// What is kept of it.
    most: usize,
}

impl Pipe {
    fn new(end: impl Into<OwnedFd>, most: usize) -> Self {
        Self {
            end: end.into(),
            open: true,
            kept: Vec::new(),
            most,
        }
    }

    /// Takes what there is.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let length = match rustix::io::read(&self.end, &mut *buffer) {
            Err(Errno::INTR) => return Ok(()),
            length => length?,
        };
        let room = self.most.saturating_sub(self.kept.len()).min(length);
        self.kept.extend_from_slice(&buffer[..room]);
        self.open = length > 0;
        Ok(())
    }
}

/// All of the child's output and the beginning of its complaints.
fn listen(child: &mut Child, most: usize) -> Result<(Vec<u8>, Vec<u8>), Stopped> {
    let (Some(said), Some(complained)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Stopped::System(io::Error::other("no pipe")));
    };
    let end = Instant::now() + PATIENCE;
    let mut pipes = [
        Pipe::new(said, most + 1),
        Pipe::new(complained, MAX_COMPLAINT),
    ];
    let mut buffer = vec![0; 64 << 10];
    while pipes.iter().any(|pipe| pipe.open) {
        let left = end.saturating_duration_since(Instant::now());
        for place in ready(&pipes, left)? {
            pipes[place].take(&mut buffer).map_err(Stopped::System)?;
        }
        if pipes[0].kept.len() > most {
            return Err(Stopped::TooMuch);
        }
    }
    let [said, complaint] = pipes.map(|pipe| pipe.kept);
    Ok((said, complaint))
}

/// The open pipes from which there is something to take.
fn ready(pipes: &[Pipe], left: Duration) -> Result<Vec<usize>, Stopped> {
    let open = (0..pipes.len()).filter(|&place| pipes[place].open);
    let open: Vec<usize> = open.collect();
    let polled = open.iter();
    let mut polled: Vec<_> = polled
        .map(|&place| PollFd::new(&pipes[place].end, PollFlags::IN))
        .collect();
    let left = Timespec::try_from(left).map_err(|_| Stopped::Patience)?;
    match poll(&mut polled, Some(&left)) {
        Ok(0) => return Err(Stopped::Patience),
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Stopped::System(error.into())),
    }
    let ready = open.iter().zip(&polled);
    let ready = ready.filter(|(_, polled)| !polled.revents().is_empty());
    Ok(ready.map(|(place, _)| *place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        node::testing::{as_nobody, in_new_netns, root, run},
        privilege::{self, Role},
    };

    const MOST: usize = 1 << 20;

    fn script(text: &str) -> Result<String, ProgramError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        loop {
            match output(&path, &["-j", "list"], MOST) {
                // A child of another test still has it open for writing.
                Err(ProgramError::Run { source, .. })
                    if source.kind() == io::ErrorKind::ExecutableFileBusy => {}
                said => return said,
            }
        }
    }

    #[test]
    fn what_it_says_is_taken_and_what_it_complains_of_is_not() {
        assert_eq!(
            script("echo out $*; echo err >&2").unwrap(),
            "out -j list\n"
        );
        // Complaints beyond the pipe's size do not stop it.
        let much = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; echo done";
        assert_eq!(script(much).unwrap(), "done\n");
    }

    #[test]
    fn one_that_fails_or_talks_too_much_is_an_error() {
        let error = |text: &str| script(text).unwrap_err().to_string();
        let failed = error("echo no such file >&2; exit 1");
        assert!(
            failed.starts_with("program failed: no such file (exit"),
            "{failed}"
        );
        assert!(error("exec cat /dev/zero").contains("more than 1 MiB"));
        let nowhere = output(Path::new("/nonexistent/nft"), &[], MOST).unwrap_err();
        assert!(nowhere.to_string().starts_with("cannot run nft: "));
    }

    /// Where the file of this program has capabilities, and its user none.
    #[test]
    fn programs_get_what_they_need_from_an_ordinary_users_tracer() {
        let tables = || output(&find("nft")?, &["list", "tables"], MOST).ok();
        if !root() || !in_new_netns(|| run("nft add table ip test")) {
            return;
        }
        in_new_netns(|| {
            assert!(run("nft add table ip test"));
            as_nobody(|| {
                assert_eq!(tables(), None, "an ordinary user may not list tables");
                let (sender, found) = std::sync::mpsc::channel();
                let work = move || sender.send(tables()).unwrap();
                let rules = privilege::spawn("test", Role::Rules, work);
                rules.unwrap().join().unwrap();
                assert_eq!(found.recv().unwrap().as_deref(), Some("table ip test\n"));
            });
        });
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
