//! Asking the system's own programs (`nft`, `iptables-save`): finding one, running it in the calling
//! thread's namespace, taking what it says.
//!
//! They are asked to list and nothing else. One that does not end is ended, one that says too much is
//! not listened to any further.

mod said;

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use said::Said;

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
    Asked(program).text(arguments, most, Said::in_memory())
}

/// As [`output`], for what is long: it is not in memory while the program runs, which may need much of it,
/// but in a file of the same bound.
///
/// # Errors
/// As [`output`].
pub fn long_output(
    program: &Path,
    arguments: &[&str],
    most: usize,
) -> Result<String, ProgramError> {
    Asked(program).text(arguments, most, Said::in_file())
}

/// A program that is asked.
struct Asked<'a>(&'a Path);

impl Asked<'_> {
    fn name(&self) -> String {
        let name = self.0.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn run(&self, source: io::Error) -> ProgramError {
        let program = self.name();
        ProgramError::Run { program, source }
    }

    fn failed(&self, complaint: String) -> ProgramError {
        let program = self.name();
        ProgramError::Failed { program, complaint }
    }

    fn text(&self, arguments: &[&str], most: usize, said: Said) -> Result<String, ProgramError> {
        let said = self.listen(arguments, most, said)?;
        let bytes = said.into_bytes().map_err(|error| self.run(error))?;
        String::from_utf8(bytes).map_err(|error| self.failed(error.to_string()))
    }

    /// Runs it until it has ended.
    fn listen(&self, arguments: &[&str], most: usize, said: Said) -> Result<Said, ProgramError> {
        let mut child = Command::new(self.0)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.run(error))?;
        let said = listen(&mut child, most, said);
        if said.is_err() {
            // It is not waited for any longer.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| self.run(error))?;
        let (said, complaint) = said.map_err(|stopped| match stopped {
            Stopped::Patience => {
                let program = self.name();
                ProgramError::Patience { program }
            }
            Stopped::TooMuch => self.failed(format!("it says more than {} MiB", most >> 20)),
            Stopped::System(source) => self.run(source),
        })?;
        self.succeeded(status, &complaint).map(|()| said)
    }

    fn succeeded(&self, status: ExitStatus, complaint: &[u8]) -> Result<(), ProgramError> {
        if status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(complaint);
        let line = complaint.lines().next().unwrap_or_default();
        Err(self.failed(format!("{line} ({status})")))
    }
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
    kept: Said,
    /// What is kept of it.
    most: usize,
}

impl Pipe {
    fn new(end: impl Into<OwnedFd>, kept: Said, most: usize) -> Self {
        Self {
            end: end.into(),
            open: true,
            kept,
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
        self.open = length > 0;
        self.kept.push(&buffer[..room])
    }
}

/// All of the child's output and the beginning of its complaints.
fn listen(child: &mut Child, most: usize, kept: Said) -> Result<(Said, Vec<u8>), Stopped> {
    let (Some(said), Some(complained)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Stopped::System(io::Error::other("no pipe")));
    };
    let end = Instant::now() + PATIENCE;
    let mut pipes = [
        Pipe::new(said, kept, most + 1),
        Pipe::new(complained, Said::in_memory(), MAX_COMPLAINT),
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
    Ok((said, complaint.into_bytes().map_err(Stopped::System)?))
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

    const MOST: usize = 4 << 20;

    fn script(text: &str) -> Result<String, ProgramError> {
        ask(text, output)
    }

    fn long_script(text: &str) -> Result<String, ProgramError> {
        ask(text, long_output)
    }

    type Output = fn(&Path, &[&str], usize) -> Result<String, ProgramError>;

    fn ask(text: &str, output: Output) -> Result<String, ProgramError> {
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
    fn what_is_long_is_said_alike() {
        let text = "head -c 3000000 /dev/zero | tr '\\0' x; echo end";
        for script in [script, long_script] {
            let said = script(text).unwrap();
            assert_eq!((said.len(), &said[2_999_999..]), (3_000_004, "xend\n"));
        }
    }

    #[test]
    fn one_that_fails_or_talks_too_much_is_an_error() {
        let error = |text: &str| script(text).unwrap_err().to_string();
        let failed = error("echo no such file >&2; exit 1");
        assert!(
            failed.starts_with("program failed: no such file (exit"),
            "{failed}"
        );
        assert!(error("exec cat /dev/zero").contains("more than 4 MiB"));
        let long = long_script("exec cat /dev/zero").unwrap_err().to_string();
        assert!(long.contains("more than 4 MiB"), "{long}");
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
