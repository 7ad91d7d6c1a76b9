//! Keeping the rules of all namespaces known while tracing.
//!
//! One thread, apart from the one that watches namespaces, since listing many rules takes a program
//! seconds. It looks several times a second where there are rules, and goes through the other
//! namespaces in turn. A look at a namespace is some system calls ([`super::live`]); where it costs
//! more, looks become rarer, so that together they stay below a few hundredths of a CPU. While nothing is traced,
//! rules that have not changed of late are looked at every two seconds; with the first packet as before.
//!
//! Namespaces are entered by a thread that ends, and nothing of one stays open.
//!
//! A program that is just being asked is not waited for at the end, which it could keep for half a minute: the
//! thread then ends by itself, or with the process.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    os::fd::AsFd as _,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{held::Rules, live::Reading};
use crate::{
    node::{inventory::Entry, netns, traffic::Traffic},
    privilege::{self, Role},
};

/// Between two rounds.
const PERIOD: Duration = Duration::from_millis(250);
/// Time that looks at namespaces without rules may take in a round.
const BUDGET: Duration = Duration::from_millis(2);
/// A namespace that is new is looked at in each round for so long.
const YOUNG: Duration = Duration::from_secs(10);
/// A look that took some processor time is followed by so many times that without another one.
const REST: u32 = 30;
/// But by no more than this, lest a change be known too late.
const LONGEST_REST: Duration = Duration::from_millis(700);
/// While nothing is traced, a look is followed by so long without another one.
const SILENT_REST: Duration = Duration::from_millis(1900);
/// How long the end waits for a look that is under way.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Rules of one namespace, as they were read.
#[derive(Clone, Debug)]
pub(in crate::node) struct Found {
    /// The namespace's inode number.
    pub(in crate::node) netns: u32,
    /// When the rules of before were still seen to hold; 0 where there were none.
    pub(in crate::node) former: u64,
    /// When reading began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(in crate::node) time: u64,
    pub(in crate::node) rules: Arc<Rules>,
    /// Which namespace of that number it is: what [`RulesWatch::appeared`] was told.
    pub(in crate::node) life: u64,
}

#[derive(Debug)]
enum Message {
    Appeared(Entry, u64),
    Vanished(u32),
    /// Look at all that have rules, however soon after the last time.
    Again,
    /// Something is traced again.
    Traced,
    Stop,
}

/// The thread that looks. Dropping it ends it.
#[derive(Debug)]
pub(in crate::node) struct RulesWatch {
    sender: Sender<Message>,
    settled: Arc<Settled>,
    /// Nothing comes; disconnected when the thread has ended.
    over: Mutex<Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Whether all namespaces that are known were looked at.
#[derive(Debug, Default)]
struct Settled {
    /// Namespaces that were told and not looked at.
    waiting: Mutex<usize>,
    changed: Condvar,
}

impl Settled {
    fn add(&self, change: isize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = waiting.saturating_add_signed(change);
        self.changed.notify_all();
    }
}

impl RulesWatch {
    /// Starts it. `on_found` is called by its thread.
    pub(in crate::node) fn start(
        traffic: Traffic,
        on_found: impl FnMut(Found) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, messages) = mpsc::channel();
        let settled = Arc::<Settled>::default();
        let mut worker = Worker {
            known: BTreeMap::new(),
            messages,
            on_found,
            settled: Arc::clone(&settled),
            traffic,
            last: 0,
        };
        let (ending, over) = mpsc::channel();
        let thread = privilege::spawn("rules", Role::Rules, move || {
            worker.run();
            drop((worker, ending));
        })?;
        Ok(Self {
            sender,
            settled,
            over: Mutex::new(over),
            thread: Some(thread),
        })
    }

    /// A namespace is there. `life` tells it from others of its number.
    pub(in crate::node) fn appeared(&self, entry: Entry, life: u64) {
        self.settled.add(1);
        // If it panicked, there are no rules any more, which the panic said.
        let _ = self.sender.send(Message::Appeared(entry, life));
    }

    /// A namespace is gone.
    pub(in crate::node) fn vanished(&self, netns: u32) {
        let _ = self.sender.send(Message::Vanished(netns));
    }

    /// Has all namespaces that have rules looked at once more.
    pub(in crate::node) fn look_again(&self) {
        self.settled.add(1);
        let _ = self.sender.send(Message::Again);
    }

    /// Something is traced after a silence: rules matter again.
    pub(in crate::node) fn traced(&self) {
        let _ = self.sender.send(Message::Traced);
    }

    /// Waits until all namespaces that were told of are read, but no longer than this.
    pub(in crate::node) fn wait(&self, longest: Duration) {
        let waiting = self.settled.waiting.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let still = |waiting: &mut usize| *waiting > 0;
        // Whether it was too long does not matter: what is known is used.
        drop(
            self.settled
                .changed
                .wait_timeout_while(waiting, longest, still),
        );
    }
}

impl Drop for RulesWatch {
    fn drop(&mut self) {
        let _ = self.sender.send(Message::Stop);
        let over = self.over.get_mut().unwrap_or_else(PoisonError::into_inner);
        let is_over = over.recv_timeout(LAST_LOOK) == Err(RecvTimeoutError::Disconnected);
        if let Some(thread) = self.thread.take().filter(|_| is_over) {
            // It panicked: there is nothing to stop, and the panic was printed.
            let _ = thread.join();
        }
    }
}

