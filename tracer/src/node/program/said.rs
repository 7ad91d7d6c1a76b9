//! What a program said, kept until it has ended.
//!
//! A listing is taken while the program that prints it still has all of it in its own memory, and read when
//! the program is gone. What is long is kept in a file meanwhile, so that the two are not in memory at once:
//! a file without a name on a disk, of which nothing remains however the tracer ends, and which is
//! mostly gone before the disk has seen anything of it. Where there is no such place (a file system in memory
//! would save nothing), little room on it, or it fails, memory does as well.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, StatVfs, fstatfs, fstatvfs, openat},
    process::{Resource, getrlimit},
};

/// What is kept in memory in any case, in bytes.
const SHORT: usize = 1 << 20;
/// Where files may be; the first is on a disk by convention.
const DIRECTORIES: [&str; 2] = ["/var/tmp", "/tmp"];
/// A disk with less room than this, in bytes, is left alone.
const ROOM: u64 = 1 << 30;
/// `TMPFS_MAGIC`, `RAMFS_MAGIC`: what is in these is in memory.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Makes a file, where one can be made.
type Place = fn() -> Option<File>;

/// What was said so far.
#[derive(Debug)]
pub(super) struct Said {
    memory: Vec<u8>,
    /// Has everything, and memory nothing.
    file: Option<File>,
    length: usize,
    /// Makes the file; not there when there shall be none.
    place: Option<Place>,
}

impl Said {
    /// In memory, however long it gets.
    pub(super) fn in_memory() -> Self {
        Self::new(None)
    }

    /// In a file when it gets long.
    pub(super) fn in_file() -> Self {
        Self::new(Some(unnamed))
    }

    fn new(place: Option<Place>) -> Self {
        Self {
            memory: Vec::new(),
            file: None,
            length: 0,
            place,
        }
    }

    /// How many bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds to it.
    ///
    /// # Errors
    /// When a file fails, and what it had cannot be read again.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length + bytes.len() > SHORT
            && let Some(place) = self.place.take()
        {
            self.file = place();
            self.memory_to_file();
        }
        let written = match &self.file {
            None => false,
            Some(file) => file.write_all_at(bytes, self.length as u64).is_ok(),
        };
        if !written {
            self.file_to_memory()?;
            self.memory.extend_from_slice(bytes);
        }
        self.length += bytes.len();
        Ok(())
    }

    fn memory_to_file(&mut self) {
        if let Some(file) = &self.file {
            match file.write_all_at(&self.memory, 0) {
                Ok(()) => self.memory = Vec::new(),
                Err(_) => self.file = None,
            }
        }
    }

    /// As if there had never been a file.
    fn file_to_memory(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            let mut memory = vec![0; self.length];
            file.read_exact_at(&mut memory, 0)?;
            self.memory = memory;
        }
        Ok(())
    }

    /// All of it.
    ///
    /// # Errors
    /// When a file cannot be read again.
    pub(super) fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        self.file_to_memory()?;
        Ok(self.memory)
    }
}

/// A file without a name, on a disk.
fn unnamed() -> Option<File> {
    // To write more than such a limit allows ends the process.
    if getrlimit(Resource::Fsize).current.is_some() {
        return None;
    }
    DIRECTORIES
        .iter()
        .find_map(|path| unnamed_in(path.as_ref()))
}

fn unnamed_in(directory: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR).ok()?;
    let kind = fstatfs(&file).ok()?.f_type;
    let StatVfs {
        f_bavail, f_frsize, ..
    } = fstatvfs(&file).ok()?;
    (!IN_MEMORY.contains(&kind) && f_bavail.saturating_mul(f_frsize) >= ROOM).then(|| file.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use proptest::prelude::*;
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

    use super::*;

    const LENGTH: usize = 3 * SHORT;

    /// A file that has room for as much, and fails then as a full disk does.
    fn with_room_for(length: usize) -> Option<File> {
        let file = memfd_create("said", MemfdFlags::ALLOW_SEALING).ok()?;
        ftruncate(&file, length as u64).ok()?;
        fcntl_add_seals(&file, SealFlags::GROW).ok()?;
        Some(file.into())
    }

    const PLACES: [Option<Place>; 6] = [
        None,
        Some(unnamed),
        Some(|| None),
        Some(|| {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/full")
                .ok()
        }),
        Some(|| with_room_for(SHORT / 2)),
        Some(|| with_room_for(SHORT * 2)),
    ];

    fn said(place: Option<Place>, parts: &[&[u8]]) -> Said {
        let mut said = Said::new(place);
        for part in parts {
            said.push(part).unwrap();
        }
        said
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_is_all_there_wherever_it_was_kept(length in 0..LENGTH, part in 64..100_000_usize) {
            let all: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let parts: Vec<&[u8]> = all.chunks(part).collect();
            for place in PLACES {
                let kept = said(place, &parts);
                prop_assert_eq!(kept.len(), length);
                prop_assert!(kept.into_bytes().unwrap() == all);
            }
        }
    }

    #[test]
    fn what_is_long_is_in_a_file_that_has_no_name() {
        let long = vec![7; LENGTH];
        let Some(file) = unnamed() else {
            return println!("skipped: there is no disk to write to");
        };
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        let kept = said(Some(unnamed), &[&long[..SHORT]]);
        assert!(kept.file.is_none(), "short");
        let kept = said(Some(unnamed), &[&long[..SHORT], &long[SHORT..]]);
        assert!(kept.memory.capacity() == 0);
        let file = kept.file.as_ref().unwrap().metadata().unwrap();
        assert_eq!((file.len(), file.nlink()), (LENGTH as u64, 0));
    }

    #[test]
    fn a_full_disk_leaves_it_in_memory() {
        for place in &PLACES[2..] {
            let kept = said(*place, &[&[1; SHORT], &[2; SHORT], &[3; SHORT]]);
            assert!(kept.file.is_none() && kept.memory.len() == 3 * SHORT);
        }
    }

    #[test]
    fn nothing_is_kept_in_a_file_system_in_memory() {
        assert!(unnamed_in("/dev/shm".as_ref()).is_none());
        assert!(unnamed_in("/proc".as_ref()).is_none());
        assert!(unnamed_in("/nonexistent".as_ref()).is_none());
    }
}
