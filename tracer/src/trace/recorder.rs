//! Recording into files: one, or the parts of a rotation.
//!
//! Parts are named by a number behind the file's name and each can be read alone: each begins with
//! what the recording is, what the node knew then, and where netfilter hooks were observed. A tracer that is started again goes on with
//! the next number, and parts of before count among those that are kept.
//!
//! Files are made for their owner only (0600): they hold addresses and names of everything that
//! talked.

use std::{
    collections::{HashSet, VecDeque},
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tracer_common::hook;

use super::{About, Standing, Writer, chunk::SIGNATURE};
use crate::{event::Record, node::snapshot::Snapshot, source::Batch};

/// Where to record, and how much.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file, or with a rotation what the parts' names begin with.
    pub path: PathBuf,
    /// Whether a file that exists is replaced.
    pub overwrite: bool,
    /// Enough after so many bytes.
    pub max_size: Option<u64>,
    /// Whether to rotate.
    pub rotation: Option<Rotation>,
}

/// Several files, of which the newest are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A new part begins when one has so many bytes.
    pub size: u64,
    /// How many parts are kept, the one being written included.
    pub keep: usize,
}

/// Why there is no recording, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file is in the way.
    #[error("{} exists: give another name, or --overwrite", .0.display())]
    Exists(PathBuf),
    /// The file cannot be made.
    #[error("cannot make {}: {source}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written any further.
    #[error("the recording ended early, {}: {source}; what was recorded before is in it", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is room for more.
    Left,
    /// The recording has the size that was asked for.
    Full,
}

/// What was written, in all parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub length: u64,
    /// Records of packets and connections.
    pub records: u64,
}

/// What the live tracer takes at once, as it is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// What came.
    pub batch: &'a Batch,
    /// What the node knows.
    pub node: &'a Arc<Snapshot>,
    /// The time up to which everything was looked at.
    pub now: u64,
}

/// Records.
#[derive(Debug)]
pub struct Recorder {
    options: Options,
    about: About,
    writer: Writer<File>,
    /// The file being written.
    path: PathBuf,
    /// The parts that are kept, the oldest first.
    parts: VecDeque<PathBuf>,
    /// The number of the next part's file.
    next_number: u32,
    /// In the parts before this one.
    before: Written,
    node: Option<Arc<Snapshot>>,
    located: HashSet<u64>,
    /// How packets are observed, as was said.
    standing: Standing,
    /// Whether this part has that.
    begun: bool,
}

