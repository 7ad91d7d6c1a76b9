//! Reading the node: from the inventory into each namespace and back out.
//!
//! One thread of its own goes from namespace to namespace, since a thread cannot be in two and the
//! caller's must stay where it is. In each it asks for the links and leaves again; nothing stays
//! open behind it. What cannot be read becomes a note, and the rest is read all the same.
//!
//! With each look at the inventory goes one at the pods (`super::pods`), since what the runtimes
//! keep names namespaces by their mounts.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    cluster::Cluster,
    inventory::{Entry, Inventory},
    links::Route,
    lives::Lives,
    netns::{self, NetnsError},
    network::Network,
    pods::{
        HostRoot, Pod, PodReader, Processes,
        combine::{Combined, Surroundings, combine},
    },
    rules::{held::Rules, live::Reading},
    snapshot::Snapshot,
    tables::{self, Table, Tables},
};
use crate::privilege;

/// Questions about ids for each namespace, on average, before the search is given up.
const QUESTIONS: usize = 20;
/// Notes about single namespaces that are shown.
const NOTES: usize = 8;

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// `/proc` said no.
    #[error("cannot list processes and mounts: {0}; /proc must be mounted")]
    Inventory(io::Error),
    /// No thread to enter namespaces with.
    #[error("cannot start a thread to read network namespaces with: {0}")]
    Thread(io::Error),
}

/// What a look at the inventory found to be different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Namespaces that are new.
    pub appeared: Vec<u32>,
    /// Namespaces that nothing refers to any more.
    pub vanished: Vec<u32>,
    /// Namespaces in which a device must have gone with its other end.
    pub affected: Vec<u32>,
}

/// What is known of the node, kept to be brought up to date piece by piece.
#[derive(Debug)]
pub struct Reader {
    inventory: Inventory,
    tables: Tables,
    notes: BTreeMap<u32, String>,
    lives: Lives,
    files: PodReader,
    processes: Processes,
    pods: Combined,
    /// What the Kubernetes API says.
    cluster: Option<Arc<Cluster>>,
    /// When the inventory was read.
    looked: u64,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(HostRoot::default())
    }
}

/// Reads the node once, with the rules of every namespace. What runtimes keep of pods is below `root`.
///
/// # Errors
/// When not even the list of namespaces can be read.
pub fn read(root: HostRoot) -> Result<Snapshot, ReadError> {
    let mut reader = Reader::new(root);
    let read = privilege::with_file_access(|| {
        let found = reader.look(true)?;
        reader.read(&found.appeared)?;
        let entries: Vec<_> = reader.inventory.entries.values().cloned().collect();
        for entry in entries {
            // One that cannot be entered is gone, or noted by who reads its devices.
            let Ok(file) = entry.open() else { continue };
            let time = clock();
            let reading = netns::in_netns(file.as_fd(), || Reading::default().again());
            if let Ok(Some(reading)) = reading {
                reader.rules_read(entry.inode, (0, time), reading.rules);
            }
        }
        Ok(())
    });
    read.map_err(|errno| ReadError::Inventory(errno.into()))??;
    Ok(reader.snapshot())
}

impl Reader {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new(root: HostRoot) -> Self {
        Self {
            inventory: Inventory::default(),
            tables: Tables::new(),
            notes: BTreeMap::new(),
            lives: Lives::default(),
            files: PodReader::new(root),
            processes: Processes::new(),
            pods: Combined::default(),
            cluster: None,
            looked: 0,
        }
    }

