//! Keeping what the node knows fresh while tracing.
//!
//! One thread. It wakes when the mount table changes (every runtime mounts the namespaces it
//! makes), when a runtime writes something about a pod, every second (for namespaces that only have processes), and when someone asks about a
//! number that the snapshot does not explain. While nothing is traced it wakes by time every four
//! seconds only, and with the first packet. It then looks at the inventory, which enters nothing,
//! and reads only what is new, due or asked for. Namespaces are entered by short-lived threads and
//! nothing of one stays open, so a pod that is deleted while tracing really goes.

mod schedule;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};
use tokio::sync::watch::{self, Receiver, Sender};

use self::schedule::Schedule;
use super::{
    cluster::{Access, Cluster, api::Asking},
    inventory::Entry,
    pods::HostRoot,
    read::{ReadError, Reader},
    rules::watch::{Found, RulesWatch},
    snapshot::Snapshot,
    traffic::Traffic,
};
use crate::privilege::{self, Role};

/// Between two looks that nothing but time causes.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks that the mount table causes: mounts come in bursts.
const GAP: Duration = Duration::from_millis(20);
/// Requests kept between two wake-ups.
const MAX_ASKED: usize = 4096;

/// Why the node cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The first reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The mount table, a thread or a descriptor could not be had.
    #[error("cannot watch the node for new network namespaces: {0}")]
    System(#[from] io::Error),
}

/// Something about a network namespace, in the order in which it was found.
///
/// An [`Entry`] can be opened; close it soon, it cannot end before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new; at the start, all are. It may still be empty.
    Appeared(Entry),
    /// It was just read again: the ways into it may be others.
    Revisited(Entry),
    /// Its rules are others than before: it may have its first.
    RulesChanged(Entry),
    /// No process is in it and no mount leads to it any more. References that were taken on it
    /// must be dropped for it to end. Its number may be used again from then on.
    Vanished(u32),
}

/// A snapshot that is kept fresh until this is dropped.
#[derive(Debug)]
pub struct Watch {
    snapshots: Receiver<Arc<Snapshot>>,
    requests: Requests,
    rules: Arc<RulesWatch>,
    traffic: Traffic,
    thread: Option<JoinHandle<()>>,
    asking: Option<Asking>,
}

/// Asks for a namespace to be read again. Cheap to clone and to call.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    asked: Mutex<Asked>,
    found: Mutex<FoundRules>,
    /// What the Kubernetes API says since the last wake-up.
    cluster: Mutex<Option<Arc<Cluster>>>,
    /// All rules that were found are in a snapshot.
    taken: Condvar,
    wake: OwnedFd,
}

/// Rules that were read since the last wake-up.
#[derive(Debug, Default)]
struct FoundRules {
    waiting: Vec<Found>,
    /// Others are just put into a snapshot.
    taking: bool,
}

#[derive(Debug, Default)]
struct Asked {
    inodes: BTreeSet<u32>,
    stop: bool,
}

impl Watch {
    /// Reads the node, reports every namespace there is, and goes on doing so.
    ///
    /// What runtimes keep of pods is below `root`. `on_change` is first called here, then by the watching thread; while it works, nothing is
    /// watched.
    ///
    /// # Errors
    /// When nothing can be read.
    pub fn start(
        root: HostRoot,
        on_change: impl FnMut(Change) + Send + 'static,
    ) -> Result<Self, WatchError> {
        Self::start_with(PERIOD, root, on_change)
    }

