//! Where cgroups (version 2) are: the mounts, and this process's own cgroup in them.
//!
//! The mount table says it: `/sys/fs/cgroup` where there is only version 2,
//! `/sys/fs/cgroup/unified` beside version 1, elsewhere in containers. Inside `ip netns exec` the
//! fresh `/sys` hides them; then they are reached as the nearest ancestor sees them, through
//! `/proc/PID/root`. Nothing is ever mounted for this: a second mount of cgroup2 resets the options
//! of the first, for the whole system.
//!
//! Limit: a mount point with a space in its path is not found.

use std::{
    fs, iter,
    os::fd::OwnedFd,
    os::unix::process::parent_id,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, fstat, fstatfs, open};

/// `CGROUP2_SUPER_MAGIC`
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// What stands before the path in `/proc/self/cgroup` for version 2.
const VERSION_2: &str = "0::";
/// How many ancestors are looked at.
const ANCESTORS: usize = 32;

/// The inode number of the root of the whole tree (kernfs gives it to its first node).
const ROOT: u64 = 1;

/// An open cgroup.
#[derive(Debug)]
pub struct Directory {
    /// Where it is, for messages. It leads there as long as the process lives whose view it is.
    pub path: PathBuf,
    /// To work on it with.
    pub file: OwnedFd,
}

impl Directory {
    /// `None` when it is no cgroup: gone, hidden by another mount, or not permitted.
    fn open(path: PathBuf) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = open(&path, flags, Mode::empty()).ok()?;
        let magic = u64::try_from(fstatfs(&file).ok()?.f_type).ok()?;
        (magic == CGROUP2_MAGIC).then_some(Self { path, file })
    }

    /// Whether it is the root of the whole tree, not of a part as a container sees it.
    #[must_use]
    pub fn is_root(&self) -> bool {
        fstat(&self.file).is_ok_and(|stat| stat.st_ino == ROOT)
    }
}

/// What can be seen of the tree of cgroups.
#[derive(Debug)]
pub struct Hierarchy {
    /// The cgroup that this process is in.
    pub own: Option<Directory>,
    /// The tops of what is mounted, at least one; what shows the most of the tree comes first.
    pub roots: Vec<Directory>,
}

/// Looks for the mounts of cgroup2; `None` when none can be seen.
#[must_use]
pub fn find() -> Option<Hierarchy> {
    let own = read("/proc/self/cgroup").unwrap_or_default();
    let own = own_path(&own);
    let ancestors = iter::successors(Some(parent_id()), |&pid| parent_of(pid))
        .take_while(|&pid| pid > 0)
        .take(ANCESTORS)
        .map(|pid| format!("/proc/{pid}/"));
    seen_by("/proc/self/", "/", own).or_else(|| {
        ancestors
            .filter_map(|process| seen_by(&process, &format!("{process}root"), own))
            .next()
    })
}

/// What the process with this directory in `/proc` sees, through `root`.
fn seen_by(process: &str, root: &str, own: Option<&Path>) -> Option<Hierarchy> {
    let table = read(&format!("{process}mountinfo"))?;
    let open = |mount: &Mount<'_>, inside| {
        let mut path = mount.below(Path::new(root));
        // Joined with nothing it would end in a slash.
        if inside != Path::new("") {
            path.push(inside);
        }
        Directory::open(path)
    };
    let roots = by_extent(&table).into_iter();
    let roots: Vec<Directory> = roots
        .filter_map(|mount| open(&mount, Path::new("")))
        .collect();
    let own = mounts(&table).find_map(|mount| {
        let inside = own?.strip_prefix(mount.root).ok()?;
        open(&mount, inside)
    });
    (!roots.is_empty()).then_some(Hierarchy { own, roots })
}

/// Paths and names in there need not be UTF-8.
fn read(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The name before it can hold anything.
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(1)?.parse().ok()
}

/// A mount of cgroup2.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    /// The cgroup that is mounted, as seen from this process's cgroup namespace.
    root: &'a Path,
    /// Where.
    point: &'a Path,
}

impl Mount<'_> {
    /// Where it is, seen through `root`.
    fn below(&self, root: &Path) -> PathBuf {
        root.join(self.point.strip_prefix("/").unwrap_or(self.point))
    }
}

/// The lines for cgroup2 in the form of `/proc/PID/mountinfo`:
/// `41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw`.
fn mounts(table: &str) -> impl Iterator<Item = Mount<'_>> {
    table.lines().filter_map(|line| {
        let (place, system) = line.split_once(" - ")?;
        if system.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut words = place.split(' ').skip(3).map(Path::new);
        Some(Mount {
            root: words.next()?,
            point: words.next()?,
        })
    })
}

/// Those that show the most of the tree first.
fn by_extent(table: &str) -> Vec<Mount<'_>> {
    let mut mounts: Vec<_> = mounts(table).collect();
    mounts.sort_by_key(|mount| mount.root.as_os_str().len());
    mounts
}

/// The path of this process's cgroup in the text of `/proc/self/cgroup`.
fn own_path(text: &str) -> Option<&Path> {
    text.lines()
        .find_map(|line| line.strip_prefix(VERSION_2))
        .map(Path::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_mount_table_says_where_cgroups_are() {
        let table = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup2 rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 master:2 - cgroup2 none rw
42 31 0:38 /kubepods/x /mnt rw - cgroup2 cgroup2 rw,nsdelegate
43 31 0:38 - cgroup2
";
        let found: Vec<Mount<'_>> = mounts(table).collect();
        let mount = |root, point| Mount {
            root: Path::new(root),
            point: Path::new(point),
        };
        assert_eq!(
            found,
            [
                mount("/", "/sys/fs/cgroup/unified"),
                mount("/kubepods/x", "/mnt")
            ]
        );
        assert_eq!(
            found[1].below(Path::new("/proc/1/root")),
            Path::new("/proc/1/root/mnt")
        );
        assert_eq!(found[1].below(Path::new("/")), Path::new("/mnt"));
    }

    #[test]
    fn what_shows_the_most_of_the_tree_comes_first() {
        let container = "\
40 31 0:38 /kubepods/pod1 /a rw shared:7 master:2 - cgroup2 cgroup rw
41 31 0:38 / /host/sys/fs/cgroup rw - cgroup2 cgroup2 rw
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
";
        let points = by_extent(container).into_iter().map(|mount| mount.point);
        let expected = ["/host/sys/fs/cgroup", "/a"].map(Path::new);
        assert!(points.eq(expected));
        assert_eq!(by_extent("41 31 0:38 / /sys rw - sysfs sysfs rw\n"), []);
    }

    #[test]
    fn the_own_cgroup_is_the_line_of_version_2() {
        let text = "9:name=systemd:/a\n1:cpu:/b\n0::/user.slice/session-1.scope\n";
        assert_eq!(
            own_path(text),
            Some(Path::new("/user.slice/session-1.scope"))
        );
        assert_eq!(own_path("1:cpu:/\n"), None);
    }

    proptest! {
        #[test]
        fn any_table_is_read(text in "[a-z0-9 /:\n-]{0,200}") {
            mounts(&text).for_each(drop);
            own_path(&text);
        }

        #[test]
        fn any_mount_is_read(table in "\\PC*( - cgroup2 )?\\PC*") {
            mounts(&table).for_each(drop);
        }
    }
}
