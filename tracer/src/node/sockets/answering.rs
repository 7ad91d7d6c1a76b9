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

/// What was found of the sockets that were asked about.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) answers: Vec<Answer>,
    /// Connections that several processes hold: of a server that forks after `accept`, both for a moment.
    pub(super) shared: Vec<Question>,
}

/// Which process each socket is of. Connections that several hold are given back; where they were before (`again`),
/// the first of those processes is named.
pub(super) fn answer_all(census: &mut Census, questions: &[Question], again: &[Question]) -> Found {
    let mut by_netns: BTreeMap<u32, BTreeSet<Question>> = BTreeMap::new();
    for question in questions.iter().chain(again) {
        by_netns
            .entry(question.netns)
            .or_default()
            .insert(*question);
    }
    let mut found = Found::default();
    // What the processes of a moment ago do not answer, those of now may.
    let now = Instant::now();
    for since in [now.checked_sub(CENSUS).unwrap_or(now), now] {
        census.take(since);
        found.shared.clear();
        for (netns, questions) in &mut by_netns {
            let Found { answers, shared } = answer_in(&census.of(*netns), questions, again);
            questions.retain(|question| answers.iter().all(|answer| answer.question != *question));
            found.answers.extend(answers);
            found.shared.extend(shared);
        }
        by_netns.retain(|_, questions| !questions.is_empty());
        if by_netns.is_empty() {
            break;
        }
    }
    found
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
        let holder = |socket: &Socket| holder(holders::first(held.get(&socket.inode)?)?, &tree);
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

fn holder(pid: u32, tree: &CgroupTree) -> Option<Holder> {
    let process = holders::process(pid)?;
    let cgroup = tree.of_process(process.pid).unwrap_or(0);
    Some(Holder { process, cgroup })
}

/// The answers to questions about one namespace, by its processes.
fn answer_in(pids: &[u32], questions: &BTreeSet<Question>, again: &[Question]) -> Found {
    let mut tables = Tables::new(pids);
    let mut sockets: Vec<(Question, Socket)> = Vec::new();
    for question in questions {
        let all = tables.of(question.protocol);
        if let Some(socket) = table::find(all, question.local, question.remote) {
            sockets.push((*question, *socket));
        }
    }
    let mut found = Found::default();
    if sockets.is_empty() {
        return found;
    }
    let wanted = sockets.iter().map(|(_, socket)| socket.inode).collect();
    let holders = holders(pids, &wanted);
    let tree = CgroupTree::find();
    for (question, socket) in sockets {
        let Some(pids) = holders.get(&socket.inode) else {
            continue;
        };
        // Who listens keeps the socket together with the processes that it starts to serve.
        if pids.len() > 1 && !socket.open && !again.contains(&question) {
            found.shared.push(question);
            continue;
        }
        let process = holders::first(pids).and_then(|pid| holder(pid, &tree));
        let answer = process.map(|process| Answer { question, process });
        found.answers.extend(answer);
    }
    found
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

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::OwnedFd,
        process::Command,
    };

    use super::*;
    use crate::node::{netns, testing::wait_until};

    #[test]
    fn a_connection_that_two_hold_for_a_moment_is_that_ones_who_keeps_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let client = TcpStream::connect(here).unwrap();
        let there = client.local_addr().unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(OwnedFd::from(server.try_clone().unwrap()))
            .spawn()
            .unwrap();
        let asked = Question {
            netns: netns::current().unwrap(),
            protocol: 6,
            local: here,
            remote: there,
        };
        let mut census = Census::default();
        let found = answer_all(&mut census, &[asked], &[]);
        assert_eq!((found.answers, found.shared), (vec![], vec![asked]));
        let in_the_end = answer_all(&mut census, &[], &[asked]);
        drop(server);
        let mut kept = Found::default();
        // What this process starts meanwhile, in another test, holds it for a moment too.
        wait_until("it is the child's alone", || {
            kept = answer_all(&mut census, &[asked], &[]);
            !kept.answers.is_empty()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        for (found, pid) in [(in_the_end, std::process::id()), (kept, child.id())] {
            let [answer] = &found.answers[..] else {
                panic!("{found:?}")
            };
            assert_eq!((answer.process.process.pid, found.shared), (pid, vec![]));
        }
    }
}
