//! Commands that are really run, with root. What needs a tracer that is killed runs this test
//! program again as that tracer, see [`role`].

mod end;
mod place;
mod role;
mod run;
mod surroundings;

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::{Error, Options, Prepared, exit_code};
use crate::node::{
    hierarchy,
    testing::{root, wait_until},
};

/// A shell script with an argument, `$1`.
fn shell(script: &str, argument: &Path) -> Options {
    let words = ["sh", "-c", script, "sh"].map(OsString::from);
    Options {
        command: words.into_iter().chain([argument.into()]).collect(),
        ..Options::default()
    }
}

/// Runs a command to its end: its exit code, and how many processes it leaves.
async fn run(options: Options) -> Result<(u8, usize), Error> {
    let mut running = Prepared::new(options)?.start()?;
    assert_eq!(running.notes(), [""; 0]);
    let code = exit_code(running.wait().await?);
    Ok((code, running.close()?))
}

/// Where the cgroups of this process's commands are.
fn own_cgroup() -> PathBuf {
    hierarchy::find().unwrap().own.unwrap().path
}

/// The cgroups of the commands of the tracer `pid`.
fn leaves_of(pid: u32) -> Vec<OsString> {
    let prefix = format!("tracer-run-{pid}-");
    let names = fs::read_dir(own_cgroup()).unwrap();
    names
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter(|name| name.to_string_lossy().starts_with(&prefix))
        .collect()
}

/// The cgroup (version 2) of a process, as the kernel tells it; `None` when it has ended.
fn cgroup_of(pid: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(line.to_owned())
}

/// A process that a command has left, ended with the test.
struct Survivor(Pid);

impl Survivor {
    /// From its number, on a line of its own or alone in a file.
    fn new(text: &str) -> Self {
        Self(Pid::from_raw(text.trim().parse().unwrap()).unwrap())
    }

    fn number(&self) -> String {
        self.0.as_raw_nonzero().to_string()
    }

    fn lives(&self) -> bool {
        test_kill_process(self.0).is_ok()
    }

    /// Whether it is where the tests run.
    fn is_back(&self) -> bool {
        cgroup_of(&self.number()) == cgroup_of("self")
    }
}

impl Drop for Survivor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// A file for what a command writes.
fn scratch() -> io::Result<(tempfile::TempDir, PathBuf)> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("out");
    Ok((directory, file))
}