    /// Looks which namespaces and pods there are, without entering any. In a `round`, once a
    /// second, all that is known of pods is looked at; else only what is new or was told.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn look(&mut self, round: bool) -> Result<Difference, ReadError> {
        let now = Inventory::read().map_err(ReadError::Inventory)?;
        let time = clock();
        let difference = self.take(now, time);
        let changed = !difference.appeared.is_empty() || !difference.vanished.is_empty();
        self.look_at_pods(round, changed, time);
        self.looked = time;
        Ok(difference)
    }

    /// The pods that the last look found.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods.pods
    }

    /// Becomes readable when a look would find something new about pods.
    #[must_use]
    pub fn pod_changes(&self) -> Option<BorrowedFd<'_>> {
        self.files.changes()
    }

    fn look_at_pods(&mut self, round: bool, changed: bool, time: u64) {
        let files = self.files.refresh(round);
        let processes = self.processes.refresh(self.inventory.processes(), round);
        // In a round also what only a mount changes: a name for a namespace that is known.
        if round || changed || files || processes {
            self.pods = self.find_pods();
        }
        for (inode, _) in self.lives.replaced(&self.pods.pods) {
            if let Some(entry) = self.inventory.entries.get(&inode) {
                let before = tables::namespace(entry, &self.tables, &self.lives);
                self.lives.replace(before, time);
            }
        }
        self.lives.belong_to(&self.pods.pods);
    }

    fn find_pods(&self) -> Combined {
        let root = self.files.root();
        let entries = self.inventory.entries.values();
        let mounts: HashMap<String, u32> = entries
            .flat_map(|entry| {
                let paths = entry.mounts.iter().filter_map(|path| path.to_str());
                paths.map(|path| (root.on_node(path), entry.inode))
            })
            .collect();
        let initial = self.inventory.entries.values().find(|entry| entry.initial);
        let surroundings = Surroundings {
            netns_at: &|path| mounts.get(&root.on_node(path)).copied(),
            initial: initial.map_or(0, |entry| entry.inode),
            processes: &self.processes.of_pods(),
        };
        combine(&self.files.files(), &surroundings)
    }

    fn take(&mut self, now: Inventory, time: u64) -> Difference {
        let before = std::mem::replace(&mut self.inventory, now);
        let appeared = missing(&self.inventory, &before);
        let vanished = missing(&before, &self.inventory);
        for inode in &vanished {
            if let Some(entry) = before.entries.get(inode) {
                let namespace = tables::namespace(entry, &self.tables, &self.lives);
                self.lives.ended(namespace, self.looked, time);
            }
        }
        for inode in &appeared {
            self.lives.began(*inode, time);
        }
        let names = |table: &Table| table.ids.values().any(|inode| vanished.contains(inode));
        let affected = self.tables.iter().filter(|(_, table)| names(table));
        let affected = affected.map(|(&inode, _)| inode).collect();
        tables::forget(&mut self.tables, &vanished);
        self.notes.retain(|inode, _| !vanished.contains(inode));
        Difference {
            appeared,
            vanished,
            affected,
        }
    }

    /// Reads these namespaces' devices (again), and those of namespaces that turn out to have new
    /// devices as the other ends of theirs.
    ///
    /// # Errors
    /// When no thread can be started. What cannot be read is a note.
    pub fn read(&mut self, inodes: &[u32]) -> Result<(), ReadError> {
        let work = || {
            let stale = self.read_here(inodes);
            if !stale.is_empty() {
                self.read_here(&stale);
            }
        };
        netns::in_thread("netns", work).map_err(ReadError::Thread)
    }

    /// What is known now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut notes: Vec<String> = self.notes.values().take(NOTES).cloned().collect();
        if self.notes.len() > NOTES {
            let more = self.notes.len() - NOTES;
            notes.push(format!(
                "and {more} more network namespaces could not be read"
            ));
        }
        notes.extend(self.files.notes().iter().cloned());
        notes.extend(notes_on(&self.pods));
        let pods: &[Pod] = &self.pods.pods;
        notes.extend(self.lives.notes_on_rules().take(NOTES));
        let known = (&self.lives, pods, self.cluster.clone());
        tables::snapshot(&self.inventory, &self.tables, known, &notes)
    }

    /// The Kubernetes API says something else now.
    pub fn cluster_known(&mut self, cluster: Arc<Cluster>) {
        self.cluster = Some(cluster);
    }

    /// A namespace's rules were read, and those of before were seen to hold at the time `former`. Returns whether
    /// they are others than before.
    pub fn rules_read(
        &mut self,
        netns: u32,
        (former, time): (u64, u64),
        rules: Arc<Rules>,
    ) -> bool {
        self.lives.rules_read(netns, (former, time), rules)
    }

    /// The namespaces that exist.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Whether a namespace exists.
    #[must_use]
    pub fn knows(&self, inode: u32) -> bool {
        self.inventory.entries.contains_key(&inode)
    }

    /// The namespaces in order of inode, with how many devices are known in each.
    pub fn sizes(&self) -> impl Iterator<Item = (u32, usize)> {
        let known = |inode| self.tables.get(inode).map_or(0, |table| table.links.len());
        self.inventory
            .entries
            .keys()
            .map(move |inode| (*inode, known(inode)))
    }

    /// Reads by entering with the calling thread. Returns the namespaces whose table lacks a device
    /// that one of these names as its other end.
    fn read_here(&mut self, inodes: &[u32]) -> Vec<u32> {
        let mut changed = false;
        for &inode in inodes {
            let Some(entry) = self.inventory.entries.get(&inode) else {
                continue;
            };
            let read = enter(entry).and_then(|route| Ok((route.links()?, Network::read())));
            match read {
                Ok((links, network)) => {
                    self.notes.remove(&inode);
                    let table = self.tables.entry(inode).or_default();
                    changed |= table.links != links;
                    table.links = links;
                    table.network = network;
                }
                // It ended since the inventory was taken.
                Err(NetnsError::Open { source, .. }) if is_gone(&source) => {}
                Err(error) => {
                    let name = entry.names.first().cloned();
                    let name = name.unwrap_or_else(|| format!("net:{inode}"));
                    self.notes
                        .insert(inode, format!("network namespace {name}: {error}"));
                }
            }
        }
        if changed {
            self.learn_ids();
        }
        self.stale(inodes)
    }

    /// Finds out which namespaces the ids mean that links name.
    fn learn_ids(&mut self) {
        let order = tables::largest_first(&self.tables);
        for &inode in &order {
            tables::learn_by_symmetry(&mut self.tables, inode);
        }
        let mut questions = QUESTIONS * (order.len() + QUESTIONS);
        for &inode in &order {
            let unknown = self.tables.get(&inode).map(Table::unknown_ids);
            if let Some(unknown) = unknown.filter(|ids| !ids.is_empty())
                && let Some(entry) = self.inventory.entries.get(&inode)
                && let Ok(route) = enter(entry)
            {
                let others = order.iter().filter(|&&other| other != inode);
                let ids = self.ask_ids(&route, unknown, others, &mut questions);
                if let Some(table) = self.tables.get_mut(&inode) {
                    table.ids.extend(ids);
                }
                tables::learn_by_symmetry(&mut self.tables, inode);
            }
        }
    }

    /// Asks for the ids of the other namespaces until the unknown ones are known.
    fn ask_ids<'a>(
        &self,
        route: &Route,
        unknown: Vec<i32>,
        others: impl Iterator<Item = &'a u32>,
        questions: &mut usize,
    ) -> Vec<(i32, u32)> {
        let mut unknown: BTreeSet<i32> = unknown.into_iter().collect();
        let mut found = Vec::new();
        for &other in others {
            if unknown.is_empty() || *questions == 0 {
                break;
            }
            *questions -= 1;
            let file = self.inventory.entries.get(&other).map(Entry::open);
            if let Some(Ok(file)) = file
                && let Ok(Some(id)) = route.id_of(file.as_fd())
                && unknown.remove(&id)
            {
                found.push((id, other));
            }
        }
        found
    }

    fn stale(&self, inodes: &[u32]) -> Vec<u32> {
        let tables = inodes
            .iter()
            .filter_map(|inode| Some((*inode, self.tables.get(inode)?)));
        let peers = tables.flat_map(|(inode, table)| table.veth_peers(inode));
        let lacks = |peer: &super::link::LinkId| {
            let table = self.tables.get(&peer.netns);
            table.is_some_and(|table| !table.links.contains_key(&peer.index))
        };
        let stale = peers
            .filter(|(_, peer)| lacks(peer))
            .map(|(_, peer)| peer.netns);
        stale
            .filter(|inode| !inodes.contains(inode))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }
}

