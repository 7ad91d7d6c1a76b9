//! What is traced is recorded as well, and the recording must say the same to somebody else.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::process::{self, Ended};

/// The user and group that nothing belongs to.
const NOBODY: &str = "65534";

/// A recording in the making.
#[derive(Debug)]
pub struct Recording {
    directory: tempfile::TempDir,
}

impl Recording {
    /// Makes room for it.
    ///
    /// # Errors
    /// When no directory can be made.
    pub fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        // Whoever reads it is somebody else.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        Ok(Self { directory })
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("recording")
    }

    /// What makes a tracer record.
    #[must_use]
    pub fn arguments(&self) -> [OsString; 2] {
        ["--record".into(), self.path().into()]
    }

    /// Compares it with what the tracer printed. One that could not start left none.
    ///
    /// # Errors
    /// When it says something else: the first line that differs.
    pub fn check(&self, live: &Ended) -> anyhow::Result<()> {
        let path = self.path();
        if !path.exists() && !live.status.success() {
            return Ok(());
        }
        if live.status.code().is_none() {
            // Killed: what was recorded until then is another test's.
            return Ok(());
        }
        let replayed = replay(&path, &["--json"])?;
        ensure!(replayed.status.success(), "replay: {}", replayed.stderr);
        let (mut lines, mut others) = (live.stdout.lines(), replayed.stdout.lines());
        loop {
            match (lines.next(), others.next()) {
                (None, None) => return Ok(()),
                (one, other) if one == other => {}
                (one, other) => bail!("the replay differs:\nlive     {one:?}\nreplayed {other:?}"),
            }
        }
    }
}

/// Replays a recording as a user without any privilege, in a network namespace where nothing is.
///
/// # Errors
/// When that user or namespace cannot be had; how the tracer ends is for the caller to judge.
pub fn replay(path: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
    // Recordings are for their owner's eyes only.
    ensure!(fs::metadata(path)?.permissions().mode() & 0o077 == 0);
    fs::set_permissions(path, Permissions::from_mode(0o644))?;
    // Everybody may run the copy: a home's files are often their owner's only.
    let copy = path.with_extension("tracer");
    process::copy_program(process::executable()?, &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    let mut command = Command::new("unshare");
    command.args(["--net", "setpriv", "--clear-groups", "--no-new-privs"]);
    command.args([
        "--inh-caps=-all",
        "--ambient-caps=-all",
        "--bounding-set=-all",
    ]);
    command.args([format!("--regid={NOBODY}"), format!("--reuid={NOBODY}")]);
    command.arg(copy).arg("replay").args(arguments);
    let output = command.arg(path).output().context("cannot run unshare")?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    output.try_into()
}