    fn start_with(
        period: Duration,
        root: HostRoot,
        on_change: impl FnMut(Change) + Send + 'static,
    ) -> Result<Self, WatchError> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io_error)?;
        let shared = Arc::new(Shared {
            asked: Mutex::default(),
            found: Mutex::default(),
            cluster: Mutex::default(),
            taken: Condvar::new(),
            wake,
        });
        let (publish, snapshots) = watch::channel(Arc::default());
        let finder = Arc::clone(&shared);
        let traffic = Traffic::default();
        let rules = Arc::new(RulesWatch::start(traffic.clone(), move |found| {
            finder.found().waiting.push(found);
            finder.wake();
        })?);
        let mut worker = Worker {
            rules: Arc::clone(&rules),
            life: BTreeMap::new(),
            lives: 0,
            reader: Reader::new(root),
            schedule: Schedule::default(),
            on_change,
            publish,
            shared: Arc::clone(&shared),
            // Opened before the first look: a change after that one is seen.
            mounts: File::open("/proc/self/mountinfo")?,
            period,
            traffic: traffic.clone(),
        };
        privilege::with_file_access(|| worker.look(BTreeSet::new(), true)).map_err(io_error)??;
        let thread = privilege::spawn("node", Role::Node, move || worker.run())?;
        Ok(Self {
            snapshots,
            requests: Requests(shared),
            rules,
            traffic,
            thread: Some(thread),
            asking: None,
        })
    }

    /// Asks the Kubernetes API as well, from now on; its names come when they come.
    ///
    /// # Errors
    /// When no thread can be had, or this was built without.
    pub fn ask_kubernetes(&mut self, access: &Access) -> io::Result<()> {
        let shared = Arc::clone(&self.requests.0);
        self.asking = Some(Asking::start(access, move |cluster| {
            *shared.cluster() = Some(Arc::new(cluster));
            shared.wake();
        })?);
        Ok(())
    }

    /// Waits until the Kubernetes API has said everything, or why not, but no longer than this. For
    /// nothing where it is not asked.
    pub fn wait_for_kubernetes(&self, longest: Duration) {
        let end = Instant::now() + longest;
        let settled = || self.snapshot().cluster().is_some_and(Cluster::is_settled);
        while self.asking.is_some() && !settled() && Instant::now() < end {
            thread::sleep(GAP);
        }
    }

    /// What is known now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The snapshots as they change.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Waits until the rules of all namespaces known by now are in the snapshot, but no longer than
    /// this.
    pub fn wait_for_rules(&self, longest: Duration) {
        let end = Instant::now() + longest;
        self.rules.wait(longest);
        let shared = &self.requests.0;
        let left = end.saturating_duration_since(Instant::now());
        let untaken = |found: &mut FoundRules| found.taking || !found.waiting.is_empty();
        // Whether it was too long does not matter: what is known is used.
        drop(
            shared
                .taken
                .wait_timeout_while(shared.found(), left, untaken),
        );
    }

    /// As [`Self::wait_for_rules`], with all changes up to now.
    pub fn wait_for_present_rules(&self, longest: Duration) {
        self.rules.look_again();
        self.wait_for_rules(longest);
    }

    /// Whether anything is traced.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Something was traced; to be told with each batch.
    pub fn traced(&self) {
        if self.traffic.came() {
            self.requests.0.wake();
            self.rules.traced();
        }
    }

    /// A handle to ask with.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.asking = None;
        self.requests.0.asked().stop = true;
        self.requests.0.wake();
        if let Some(thread) = self.thread.take() {
            // It panicked: there is nothing to stop, and the panic was printed.
            let _ = thread.join();
        }
    }
}

