//! Running the built tracer as an operator does.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::json::Trace;
use super::recording::Recording;
use crate::lab::Lab;

/// Names the `tracer` to test.
pub const TRACER_VARIABLE: &str = "TRACER_BIN";
/// How long anything may take that normally takes a second or two.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The tracer to test: what [`TRACER_VARIABLE`] says, else what was built beside this test.
///
/// # Errors
/// When there is none.
pub fn executable() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(TRACER_VARIABLE) {
        return Ok(path.into());
    }
    let running = std::env::current_exe().context("cannot find the running executable")?;
    // <target>/<profile>/deps/<test>
    let target = running.ancestors().nth(3).context("no target directory")?;
    let built = |path: &PathBuf| path.metadata().and_then(|it| it.modified()).ok();
    ["release", "debug"]
        .map(|profile| target.join(profile).join("tracer"))
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(built)
        .with_context(|| {
            format!(
                "no tracer to test: run `cargo build --release -p tracer`, or set {TRACER_VARIABLE}"
            )
        })
}

/// Copies a program to be executed.
///
/// By another process: a child that this one forks meanwhile would have the copy open for writing for
/// a moment, in which it cannot be executed.
///
/// # Errors
/// When it cannot be copied.
pub fn copy_program(from: impl AsRef<OsStr>, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp: {status}");
    Ok(())
}

/// A command that runs the tracer.
///
/// # Errors
/// As [`executable`].
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Command> {
    let mut command = Command::new(executable()?);
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// A command that runs the tracer with what a lab's nodes keep of their pods.
///
/// # Errors
/// As [`executable`].
pub fn command_in<S: AsRef<OsStr>>(
    lab: &Lab,
    arguments: impl IntoIterator<Item = S>,
) -> anyhow::Result<Command> {
    let mut command = command(arguments)?;
    command.env("TRACER_HOST_ROOT", lab.root());
    Ok(command)
}

/// What a tracer that has ended wrote, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Its output as JSON lines.
    ///
    /// # Errors
    /// When a line is anything else.
    pub fn trace(&self) -> anyhow::Result<Trace> {
        Trace::read(self.stdout.lines()).with_context(|| format!("stderr: {}", self.stderr))
    }
}

impl TryFrom<Output> for Ended {
    type Error = anyhow::Error;

    fn try_from(output: Output) -> anyhow::Result<Self> {
        Ok(Self {
            status: output.status,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }
}

/// Runs the tracer with those arguments to its end. `run --json` records as well, and the recording
/// must say the same.
///
/// # Errors
/// When it cannot be run, or when the recording says something else; how it ends is for the caller
/// to judge.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Ended> {
    let mut arguments: Vec<OsString> = arguments
        .into_iter()
        .map(|argument| argument.as_ref().to_owned())
        .collect();
    let runs = arguments.first().is_some_and(|word| word == "run");
    let own = || arguments.iter().take_while(|word| *word != "--");
    let has = |option: &str| own().any(|word| word == option);
    let recording = if runs && has("--json") && !has("--record") {
        let recording = Recording::new()?;
        arguments.splice(1..1, recording.arguments());
        Some(recording)
    } else {
        None
    };
    let ended: Ended = command(arguments)?.output()?.try_into()?;
    if let Some(recording) = recording {
        recording.check(&ended)?;
    }
    Ok(ended)
}

/// A tracer that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    messages: Receiver<String>,
    said: String,
    recording: Option<Recording>,
}

