//! Which network namespaces there are, by inode number: from the mount table and from `/proc`.
//!
//! Cheap enough for every second: one file and one `readlink` for each process; no namespace is
//! entered. The mount table names every namespace that was given a name (`/run/netns` of `ip
//! netns`, containerd and CRI-O, `/run/docker/netns`, ...); the processes give the others.
//!
//! Limits: a namespace that lives only by an open descriptor or socket of some process is not seen;
//! nor, inside a container, what the container's own mount table and `/proc` do not show.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process,
};

use super::{
    netns,
    snapshot::{HOST, Process},
};

/// Processes of a namespace among which the one to name it by is chosen.
const CANDIDATES: usize = 8;
/// The inode number of the initial network namespace from 6.18 on (uapi `linux/nsfs.h`).
const INITIAL: u32 = 0xefff_fff9;

/// A network namespace that exists, and the ways into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its inode number.
    pub inode: u32,
    /// Its names, as in [`super::snapshot::Namespace::names`].
    pub names: Vec<String>,
    /// Where it is mounted.
    pub mounts: Vec<PathBuf>,
    /// A process in it.
    pub process: Option<Process>,
    /// Whether it is the node's own.
    pub initial: bool,
    /// Whether it is the one that this process runs in.
    pub own: bool,
    /// All processes in it, in order.
    pub(super) pids: Vec<u32>,
}

impl Entry {
    /// Opens it. Close it soon: it cannot end before.
    ///
    /// # Errors
    /// When it is gone, or may not be opened.
    pub fn open(&self) -> io::Result<File> {
        let process = self.process.as_ref().map(|process| link_of(process.pid));
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for path in self.mounts.iter().chain(process.as_ref()) {
            // A path can have become another namespace's, a process can have moved.
            match File::open(path).and_then(|file| Ok((netns::inode_of(&file)?, file))) {
                Ok((inode, file)) if inode == self.inode => return Ok(file),
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether an entry with the same number, of another moment, is the same namespace: something
    /// leads to both. The kernel uses numbers again as soon as a namespace has ended.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let in_both = |pid| other.pids.binary_search(pid).is_ok();
        self.inode == other.inode
            && (self.initial
                || self.own
                || self.pids.iter().any(in_both)
                || self.mounts.iter().any(|path| other.mounts.contains(path)))
    }
}

/// The network namespaces that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// By inode number.
    pub entries: BTreeMap<u32, Entry>,
    /// What could not be looked at.
    pub notes: Vec<String>,
}

impl Inventory {
    /// Looks at the mount table and all processes.
    ///
    /// # Errors
    /// When `/proc` cannot be read. A process that cannot is a note or, when it just ended, nothing.
    pub fn read() -> io::Result<Self> {
        let own = netns_of(process::id())?.ok_or(io::ErrorKind::NotFound)?;
        let mut inventory = Self::default();
        let mut denied = 0usize;
        for pid in pids()? {
            match netns_of(pid) {
                Ok(Some(inode)) => inventory.entry(inode).pids.push(pid),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied += 1,
                Err(_) => {}
            }
        }
        // After the processes: a runtime mounts the namespace of a process, then ends the process.
        // The other way round it could be missed in both.
        inventory.add_mounts(&fs::read("/proc/self/mountinfo")?);
        if denied > 0 {
            inventory.notes.push(unreadable(denied));
        }
        for entry in inventory.entries.values_mut() {
            entry.process = representative(&entry.pids);
        }
        inventory.entry(own).own = true;
        let initial = netns_of(1).ok().flatten();
        inventory.mark_initial(initial, own);
        Ok(inventory)
    }

    /// The entry of a namespace, made if need be.
    fn entry(&mut self, inode: u32) -> &mut Entry {
        self.entries.entry(inode).or_insert_with(|| Entry {
            inode,
            ..Entry::default()
        })
    }

    /// Adds what a mount table in the form of `/proc/PID/mountinfo` names.
    fn add_mounts(&mut self, table: &[u8]) {
        for line in table.split(|&byte| byte == b'\n') {
            let Some((inode, path)) = namespace_mount(line) else {
                continue;
            };
            let entry = self.entry(inode);
            // The same mount stands there once for each propagation.
            if !entry.mounts.contains(&path) {
                let name = name_of(&path);
                if !entry.names.contains(&name) {
                    entry.names.push(name);
                }
                entry.mounts.push(path);
            }
        }
    }

    /// Calls the initial namespace [`HOST`]: that of pid 1 where this process may look at it, else
    /// the one with the number that new kernels always give it, else this process's own.
    fn mark_initial(&mut self, of_first: Option<u32>, own: u32) {
        let fixed = self.entries.contains_key(&INITIAL).then_some(INITIAL);
        let entry = self.entry(of_first.or(fixed).unwrap_or(own));
        entry.initial = true;
        entry.names.retain(|name| name != HOST);
        entry.names.insert(0, HOST.to_owned());
    }

    /// All processes, each with its network namespace.
    pub(super) fn processes(&self) -> impl Iterator<Item = (u32, u32)> {
        let entries = self.entries.values();
        entries.flat_map(|entry| entry.pids.iter().map(|pid| (*pid, entry.inode)))
    }

    /// The namespaces with a name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Entry> {
        self.entries
            .values()
            .filter(move |entry| entry.names.iter().any(|known| known == name))
    }
}

fn unreadable(processes: usize) -> String {
    let what = match processes {
        1 => "the network namespace of 1 process".to_owned(),
        many => format!("the network namespaces of {many} processes"),
    };
    format!("{what} cannot be read; this needs CAP_SYS_PTRACE")
}

