//! Netfilter links in the network namespaces that have rules, and in no others.
//!
//! One thread owns the links. It hears from the node's watch which namespaces appear and vanish and where
//! rules changed, and from the reader of the ring which namespace showed a packet that passes netfilter hooks
//! although nothing is linked there. In between it looks by itself whether a namespace got rules: at the young
//! ones in every round, for no more than a hundredth of a CPU, and at one of the others each second.
//!
//! Links keep their namespace alive. Nothing else here does: namespaces are entered by a thread
//! that ends, their rules are asked over a socket that is closed. When one is gone for everybody else
//! its links are dropped, and with them the namespace. Links whose rules are gone stay.

mod schedule;

use std::{
    collections::BTreeSet,
    io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    clock, limits,
    netfilter::{Links, Programs},
    rules,
};
use crate::{
    node::{
        cluster::Access,
        inventory::Entry,
        netns::{self, NetnsError},
        pods::HostRoot,
        watch::{Change, Requests, Watch, WatchError},
    },
    privilege::{self, Role},
    source::Notice,
};
use schedule::Schedule;

/// Between two looks at namespaces without links.
const PERIOD: Duration = Duration::from_millis(300);
/// How long such a look may go on: a hundredth of the period.
const BUDGET: Duration = Duration::from_millis(3);

/// The node, watched, with what its changes mean for netfilter links kept until the live source
/// takes it.
#[derive(Debug)]
pub struct Node {
    watch: Watch,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

#[derive(Debug)]
enum Message {
    Change(Change),
    /// A packet there passes netfilter hooks, and nothing is linked.
    Flagged(u32),
    Stop,
}

impl Node {
    /// Reads the node and begins to watch it; what runtimes keep of pods is below `root`.
    ///
    /// # Errors
    /// When nothing can be read.
    pub fn watch(root: HostRoot) -> Result<Self, WatchError> {
        let (sender, messages) = mpsc::channel();
        let changes = sender.clone();
        // Once nobody listens, nobody needs to know.
        let watch = Watch::start(root, move |change| {
            drop(changes.send(Message::Change(change)));
        })?;
        Ok(Self {
            watch,
            sender,
            messages,
        })
    }

    /// Asks the Kubernetes API as well.
    ///
    /// # Errors
    /// As [`Watch::ask_kubernetes`].
    pub fn ask_kubernetes(&mut self, access: &Access) -> io::Result<()> {
        self.watch.ask_kubernetes(access)
    }

    /// What is watched: snapshots, and requests to read a namespace again.
    #[must_use]
    pub fn watched(&self) -> &Watch {
        &self.watch
    }
}

/// The thread that owns the links. Dropping it detaches them all.
#[derive(Debug)]
pub(super) struct Coverage {
    watch: Watch,
    sender: Sender<Message>,
    notices: Notices,
    thread: Option<JoinHandle<()>>,
}

/// Notices on their way to the reader. A time in one is taken while this is locked, so who has
/// read a record of that time and then takes the notices has the notice.
type Notices = Arc<Mutex<Vec<Notice>>>;

impl Coverage {
    /// Links the programs in every namespace that has rules now; returns when that is done.
    ///
    /// Without programs there is only the node to watch.
    pub(super) fn start(programs: Option<Programs>, node: Node) -> io::Result<Self> {
        let Node {
            watch,
            sender,
            messages,
        } = node;
        let notices = Notices::default();
        let thread = programs.map(|programs| {
            let mut worker = Worker {
                programs,
                schedule: Schedule::default(),
                messages,
                notices: Arc::clone(&notices),
                requests: watch.requests(),
                denied: BTreeSet::new(),
            };
            worker.take_messages();
            privilege::with_file_access(|| worker.look_at_all())?;
            privilege::spawn("netfilter", Role::Netfilter, move || worker.run())
        });
        Ok(Self {
            watch,
            sender,
            notices,
            thread: thread.transpose()?,
        })
    }

    pub(super) fn watched(&self) -> &Watch {
        &self.watch
    }

    /// The notices since the last call.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut *lock(&self.notices))
    }

    /// Has a namespace looked at now.
    pub(super) fn flagged(&self, netns: u32) {
        // Without a worker there is nothing to do.
        let _ = self.sender.send(Message::Flagged(netns));
    }

    /// Detaches all links; returns when that is done.
    pub(super) fn stop(&mut self) {
        let _ = self.sender.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            // It panicked: its links are gone as well, and the panic was printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Coverage {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(notices: &Notices) -> std::sync::MutexGuard<'_, Vec<Notice>> {
    notices.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    programs: Programs,
    schedule: Schedule<Links>,
    messages: Receiver<Message>,
    notices: Notices,
    requests: Requests,
    /// What this process may not do: said once.
    denied: BTreeSet<String>,
}

/// What a look into a namespace led to.
enum Found {
    Linked(Links),
    NoRules,
    /// It ended.
    Gone,
    Failed(String),
    /// This process may not do it, here and wherever else that is so.
    Denied(String),
}

impl Found {
    fn error(error: &io::Error, reason: String) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied(reason)
        } else {
            Self::Failed(reason)
        }
    }
}

