//! What the running kernel's BTF says: member offsets, drop reasons, tracepoints, functions.
//!
//! The BPF programs carry no relocations; every offset they use is found here and written into
//! the object before it is loaded. `/sys/kernel/btf/vmlinux` is decoded once (tens of milliseconds)
//! and asked by name. Structures that live in a module on distribution kernels (`nf_conn`) are
//! looked up in that module's split BTF, which exists from 5.11 on and while the module is loaded.
//!
//! Limits: a BTF kind newer than the decoder makes the whole BTF unreadable, which is an error
//! that says so. Nothing here trusts the bytes: sizes, depth and work are bounded.

mod decode;
#[cfg(test)]
pub(super) mod fixture;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use btf_rs::Btf;
use tracer_common::fields::{ABSENT, FIELDS, Field};

use crate::node::reasons::DropReasons;

/// Where kernels show their BTF.
pub const DIRECTORY: &str = "/sys/kernel/btf";

/// Modules whose types matter: connections, and the reasons of drops outside the core.
const MODULES: &[&str] = &["nf_conntrack", "openvswitch", "mac80211"];

/// The largest BTF read, in bytes: some ten times that of a distribution kernel.
const MAX_SIZE: u64 = 128 << 20;

/// Why the kernel's BTF could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there or not readable.
    #[error(
        "cannot read {}: {source}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y, and a \
         container needs the node's /sys",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not BTF, or hold something this version does not know.
    #[error(
        "cannot decode the BTF of {name}: {source}; a kernel newer than this program may need a \
         newer version of it"
    )]
    Decode {
        /// `vmlinux` or a module.
        name: String,
        /// What the decoder said.
        source: btf_rs::Error,
    },
    /// A structure that the programs read is not described.
    #[error(
        "the kernel's BTF does not describe struct {structure} (its member {member} is needed); \
         use a kernel from 5.8 on with networking built in"
    )]
    NoStructure {
        /// The structure.
        structure: &'static str,
        /// The first member of it that is needed.
        member: &'static str,
    },
    /// A structure lacks a member that the programs read.
    #[error(
        "struct {structure} of this kernel has no member {member}; this version of the program \
         does not know the kernel's layout: look for a newer one, or report the kernel's version"
    )]
    NoMember {
        /// The structure.
        structure: &'static str,
        /// The member.
        member: &'static str,
    },
}

/// The decoded BTF of the kernel and of the modules that matter.
pub struct KernelBtf {
    vmlinux: Btf,
    modules: Vec<Btf>,
    notes: Vec<String>,
}

impl fmt::Debug for KernelBtf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelBtf")
            .field("modules", &self.modules.len())
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

impl KernelBtf {
    /// Decodes the running kernel's BTF. Do it once, and drop it when the questions are asked: it
    /// takes tens of milliseconds and as many megabytes.
    ///
    /// # Errors
    /// When `vmlinux` cannot be read or decoded. A module that cannot is a note.
    pub fn load() -> Result<Self, BtfError> {
        Self::load_from(Path::new(DIRECTORY))
    }

    /// Decodes `vmlinux` and the modules' BTF in `directory`.
    ///
    /// # Errors
    /// As [`KernelBtf::load`].
    pub fn load_from(directory: &Path) -> Result<Self, BtfError> {
        let path = directory.join("vmlinux");
        let vmlinux = read(&path).map_err(|source| BtfError::Read { path, source })?;
        let mut btf = Self::from_bytes(&vmlinux)?;
        for module in MODULES {
            match read(&directory.join(module)) {
                Ok(bytes) => {
                    if let Err(error) = btf.add_module(module, &bytes) {
                        btf.notes.push(error.to_string());
                    }
                }
                // Built in, not loaded, or a kernel before 5.11: said where something is missing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => btf
                    .notes
                    .push(format!("cannot read the BTF of module {module}: {error}")),
            }
        }
        Ok(btf)
    }