/// What the calling thread has used. The time of day would also count that others ran.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// A namespace.
struct Known {
    entry: Entry,
    life: u64,
    since: Instant,
    reading: Reading,
    /// Not to be looked at before.
    not_before: Instant,
    /// Nor before this, while nothing is traced.
    silent_until: Instant,
    /// When its rules were found to be others.
    changed: Instant,
    /// When it was looked at last, in nanoseconds of `CLOCK_MONOTONIC`; 0 where it was not.
    seen: u64,
    /// It was looked at.
    looked: bool,
}

struct Worker<F> {
    known: BTreeMap<u32, Known>,
    messages: Receiver<Message>,
    on_found: F,
    settled: Arc<Settled>,
    traffic: Traffic,
    /// The last of the namespaces in turn that was looked at.
    last: u32,
}

impl<F: FnMut(Found) + Send> Worker<F> {
    fn run(&mut self) {
        let mut next = Instant::now();
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(wait) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(message) => {
                    let now = Instant::now();
                    match message {
                        Message::Again | Message::Traced => next = now,
                        Message::Appeared(..) => next = next.min(now + PERIOD),
                        _ => {}
                    }
                    self.take(message);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.round();
                    let now = Instant::now();
                    next = now + self.pause(now);
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Appeared(entry, life) => {
                let known = Known {
                    life,
                    since: now,
                    reading: Reading::default(),
                    not_before: now,
                    silent_until: now,
                    changed: now,
                    seen: 0,
                    looked: false,
                    entry,
                };
                if let Some(before) = self.known.insert(known.entry.inode, known) {
                    self.forget(&before);
                }
            }
            Message::Vanished(netns) => {
                if let Some(before) = self.known.remove(&netns) {
                    self.forget(&before);
                }
            }
            Message::Again => {
                for known in self.known.values_mut() {
                    if known.looked && !known.reading.rules.is_empty() {
                        (known.looked, known.not_before) = (false, now);
                        known.silent_until = now;
                        self.settled.add(1);
                    }
                }
                // The message itself was counted too.
                self.settled.add(-1);
            }
            Message::Traced | Message::Stop => {}
        }
    }

    /// Between two rounds.
    fn pause(&self, now: Instant) -> Duration {
        let is_young = |known: &Known| now < known.since + YOUNG;
        if self.known.values().any(is_young) {
            PERIOD
        } else {
            self.traffic.pause(now, PERIOD)
        }
    }

    fn forget(&self, known: &Known) {
        if !known.looked {
            self.settled.add(-1);
        }
    }

    fn round(&mut self) {
        let now = Instant::now();
        let (first, in_turn) = self.due(now);
        if first.is_empty() && in_turn.is_empty() {
            return;
        }
        // It panicked: the panic was printed, and the next round looks again.
        let _ = netns::in_thread("rules", || {
            for netns in first {
                self.look(netns);
            }
            let end = Instant::now() + BUDGET;
            for netns in in_turn {
                self.look(netns);
                self.last = netns;
                if Instant::now() > end {
                    break;
                }
            }
        });
    }

    /// The namespaces to look at in this round, and those to look at as long as there is time.
    fn due(&self, now: Instant) -> (Vec<u32>, Vec<u32>) {
        let due = self.known.iter();
        let is_silent = self.traffic.is_silent(now);
        let due = due.filter(|(_, known)| known.not_before <= now);
        let due = due.filter(|(_, known)| known.silent_until <= now || !is_silent);
        let first = |known: &Known| {
            !known.looked || !known.reading.rules.is_empty() || now < known.since + YOUNG
        };
        let (mut firsts, mut in_turn) = (Vec::new(), Vec::new());
        for (netns, known) in due {
            let list = if first(known) {
                &mut firsts
            } else {
                &mut in_turn
            };
            list.push(*netns);
        }
        let next = in_turn.partition_point(|netns| *netns <= self.last);
        in_turn.rotate_left(next);
        (firsts, in_turn)
    }

    /// Looks whether a namespace's rules are others by now, by entering it with the calling thread.
    fn look(&mut self, netns: u32) {
        let Some(known) = self.known.get_mut(&netns) else {
            return;
        };
        let start = processor_time();
        let time = crate::node::read::clock();
        // One that cannot be entered is gone, or noted by who reads its devices.
        let entered = known
            .entry
            .open()
            .is_ok_and(|file| netns::enter(file.as_fd()).is_ok());
        let again = entered.then(|| known.reading.again()).flatten();
        if let Some(reading) = again {
            let found = Found {
                netns,
                former: known.seen,
                time,
                rules: Arc::clone(&reading.rules),
                life: known.life,
            };
            known.reading = reading;
            known.changed = Instant::now();
            (self.on_found)(found);
        }
        if entered {
            known.seen = time;
        }
        if known.reading.is_costly() {
            let spent = processor_time().saturating_sub(start);
            known.not_before = Instant::now() + (spent * REST).min(LONGEST_REST);
        }
        let now = Instant::now();
        if now.saturating_duration_since(known.changed) > YOUNG {
            known.silent_until = now + SILENT_REST;
        }
        if !std::mem::replace(&mut known.looked, true) {
            self.settled.add(-1);
        }
    }
}
