//! The processes of pods, by their cgroups.
//!
//! A process is in its container's cgroup before its program begins, but a runtime's helper that
//! becomes one moves there a moment after it was seen first. So a new process is looked at in each
//! of its first rounds, and afterwards now and then, since a process id is used again.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::PathBuf};

use super::{
    cgroup::{self, Place},
    combine::PodProcess,
};

/// Rounds in which a process is looked at again.
const YOUNG: u8 = 4;
/// How many of the others are looked at in each round.
const OTHERS: usize = 64;
/// The longest cgroup file that is read, in bytes.
const LARGEST: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    netns: u32,
    rounds: u8,
    of_pod: Option<(Place, Option<u64>)>,
}

/// The processes that were seen, and which pod each is of.
#[derive(Debug, Default)]
pub(in crate::node) struct Processes {
    known: BTreeMap<u32, Known>,
    /// The last of the others that was looked at.
    last: u32,
    tree: CgroupTree,
}

/// The tree of cgroups of version 2.
#[derive(Debug, Default)]
pub(in crate::node) struct CgroupTree {
    /// Where it is mounted.
    mount: Option<PathBuf>,
}

impl CgroupTree {
    pub(in crate::node) fn find() -> Self {
        let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self {
            mount: unified_mount(&table),
        }
    }

    /// The id of a cgroup, which is its directory's inode number. `None` when the path is not
    /// below this process's view of the tree.
    fn id_of(&self, path: &str) -> Option<u64> {
        if path.split('/').any(|component| component == "..") {
            return None;
        }
        let directory = self.mount.as_ref()?.join(path.strip_prefix('/')?);
        Some(fs::symlink_metadata(directory).ok()?.ino())
    }

    /// The id of the cgroup that a process is in.
    pub(in crate::node) fn of_process(&self, pid: u32) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let mut lines = text.lines();
        self.id_of(lines.find_map(|line| line.strip_prefix("0::"))?)
    }
}

impl Processes {
    pub(in crate::node) fn new() -> Self {
        Self {
            tree: CgroupTree::find(),
            ..Self::default()
        }
    }

    /// Looks at the processes, each with its network namespace; whether one of a pod came, went or
    /// moved. `round` is true once a second.
    pub(in crate::node) fn refresh(
        &mut self,
        processes: impl Iterator<Item = (u32, u32)>,
        round: bool,
    ) -> bool {
        let now: BTreeMap<u32, u32> = processes.collect();
        let mut changed = false;
        self.known.retain(|pid, known| {
            let stays = now.get(pid) == Some(&known.netns);
            changed |= !stays && known.of_pod.is_some();
            stays
        });
        let due = if round { self.due() } else { Vec::new() };
        let new = now.iter().filter(|(pid, _)| !self.known.contains_key(pid));
        let new: Vec<(u32, u32)> = new.map(|(pid, netns)| (*pid, *netns)).collect();
        for pid in due {
            let of_pod = self.look(pid);
            if let Some(known) = self.known.get_mut(&pid) {
                known.rounds = known.rounds.saturating_sub(1);
                changed |= known.of_pod != of_pod;
                known.of_pod = of_pod;
            }
        }
        for (pid, netns) in new {
            let of_pod = self.look(pid);
            changed |= of_pod.is_some();
            let known = Known {
                netns,
                rounds: YOUNG,
                of_pod,
            };
            self.known.insert(pid, known);
        }
        changed
    }

    /// The young, and a share of the others.
    fn due(&mut self) -> Vec<u32> {
        let young = self.known.iter().filter(|(_, known)| known.rounds > 0);
        let mut due: Vec<u32> = young.map(|(pid, _)| *pid).collect();
        let old = |known: &Known| known.rounds == 0;
        let after = self.known.range(self.last.saturating_add(1)..);
        let before = self.known.range(..=self.last);
        let turn = after.chain(before).filter(|(_, known)| old(known));
        let turn: Vec<u32> = turn.map(|(pid, _)| *pid).take(OTHERS).collect();
        self.last = turn.last().copied().unwrap_or_default();
        due.extend(turn);
        due
    }

    fn look(&self, pid: u32) -> Option<(Place, Option<u64>)> {
        let mut bytes = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
        bytes.truncate(LARGEST);
        let place = cgroup::parse(&bytes)?;
        let id = place
            .unified
            .as_deref()
            .and_then(|path| self.tree.id_of(path));
        Some((place, id))
    }

    /// Those that are of a pod, by id.
    pub(in crate::node) fn of_pods(&self) -> Vec<PodProcess> {
        let of_pod = |(pid, known): (&u32, &Known)| {
            let (place, cgroup) = known.of_pod.clone()?;
            Some(PodProcess {
                pid: *pid,
                netns: known.netns,
                place,
                cgroup,
            })
        };
        self.known.iter().filter_map(of_pod).collect()
    }
}

/// Where a mount table says that cgroup v2 is: `30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw`.
fn unified_mount(table: &[u8]) -> Option<PathBuf> {
    let table = str::from_utf8(table).ok()?;
    table.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let path = place.split(' ').nth(4)?;
        kind.starts_with("cgroup2 ").then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_version_2_is_found() {
        let table = b"25 23 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
            26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(
            unified_mount(table),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        assert_eq!(unified_mount(b"\xff - cgroup2 x"), None);
        assert_eq!(unified_mount(b"1 - cgroup2 x"), None);
    }

    #[test]
    fn a_process_of_no_pod_is_none_and_all_take_turns() {
        let mut processes = Processes::new();
        let own = std::process::id();
        assert!(!processes.refresh([(own, 1)].into_iter(), true));
        assert!(processes.of_pods().is_empty());
        let many = (1..1000u32).map(|pid| (pid, 1));
        processes.refresh(many.clone(), false);
        for known in processes.known.values_mut() {
            known.rounds = 0;
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..999usize.div_ceil(OTHERS) {
            let due = processes.due();
            assert!(due.len() <= OTHERS);
            seen.extend(due);
        }
        assert_eq!(seen.len(), 999);
    }
}
