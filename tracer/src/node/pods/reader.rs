//! Keeping what the files say up to date: only what has changed is read again.
//!
//! A file is known by its inode, size and time, so a look at an unchanged node costs a directory
//! listing and a `stat` for each file. The directories are watched (inotify) where that is to be
//! had, so that a pod's name is known as soon as its runtime has written it; a look each second
//! finds what the watch does not tell.

use std::{
    collections::BTreeMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::fs::inotify;

use super::{
    HostRoot, ParseError,
    combine::{Files, Found},
    files::{self, Stamp},
    identity::is_container_id,
    ipam, logs,
    oci::{self, OciContainer},
};

const RESULTS: &str = "/var/lib/cni/results";
const NETWORKS: &str = "/var/lib/cni/networks";
const LOGS: &str = "/var/log/pods";
/// containerd's tasks in Kubernetes' namespace: its own place, and those of k3s and k0s.
const CONTAINERD: [&str; 3] = [
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io",
];
const CRIO: &str = "/run/containers/storage/overlay-containers";
/// Where in a container's directory the configuration is.
const CONTAINERD_CONFIG: &str = "config.json";
const CRIO_CONFIG: &str = "userdata/config.json";
/// Networks of host-local that are looked into.
const MOST_NETWORKS: usize = 64;
/// Bytes that are read in one go; the rest is read the next time.
const BYTES: u64 = 64 << 20;

/// What was read of one directory, by file name.
type Shelf<T> = BTreeMap<String, (Stamp, Result<Option<T>, String>)>;

/// The files, read.
#[derive(Debug)]
pub(in crate::node) struct PodReader {
    root: HostRoot,
    watch: Option<OwnedFd>,
    results: Shelf<super::cni::CniResult>,
    containers: BTreeMap<&'static str, Shelf<OciContainer>>,
    networks: BTreeMap<String, Shelf<ipam::Allocation>>,
    logs: Vec<String>,
    notes: Vec<String>,
    budget: u64,
    changed: bool,
}

impl PodReader {
    pub(in crate::node) fn new(root: HostRoot) -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Self {
            root,
            // Without it, names follow by the second.
            watch: inotify::init(flags).ok(),
            results: Shelf::new(),
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            logs: Vec::new(),
            notes: Vec::new(),
            budget: 0,
            changed: false,
        }
    }

    pub(in crate::node) fn root(&self) -> &HostRoot {
        &self.root
    }

    /// Becomes readable when something has changed in a directory.
    pub(in crate::node) fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// What could not be read, for people.
    pub(in crate::node) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads what has changed, in a `round` or when something was told; whether anything has.
    pub(in crate::node) fn refresh(&mut self, round: bool) -> bool {
        if !self.forget_changes() && !round {
            return false;
        }
        self.notes.clear();
        (self.budget, self.changed) = (BYTES, false);
        self.read_results();
        for place in CONTAINERD {
            self.read_containers(place, CONTAINERD_CONFIG);
        }
        self.read_containers(CRIO, CRIO_CONFIG);
        self.read_networks();
        self.read_logs();
        self.changed
    }

    /// What the files say now.
    pub(in crate::node) fn files(&self) -> Files {
        let containers = self.containers.iter().flat_map(|(place, shelf)| {
            let config = if *place == CRIO {
                CRIO_CONFIG
            } else {
                CONTAINERD_CONFIG
            };
            shelf.iter().filter_map(move |(id, (stamp, read))| {
                let container = read.as_ref().ok()?.clone()?;
                Some(found(
                    format!("{place}/{id}/{config}"),
                    *stamp,
                    (id.clone(), container),
                ))
            })
        });
        let networks = self.networks.iter().flat_map(|(network, shelf)| {
            good(shelf, &format!("{NETWORKS}/{network}")).collect::<Vec<_>>()
        });
        let logs = self.logs.iter().filter_map(|name| {
            let stamp = Stamp::default();
            Some(found(format!("{LOGS}/{name}"), stamp, logs::parse(name)?))
        });
        Files {
            results: good(&self.results, RESULTS).collect(),
            containers: containers.collect(),
            logs: logs.collect(),
            allocations: networks.collect(),
        }
    }

    /// Whether there were any.
    fn forget_changes(&self) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(watch, &mut buffer);
        let any = events.next().is_ok();
        while events.next().is_ok() {}
        any
    }

    /// The directory and what is in it; nothing where there is none.
    fn list(&mut self, path: &str) -> Option<(OwnedFd, Vec<String>)> {
        let directory = match self.root.directory(path) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.note(path, &error);
                return None;
            }
        };
        if let Some(watch) = &self.watch {
            use inotify::WatchFlags;
            let events = WatchFlags::CREATE
                | WatchFlags::CLOSE_WRITE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_TO;
            let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
            // Too many watches, or no /proc: the look each second remains.
            let _ = inotify::add_watch(watch, path, events);
        }
        match files::names(directory.as_fd()) {
            Ok((names, all)) => {
                if !all {
                    self.notes.push(format!(
                        "pods: {path} has too many entries; some were left out"
                    ));
                }
                Some((directory, names))
            }
            Err(error) => {
                self.note(path, &error);
                None
            }
        }
    }

    fn note(&mut self, path: &str, error: &io::Error) {
        self.notes
            .push(format!("pods: {path} cannot be read: {error}"));
    }

    fn read_results(&mut self) {
        let mut shelf = std::mem::take(&mut self.results);
        let (directory, names) = self
            .list(RESULTS)
            .map_or((None, Vec::new()), |(d, n)| (Some(d), n));
        self.keep(&mut shelf, &names);
        if let Some(directory) = directory {
            for name in names {
                self.update(&mut shelf, directory.as_fd(), name, |_, bytes| {
                    super::cni::parse(bytes).map(Some)
                });
            }
        }
        self.complain(RESULTS, &shelf);
        self.results = shelf;
    }

    fn read_containers(&mut self, place: &'static str, config: &str) {
        let mut shelf = self.containers.remove(place).unwrap_or_default();
        let listed = self.list(place);
        let mut names = listed
            .as_ref()
            .map_or(Vec::new(), |(_, names)| names.clone());
        names.retain(|name| is_container_id(name));
        self.keep(&mut shelf, &names);
        for id in names {
            let Some((directory, _)) = &listed else { break };
            let path = format!("{id}/{config}");
            self.update_at(&mut shelf, directory.as_fd(), id, &path, |_, bytes| {
                oci::parse(bytes)
            });
        }
        self.complain(place, &shelf);
        self.containers.insert(place, shelf);
    }

    fn read_networks(&mut self) {
        let mut networks = std::mem::take(&mut self.networks);
        let (directory, mut names) = self
            .list(NETWORKS)
            .map_or((None, Vec::new()), |(d, n)| (Some(d), n));
        names.sort_unstable();
        names.truncate(MOST_NETWORKS);
        let before = networks.len();
        networks.retain(|network, _| names.contains(network));
        self.changed |= networks.len() != before;
        for network in names {
            let Some(directory) = &directory else { break };
            let Ok(inner) = files::inner(directory.as_fd(), &network) else {
                continue;
            };
            let Ok((mut names, _)) = files::names(inner.as_fd()) else {
                continue;
            };
            names.retain(|name| ipam::address_of(name).is_some());
            let mut shelf = networks.remove(&network).unwrap_or_default();
            self.keep(&mut shelf, &names);
            for name in names {
                self.update(&mut shelf, inner.as_fd(), name, |name, bytes| {
                    let address = ipam::address_of(name).ok_or(ParseError::Name("the address"))?;
                    ipam::parse(address, bytes).map(Some)
                });
            }
            networks.insert(network, shelf);
        }
        self.networks = networks;
    }

    fn read_logs(&mut self) {
        let mut names = self.list(LOGS).map_or(Vec::new(), |(_, names)| names);
        names.sort_unstable();
        self.changed |= names != self.logs;
        self.logs = names;
    }

    /// Forgets files that are gone.
    fn keep<T>(&mut self, shelf: &mut Shelf<T>, names: &[String]) {
        let before = shelf.len();
        let names: std::collections::BTreeSet<&String> = names.iter().collect();
        shelf.retain(|name, _| names.contains(name));
        self.changed |= shelf.len() != before;
    }

    fn update<T: PartialEq>(
        &mut self,
        shelf: &mut Shelf<T>,
        directory: BorrowedFd<'_>,
        name: String,
        parse: impl FnOnce(&str, &[u8]) -> Result<Option<T>, ParseError>,
    ) {
        let path = name.clone();
        self.update_at(shelf, directory, name, &path, parse);
    }

    /// Reads the file at `path` if it has changed, and keeps what it says under `name`.
    fn update_at<T: PartialEq>(
        &mut self,
        shelf: &mut Shelf<T>,
        directory: BorrowedFd<'_>,
        name: String,
        path: &str,
        parse: impl FnOnce(&str, &[u8]) -> Result<Option<T>, ParseError>,
    ) {
        let stamp = files::stamp(directory, path);
        if shelf.get(&name).map(|(stamp, _)| *stamp) == stamp || self.budget == 0 {
            return;
        }
        let Some((bytes, stamp)) = stamp.and_then(|_| files::read(directory, path).ok()) else {
            // No file, or none that is read, or gone meanwhile.
            self.changed |= shelf.remove(&name).is_some();
            return;
        };
        self.budget = self
            .budget
            .saturating_sub(u64::try_from(bytes.len()).unwrap_or(BYTES));
        let read = parse(&name, &bytes).map_err(|error| error.to_string());
        self.changed = true;
        shelf.insert(name, (stamp, read));
    }

    fn complain<T>(&mut self, place: &str, shelf: &Shelf<T>) {
        let mut bad = shelf
            .iter()
            .filter_map(|(name, (_, read))| Some((name, read.as_ref().err()?)));
        if let Some((name, error)) = bad.next() {
            let more = match bad.count() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            self.notes.push(format!(
                "pods: {place}/{name} is not understood: {error}{more}"
            ));
        }
    }
}

fn found<T>(place: String, stamp: Stamp, value: T) -> Found<T> {
    let written = stamp.written;
    Found {
        place,
        written,
        value,
    }
}

fn good<T: Clone>(shelf: &Shelf<T>, place: &str) -> impl Iterator<Item = Found<T>> {
    shelf.iter().filter_map(move |(name, (stamp, read))| {
        let value = read.as_ref().ok()?.clone()?;
        Some(found(format!("{place}/{name}"), *stamp, value))
    })
}
