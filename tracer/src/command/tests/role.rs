//! This test program, run again as a tracer of its own that can be killed.

use std::{
    env,
    io::{BufRead, BufReader, Lines},
    process::{self, Child, ChildStdout, Command, ExitStatus, Stdio},
};

use super::*;

/// Says what [`play`] is to be.
const ROLE: &str = "TRACER_COMMAND_TEST_ROLE";
/// A script for the command.
const SCRIPT: &str = "TRACER_COMMAND_TEST_SCRIPT";

/// Not a test of its own: what another process runs.
#[tokio::test]
async fn play() {
    match env::var(ROLE).as_deref() {
        // Runs the command, with its output as with `--json`.
        Ok("run") => {
            let mut running = announce().start().unwrap();
            println!("command {}", running.pid().unwrap());
            let code = exit_code(running.wait().await.unwrap());
            println!("ended {code}");
            wait_for_end();
            running.close().unwrap();
            process::exit(code.into());
        }
        // Prepares the command, and waits.
        Ok("prepare") => {
            let _prepared = announce();
            wait_for_end();
        }
        // Prepares and starts commands without end.
        Ok("repeat") => {
            println!("repeating");
            loop {
                Prepared::new(options()).unwrap().start().unwrap();
            }
        }
        // Says why the command cannot be prepared.
        Ok("fail") => println!("error {}", Prepared::new(options()).unwrap_err()),
        _ => {}
    }
}

fn options() -> Options {
    Options {
        stdout_to_stderr: true,
        ..shell(&env::var(SCRIPT).unwrap(), Path::new(""))
    }
}

fn announce() -> Prepared {
    let prepared = Prepared::new(options()).unwrap();
    println!("cgroup {}", prepared.leaf.path().display());
    println!(
        "guardian {}",
        prepared.leaf.guardian().unwrap().as_raw_nonzero()
    );
    prepared
}

fn wait_for_end() {
    io::stdin().read_line(&mut String::new()).unwrap();
}

/// A tracer that this process has started. Killed at the end, if it lives.
pub(super) struct Tracer {
    pub(super) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tracer {
    pub(super) fn start(role: &str, script: &str) -> Self {
        Self::start_by(&[], role, script).unwrap()
    }

    /// Behind the words of another command, such as `unshare -m`.
    pub(super) fn start_by(words: &[&str], role: &str, script: &str) -> io::Result<Self> {
        Self::spawn(&mut Self::command(words, role, script)?)
    }

    /// What to spawn it with.
    pub(super) fn command(words: &[&str], role: &str, script: &str) -> io::Result<Command> {
        let program = env::current_exe()?;
        let mut command = match words {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(["--exact", "command::tests::role::play", "--nocapture"]);
        command.env(ROLE, role).env(SCRIPT, script);
        Ok(command)
    }

    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Ok(Self { child, lines })
    }

    /// What stands after `word` on the next line that begins with it.
    pub(super) fn hear(&mut self, word: &str) -> String {
        let mut heard = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            // The test program's own words may stand before, on the first line.
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
            heard.push(line);
        }
        panic!("the tracer did not say {word:?} but {heard:?}");
    }

    /// Lets it say the rest.
    pub(super) fn hear_out(&mut self) {
        self.lines.by_ref().for_each(drop);
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Lets it go on from where it waits.
    pub(super) fn go_on(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