impl Running {
    /// Starts the command.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run the tracer")?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("the tracer has no output");
        };
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || forward_lines(stderr, &sender));
        let output = Arc::new(Mutex::new(String::new()));
        let reader = thread::spawn({
            let output = Arc::clone(&output);
            move || collect(stdout, &output)
        });
        Ok(Self {
            child,
            stdout: output,
            reader: Some(reader),
            messages,
            said: String::new(),
            recording: None,
        })
    }

    /// Starts `tracer watch` with those arguments and waits until it watches. With `--json` as the
    /// first of them it records as well, and at its end the recording must say the same.
    ///
    /// # Errors
    /// When it does not come to that: what it said.
    pub fn watch<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Self> {
        Self::watching(command(["watch"])?, arguments)
    }

    /// As [`Self::watch`], with what a lab's nodes keep of their pods.
    ///
    /// # Errors
    /// As [`Self::watch`].
    pub fn watch_in<S: AsRef<OsStr>>(
        lab: &Lab,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Self> {
        Self::watching(command_in(lab, ["watch"])?, arguments)
    }

    fn watching<S: AsRef<OsStr>>(
        mut command: Command,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Self> {
        let mut arguments = arguments.into_iter().peekable();
        let json = arguments
            .peek()
            .is_some_and(|first| first.as_ref() == "--json");
        let recording = json.then(Recording::new).transpose()?;
        command.args(recording.iter().flat_map(Recording::arguments));
        command.args(arguments);
        let mut running = Self::start(command)?;
        running.recording = recording;
        running.wait_for("tracer: watching")?;
        Ok(running)
    }

    /// Waits until a line with that text comes on stderr, and returns it.
    ///
    /// # Errors
    /// When none comes: what came instead.
    pub fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        let limit = Instant::now() + LIMIT;
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            let Ok(line) = self.messages.recv_timeout(left) else {
                bail!("the tracer did not say {text:?} but: {}", self.said);
            };
            self.said += &line;
            self.said.push('\n');
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    /// What it has written on stdout so far, in whole lines.
    #[must_use]
    pub fn output(&self) -> String {
        let output = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        output.clone()
    }

    /// Its process.
    ///
    /// # Panics
    /// Never: a child has a pid.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended and was waited for.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid(), signal).context("the tracer is gone")
    }

    /// Its standard input, if that was piped: what is dropped ends it.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Interrupts it as Ctrl-C does and waits for its end.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn interrupt(self) -> anyhow::Result<Ended> {
        self.signal(Signal::INT)?;
        self.wait()
    }

    /// Interrupts a watching tracer and returns what it saw.
    ///
    /// # Errors
    /// As [`Self::wait`], and when it fails or prints something else than JSON lines.
    pub fn stop(self) -> anyhow::Result<Trace> {
        let ended = self.interrupt()?;
        ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
        ended.trace()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within [`LIMIT`].
    pub fn wait(mut self) -> anyhow::Result<Ended> {
        let limit = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < limit, "the tracer does not end");
            thread::sleep(Duration::from_millis(5));
        };
        // Whoever inherited its output keeps the pipes open, so not until they are closed.
        let reader = self.reader.take().context("waited for already")?;
        reader.join().ok().context("the output's reader panicked")?;
        let stdout = self.output();
        let mut stderr = std::mem::take(&mut self.said);
        for line in &self.messages {
            stderr += &line;
            stderr.push('\n');
        }
        let ended = Ended {
            status,
            stdout,
            stderr,
        };
        if let Some(recording) = self.recording.take() {
            recording.check(&ended)?;
        }
        Ok(ended)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(from: impl Read, to: &Mutex<String>) {
    // What is no text is no JSON either: then the rest is missing, and its end is no JSON.
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        let mut output = to.lock().unwrap_or_else(PoisonError::into_inner);
        output.push_str(&line);
        output.push('\n');
    }
}

fn forward_lines(from: impl Read, to: &mpsc::Sender<String>) {
    let mut lines = BufReader::new(from).lines().map_while(Result::ok);
    while let Some(line) = lines.next()
        && to.send(line).is_ok()
    {}
}

/// A filter for everything in a lab.
#[must_use]
pub fn whole_lab(lab: &Lab) -> String {
    let mut names = vec![lab.netns("switch"), lab.outside().netns.clone()];
    names.extend(lab.nodes().iter().map(|node| node.netns.clone()));
    names.extend(lab.pods().iter().map(|pod| pod.netns.clone()));
    let terms: Vec<String> = names.iter().map(|name| format!("netns {name}")).collect();
    terms.join(" or ")
}

/// Waits until the condition holds.
///
/// # Errors
/// When it does not within [`LIMIT`], with what it said last; and the condition's own.
pub fn wait_until(mut unmet: impl FnMut() -> anyhow::Result<Option<String>>) -> anyhow::Result<()> {
    let limit = Instant::now() + LIMIT;
    loop {
        match unmet()? {
            None => return Ok(()),
            Some(what) if Instant::now() > limit => bail!("{what}"),
            Some(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}
