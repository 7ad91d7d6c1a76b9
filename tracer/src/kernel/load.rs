//! Loading the BPF object: maps sized and filled.

use std::ops::RangeInclusive;

use aya::{
    Btf, Ebpf, EbpfLoader, Pod,
    maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use tracer_common::{
    cpu::CpuState,
    filter::Program,
    record::{Capture, MAX_BYTES},
};

use super::{
    object::{Object, ObjectError},
    owners::Owners,
};

/// Maps of one value each, by their sections in the object.
const FILTER: &str = ".data.filter";
const CAPTURE: &str = ".data.capture";
const SHED: &str = ".data.shed";
const READER: &str = ".data.reader";

/// The sizes that the kernel side works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The ring buffer, in bytes: a power of two of whole pages.
    pub ring: u32,
    /// How many tuples are followed at once.
    pub followed: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            ring: 8 << 20,
            followed: 1 << 16,
        }
    }
}

/// How many bytes of a packet can be kept, from its IP header on: enough for headers, and what a
/// record has room for.
pub const BYTES_RANGE: RangeInclusive<u32> = 40..=MAX_BYTES as u32;

/// How many calls may have begun on a CPU and be under way: each process that is preempted in a
/// hook's functions, and what is nested. Some bytes each.
const CALLS_PER_CPU: u32 = 128;

/// What the ring may have, in bytes.
pub const RING_RANGE: RangeInclusive<u32> = 64 << 10..=1 << 30;
/// How many tuples may be followed.
pub const FOLLOWED_RANGE: RangeInclusive<u32> = 1 << 10..=1 << 24;

/// Why a size cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Of the ring.
    #[error(
        "a ring buffer of {0} bytes is not possible: give a power of two from 64 KiB (65536) to \
         1 GiB (1073741824)"
    )]
    Ring(u32),
    /// Of the set of followed tuples.
    #[error("{0} followed flows are not possible: give a number from 1024 to 16777216")]
    Followed(u32),
}

impl Sizes {
    /// Whether the kernel can be asked for them.
    ///
    /// # Errors
    /// [`SizeError`] names the range.
    pub fn check(self) -> Result<(), SizeError> {
        if !RING_RANGE.contains(&self.ring) || !self.ring.is_power_of_two() {
            return Err(SizeError::Ring(self.ring));
        }
        if !FOLLOWED_RANGE.contains(&self.followed) {
            return Err(SizeError::Followed(self.followed));
        }
        Ok(())
    }
}

/// Why the object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object or a map was refused.
    #[error("cannot load the BPF object: {0}; `tracer doctor` says what this kernel lacks")]
    Object(#[from] aya::EbpfError),
    /// The object cannot be made ready for this kernel.
    #[error(transparent)]
    Unready(#[from] ObjectError),
    /// A map is not what it should be.
    #[error(
        "the BPF object's map {name} cannot be used: {reason}; rebuild it with `cargo xtask ebpf`"
    )]
    Map {
        /// The map.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct FilterValue(Program);

// SAFETY: the program is integers without padding (its size is asserted in tracer-common).
unsafe impl Pod for FilterValue {}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct CaptureValue(Capture);

// SAFETY: as above.
unsafe impl Pod for CaptureValue {}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct CpuValue(CpuState);

// SAFETY: as above.
unsafe impl Pod for CpuValue {}

/// Loads the object, and sets the filter before anything is attached, and how
/// many bytes of packets are kept: of DNS answers, which name what was looked up, always all that there is
/// room for.
///
/// # Errors
/// [`LoadError`]; nothing stays loaded then.
pub fn load(
    object: &Object,
    btf: &Btf,
    sizes: Sizes,
    filter: &Program,
    bytes: Option<u32>,
) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf));
    loader.map_max_entries("EVENTS", sizes.ring);
    loader.map_max_entries("FOLLOWED", sizes.followed);
    loader.map_max_entries("CALLS", calls());
    let mut ebpf = loader.load(object.bytes())?;
    let capture = Capture {
        length: bytes.unwrap_or(0),
        answers: MAX_BYTES as u32,
    };
    set(&mut ebpf, FILTER, FilterValue(*filter))?;
    set(&mut ebpf, CAPTURE, CaptureValue(capture))?;
    Ok(ebpf)
}

/// Gives the map of that name, which is of one value, its value.
fn set<V: Pod>(ebpf: &mut Ebpf, name: &'static str, value: V) -> Result<(), LoadError> {
    let map = ebpf.map_mut(name).ok_or_else(|| missing(name))?;
    let mut array: Array<&mut MapData, V> = map.try_into().map_err(|e| wrong(name, &e))?;
    array.set(0, value, 0).map_err(|e| wrong(name, &e))
}