fn link_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// The namespace of a process; `None` when the process has ended.
fn netns_of(pid: u32) -> io::Result<Option<u32>> {
    match fs::read_link(link_of(pid)) {
        Ok(target) => Ok(target.to_str().and_then(netns::inode_in_link)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => match error.raw_os_error() {
            Some(libc::ESRCH) => Ok(None),
            _ => Err(error),
        },
    }
}

/// The processes, lowest id first.
fn pids() -> io::Result<Vec<u32>> {
    let mut pids: Vec<u32> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The process to name a namespace by: the oldest that is not a pod's placeholder.
fn representative(pids: &[u32]) -> Option<Process> {
    let candidates = pids.iter().copied().take(CANDIDATES);
    let mut placeholder = None;
    for process in candidates.filter_map(read_process) {
        if process.comm != "pause" {
            return Some(process);
        }
        placeholder = placeholder.or(Some(process));
    }
    placeholder
}

fn read_process(pid: u32) -> Option<Process> {
    let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let comm = String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned();
    Some(Process { pid, comm })
}

/// The namespace and the place of a mount, if the mount is a network namespace:
/// `36 35 0:4 net:[4026532001] /run/netns/pod rw shared:5 - nsfs nsfs rw`.
fn namespace_mount(line: &[u8]) -> Option<(u32, PathBuf)> {
    let mut words = line.split(|&byte| byte == b' ');
    let root = str::from_utf8(words.nth(3)?).ok()?;
    let inode = netns::inode_in_link(root)?;
    let path = unescaped(words.next()?);
    Some((inode, PathBuf::from(std::ffi::OsString::from_vec(path))))
}

/// Undoes the table's octal escapes (`\040` for a space).
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        let escape = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

/// The name a mount gives: its file name where namespaces are kept, else the whole path.
fn name_of(path: &Path) -> String {
    let kept = path.parent().and_then(Path::file_name);
    match path.file_name() {
        Some(name) if kept.is_some_and(|directory| directory == "netns") => {
            name.to_string_lossy().into_owned()
        }
        _ => path.to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
36 35 0:4 net:[4026532001] /run/netns/pod\\040one rw shared:5 - nsfs nsfs rw
37 35 0:4 net:[4026532001] /run/netns/pod\\040one rw shared:5 - nsfs nsfs rw
38 35 0:4 mnt:[4026532002] /run/snapd/ns/x.mnt rw - nsfs nsfs rw
39 35 0:4 net:[4026531833] /run/docker/netns/default rw - nsfs nsfs rw
40 35 0:4 net:[4026532003] /mnt/kept rw - nsfs nsfs rw
41 35 0:4 net:[4026532001] /run/docker/netns/alias rw - nsfs nsfs rw
short line
";

    #[test]
    fn one_process_is_one() {
        let said = [1, 2].map(unreadable);
        assert!(
            said[0].contains("namespace of 1 process cannot"),
            "{said:?}"
        );
        assert!(
            said[1].contains("namespaces of 2 processes cannot"),
            "{said:?}"
        );
    }

    #[test]
    fn the_mount_table_names_namespaces() {
        let mut inventory = Inventory::default();
        inventory.add_mounts(TABLE);
        inventory.mark_initial(Some(4_026_531_833), 4_026_532_001);
        let names = |inode: u32| inventory.entries[&inode].names.clone();
        assert_eq!(inventory.entries.len(), 3);
        assert_eq!(names(4_026_532_001), ["pod one", "alias"]);
        assert_eq!(names(4_026_531_833), ["host", "default"]);
        assert_eq!(names(4_026_532_003), ["/mnt/kept"]);
        assert_eq!(inventory.named("alias").count(), 1);
        assert_eq!(inventory.named("none").count(), 0);
    }

    #[test]
    fn without_a_look_at_pid_1_the_fixed_number_or_the_own_namespace_is_the_host() {
        let mut inventory = Inventory::default();
        inventory.entry(7);
        inventory.mark_initial(None, 7);
        assert!(inventory.entries[&7].initial);
        let mut inventory = Inventory::default();
        inventory.entry(INITIAL);
        inventory.mark_initial(None, 7);
        assert!(inventory.entries[&INITIAL].initial);
    }

    #[test]
    fn a_number_used_again_is_another_namespace() {
        let entry = |pids: &[u32], mounts: &[&str]| Entry {
            inode: 5,
            pids: pids.to_vec(),
            mounts: mounts.iter().map(PathBuf::from).collect(),
            ..Entry::default()
        };
        let before = entry(&[10, 11], &["/run/netns/a"]);
        assert!(before.is_same(&entry(&[], &["/run/netns/a"])));
        assert!(before.is_same(&entry(&[11, 12], &["/run/netns/b"])));
        assert!(!before.is_same(&entry(&[12], &["/run/netns/b"])));
    }

    #[test]
    fn the_own_namespace_is_found_with_a_process() {
        let inventory = Inventory::read().unwrap();
        let own: Vec<_> = inventory
            .entries
            .values()
            .filter(|entry| entry.own)
            .collect();
        assert_eq!(own.len(), 1);
        assert!(own[0].pids.contains(&process::id()));
        assert!(own[0].process.is_some());
        assert_eq!(inventory.named(HOST).count(), 1);
    }

    proptest! {
        #[test]
        fn any_mount_table_is_read(text in prop::collection::vec(any::<u8>(), 0..300)) {
            Inventory::default().add_mounts(&text);
        }

        #[test]
        fn escapes_are_undone(path in prop::collection::vec(any::<u8>(), 0..40)) {
            let escape = |&byte: &u8| match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
                _ => vec![byte],
            };
            let escaped: Vec<u8> = path.iter().flat_map(escape).collect();
            prop_assert_eq!(unescaped(&escaped), path);
        }
    }
}
