//! What a tracer has in the kernel, and what is left of it: BPF objects by `bpftool`, its cgroup,
//! its guardian.
//!
//! Other tracers may come and go on the same machine meanwhile, so lists are not compared as they
//! are: an object that a living process holds is that process's, and what nobody holds is left over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::process::Pid;
use serde::Deserialize;

/// A kind of BPF object and its id. The kernel does not use ids again soon.
pub type Object = (&'static str, u64);

/// BPF objects.
pub type Objects = BTreeSet<Object>;

/// The three kinds: bpftool's word, and the line of `/proc/PID/fdinfo` that has the id.
const KINDS: [(&str, &str); 3] = [
    ("prog", "prog_id:"),
    ("map", "map_id:"),
    ("link", "link_id:"),
];

#[derive(Deserialize)]
struct Listed {
    id: u64,
    #[serde(default)]
    map_ids: Vec<u64>,
}

fn list(kind: &str) -> anyhow::Result<Vec<Listed>> {
    let output = Command::new("bpftool").args([kind, "show", "-j"]).output();
    let output = output.context("cannot run bpftool: is it installed?")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "bpftool {kind} show: {said}");
    serde_json::from_slice(&output.stdout).with_context(|| format!("bpftool {kind} show"))
}

/// All BPF objects in the kernel.
///
/// # Errors
/// When bpftool fails.
pub fn objects() -> anyhow::Result<Objects> {
    let mut all = Objects::new();
    for (kind, _) in KINDS {
        all.extend(list(kind)?.iter().map(|listed| (kind, listed.id)));
    }
    Ok(all)
}

/// The BPF objects that a process keeps alive: by its descriptors, and what these need.
///
/// # Errors
/// When bpftool fails. A process that is gone has none.
pub fn objects_of(pid: Pid) -> anyhow::Result<Objects> {
    with_maps(described(&PathBuf::from(format!(
        "/proc/{}",
        pid.as_raw_nonzero()
    ))))
}

/// The BPF objects that no process keeps alive.
///
/// # Errors
/// When bpftool fails.
pub fn orphans() -> anyhow::Result<Objects> {
    // What goes while this looks is not left over: first all, then who holds what.
    let all = objects()?;
    let mut held = Objects::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        held.extend(described(&entry.path()));
    }
    let held = with_maps(held)?;
    // And what came and went meanwhile is not left over either.
    let still = objects()?;
    Ok(all
        .into_iter()
        .filter(|object| !held.contains(object) && still.contains(object))
        .collect())
}

/// What the process's descriptors are. A link's descriptor names its program too.
fn described(process: &Path) -> Objects {
    let mut objects = Objects::new();
    let Ok(entries) = fs::read_dir(process.join("fdinfo")) else {
        return objects;
    };
    for entry in entries.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for line in text.lines() {
            for (kind, key) in KINDS {
                let id = line.strip_prefix(key).map(str::trim);
                objects.extend(id.and_then(|id| id.parse().ok()).map(|id| (kind, id)));
            }
        }
    }
    objects
}

/// With the maps of the programs.
fn with_maps(mut objects: Objects) -> anyhow::Result<Objects> {
    for program in list("prog")? {
        if objects.contains(&("prog", program.id)) {
            objects.extend(program.map_ids.iter().map(|id| ("map", *id)));
        }
    }
    Ok(objects)
}

/// The cgroups that a tracer made, by its pid.
///
/// # Errors
/// When the mounts cannot be read.
pub fn cgroups_of(pid: Pid) -> anyhow::Result<Vec<PathBuf>> {
    let prefix = format!("tracer-run-{}-", pid.as_raw_nonzero());
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found = Vec::new();
    for line in mounts.lines() {
        // 36 35 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
        let Some((_, kind)) = line.split_once(" - ") else {
            continue;
        };
        if let Some(mount) = line
            .split(' ')
            .nth(4)
            .filter(|_| kind.starts_with("cgroup2 "))
        {
            find_directories(Path::new(mount), &prefix, &mut found);
        }
    }
    Ok(found)
}

fn find_directories(below: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
    // Cgroups come and go while this looks.
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        }
        find_directories(&entry.path(), prefix, found);
    }
}

/// The children of a process that have that name.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn children(pid: Pid, name: &str) -> anyhow::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let child = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(child) = child.and_then(Pid::from_raw) else {
            continue;
        };
        let Some(stat) = Stat::of(child) else {
            continue;
        };
        if stat.parent == pid.as_raw_nonzero().get() && stat.name == name {
            found.push(child);
        }
    }
    Ok(found)
}

/// Whether the process runs: it is there, and no zombie that nobody has waited for.
#[must_use]
pub fn runs(pid: Pid) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.state != "Z")
}

/// What `/proc/PID/stat` says.
struct Stat {
    name: String,
    state: String,
    parent: i32,
}

impl Stat {
    fn of(pid: Pid) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        // 8026 (trace-guardian) S 8023 ..
        let (head, rest) = text.rsplit_once(") ")?;
        let (_, name) = head.split_once('(')?;
        let mut words = rest.split(' ');
        Some(Self {
            name: name.to_owned(),
            state: words.next()?.to_owned(),
            parent: words.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_and_its_end_noticed() -> anyhow::Result<()> {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()?;
        let (own, pid) = (rustix::process::getpid(), Pid::from_child(&child));
        super::super::process::wait_until(|| {
            let there = children(own, "cat")?.contains(&pid) && runs(pid);
            Ok((!there).then(|| "no child".to_owned()))
        })?;
        drop(child.stdin.take());
        super::super::process::wait_until(|| Ok(runs(pid).then(|| "cat does not end".to_owned())))?;
        ensure!(child.wait()?.success());
        ensure!(!runs(pid));
        Ok(())
    }
}
