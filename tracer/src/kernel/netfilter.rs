//! BPF netfilter programs and their links (`BPF_PROG_TYPE_NETFILTER`, Linux 6.4 and newer).
//!
//! aya has no such program type, so the two programs are taken from the same object by aya-obj,
//! bound to the maps that aya created, and loaded and linked by plain bpf(2) calls. A link belongs
//! to the network namespace of the thread that makes it, holds a reference on that namespace, and
//! goes with its file descriptor: nothing stays behind a killed process.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
};

use aya::maps::Map;
use aya_obj::{
    Object,
    generated::{bpf_attach_type, bpf_cmd, bpf_prog_type},
};

use super::bpf;

/// The program that sees packets before a hook's functions.
pub const ENTER: &str = "netfilter_enter";
/// The program that sees them after.
pub const LEAVE: &str = "netfilter_leave";

/// `NFPROTO_IPV4` and `NFPROTO_IPV6` (uapi).
const FAMILIES: [u32; 2] = [2, 10];
/// The IP hooks, prerouting to postrouting.
const HOOKS: u32 = 5;
/// The first and the last priority that a link may have: the extremes are the kernel's own
/// (`bpf_nf_check_pf_and_hooks`, net/netfilter/nf_bpf_link.c).
const FIRST: i32 = i32::MIN + 1;
const LAST: i32 = i32::MAX - 1;
/// How many priorities towards the middle are tried: a hook holds one BPF function a priority
/// (`nf_hook_entries_grow`, `EBUSY`), so another tracer beside this one may have taken the first.
const TRIES: i32 = 16;
/// Room for what the verifier says.
const LOG_SIZE: usize = 1 << 20;

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum NetfilterError {
    /// The object cannot be prepared: it was not built from this version's sources.
    #[error(
        "the BPF object's {program} cannot be prepared: {reason}; rebuild it with `cargo xtask ebpf`"
    )]
    Object {
        /// The program.
        program: String,
        /// What is wrong.
        reason: String,
    },
    /// The kernel refuses the program.
    #[error("the kernel refuses {program}: {source}{}", last_lines(.log))]
    Load {
        /// The program.
        program: String,
        /// The errno.
        source: io::Error,
        /// What the verifier said.
        log: String,
    },
}

/// How the lines begin in which the verifier counts what it did, after it has said what is wrong; a
/// line for each function since 7.1.
const ACCOUNTS: [&str; 4] = [
    "processed ",
    "verification time ",
    "stack depth ",
    "subprog ",
];

/// What the verifier said last, for an error message.
pub(super) fn last_lines(log: &str) -> String {
    let told = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !ACCOUNTS.iter().any(|account| line.starts_with(account))
    };
    let mut last: Vec<&str> = log.lines().filter(told).rev().take(4).collect();
    last.reverse();
    if last.is_empty() {
        String::new()
    } else {
        format!(": {}", last.join("; "))
    }
}

/// The two loaded programs.
#[derive(Debug)]
pub struct Programs {
    enter: OwnedFd,
    leave: OwnedFd,
}

/// One namespace's links; dropping them detaches.
#[derive(Debug)]
pub struct Links {
    links: Vec<OwnedFd>,
}

impl Links {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}

/// The programs' instructions, ready for the verifier.
#[derive(Debug)]
pub struct Prepared {
    object: Object,
}

impl Prepared {
    /// Takes the programs of `object` and binds them to the maps of `ebpf`.
    ///
    /// # Errors
    /// [`NetfilterError::Object`].
    pub fn new(ebpf: &aya::Ebpf, object: &[u8]) -> Result<Self, NetfilterError> {
        bind(ebpf, object)
            .map(|object| Self { object })
            .map_err(|reason| NetfilterError::Object {
                program: ENTER.to_owned(),
                reason,
            })
    }