/// Room for the calls that kprobes see under way on all CPUs.
fn calls() -> u32 {
    // Each CPU has its share of the possible ones. Unknown, they are taken to be many.
    let cpus = aya::util::nr_cpus().unwrap_or(256);
    u32::try_from(cpus).map_or(CALLS_PER_CPU, |cpus| cpus.saturating_mul(CALLS_PER_CPU))
}

/// The filter that the programs work by.
pub struct Filter(Array<MapData, FilterValue>);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filter")
    }
}

impl Filter {
    /// Replaces it; what is followed already stays followed.
    ///
    /// # Errors
    /// [`LoadError`] when the map refuses it.
    pub fn set(&mut self, filter: &Program) -> Result<(), LoadError> {
        let set = self.0.set(0, FilterValue(*filter), 0);
        set.map_err(|e| wrong(FILTER, &e))
    }
}

/// The filter's map; it can be taken once, when the programs are bound to it: after the netfilter
/// programs as well.
///
/// # Errors
/// [`LoadError::Map`].
pub fn take_filter(ebpf: &mut Ebpf) -> Result<Filter, LoadError> {
    take(ebpf, FILTER).map(Filter)
}

/// What the agent waits for: see [`tracer_common::reader`].
pub(super) struct Reader(Array<MapData, u32>);

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    /// Says for what, until then. Whether the map took it: else nothing wakes it but its clock.
    pub(super) fn waits(&mut self, word: u32) -> bool {
        self.0.set(0, word, 0).is_ok()
    }
}

/// The word's map; it can be taken once, as the filter's.
///
/// # Errors
/// [`LoadError::Map`].
pub(super) fn take_reader(ebpf: &mut Ebpf) -> Result<Reader, LoadError> {
    take(ebpf, READER).map(Reader)
}

/// How much the programs let go unseen.
pub(super) struct Shed(Array<MapData, u32>);

impl std::fmt::Debug for Shed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shed")
    }
}

impl Shed {
    /// From now on, by that word: see [`tracer_common::shed`].
    ///
    /// # Errors
    /// [`LoadError`] when the map refuses it.
    pub(super) fn set(&mut self, word: u32) -> Result<(), LoadError> {
        self.0.set(0, word, 0).map_err(|e| wrong(SHED, &e))
    }
}

/// The word's map; it can be taken once, as the filter's.
///
/// # Errors
/// [`LoadError::Map`].
pub(super) fn take_shed(ebpf: &mut Ebpf) -> Result<Shed, LoadError> {
    take(ebpf, SHED).map(Shed)
}

/// The ring buffer; it can be taken once.
///
/// # Errors
/// [`LoadError::Map`].
pub fn take_ring(ebpf: &mut Ebpf) -> Result<RingBuf<MapData>, LoadError> {
    take(ebpf, "EVENTS")
}

/// The processes that made sockets; they can be taken once.
///
/// # Errors
/// [`LoadError::Map`].
pub(super) fn take_owners(ebpf: &mut Ebpf) -> Result<Owners, LoadError> {
    take(ebpf, "OWNERS").map(Owners::new)
}

/// The per-CPU state; it can be taken once.
///
/// # Errors
/// [`LoadError::Map`].
pub fn take_counters(ebpf: &mut Ebpf) -> Result<Counters, LoadError> {
    take(ebpf, "CPU").map(Counters)
}

/// The counters of all CPUs.
pub struct Counters(PerCpuArray<MapData, CpuValue>);

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

impl Counters {
    /// What each CPU counted up to now.
    ///
    /// # Errors
    /// What the map look-up said.
    pub fn read(&self) -> Result<Vec<CpuState>, LoadError> {
        let values = self.0.get(&0, 0).map_err(|e| wrong("CPU", &e))?;
        Ok(values.iter().map(|value| value.0).collect())
    }
}

/// A map of that name, as the kind that it is; each can be taken once.
fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, LoadError>
where
    M: TryFrom<Map, Error = MapError>,
{
    M::try_from(ebpf.take_map(name).ok_or_else(|| missing(name))?).map_err(|e| wrong(name, &e))
}

fn missing(name: &'static str) -> LoadError {
    LoadError::Map {
        name,
        reason: "it is not there".to_owned(),
    }
}

fn wrong(name: &'static str, error: &dyn std::error::Error) -> LoadError {
    LoadError::Map {
        name,
        reason: error.to_string(),
    }
}
