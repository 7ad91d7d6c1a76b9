//! Where an export goes: standard output, or a file that is there when it is whole.
//!
//! A file is written without a name (`O_TMPFILE`) and gets its own at the end. So whatever ends the export
//! before (Ctrl-C, a full disk, SIGKILL), no part of a file is left behind, and one that is replaced stays as
//! it was. Where the file system knows no such files (overlayfs before 6.6, some network file systems), it is
//! written under another name beside it, which is removed where the export fails, but not where
//! the process is killed.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, IsTerminal as _, Write},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};

use crate::output::{
    pipe::{Closed, Pipe},
    sanitize,
};

/// What is written to, in large pieces.
pub(in crate::cli) type Out = BufWriter<Pipe<Box<dyn Write>>>;

/// Where the export goes.
pub(in crate::cli) struct Target {
    place: Place,
    pub(super) closed: Closed,
}

enum Place {
    Stdout,
    /// What is no regular file: a pipe, `/dev/null`.
    Device(File),
    /// A file without a name, and the one that it is to have.
    Unnamed(File, Named),
    /// A file with another name.
    Beside(File, PathBuf, Named),
}

/// A file's name, and whether one that has it is replaced.
struct Named {
    path: PathBuf,
    overwrite: bool,
}

impl Target {
    /// Standard output.
    pub(super) fn stdout() -> Self {
        Self::new(Place::Stdout)
    }

    fn new(place: Place) -> Self {
        let closed = Closed::default();
        Self { place, closed }
    }

    /// A file, for its owner's eyes only as recordings are. None of `sources` is replaced.
    ///
    /// # Errors
    /// One is in the way, or it cannot be written there.
    pub(in crate::cli) fn file(
        path: &Path,
        overwrite: bool,
        sources: &[&Path],
    ) -> anyhow::Result<Self> {
        let name = || sanitize::plain(&path.to_string_lossy()).into_owned();
        if let Ok(there) = fs::metadata(path) {
            let kind = there.file_type();
            if kind.is_fifo() || kind.is_char_device() {
                let file = OpenOptions::new().write(true).open(path);
                let file = file.with_context(|| format!("cannot write {}", name()))?;
                return Ok(Self::new(Place::Device(file)));
            }
            if !overwrite {
                bail!("{} exists: give another file, or --overwrite", name());
            }
            if sources.iter().any(|source| same_file(path, source)) {
                bail!("{} is the recording itself: give another file", name());
            }
        }
        // What a link leads to is what is written.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let named = Named { path, overwrite };
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let place = match openat(CWD, named.directory(), flags, mode) {
            Ok(file) => Place::Unnamed(file.into(), named),
            Err(_) => {
                let beside = named.beside();
                let file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&beside)
                    .with_context(|| format!("cannot write {}", name()))?;
                Place::Beside(file, beside, named)
            }
        };
        Ok(Self::new(place))
    }

    pub(in crate::cli) fn writer(&self) -> io::Result<Out> {
        let inner: Box<dyn Write> = match &self.place {
            Place::Stdout => Box::new(io::stdout().lock()),
            Place::Device(file) | Place::Unnamed(file, _) | Place::Beside(file, ..) => {
                Box::new(file.try_clone()?)
            }
        };
        let pipe = Pipe::noticed_by(inner, self.closed.clone());
        Ok(BufWriter::with_capacity(1 << 16, pipe))
    }

    /// Whether it goes to a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self.place, Place::Stdout) && io::stdout().is_terminal()
    }

    /// Everything was written: the file gets its name.
    ///
    /// # Errors
    /// When it cannot have it.
    pub(in crate::cli) fn keep(self) -> anyhow::Result<()> {
        let (kept, named) = match self.place {
            Place::Stdout | Place::Device(_) => return Ok(()),
            Place::Unnamed(file, named) => (named.give_to(&file), named),
            Place::Beside(_, beside, named) => {
                let kept = if named.overwrite {
                    fs::rename(&beside, &named.path)
                } else {
                    fs::hard_link(&beside, &named.path).and_then(|()| fs::remove_file(&beside))
                };
                (without(kept, &beside), named)
            }
        };
        let name = sanitize::plain(&named.path.to_string_lossy()).into_owned();
        kept.with_context(|| format!("cannot write {name}"))
    }

    /// Half a file is none.
    pub(in crate::cli) fn drop_it(self) {
        if let Place::Beside(_, beside, _) = self.place {
            // What could not be written may not be removable either; the error is said anyway.
            let _ = fs::remove_file(beside);
        }
    }
}

impl Named {
    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Another name in the same directory.
    fn beside(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.part", std::process::id()));
        self.directory().join(name)
    }

    /// Gives the name to a file that has none.
    fn give_to(&self, file: &File) -> io::Result<()> {
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |to: &Path| linkat(CWD, own.as_str(), CWD, to, AtFlags::SYMLINK_FOLLOW);
        match link(&self.path) {
            Err(rustix::io::Errno::EXIST) if self.overwrite => {
                // A link replaces nothing, a new name does.
                let beside = self.beside();
                link(&beside)?;
                without(fs::rename(&beside, &self.path), &beside)
            }
            linked => Ok(linked?),
        }
    }
}

/// Removes the file beside, should its own name not be to be had.
fn without(kept: io::Result<()>, beside: &Path) -> io::Result<()> {
    kept.inspect_err(|_| {
        // The error is said anyway.
        let _ = fs::remove_file(beside);
    })
}

fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(target: &Target, text: &str) {
        let mut out = target.writer().unwrap();
        out.write_all(text.as_bytes()).unwrap();
        out.flush().unwrap();
    }

    fn names(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let target = Target::file(&path, false, &[]).unwrap();
        write(&target, "half");
        assert!(!path.exists());
        write(&target, " and half");
        target.keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "half and half");
        assert_eq!(names(directory.path()), ["out"]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        assert!(Target::file(&path, false, &[]).is_err());
        assert!(Target::file(&path, true, &[&path]).is_err());
        // One that is replaced is so at the end.
        let target = Target::file(&path, true, &[]).unwrap();
        write(&target, "new");
        assert_eq!(fs::read_to_string(&path).unwrap(), "half and half");
        target.keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(directory.path()), ["out"]);
    }

    #[test]
    fn nothing_is_left_of_half_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let target = Target::file(&path, false, &[]).unwrap();
        write(&target, "half");
        target.drop_it();
        assert!(names(directory.path()).is_empty());
        // As on file systems that know only files with names.
        let named = || Named {
            path: path.clone(),
            overwrite: false,
        };
        for keep in [false, true] {
            let beside = named().beside();
            let file = File::create(&beside).unwrap();
            let target = Target::new(Place::Beside(file, beside, named()));
            write(&target, "text");
            assert!(!path.exists());
            if keep {
                target.keep().unwrap();
            } else {
                target.drop_it();
            }
        }
        assert_eq!(names(directory.path()), ["out"]);
    }
}