impl Worker {
    fn run(mut self) {
        let mut next_round = Instant::now() + PERIOD;
        loop {
            let wait = next_round.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(wait) {
                Ok(message) => {
                    if !self.take(message) || !self.take_messages() {
                        return;
                    }
                    let urgent = self.schedule.urgent(Instant::now());
                    self.look_at(&urgent, None);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next_round {
                self.round();
                next_round = Instant::now() + PERIOD;
            }
        }
    }

    /// Takes what has come; false to stop.
    fn take_messages(&mut self) -> bool {
        while let Ok(message) = self.messages.try_recv() {
            if !self.take(message) {
                return false;
            }
        }
        true
    }

    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Change(Change::Appeared(entry)) => {
                self.schedule.appeared(entry, Instant::now());
            }
            Message::Change(Change::Revisited(entry)) => self.schedule.revisited(entry),
            Message::Change(Change::RulesChanged(entry)) => {
                // One that is not there any more is in no need of links.
                self.schedule.flagged(entry.inode);
            }
            Message::Change(Change::Vanished(netns)) => self.vanished(netns),
            Message::Flagged(netns) => {
                if !self.schedule.flagged(netns) {
                    // Too new to be known; that it appeared will be heard.
                    self.requests.request(netns);
                }
            }
            Message::Stop => return false,
        }
        true
    }

    fn vanished(&mut self, netns: u32) {
        if let Some(links) = self.schedule.vanished(netns) {
            let mut notices = lock(&self.notices);
            let time = clock::now();
            notices.push(Notice::NetfilterDetached { netns, time });
            drop(notices);
            drop(links);
        }
    }

    fn look_at_all(&mut self) {
        let all = self.schedule.all(Instant::now());
        self.look_at(&all, None);
    }

    fn round(&mut self) {
        let round = self.schedule.round(Instant::now());
        self.look_at(&round, Some(BUDGET));
    }

    /// Looks whether these namespaces have rules, and links the programs where they have; at no more of them after
    /// that time.
    ///
    /// One thread enters them all, for to make one takes as long as a look; it ends, since it keeps the last alive.
    fn look_at(&mut self, namespaces: &[u32], longest: Option<Duration>) {
        let Some(&first) = namespaces.first() else {
            return;
        };
        let looked = netns::in_thread("netns", || {
            let start = Instant::now();
            for &netns in namespaces {
                self.look(netns);
                if longest.is_some_and(|longest| start.elapsed() > longest) {
                    break;
                }
            }
        });
        if let Err(error) = looked
            && self.schedule.failed(first, Instant::now())
        {
            let reason = NetnsError::Thread(error).to_string();
            self.not_seen(first, " nor in others", &reason);
        }
    }

    fn not_seen(&self, netns: u32, others: &str, reason: &str) {
        let name = self.schedule.name(netns);
        lock(&self.notices).push(Notice::Problem(format!(
            "netfilter hooks are not seen in network namespace {name}{others}: {reason}"
        )));
    }

    /// Looks whether a namespace has rules, and links the programs there if it has. Enters it with the calling
    /// thread.
    fn look(&mut self, netns: u32) {
        let now = Instant::now();
        let Some(entry) = self.schedule.begin(netns, now) else {
            return;
        };
        match enter_and_link(entry, &self.programs) {
            Found::Linked(links) => {
                self.schedule.linked(netns, links);
                let mut notices = lock(&self.notices);
                let time = clock::now();
                notices.push(Notice::NetfilterAttached { netns, time });
            }
            Found::NoRules | Found::Gone => {}
            Found::Failed(reason) => {
                if self.schedule.failed(netns, now) {
                    self.not_seen(netns, "", &reason);
                }
            }
            Found::Denied(reason) => {
                if self.schedule.failed(netns, now) && !self.denied.contains(&reason) {
                    self.not_seen(netns, " nor in others like it", &reason);
                    self.denied.insert(reason);
                }
            }
        }
    }
}

fn enter_and_link(entry: &Entry, programs: &Programs) -> Found {
    let file = match entry.open() {
        Ok(file) => file,
        Err(error) if is_gone(&error) => return Found::Gone,
        Err(error) => return Found::error(&error, format!("it cannot be opened: {error}")),
    };
    if let Err(error) = netns::enter(file.as_fd()) {
        return match &error {
            NetnsError::Enter(source) => Found::error(source, error.to_string()),
            _ => Found::Failed(error.to_string()),
        };
    }
    match rules::of_this_netns() {
        Err(error) => Found::error(error.cause(), error.to_string()),
        Ok(rules) if !rules.any() => Found::NoRules,
        Ok(_) => match link(programs) {
            Ok(links) => Found::Linked(links),
            Err(error) => Found::error(&error, refused(&error)),
        },
    }
}

fn link(programs: &Programs) -> io::Result<Links> {
    match programs.link_here() {
        Err(error) if has_too_many(&error) && limits::raise_descriptors() => programs.link_here(),
        result => result,
    }
}

fn has_too_many(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMFILE)
}

fn refused(error: &io::Error) -> String {
    let advice = if has_too_many(error) {
        "; raise the limit of open files (ulimit -n): each namespace with rules needs 20"
    } else {
        ""
    };
    format!("the kernel refuses the links: {error}{advice}")
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
