//! A virtual machine: one boot, from the first instruction to switching itself off.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::kernel::Kernel;
use crate::process;

/// The emulator.
pub(crate) const EMULATOR: &str = "qemu-system-x86_64";
/// What the kernel is told: everything to the first serial line, no waiting, no randomness, no doubt in
/// the timer, which on a busy machine may tick late, and to say where it hangs and end when a
/// processor does for a minute.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet mitigations=off nokaslr no_timer_check softlockup_panic=1 watchdog_thresh=30";
/// Two, with room for those of a small node: kernels keep track of a number of calls by kretprobes
/// that grows with the processors that there might be.
const PROCESSORS: &str = "2,maxcpus=8";
/// How often a running machine is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// What runs the machine's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accelerator {
    /// Software: works everywhere.
    #[default]
    Tcg,
    /// The processor, through /dev/kvm.
    Kvm,
}

/// What to boot, and where what it says goes.
pub(crate) struct Machine<'a> {
    /// The kernel.
    pub(crate) kernel: &'a Kernel,
    /// The initramfs.
    pub(crate) initramfs: &'a [u8],
    /// What runs it.
    pub(crate) accelerator: Accelerator,
    /// Where the files are: the initramfs, and the logs of both serial lines.
    pub(crate) directory: &'a Path,
    /// How long it may take.
    pub(crate) limit: Duration,
}

impl Machine<'_> {
    /// The log of the first serial line, for people.
    pub(crate) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// What it has written to the second serial line. A kernel that crashed may have written
    /// anything.
    pub(crate) fn results(&self) -> String {
        let written = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&written).into_owned()
    }

    fn log(&self) -> PathBuf {
        self.directory.join("results.log")
    }

    /// Boots it and waits until it is off.
    ///
    /// # Errors
    /// When qemu does not run, or the machine is not off in time: then it is ended.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let initramfs = self.directory.join("initramfs");
        fs::write(&initramfs, self.initramfs)
            .with_context(|| format!("cannot write {}", initramfs.display()))?;
        // What an earlier run wrote must not be taken for this one's.
        File::create(self.log())?;
        let errors = File::create(self.directory.join("qemu.log"))?;
        let mut command = self.command(&initramfs);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot run `{}`", process::line(&command)))?;
        let ended = self.wait(&mut child);
        fs::remove_file(&initramfs)?;
        ended
    }

    fn command(&self, initramfs: &Path) -> Command {
        let mut command = Command::new(EMULATOR);
        match self.accelerator {
            Accelerator::Tcg => {
                // The processor must have what Debian's programs are built for, and no more: every
                // further feature is emulated.
                command.args(["-accel", "tcg,thread=multi", "-cpu", "Nehalem"]);
            }
            Accelerator::Kvm => {
                command.args(["-accel", "kvm", "-cpu", "host"]);
            }
        }
        command
            .args(["-machine", "q35", "-smp", PROCESSORS, "-m", "1024"])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", COMMAND_LINE])
            .arg("-serial")
            .arg(format!("file:{}", self.console().display()))
            .arg("-serial")
            .arg(format!("file:{}", self.log().display()));
        command
    }

    fn wait(&self, child: &mut Child) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                if !status.success() {
                    let log = self.directory.join("qemu.log");
                    let said = fs::read_to_string(log).unwrap_or_default();
                    bail!("{EMULATOR} failed ({status}): {}", said.trim());
                }
                return Ok(());
            }
            if begin.elapsed() > self.limit {
                child.kill()?;
                child.wait()?;
                bail!(
                    "the machine was still running after {} s: see {}",
                    self.limit.as_secs(),
                    self.console().display()
                );
            }
            thread::sleep(INTERVAL);
        }
    }
}
