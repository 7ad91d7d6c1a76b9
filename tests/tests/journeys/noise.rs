//! Traffic beside what a test is about.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tracer_tests::lab::Lab;
use tracer_tests::trace::process::wait_until;

/// Connections that are made over and over until this is dropped.
pub(crate) struct Noise {
    name: String,
    child: Child,
    log: std::path::PathBuf,
}

impl Noise {
    pub(crate) fn start(lab: &Lab, from: &str, url: &str) -> anyhow::Result<Self> {
        let name = format!("{from} {url}");
        let log = lab.directory().join(format!("noise-{from}"));
        let script = "while curl --silent --show-error --max-time 30 \"$0\"; do :; done";
        let child = lab
            .command(from, "sh")
            .args(["-c", script, url])
            .stdout(std::fs::File::create(&log)?)
            .stderr(Stdio::inherit())
            // A group of its own: the curl of the moment ends with it.
            .process_group(0)
            .spawn()?;
        Ok(Self { name, child, log })
    }

    /// How many connections were answered.
    fn answers(&self) -> anyhow::Result<usize> {
        let answers = std::fs::read_to_string(&self.log)?;
        Ok(answers.matches("server: ").count())
    }

    /// Waits until one more is.
    pub(crate) fn wait_for_one(&self) -> anyhow::Result<()> {
        let before = self.answers()?;
        wait_until(|| {
            let more = self.answers()? > before;
            Ok((!more).then(|| format!("{}: no answers", self.name)))
        })
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