impl Recorder {
    /// Makes the first file.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn create(options: Options, about: About) -> Result<Self, RecordError> {
        let mut parts = VecDeque::new();
        let mut number = 0;
        if options.rotation.is_some() {
            let earlier = earlier_parts(&options.path);
            number = earlier.last().map_or(0, |(number, _)| number + 1);
            parts.extend(earlier.into_iter().map(|(_, path)| path));
        }
        let path = part_path(&options, number);
        let writer = open(&path, options.overwrite, &about)?;
        parts.push_back(path.clone());
        let mut recorder = Self {
            parts,
            next_number: number.saturating_add(1),
            options,
            about,
            writer,
            path,
            before: Written::default(),
            node: None,
            located: HashSet::new(),
            standing: Standing::default(),
            begun: false,
        };
        recorder.remove_oldest();
        Ok(recorder)
    }

    /// Records a step. `function_at` says what function is at a kernel address.
    ///
    /// # Errors
    /// [`RecordError::Write`]; the file is a recording then too.
    pub fn step(
        &mut self,
        taken: Taken<'_>,
        function_at: &dyn Fn(u64) -> Option<String>,
    ) -> Result<Room, RecordError> {
        self.write(taken, function_at)
            .map_err(|source| RecordError::Write {
                path: self.path.clone(),
                source,
            })?;
        let written = self.writer.length();
        if let Some(rotation) = self.options.rotation
            && written >= rotation.size
        {
            self.rotate()?;
        }
        let full = |size| self.written().length >= size;
        Ok(if self.options.max_size.is_some_and(full) {
            Room::Full
        } else {
            Room::Left
        })
    }

    fn write(
        &mut self,
        taken: Taken<'_>,
        function_at: &dyn Fn(u64) -> Option<String>,
    ) -> io::Result<()> {
        self.write_node(taken.node)?;
        if !self.begun {
            self.writer.batch(&Batch {
                notices: self.standing.clone().into_notices().collect(),
                records: Vec::new(),
            })?;
            self.begun = true;
        }
        for record in &taken.batch.records {
            let Record::Event(event) = record else {
                continue;
            };
            let address = event.record.detail;
            if event.record.hook == hook::DROP
                && self.located.insert(address)
                && let Some(function) = function_at(address)
            {
                self.writer.location(address, &function)?;
            }
        }
        self.note_standing(taken.batch);
        self.writer.batch(taken.batch)?;
        self.writer.clock(taken.now)
    }

    /// Keeps in mind what a later part must begin with. Whose sockets are is said anew by who says it.
    fn note_standing(&mut self, batch: &Batch) {
        if self.options.rotation.is_some() {
            for notice in &batch.notices {
                self.standing.note_observation(notice);
            }
        }
    }

    fn write_node(&mut self, node: &Arc<Snapshot>) -> io::Result<()> {
        let known = self.node.as_ref();
        if known.is_some_and(|known| Arc::ptr_eq(known, node)) {
            return Ok(());
        }
        // Another snapshot is not always another content.
        if !known.is_some_and(|known| known == node) {
            self.writer.node(node)?;
        }
        self.node = Some(Arc::clone(node));
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), RecordError> {
        self.end_part()?;
        self.before = self.written();
        self.about.part += 1;
        self.path = part_path(&self.options, self.next_number);
        self.next_number = self.next_number.saturating_add(1);
        self.writer = open(&self.path, true, &self.about)?;
        self.node = None;
        self.located.clear();
        self.begun = false;
        self.parts.push_back(self.path.clone());
        self.remove_oldest();
        Ok(())
    }

    fn remove_oldest(&mut self) {
        let Some(rotation) = self.options.rotation else {
            return;
        };
        while self.parts.len() > rotation.keep.max(1) {
            if let Some(oldest) = self.parts.pop_front() {
                // One that somebody took away is gone all the same.
                let _ = fs::remove_file(oldest);
            }
        }
    }

    fn end_part(&mut self) -> Result<(), RecordError> {
        self.writer.finish().map_err(|source| RecordError::Write {
            path: self.path.clone(),
            source,
        })
    }

    /// Writes what is left, what the node knows at the end, and the index; what that is in all.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn finish(mut self, node: &Arc<Snapshot>) -> Result<Written, RecordError> {
        self.write_node(node).map_err(|source| RecordError::Write {
            path: self.path.clone(),
            source,
        })?;
        self.end_part()?;
        Ok(self.written())
    }

    /// The file being written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The part being written, from 0.
    #[must_use]
    pub fn part(&self) -> u32 {
        self.about.part
    }

    /// What was written so far. Some of what was taken waits to be written.
    #[must_use]
    pub fn written(&self) -> Written {
        Written {
            length: self.before.length + self.writer.length(),
            records: self.before.records + self.writer.records(),
        }
    }
}

/// `FILE`, or `FILE.000007`.
fn part_path(options: &Options, part: u32) -> PathBuf {
    if options.rotation.is_none() {
        return options.path.clone();
    }
    let mut name = OsString::from(&options.path);
    name.push(format!(".{part:06}"));
    PathBuf::from(name)
}

/// Parts of before: files of such names that begin as a recording does, by number.
fn earlier_parts(path: &Path) -> Vec<(u32, PathBuf)> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name() else {
        return Vec::new();
    };
    let number = |candidate: &Path| -> Option<u32> {
        let digits = candidate
            .file_name()?
            .as_bytes()
            .strip_prefix(name.as_bytes())?
            .strip_prefix(b".")?;
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (digits.len() == 6).then_some(number)
    };
    let is_recording = |path: &Path| {
        let mut begin = [0; SIGNATURE.len()];
        File::open(path)
            .and_then(|mut file| file.read_exact(&mut begin))
            .is_ok_and(|()| begin == SIGNATURE)
    };
    let mut parts: Vec<(u32, PathBuf)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((number(&entry.path())?, entry.path())))
        .filter(|(_, path)| is_recording(path))
        .collect();
    parts.sort();
    parts
}

fn open(path: &Path, overwrite: bool, about: &About) -> Result<Writer<File>, RecordError> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if overwrite {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let failed = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::AlreadyExists {
            RecordError::Exists(path)
        } else {
            RecordError::Create { path, source }
        }
    };
    let file = options.open(path).map_err(failed)?;
    Writer::new(file, about).map_err(failed)
}
