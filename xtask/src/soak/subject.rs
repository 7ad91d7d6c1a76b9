//! A tracer that is looked at.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tracer_tests::lab::Lab;

use super::flat::Sample;

/// How long starting and ending may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One that runs, until it is dropped.
pub(super) struct Subject {
    /// Its subcommand.
    pub(super) name: &'static str,
    child: Child,
    messages: PathBuf,
    /// Reads what it prints, for how many events it lost; without, its last message says so.
    lost: Option<JoinHandle<Option<u64>>>,
}

impl Subject {
    /// `tracer watch --json` of everything.
    ///
    /// # Errors
    /// When it does not come to watching.
    pub(super) fn watch(lab: &Lab, tracer: &Path, directory: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(tracer);
        command.args(["watch", "--json"]).stdout(Stdio::piped());
        let mut subject = Self::start("watch", lab, command, directory)?;
        let output = subject.child.stdout.take().context("no output")?;
        subject.lost = Some(thread::spawn(move || last_loss(output)));
        subject.wait_for("tracer: watching")?;
        Ok(subject)
    }

    /// `tracer record` of everything, in parts.
    ///
    /// # Errors
    /// When it does not come to recording.
    pub(super) fn record(lab: &Lab, tracer: &Path, directory: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(tracer);
        command.args(["record", "--rotate", "2M", "--keep", "3", "-o"]);
        command
            .arg(directory.join("soak.rec"))
            .stdout(Stdio::null());
        let mut subject = Self::start("record", lab, command, directory)?;
        subject.wait_for("tracer: recording")?;
        Ok(subject)
    }

    fn start(
        name: &'static str,
        lab: &Lab,
        mut command: Command,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let messages = directory.join(format!("{name}.messages"));
        let child = command
            .env("TRACER_HOST_ROOT", lab.root())
            .stdin(Stdio::null())
            .stderr(File::create(&messages)?)
            .spawn()
            .context("cannot run the tracer")?;
        Ok(Self {
            name,
            child,
            messages,
            lost: None,
        })
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.messages).unwrap_or_default()
    }

    fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !self.said().contains(text) {
            if let Some(status) = self.child.try_wait()? {
                bail!("tracer {} ended ({status}): {}", self.name, self.said());
            }
            ensure!(begin.elapsed() < LIMIT, "not ready: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// What there is to see of it now.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn look(&self) -> anyhow::Result<Sample> {
        let directory = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{directory}/status"))?;
        let memory = resident(&status);
        let descriptors = fs::read_dir(format!("{directory}/fd"))?.count();
        Ok(Sample {
            memory: memory.with_context(|| format!("tracer {} has ended", self.name))?,
            descriptors: descriptors as u64,
        })
    }

    /// Ends it as Ctrl-C does, and says how many events it lost.
    ///
    /// # Errors
    /// When it fails, does not end, or does not say that.
    pub(super) fn end(mut self) -> anyhow::Result<u64> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begin.elapsed() < LIMIT, "tracer {} does not end", self.name);
            thread::sleep(Duration::from_millis(10));
        };
        ensure!(status.success(), "tracer {}: {}", self.name, self.said());
        let lost = match self.lost.take() {
            Some(reader) => reader.join().ok().flatten(),
            None => said_lost(&self.said()),
        };
        lost.with_context(|| format!("tracer {} does not say what it lost", self.name))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the last line of statistics says.
fn last_loss(output: impl Read) -> Option<u64> {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    let last = lines
        .filter(|line| line.starts_with(r#"{"type":"stats""#))
        .last()?;
    let stats: serde_json::Value = serde_json::from_str(&last).ok()?;
    stats.get("lost")?.as_u64()
}

/// The number before `events lost`, of the last such line.
fn said_lost(messages: &str) -> Option<u64> {
    let (before, _) = messages.rsplit_once(" events lost")?;
    before.rsplit(' ').next()?.parse().ok()
}

/// `VmRSS` of `/proc/PID/status`, in KiB.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_from_the_end() {
        let lines = "{\"type\":\"stats\",\"lost\":1}\n{\"type\":\"flow\"}\n{\"type\":\"stats\",\"lost\":3}\n";
        assert_eq!(last_loss(lines.as_bytes()), Some(3));
        assert_eq!(last_loss("{\"type\":\"flow\"}\n".as_bytes()), None);
        let said = "tracer: recording\ntracer: a.rec: 12 events, 1 flows, 2 KiB, 7 events lost\n";
        assert_eq!(said_lost(said), Some(7));
        assert_eq!(said_lost("tracer: recording\n"), None);
    }

    #[test]
    fn memory_is_what_is_resident() {
        assert_eq!(
            resident("Name:\ta\nVmHWM:\t 9 kB\nVmRSS:\t  5120 kB\n"),
            Some(5120)
        );
        assert_eq!(resident("Name:\ta\n"), None);
    }
}
