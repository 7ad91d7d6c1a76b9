//! The answers to questions about sockets.
//!
//! Those of one namespace are answered together: its tables are read once and its processes' descriptors are
//! looked through once. Which processes are where is kept from round to round for a moment, and looked up anew when
//! that does not answer a question.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    time::{Duration, Instant},
};

use super::{
    Answer, Holder, Listeners, PortQuestion, Question,
    holders::{self, holders},
    table::{self, Socket},
};
use crate::node::pods::CgroupTree;

/// Sockets that are told of a port.
const LISTENERS: usize = 16;
/// How old what is known of processes may be: one that has come since is missed, and a socket that it
/// holds too is taken for another's alone.
const CENSUS: Duration = Duration::from_millis(300);
/// The largest table that is read, in bytes: some hundred thousand sockets.
const LARGEST: usize = 32 << 20;

/// Which processes are in which network namespace, as of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Census {
    by_netns: BTreeMap<u32, Vec<u32>>,
    taken: Option<Instant>,
}

impl Census {
    /// Looks anew, unless that was done after `since`.
    fn take(&mut self, since: Instant) {
        if self.taken.is_none_or(|taken| taken < since) {
            self.taken = Some(Instant::now());
            self.by_netns = holders::processes().unwrap_or_default();
        }
    }

    /// Those that are still there.
    fn of(&self, netns: u32) -> Vec<u32> {
        let known = self.by_netns.get(&netns).map_or(&[][..], Vec::as_slice);
        let here = |pid: &&u32| holders::netns_of(**pid) == Some(netns);
        known.iter().filter(here).copied().collect()
    }
}

pub(super) fn answer_all(census: &mut Census, questions: &[Question]) -> Vec<Answer> {
    let mut by_netns: BTreeMap<u32, BTreeSet<Question>> = BTreeMap::new();
    for question in questions {
        by_netns
            .entry(question.netns)
            .or_default()
            .insert(*question);
    }
    let mut answers = Vec::new();
    // What the processes of a moment ago do not answer, those of now may.
    let now = Instant::now();
    for since in [now.checked_sub(CENSUS).unwrap_or(now), now] {
        census.take(since);
        for (netns, questions) in &mut by_netns {
            let found = answer_in(&census.of(*netns), questions);
            questions.retain(|question| found.iter().all(|answer| answer.question != *question));
            answers.extend(found);
        }
        by_netns.retain(|_, questions| !questions.is_empty());
        if by_netns.is_empty() {
            break;
        }
    }
    answers
}

/// Who listens at these ports, of processes of now.
pub(super) fn listeners_of(census: &mut Census, questions: &[PortQuestion]) -> Vec<Listeners> {
    let mut by_netns: BTreeMap<u32, BTreeSet<PortQuestion>> = BTreeMap::new();
    for question in questions {
        by_netns
            .entry(question.netns)
            .or_default()
            .insert(*question);
    }
    if by_netns.is_empty() {
        return Vec::new();
    }
    census.take(Instant::now());
    let tree = CgroupTree::find();
    let mut answers = Vec::new();
    for (netns, questions) in by_netns {
        let pids = census.of(netns);
        let mut tables = Tables::new(&pids);
        let found: Vec<(PortQuestion, Vec<Socket>)> = questions
            .into_iter()
            .map(|question| {
                let all = tables.of(question.protocol);
                let waiting = table::waiting(all, question.port).take(LISTENERS);
                (question, waiting.copied().collect())
            })
            .collect();
        let sockets = found.iter().flat_map(|(_, sockets)| sockets);
        let wanted: BTreeSet<u64> = sockets.map(|socket| socket.inode).collect();
        let held = if wanted.is_empty() {
            BTreeMap::new()
        } else {
            holders(&pids, &wanted)
        };
        let holder = |socket: &Socket| only_holder(&held, socket.inode, &tree);
        answers.extend(found.into_iter().map(|(question, sockets)| {
            let sockets = sockets.iter();
            let sockets = sockets.map(|socket| (socket.local, holder(socket)));
            Listeners {
                question,
                sockets: sockets.collect(),
            }
        }));
    }
    answers
}

/// The process that alone holds a socket.
fn only_holder(
    holders: &BTreeMap<u64, BTreeSet<u32>>,
    inode: u64,
    tree: &CgroupTree,
) -> Option<Holder> {
    let only = holders.get(&inode).filter(|pids| pids.len() == 1)?;
    let process = holders::process(*only.first()?)?;
    let cgroup = tree.of_process(process.pid).unwrap_or(0);
    Some(Holder { process, cgroup })
}

/// The answers to questions about one namespace, by its processes.
fn answer_in(pids: &[u32], questions: &BTreeSet<Question>) -> Vec<Answer> {
    let mut tables = Tables::new(pids);
    let mut sockets: Vec<(&Question, u64)> = Vec::new();
    for question in questions {
        let all = tables.of(question.protocol);
        if let Some(socket) = table::find(all, question.local, question.remote) {
            sockets.push((question, socket.inode));
        }
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let wanted = sockets.iter().map(|(_, inode)| *inode).collect();
    let holders = holders(pids, &wanted);
    let tree = CgroupTree::find();
    let answer = |(question, inode): (&Question, u64)| {
        Some(Answer {
            question: *question,
            process: only_holder(&holders, inode, &tree)?,
        })
    };
    sockets.into_iter().filter_map(answer).collect()
}

/// The sockets of a namespace by protocol, read when they are asked for.
struct Tables<'a> {
    pids: &'a [u32],
    read: BTreeMap<u8, Vec<Socket>>,
}

impl<'a> Tables<'a> {
    fn new(pids: &'a [u32]) -> Self {
        Self {
            pids,
            read: BTreeMap::new(),
        }
    }

    fn of(&mut self, protocol: u8) -> &[Socket] {
        let pids = self.pids;
        self.read.entry(protocol).or_insert_with(|| {
            let names: &[&str] = match protocol {
                6 => &["tcp", "tcp6"],
                17 => &["udp", "udp6"],
                _ => &[],
            };
            let texts = names.iter().filter_map(|name| read(pids, name));
            texts
                .flat_map(|text| table::parse(&text).collect::<Vec<_>>())
                .collect()
        })
    }
}

/// The table, of any of the processes: they come and go.
fn read(pids: &[u32], name: &str) -> Option<String> {
    use io::Read as _;
    pids.iter().find_map(|pid| {
        let file = fs::File::open(format!("/proc/{pid}/net/{name}")).ok()?;
        let mut text = Vec::new();
        let limit = u64::try_from(LARGEST).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    })
}
