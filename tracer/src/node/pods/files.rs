//! Reading the node's files below a root that may be another than this process's.
//!
//! In a container the node's root is mounted somewhere (`/host`); symbolic links in it mean the
//! node, so they are resolved inside it and never lead out (`openat2`, Linux 5.6). What is not a
//! regular file is not read, nothing larger than a limit is, and a file that goes while it is read
//! is as if it had never been there.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2,
        statat,
    },
    io::Errno,
};

/// The largest file that is read, in bytes: a thousand times what they have.
pub(super) const LARGEST: u64 = 1 << 20;
/// The most entries of a directory that are looked at.
pub(super) const ENTRIES: usize = 8192;
/// How often a path is looked up while something is being renamed on it.
const ATTEMPTS: usize = 16;

/// The directory that is the node's root to this process.
#[derive(Clone, Debug)]
pub struct HostRoot {
    path: PathBuf,
    /// `None` for this process's own root.
    directory: Option<Arc<OwnedFd>>,
}

impl Default for HostRoot {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/"),
            directory: None,
        }
    }
}

impl HostRoot {
    /// The root at a path.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn at(path: &Path) -> io::Result<Self> {
        if path == Path::new("/") {
            return Ok(Self::default());
        }
        let path = path.canonicalize()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, &path, flags, Mode::empty())?;
        Ok(Self {
            path,
            directory: Some(Arc::new(directory)),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path as the node has it: without this root, and with `/run` for `/var/run`, which is a
    /// link to it.
    #[must_use]
    pub fn on_node(&self, path: &str) -> String {
        let root = self.path.to_str().filter(|root| *root != "/");
        let inner = root
            .and_then(|root| path.strip_prefix(root))
            .filter(|inner| inner.starts_with('/'))
            .unwrap_or(path);
        match inner.strip_prefix("/var/run/") {
            Some(rest) => format!("/run/{rest}"),
            None => inner.to_owned(),
        }
    }

    /// Opens a directory of the node.
    pub(super) fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Some(root) = &self.directory else {
            return Ok(openat(CWD, path, flags, Mode::empty())?);
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..ATTEMPTS {
            match openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }
}

/// What tells whether a file has changed: its inode, size and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: i64,
    /// Nanoseconds since 1970.
    pub(super) written: i128,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: stat.st_size,
            written: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
        }
    }
}

/// The names in a directory, at most [`ENTRIES`], and whether those are all.
pub(super) fn names(directory: BorrowedFd<'_>) -> io::Result<(Vec<String>, bool)> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        // What is not UTF-8 is nothing that kubelet or a runtime has made.
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if matches!(name, "." | "..") {
            continue;
        }
        if names.len() == ENTRIES {
            return Ok((names, false));
        }
        names.push(name.to_owned());
    }
    Ok((names, true))
}

/// The stamp of a regular file in a directory; `None` for anything else.
pub(super) fn stamp(directory: BorrowedFd<'_>, name: &str) -> Option<Stamp> {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    is_regular(&stat).then(|| Stamp::of(&stat))
}

/// Reads a regular file in a directory, with the stamp of what was read.
pub(super) fn read(directory: BorrowedFd<'_>, name: &str) -> io::Result<(Vec<u8>, Stamp)> {
    // A pipe would block, a device might do something: neither is opened to be read.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let stat = fstat(&file)?;
    if !is_regular(&stat) {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok((bytes, Stamp::of(&stat)))
}

/// Opens a directory in a directory.
pub(super) fn inner(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_mean_the_node_and_never_lead_out() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/state")).unwrap();
        fs::create_dir(root.path().join("var")).unwrap();
        symlink("/run", root.path().join("var/run")).unwrap();
        symlink("/../../../../..", root.path().join("out")).unwrap();
        let host = HostRoot::at(root.path()).unwrap();
        assert!(host.directory("/var/run/state").is_ok());
        // Up from the root is the root.
        let out = host.directory("/out").unwrap();
        assert!(names(out.as_fd()).unwrap().0.contains(&"out".to_owned()));
        assert!(host.directory("/etc").is_err());
    }

    #[test]
    fn a_path_is_the_nodes_whatever_the_root() {
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::at(root.path()).unwrap();
        let below = format!("{}/run/netns/x", host.path().display());
        assert_eq!(host.on_node(&below), "/run/netns/x");
        assert_eq!(host.on_node("/var/run/netns/x"), "/run/netns/x");
        assert_eq!(HostRoot::default().on_node("/run/netns/x"), "/run/netns/x");
        assert!(HostRoot::at(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn only_regular_files_of_a_sane_size_are_read() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::write(path("file"), "text").unwrap();
        fs::write(path("large"), vec![b' '; 1 << 21]).unwrap();
        symlink("file", path("link")).unwrap();
        let fifo = rustix::fs::mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR, 0);
        fifo.unwrap();
        let directory = HostRoot::default();
        let directory = directory.directory(root.path().to_str().unwrap()).unwrap();
        let (bytes, read_stamp) = read(directory.as_fd(), "file").unwrap();
        assert_eq!(bytes, b"text");
        assert_eq!(stamp(directory.as_fd(), "file"), Some(read_stamp));
        for name in ["large", "link", "pipe", "gone", "."] {
            assert!(read(directory.as_fd(), name).is_err(), "{name}");
        }
        for name in ["link", "pipe", "gone", "."] {
            assert_eq!(stamp(directory.as_fd(), name), None, "{name}");
        }
    }

    #[test]
    fn a_directory_of_any_size_is_cut() {
        let root = tempfile::tempdir().unwrap();
        for index in 0..=ENTRIES {
            fs::write(root.path().join(index.to_string()), "").unwrap();
        }
        let directory = HostRoot::default();
        let directory = directory.directory(root.path().to_str().unwrap()).unwrap();
        let (found, all) = names(directory.as_fd()).unwrap();
        assert_eq!((found.len(), all), (ENTRIES, false));
    }
}
