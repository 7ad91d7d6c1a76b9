//! A terminal (tmux) with a shell in it in which the tracer runs, as an operator has it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::process;

/// What the shell says when the program has ended.
const ENDED: &str = "ended with";

/// A terminal of its own.
#[derive(Debug)]
pub struct Screen {
    directory: TempDir,
}

impl Screen {
    /// Runs the tracer with those arguments on a terminal of 120 columns and 40 lines. After it, the shell
    /// says the status and how the terminal was left.
    ///
    /// # Errors
    /// When there is no tracer or no tmux.
    pub fn run(arguments: &[&str]) -> anyhow::Result<Self> {
        Self::of(&process::executable()?, arguments)
    }

    /// The same of the tracer that is there.
    ///
    /// # Errors
    /// When there is no tmux.
    pub fn of(tracer: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let screen = Self {
            directory: tempfile::tempdir()?,
        };
        let words: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "{} {}; echo {ENDED} $?; stty -a | tr ' ' '\\n' | grep -x -e icanon -e echo -e isig; sleep 600",
            tracer.display(),
            words.join(" ")
        );
        let size = ["-x", "120", "-y", "40"];
        screen.tmux(
            &[
                &["-f", "/dev/null", "new-session", "-d", "-s", "t"],
                &size[..],
                &[&script],
            ]
            .concat(),
        )?;
        Ok(screen)
    }

    /// Asks tmux.
    fn tmux(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.directory.path().join("socket"));
        command
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color");
        let output = command
            .current_dir(self.directory.path())
            .args(words)
            .output();
        let output = output.context("cannot run tmux: is it installed?")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {words:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Where the tracer runs, and writes its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Types a text.
    ///
    /// # Errors
    /// tmux's.
    pub fn types(&self, text: &str) -> anyhow::Result<()> {
        self.tmux(&["send-keys", "-t", "t", "-l", text]).map(drop)
    }

    /// Presses keys, by the names that tmux has for them.
    ///
    /// # Errors
    /// tmux's.
    pub fn presses(&self, keys: &[&str]) -> anyhow::Result<()> {
        self.tmux(&[&["send-keys", "-t", "t"], keys].concat())
            .map(drop)
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// tmux's.
    pub fn resize(&self, columns: u16, lines: u16) -> anyhow::Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-t", "t", "-x", &columns, "-y", &lines])
            .map(drop)
    }

    /// What is on the screen.
    ///
    /// # Errors
    /// tmux's.
    pub fn text(&self) -> anyhow::Result<String> {
        self.tmux(&["capture-pane", "-p", "-t", "t"])
    }

    /// The same with the escape sequences of its colours.
    ///
    /// # Errors
    /// tmux's.
    pub fn styled(&self) -> anyhow::Result<String> {
        self.tmux(&["capture-pane", "-e", "-p", "-t", "t"])
    }

    /// Waits until all of the words are on the screen.
    ///
    /// # Errors
    /// When they do not come.
    pub fn waits_for(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut text = String::new();
        process::wait_until(|| {
            text = self.text()?;
            let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
            Ok((!missing.is_empty()).then(|| format!("{missing:?} not on the screen:\n{text}")))
        })?;
        Ok(text)
    }

    /// Sends the tracer a signal.
    ///
    /// # Errors
    /// When it is not there.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let shell = self.tmux(&["display-message", "-p", "-t", "t", "#{pane_pid}"])?;
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        let child = children.split(' ').next().and_then(|pid| pid.parse().ok());
        let pid = child
            .and_then(Pid::from_raw)
            .context("the tracer does not run")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits until the tracer has ended with that status, and sees that the terminal is as it was: lines
    /// are edited and echoed, Ctrl-C interrupts, the screen and its cursor are the shell's.
    ///
    /// # Errors
    /// When it is not.
    pub fn ended(&self, status: i32) -> anyhow::Result<()> {
        let ended = format!("{ENDED} {status}");
        let text = self.waits_for(&[&ended, "icanon", "echo", "isig"])?;
        let modes = "#{alternate_on}#{mouse_any_flag}#{cursor_flag}#{bracket_paste_flag}";
        let modes = self.tmux(&["display-message", "-p", "-t", "t", modes])?;
        // Versions of tmux that do not know of pastes say nothing of them.
        let modes = modes.trim();
        ensure!(matches!(modes, "001" | "0010"), "{modes}\n{text}");
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.tmux(&["kill-server"]);
    }
}
