//! Network namespaces: making, entering, emptying and removing them.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::command;

/// Where `ip netns` keeps its names.
const NETNS_DIR: &str = "/run/netns";
/// How long a killed process may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(10);

fn path(netns: &str) -> PathBuf {
    PathBuf::from(NETNS_DIR).join(netns)
}

/// Makes a namespace with its loopback up.
pub(super) fn add(netns: &str) -> anyhow::Result<()> {
    command::run(
        command::of_lab(netns, "ip").args(["netns", "add", netns]),
        "",
    )?;
    command::ip_batch(netns, "link set lo up")
}

/// The namespaces whose names begin with `prefix`.
pub(super) fn with_prefix(prefix: &str) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(NETNS_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {NETNS_DIR}")),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Ends every process of the lab `id` and removes its namespaces. Goes on after a failure and
/// reports the first.
pub(super) fn remove_all(id: &str) -> anyhow::Result<()> {
    let prefix = format!("{id}-");
    let mut result = kill_processes(id, &with_prefix(&prefix)?);
    for netns in &with_prefix(&prefix)? {
        let removed = command::run(Command::new("ip").args(["netns", "delete", netns]), "");
        result = result.and(removed.map(drop));
    }
    result
}

/// Ends every process of the lab `id` in the namespace.
pub(super) fn kill_all(id: &str, netns: &str) -> anyhow::Result<()> {
    let inode = inode(netns).with_context(|| format!("no network namespace {netns}"))?;
    kill_until_gone(netns, || {
        in_namespaces(std::slice::from_ref(&inode), id, false)
    })
}

/// Removes the namespace.
pub(super) fn remove(netns: &str) -> anyhow::Result<()> {
    command::run(Command::new("ip").args(["netns", "delete", netns]), "").map(drop)
}

/// Runs `f` in a thread of its own that has entered the namespace.
///
/// # Errors
/// When the namespace does not exist or cannot be entered (root can), or `f` fails.
pub(super) fn within<T: Send>(
    netns: &str,
    f: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let file = File::open(path(netns)).with_context(|| format!("no network namespace {netns}"))?;
    let enter = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the network namespace {netns}"))?;
        f()
    };
    thread::scope(|scope| scope.spawn(enter).join())
        .map_err(|_| anyhow!("a thread in the network namespace {netns} panicked"))?
}

/// Sets sysctls, given as path under `/proc/sys` and value, in the namespace.
pub(super) fn set_sysctls(netns: &str, values: &[(&str, &str)]) -> anyhow::Result<()> {
    within(netns, || {
        for (name, value) in values {
            fs::write(format!("/proc/sys/{name}"), value)
                .with_context(|| format!("cannot set the sysctl {name} to {value} in {netns}"))?;
        }
        Ok(())
    })
}

/// The namespace as `/proc/PID/ns/net` shows it.
fn inode(netns: &str) -> Option<String> {
    let metadata = fs::metadata(path(netns)).ok()?;
    Some(format!("net:[{}]", metadata.ino()))
}

/// The processes in any of the namespaces and, if `started`, those started for the lab `id`; this
/// one excepted.
fn in_namespaces(inodes: &[String], id: &str, started: bool) -> anyhow::Result<Vec<Pid>> {
    let mark = format!("{}={id}", command::LAB_VARIABLE).into_bytes();
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end at any moment; one without a namespace link is a zombie.
        let Ok(netns) = fs::read_link(entry.path().join("ns/net")) else {
            continue;
        };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let mut variables = environment.split(|&byte| byte == 0);
        let here = inodes
            .iter()
            .any(|inode| netns.as_os_str() == inode.as_str());
        if (here || started && variables.any(|variable| variable == mark))
            && let Some(pid) = Pid::from_raw(pid)
            && pid != rustix::process::getpid()
        {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Kills every process of the lab and waits until they are gone.
fn kill_processes(id: &str, names: &[String]) -> anyhow::Result<()> {
    let inodes: Vec<String> = names.iter().filter_map(|netns| inode(netns)).collect();
    kill_until_gone(&format!("the lab {id}"), || {
        in_namespaces(&inodes, id, true)
    })
}

fn kill_until_gone(
    whose: &str,
    processes: impl Fn() -> anyhow::Result<Vec<Pid>>,
) -> anyhow::Result<()> {
    let limit = Instant::now() + KILL_LIMIT;
    loop {
        let pids = processes()?;
        if pids.is_empty() {
            return Ok(());
        }
        for &pid in &pids {
            // It may be gone already; what stays is seen in the next round.
            let _ = kill_process(pid, Signal::KILL);
        }
        if Instant::now() > limit {
            return Err(anyhow!("processes {pids:?} of {whose} do not end"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