impl Requests {
    /// Has a namespace read again soon: an event names it, or a device in it, that the snapshot
    /// does not know. A new snapshot follows if there is anything new; asking again and again is
    /// harmless.
    pub fn request(&self, inode: u32) {
        let mut asked = self.0.asked();
        let first = asked.inodes.is_empty();
        if asked.inodes.len() < MAX_ASKED {
            asked.inodes.insert(inode);
        }
        drop(asked);
        if first {
            self.0.wake();
        }
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cluster(&self) -> MutexGuard<'_, Option<Arc<Cluster>>> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, FoundRules> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // It can only fail because the counter is at its end, and then the reader wakes anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

struct Worker<F> {
    rules: Arc<RulesWatch>,
    /// Which namespace of its number each is, and how many there were.
    life: BTreeMap<u32, u64>,
    lives: u64,
    reader: Reader,
    schedule: Schedule,
    on_change: F,
    publish: Sender<Arc<Snapshot>>,
    shared: Arc<Shared>,
    mounts: File,
    period: Duration,
    traffic: Traffic,
}

impl<F: FnMut(Change)> Worker<F> {
    fn run(mut self) {
        let mut last_look = Instant::now();
        let mut last_round = last_look;
        let mut changed = false;
        loop {
            let now = Instant::now();
            let next_round = last_round + self.traffic.pause(now, self.period);
            let mut wait = next_round.saturating_duration_since(now);
            if changed {
                wait = wait.min((last_look + GAP).saturating_duration_since(now));
            }
            wait = wait.min(self.schedule.next(now).unwrap_or(wait));
            changed |= self.wait(wait, changed);
            let asked = std::mem::take(&mut *self.shared.asked());
            if asked.stop {
                return;
            }
            self.take_cluster();
            self.take_rules();
            self.schedule.request(asked.inodes);
            let now = Instant::now();
            let asked = self.schedule.ready(now);
            let round = now >= last_round + self.traffic.pause(now, self.period);
            let told = changed && now >= last_look + GAP;
            if round || told || !asked.is_empty() {
                // What cannot be listed now may be listable at the next look.
                let _ = self.look(asked, round);
                last_look = now;
                changed = false;
            }
            if round {
                last_round = now;
            }
        }
    }

    /// Waits; whether the mount table changed, or something about pods. With that known already,
    /// pods are not waited for: what they have to say is only taken by the next look.
    fn wait(&self, longest: Duration, known: bool) -> bool {
        let pods = self.reader.pod_changes().filter(|_| !known);
        let mut events = vec![
            PollFd::new(&self.shared.wake, PollFlags::IN),
            PollFd::new(&self.mounts, PollFlags::PRI),
        ];
        events.extend(pods.iter().map(|pods| PollFd::new(pods, PollFlags::IN)));
        let longest = Timespec::try_from(longest).ok();
        let changed = match poll(&mut events, longest.as_ref()) {
            Ok(_) => events[1..].iter().any(|event| !event.revents().is_empty()),
            // A signal: look and wait again.
            Err(Errno::INTR) => false,
            Err(_) => {
                // No waiting is possible; do not spin.
                thread::sleep(GAP);
                false
            }
        };
        // Empty when something else woke.
        let _ = rustix::io::read(&self.shared.wake, &mut [0u8; 8]);
        changed
    }

    /// Looks which namespaces there are, reads what is new, asked for and, in a round, due.
    fn look(&mut self, asked: BTreeSet<u32>, round: bool) -> Result<(), ReadError> {
        let found = self.reader.look(round)?;
        for &inode in &found.vanished {
            self.schedule.vanished(inode);
            self.life.remove(&inode);
            self.rules.vanished(inode);
            (self.on_change)(Change::Vanished(inode));
        }
        for &inode in &found.appeared {
            self.schedule.appeared(inode);
            if let Some(entry) = self.reader.inventory().entries.get(&inode) {
                self.lives += 1;
                self.life.insert(inode, self.lives);
                self.rules.appeared(entry.clone(), self.lives);
            }
            self.tell(inode, Change::Appeared);
        }
        let unknown = asked.iter().filter(|inode| !self.reader.knows(**inode));
        for &inode in unknown {
            self.schedule.unknown(inode, Instant::now());
        }
        let mut again = asked;
        again.extend(found.affected);
        if round {
            let sizes: Vec<_> = self.reader.sizes().collect();
            again.extend(self.schedule.round(&sizes));
        }
        again.retain(|inode| !found.appeared.contains(inode));
        let all: Vec<u32> = found.appeared.iter().chain(&again).copied().collect();
        self.reader.read(&all)?;
        for inode in again {
            self.tell(inode, Change::Revisited);
        }
        self.publish();
        Ok(())
    }

    /// Takes what the Kubernetes API said meanwhile.
    fn take_cluster(&mut self) {
        let cluster = self.shared.cluster().take();
        if let Some(cluster) = cluster {
            self.reader.cluster_known(cluster);
            self.publish();
        }
    }

    /// Takes the rules that were read meanwhile.
    fn take_rules(&mut self) {
        let mut found = self.shared.found();
        if found.waiting.is_empty() {
            return;
        }
        found.taking = true;
        let waiting = std::mem::take(&mut found.waiting);
        drop(found);
        let mut changed = false;
        let mut others = BTreeSet::new();
        for found in waiting {
            let Found {
                netns,
                former,
                time,
                rules,
                ..
            } = found;
            // What was read of a namespace that has ended is not the next one's of its number.
            if self.life.get(&netns) == Some(&found.life) {
                changed |= self.reader.rules_read(netns, (former, time), rules);
                others.insert(netns);
            }
        }
        for netns in others {
            self.tell(netns, Change::RulesChanged);
        }
        if changed {
            self.publish();
        }
        self.shared.found().taking = false;
        self.shared.taken.notify_all();
    }

    fn publish(&self) {
        let snapshot = self.reader.snapshot();
        self.publish.send_if_modified(|published| {
            let modified = **published != snapshot;
            if modified {
                *published = Arc::new(snapshot);
            }
            modified
        });
    }

    fn tell(&mut self, inode: u32, change: impl FnOnce(Entry) -> Change) {
        if let Some(entry) = self.reader.inventory().entries.get(&inode) {
            (self.on_change)(change(entry.clone()));
        }
    }
}

fn io_error(error: Errno) -> io::Error {
    error.into()
}