/// What is to be said of pods that could not be listed.
fn notes_on(pods: &Combined) -> Vec<String> {
    let mut notes = Vec::new();
    if pods.nameless > 0 {
        notes.push(format!(
            "pods: {} run whose names are not known: only their cgroups are seen, which have no \
             names; in a container, mount the node's root and set TRACER_HOST_ROOT",
            pods.nameless
        ));
    }
    if pods.absent > 0 {
        notes.push(format!(
            "pods: {} that the runtime or libcni keeps a record of are not seen to run",
            pods.absent
        ));
    }
    notes
}

/// Nanoseconds of `CLOCK_MONOTONIC`, as in the kernel's records.
pub(super) fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// The namespaces in `these` that are not in `others`.
fn missing(these: &Inventory, others: &Inventory) -> Vec<u32> {
    let in_others = |entry: &Entry| {
        let other = others.entries.get(&entry.inode);
        other.is_some_and(|other| entry.is_same(other))
    };
    let entries = these.entries.values().filter(|entry| !in_others(entry));
    entries.map(|entry| entry.inode).collect()
}

/// Enters with the calling thread and opens a socket there.
fn enter(entry: &Entry) -> Result<Route, NetnsError> {
    let file = entry.open().map_err(|source| NetnsError::Open {
        path: entry.mounts.first().cloned().unwrap_or_default(),
        source,
    })?;
    netns::enter(file.as_fd())?;
    Ok(Route::open()?)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
