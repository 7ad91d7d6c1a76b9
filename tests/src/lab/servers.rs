//! The servers in the pods and outside: children of the process that raises the lab.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, bail};

use super::command;
use super::topology::{DNS_PORT, HTTP_PORT};

/// Names the server's executable when it is not beside the running one.
pub const SERVER_VARIABLE: &str = "TRACER_LAB_SERVER";

/// The built `lab-server`: where [`SERVER_VARIABLE`] says, else beside the running executable
/// (`cargo xtask`) or one directory up (a test in `deps/`).
pub(super) fn executable() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(SERVER_VARIABLE) {
        return Ok(path.into());
    }
    let running = std::env::current_exe().context("cannot find the running executable")?;
    running
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("lab-server"))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no lab-server near {}: run `cargo build -p tracer-tests`, or set {SERVER_VARIABLE}",
                running.display()
            )
        })
}

/// Starts a server named `name` in the namespace and waits until it listens.
pub(super) fn start(
    executable: &Path,
    netns: &str,
    name: &str,
    directory: &Path,
) -> anyhow::Result<Child> {
    let log = directory.join(format!("server-{name}.log"));
    let stderr = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let ports = [HTTP_PORT, DNS_PORT].map(|port| port.to_string());
    let arguments = [&[name.to_owned()], &ports[..]].concat();
    run((executable, &arguments), netns, name, &log, stderr)
}

/// A server that serves while this lives.
#[derive(Debug)]
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended is gone all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server that serves HTTP and DNS at one address only, and is called `name`.
pub(super) fn start_at(
    netns: &str,
    name: &str,
    address: SocketAddr,
    directory: &Path,
) -> anyhow::Result<Server> {
    let log = directory.join(format!("server-{name}.log"));
    let stderr = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    // The kernel calls a process by its file.
    let called = directory.join(name);
    if !called.exists() {
        symlink(executable()?, &called).context("cannot link to the lab's server")?;
    }
    let arguments = [
        name.to_owned(),
        address.port().to_string(),
        address.port().to_string(),
        address.ip().to_string(),
    ];
    run((&called, &arguments), netns, name, &log, stderr).map(Server)
}

fn run(
    (executable, arguments): (&Path, &[String]),
    netns: &str,
    name: &str,
    log: &Path,
    stderr: File,
) -> anyhow::Result<Child> {
    let mut child = command::in_netns(netns, executable)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        // A group of its own: Ctrl-C on the tests' terminal is not for the servers.
        .process_group(0)
        .spawn()
        .context("cannot start the lab's server")?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        // Ends with the line, or with the process.
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim() != "ready" {
        let _ = child.kill();
        let status = child.wait()?;
        let said = std::fs::read_to_string(log).unwrap_or_default();
        bail!(
            "the server of {name} did not start ({status}): {}",
            said.trim()
        );
    }
    Ok(child)
}