    /// Decodes a kernel's BTF.
    ///
    /// # Errors
    /// When the bytes are not BTF.
    pub fn from_bytes(vmlinux: &[u8]) -> Result<Self, BtfError> {
        let vmlinux = Btf::from_bytes(vmlinux).map_err(|source| BtfError::Decode {
            name: "vmlinux".to_owned(),
            source,
        })?;
        Ok(Self {
            vmlinux,
            modules: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// Decodes a module's split BTF.
    ///
    /// # Errors
    /// When the bytes are not BTF on top of this kernel's.
    pub fn add_module(&mut self, name: &str, bytes: &[u8]) -> Result<(), BtfError> {
        let module = Btf::from_split_bytes(bytes, &self.vmlinux).map_err(|source| {
            let name = format!("module {name}");
            BtfError::Decode { name, source }
        })?;
        self.modules.push(module);
        Ok(())
    }

    /// What went wrong without being an error: modules whose BTF is unreadable.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The offsets of all members in [`FIELDS`].
    ///
    /// # Errors
    /// When a required member is missing.
    pub fn offsets(&self) -> Result<Offsets, BtfError> {
        let mut offsets = Offsets::default();
        for field in FIELDS {
            let offset = match self.offset(field.structure, field.member) {
                Ok(offset) => offset,
                Err(missing) if field.required => return Err(missing.required(field)),
                Err(missing) => {
                    offsets.absent.push(Absent { field, missing });
                    ABSENT
                }
            };
            offsets.values.push((field.name, offset));
        }
        Ok(offsets)
    }

    /// The byte offset of a member (dots for a member of a member, `[n]` for the n-th of an array of
    /// integers; members of anonymous structures and unions count as the outer one's; a bit field's
    /// is its first byte's).
    fn offset(&self, structure: &str, member: &str) -> Result<u32, Missing> {
        let mut missing = Missing::Structure;
        for btf in self.all() {
            match decode::member_offset(btf, structure, member) {
                Ok(offset) => return Ok(offset),
                Err(Missing::Structure) => {}
                Err(Missing::Member) => missing = Missing::Member,
            }
        }
        Err(missing)
    }

    /// The names of the drop reasons; empty before 5.17.
    #[must_use]
    pub fn drop_reasons(&self) -> DropReasons {
        decode::drop_reasons(self.all())
    }

    /// How many arguments a tracepoint gives to a `tp_btf` program, `None` when there is no such
    /// tracepoint (or only in a module that is not loaded).
    #[must_use]
    pub fn tracepoint_args(&self, name: &str) -> Option<usize> {
        self.all()
            .find_map(|btf| decode::tracepoint_arguments(btf, name))
    }

    /// Whether the kernel lists its kinds of BPF maps, and a ring buffer (5.8+) is none of them.
    #[must_use]
    pub fn lacks_ring_buffer(&self) -> bool {
        let kinds = decode::enumerators(&self.vmlinux, "bpf_map_type");
        !kinds.is_empty() && kinds.iter().all(|(_, name)| name != "BPF_MAP_TYPE_RINGBUF")
    }

    /// Whether the kernel itself, not a module, has a function of this name that fentry and fexit
    /// could attach to.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.function(name).is_some()
    }

    /// The id of the kernel's own function of this name, not of a module's.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<u32> {
        decode::function(&self.vmlinux, name)
    }

    /// The id of the kernel's own structure of this name.
    #[must_use]
    pub fn structure(&self, name: &str) -> Option<u32> {
        decode::structure(&self.vmlinux, name)
    }

    fn all(&self) -> impl Iterator<Item = &Btf> {
        std::iter::once(&self.vmlinux).chain(&self.modules)
    }
}

/// The offset of each member in [`FIELDS`], by the name that the programs have for it.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    values: Vec<(&'static str, u32)>,
    absent: Vec<Absent>,
}

impl Offsets {
    /// The members' names and offsets; [`ABSENT`] for an optional member that is missing.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.values.iter().copied()
    }

    /// The offset of one member, `None` when it is absent or there is none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u32> {
        self.iter()
            .find(|&(other, value)| other == name && value != ABSENT)
            .map(|(_, value)| value)
    }

    /// The optional members that this kernel lacks. Their `Display` is a note for people.
    #[must_use]
    pub fn absent(&self) -> &[Absent] {
        &self.absent
    }
}

/// Such as no kernel may have.
#[cfg(test)]
impl FromIterator<(&'static str, u32)> for Offsets {
    fn from_iter<I: IntoIterator<Item = (&'static str, u32)>>(values: I) -> Self {
        Self {
            values: values.into_iter().collect(),
            absent: Vec::new(),
        }
    }
}

/// An optional member that this kernel's BTF lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The member.
    pub field: &'static Field,
    missing: Missing,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Field {
            structure, member, ..
        } = self.field;
        match self.missing {
            Missing::Member => write!(f, "struct {structure} of this kernel has no {member}"),
            Missing::Structure if *structure == "nf_conn" => write!(
                f,
                "struct nf_conn is not described (member {member}): the module nf_conntrack is \
                 not loaded, or the kernel is older than 5.11"
            ),
            Missing::Structure => {
                write!(f, "struct {structure} is not described (member {member})")
            }
        }
    }
}

/// What a lookup did not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Structure,
    Member,
}

impl Missing {
    fn required(self, field: &Field) -> BtfError {
        let (structure, member) = (field.structure, field.member);
        match self {
            Self::Structure => BtfError::NoStructure { structure, member },
            Self::Member => BtfError::NoMember { structure, member },
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