    /// Has one of the programs verified and loaded.
    ///
    /// # Errors
    /// [`NetfilterError::Load`] with `EINVAL` where the kernel has no such program type.
    pub fn load(&self, program: &str) -> Result<OwnedFd, NetfilterError> {
        let object = &self.object;
        let function = object
            .programs
            .get(program)
            .and_then(|found| object.functions.get(&found.function_key()))
            .ok_or_else(|| NetfilterError::Object {
                program: program.to_owned(),
                reason: "it is not there".to_owned(),
            })?;
        load_instructions(program, &function.instructions)
    }
}

impl Programs {
    /// The two programs, each loaded by [`Prepared::load`].
    #[must_use]
    pub fn new(enter: OwnedFd, leave: OwnedFd) -> Self {
        Self { enter, leave }
    }

    /// Links both programs at every IP hook of the calling thread's network namespace.
    ///
    /// # Errors
    /// What bpf(2) said; `EPERM` without `CAP_NET_ADMIN` over that namespace.
    pub fn link_here(&self) -> io::Result<Links> {
        let mut links = Vec::new();
        for family in FAMILIES {
            for hook in 0..HOOKS {
                // Last end first: a packet between two links is seen leaving, which says less
                // wrong than one seen entering and never again.
                links.push(link_near(&self.leave, family, hook, LAST, -1)?);
                links.push(link_near(&self.enter, family, hook, FIRST, 1)?);
            }
        }
        Ok(Links { links })
    }
}

fn bind(ebpf: &aya::Ebpf, object: &[u8]) -> Result<Object, String> {
    let mut object = Object::parse(object).map_err(|e| e.to_string())?;
    let fds: HashMap<&str, RawFd> = ebpf
        .maps()
        .filter_map(|(name, map)| Some((name, map_fd(map)?)))
        .collect();
    let text: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let maps: Vec<(String, RawFd, aya_obj::Map)> = object
        .maps
        .iter()
        .filter_map(|(name, map)| Some((name.clone(), *fds.get(name.as_str())?, map.clone())))
        .collect();
    let maps = maps.iter().map(|(name, fd, map)| (name.as_str(), *fd, map));
    object
        .relocate_maps(maps, &text)
        .map_err(|e| e.to_string())?;
    object.relocate_calls(&text).map_err(|e| e.to_string())?;
    Ok(object)
}

fn map_fd(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::LruHashMap(data) | Map::RingBuf(data) => {
            Some(data.fd().as_fd().as_raw_fd())
        }
        _ => None,
    }
}

fn load_instructions(
    name: &str,
    instructions: &[aya_obj::generated::bpf_insn],
) -> Result<OwnedFd, NetfilterError> {
    let attempt = |log: &mut [u8]| {
        let kind = bpf_prog_type::BPF_PROG_TYPE_NETFILTER;
        bpf::load(
            kind,
            bpf_attach_type::BPF_NETFILTER,
            name,
            instructions,
            log,
        )
    };
    if let Ok(program) = bpf::persist(|| attempt(&mut []), bpf::interrupted) {
        return Ok(program);
    }
    let mut log = vec![0; LOG_SIZE];
    bpf::persist(|| attempt(&mut log), bpf::interrupted).map_err(|source| {
        let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
        NetfilterError::Load {
            program: name.to_owned(),
            source,
            log: String::from_utf8_lossy(&log[..end]).into_owned(),
        }
    })
}

/// Links at the first free priority from `end` on.
fn link_near(
    program: &OwnedFd,
    family: u32,
    hook: u32,
    end: i32,
    step: i32,
) -> io::Result<OwnedFd> {
    let mut taken = io::Error::from(io::ErrorKind::ResourceBusy);
    for n in 0..TRIES {
        match link(program, family, hook, end + n * step) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => taken = error,
            result => return result,
        }
    }
    Err(taken)
}

fn link(program: &OwnedFd, family: u32, hook: u32, priority: i32) -> io::Result<OwnedFd> {
    let mut attr = bpf::zero();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.link_create.attach_type = bpf_attach_type::BPF_NETFILTER as u32;
    attr.link_create.__bindgen_anon_3.netfilter.pf = family;
    attr.link_create.__bindgen_anon_3.netfilter.hooknum = hook;
    attr.link_create.__bindgen_anon_3.netfilter.priority = priority;
    bpf::bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}
