//! Which processes hold which sockets: the links in `/proc/PID/fd`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use crate::node::{netns, snapshot::Process};

/// Descriptors of one process that are looked at: more than any has but proxies of the largest kind.
const DESCRIPTORS: usize = 1 << 18;

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
