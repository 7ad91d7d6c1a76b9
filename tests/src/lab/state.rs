//! What a lab leaves on disk while it stands, so that anyone can take it down.
//!
//! `/run/tracer-lab/<id>/` holds `lab.json` (the lab as a value), the IPAM plugin's files and the
//! servers' logs. A lab belongs to the process that raised it, known by pid and start time, or to
//! nobody (a person's lab, which outlives the command that raised it). Raising a lab takes down the
//! labs whose owner is dead, so a killed test run is cleaned up by the next.
//!
//! A directory appears together with its `lab.json` under a lock on `/run/tracer-lab` itself: one
//! without it, seen under the lock, is the rest of a process killed in between.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::{Config, Lab, namespace};

/// The directory of all labs.
pub const ROOT: &str = "/run/tracer-lab";
/// The lab as a value, in its directory.
const STATE_FILE: &str = "lab.json";

/// The process that a lab belongs to. A pid alone is not enough: pids are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl Owner {
    /// This process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn current() -> anyhow::Result<Self> {
        let pid = std::process::id();
        let start_time = start_time(pid).context("cannot read /proc/self/stat")?;
        Ok(Self { pid, start_time })
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// Field 22 of `/proc/<pid>/stat`; a zombie counts as dead. The process's name, in parentheses,
/// may hold anything, so fields are counted from the last parenthesis.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A lab as `lab list` shows it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The lab's id.
    pub id: String,
    /// Its variant; none when its state cannot be read.
    pub config: Option<Config>,
    /// Whom it belongs to; none: a person.
    pub owner: Option<Owner>,
}

/// What `lab.json` holds from the first moment on.
#[derive(Serialize, Deserialize)]
struct Claim {
    owner: Option<Owner>,
    config: Option<Config>,
}

/// The directory of the lab `id`.
pub(super) fn directory(id: &str) -> PathBuf {
    Path::new(ROOT).join(id)
}

/// Takes down the labs of dead owners and claims an id for a new lab.
pub(super) fn claim(owner: Owner, config: Config) -> anyhow::Result<String> {
    let _lock = lock()?;
    for id in abandoned()? {
        remove(&id).with_context(|| format!("cannot take down the abandoned lab {id}"))?;
    }
    for _ in 0..100 {
        let id = random_id();
        if !namespace::with_prefix(&format!("{id}-"))?.is_empty() {
            continue;
        }
        match fs::create_dir(directory(&id)) {
            Ok(()) => {
                let claim = Claim {
                    owner: Some(owner),
                    config: Some(config),
                };
                write(&id, &claim)?;
                return Ok(id);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot write to {ROOT}")),
        }
    }
    bail!("found no free lab id: see `cargo xtask lab list`")
}

/// The labs of dead owners, and namespaces without a lab: a process killed in the midst of raising
/// may have left a command behind that made one after the lab was taken down.
fn abandoned() -> anyhow::Result<Vec<String>> {
    let entries = entries()?;
    let mut ids: Vec<String> = namespace::with_prefix("tl")?
        .iter()
        .filter_map(|name| name.split_once('-'))
        .map(|(id, _)| id.to_owned())
        .filter(|id| is_id(id) && entries.iter().all(|entry| entry.id != *id))
        .collect();
    ids.extend(
        entries
            .into_iter()
            .filter(is_abandoned)
            .map(|entry| entry.id),
    );
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn is_abandoned(entry: &Entry) -> bool {
    match entry.owner {
        Some(owner) => !owner.is_alive(),
        None => entry.config.is_none(),
    }
}

/// `tl` and four hexadecimal digits.
fn random_id() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("tl{:04x}", random & 0xffff)
}

/// Saves the whole lab, once it stands.
pub(super) fn save(lab: &Lab) -> anyhow::Result<()> {
    write(&lab.id, lab)
}

fn write(id: &str, value: &impl Serialize) -> anyhow::Result<()> {
    let path = directory(id).join(STATE_FILE);
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec_pretty(value)?)
        .and_then(|()| fs::rename(&new, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a lab that stands.
pub(super) fn load(id: &str) -> anyhow::Result<Lab> {
    let path = directory(id).join(STATE_FILE);
    let text = fs::read(&path)
        .with_context(|| format!("there is no lab {id}: see `cargo xtask lab list`"))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("lab {id} is not fully up ({})", path.display()))
}

/// All labs of this machine, standing, being raised or abandoned.
///
/// # Errors
/// When the directory of the labs cannot be read.
pub fn list() -> anyhow::Result<Vec<Entry>> {
    entries()
}

fn entries() -> anyhow::Result<Vec<Entry>> {
    let directories = match fs::read_dir(ROOT) {
        Ok(directories) => directories,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {ROOT}")),
    };
    let mut entries = Vec::new();
    for directory in directories {
        let id = directory?.file_name().to_string_lossy().into_owned();
        if !is_id(&id) {
            continue;
        }
        let claim: Option<Claim> = fs::read(self::directory(&id).join(STATE_FILE))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        entries.push(Entry {
            id,
            config: claim.as_ref().and_then(|claim| claim.config),
            owner: claim.and_then(|claim| claim.owner),
        });
    }
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(entries)
}

/// Takes down the lab `id`: its processes, its namespaces, its directory. Safe to repeat.
///
/// # Errors
/// When something could not be removed; the rest is.
pub fn down(id: &str) -> anyhow::Result<()> {
    let _lock = lock()?;
    let result = remove(id);
    // Succeeds with the last lab only. Not in `remove`: who takes down an abandoned lab goes on to
    // make one of its own in here.
    let _ = fs::remove_dir(ROOT);
    result
}

fn remove(id: &str) -> anyhow::Result<()> {
    if !is_id(id) {
        bail!("{id:?} is not a lab's id: see `cargo xtask lab list`");
    }
    let emptied = namespace::remove_all(id);
    let removed = match fs::remove_dir_all(directory(id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory(id).display()))
        }
        _ => Ok(()),
    };
    emptied.and(removed)
}

/// Guards `remove` against an id like `..` or the empty one.
fn is_id(id: &str) -> bool {
    id.strip_prefix("tl")
        .is_some_and(|rest| rest.len() == 4 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Locks the directory of all labs, which is removed with the last lab: hence the second look.
fn lock() -> anyhow::Result<File> {
    loop {
        fs::create_dir_all(ROOT).with_context(|| format!("cannot make {ROOT}: labs need root"))?;
        let Ok(file) = File::open(ROOT) else {
            continue;
        };
        file.lock().with_context(|| format!("cannot lock {ROOT}"))?;
        let held = file.metadata()?.ino();
        if fs::metadata(ROOT).is_ok_and(|current| current.ino() == held) {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_successor_is_not() {
        let owner = Owner::current().unwrap();
        assert!(owner.is_alive());
        let successor = Owner {
            start_time: owner.start_time + 1,
            ..owner
        };
        assert!(!successor.is_alive());
    }

    #[test]
    fn only_ids_are_removed() {
        assert!(is_id("tl3f2a"));
        for hostile in ["", "..", "tl", "tl3f2a/..", "tl3f2a0", "tlxyzw"] {
            assert!(!is_id(hostile), "{hostile}");
            assert!(remove(hostile).is_err());
        }
    }

    #[test]
    fn random_ids_are_ids() {
        assert!(is_id(&random_id()));
    }
}
