//! Which processes hold which sockets: the links in `/proc/PID/fd`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use crate::node::{netns, snapshot::Process};

/// Descriptors of one process that are looked at: more than any has but proxies of the largest kind.
const DESCRIPTORS: usize = 1 << 18;
const INIT: u32 = 1;

/// All processes, by their network namespaces.
///
/// # Errors
/// When `/proc` cannot be listed. Processes that may not be looked at are left out.
pub fn processes() -> io::Result<BTreeMap<u32, Vec<u32>>> {
    let mut by_netns: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(netns) = netns_of(pid) {
            by_netns.entry(netns).or_default().push(pid);
        }
    }
    Ok(by_netns)
}

/// The network namespace of a process.
#[must_use]
pub fn netns_of(pid: u32) -> Option<u32> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    netns::inode_in_link(link.to_str()?)
}

/// The processes that hold these sockets. A process that ends meanwhile, or may not be looked at,
/// holds none.
#[must_use]
pub fn holders(pids: &[u32], wanted: &BTreeSet<u64>) -> BTreeMap<u64, BTreeSet<u32>> {
    let mut holders: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for &pid in pids {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for descriptor in descriptors.flatten().take(DESCRIPTORS) {
            let socket = fs::read_link(descriptor.path())
                .ok()
                .and_then(|link| socket(&link));
            if let Some(inode) = socket.filter(|inode| wanted.contains(inode)) {
                holders.entry(inode).or_default().insert(pid);
            }
        }
    }
    holders
}

/// The process from which all that hold a socket descend, the only one or that which started the others.
///
/// Init is none of several: it keeps the sockets of services that it starts for them (systemd's socket activation).
#[must_use]
pub fn first(holders: &BTreeSet<u32>) -> Option<u32> {
    first_of(holders, parent)
}

fn first_of(holders: &BTreeSet<u32>, parent: impl Fn(u32) -> Option<u32>) -> Option<u32> {
    /// Generations that are looked through.
    const DEEPEST: usize = 32;
    let mut serving = holders.iter().copied().filter(|pid| *pid != INIT);
    let line = |pid| std::iter::successors(Some(pid), |pid| parent(*pid)).take(DEEPEST);
    let Some(some) = serving.next() else {
        return holders.first().copied();
    };
    let holds = |pid: &u32| *pid != INIT && holders.contains(pid);
    let first = line(some).filter(holds).last()?;
    serving
        .all(|pid| line(pid).any(|before| before == first))
        .then_some(first)
}

/// The process that started it, as `/proc/PID/stat` has it: behind the name, which may contain anything, the
/// state, then the parent.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, behind) = stat.rsplit_once(')')?;
    let parent = behind.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (parent != 0).then_some(parent)
}

/// `socket:[4711]`
fn socket(link: &Path) -> Option<u64> {
    let inner = link.to_str()?.strip_prefix("socket:[")?;
    inner.strip_suffix(']')?.parse().ok()
}

/// The process, by name.
#[must_use]
pub fn process(pid: u32) -> Option<Process> {
    let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let comm = String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned();
    Some(Process { pid, comm })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd, process};

    use super::*;

    #[test]
    fn the_first_of_those_that_hold_a_socket_started_the_others() {
        // 10 started 11, that 12; 10 and 20 are of init.
        let parent = |pid| match pid {
            10 | 20 => Some(1),
            11 => Some(10),
            12 => Some(11),
            _ => None,
        };
        let first = |pids: &[u32]| first_of(&pids.iter().copied().collect(), parent);
        assert_eq!(first(&[]), None);
        assert_eq!(first(&[1]), Some(1));
        assert_eq!(first(&[12]), Some(12));
        assert_eq!(first(&[10, 11, 12]), Some(10));
        assert_eq!(first(&[11, 12]), Some(11));
        // Between them, one that closed its own.
        assert_eq!(first(&[10, 12]), Some(10));
        assert_eq!(first(&[1, 11, 12]), Some(11));
        // Nobody started both, or who did is not there any more.
        assert_eq!(first(&[11, 20]), None);
        assert_eq!(first(&[1, 11, 20]), None);
        assert_eq!(first(&[12, 30]), None);
        // A line without an end, which none of now is.
        let circle = |pid: u32| Some(pid ^ 1);
        assert_eq!(first_of(&BTreeSet::from([10, 12]), circle), None);
    }

    #[test]
    fn the_parent_is_read() {
        let parent = parent(process::id());
        assert_eq!(parent, Some(std::os::unix::process::parent_id()));
        assert_eq!(super::parent(u32::MAX), None);
    }

    #[test]
    fn the_own_sockets_are_held_by_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = socket(&link).unwrap();
        let own = netns::current().unwrap();
        let processes = processes().unwrap();
        assert!(processes[&own].contains(&process::id()));
        let holders = holders(&[process::id()], &BTreeSet::from([inode, 1]));
        assert_eq!(
            holders,
            BTreeMap::from([(inode, BTreeSet::from([process::id()]))])
        );
        assert_eq!(
            process(process::id()).map(|process| process.pid),
            Some(process::id())
        );
        assert_eq!(socket(Path::new("pipe:[1]")), None);
    }
}
