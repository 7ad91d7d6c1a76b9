//! The BPF object, as built by `cargo xtask ebpf` and kept with the sources, made ready for a kernel: numbers of this
//! kernel are written over what stands for them ([`tracer_common::stand_in`]), and calls of a kernel function
//! over the calls that do ([`tracer_common::cast`]).

use std::ops::Range;

use object::{File, Object as _, ObjectSection as _, SectionKind};
use tracer_common::{
    cast,
    fields::{ABSENT, FIELDS, Field},
    stand_in,
};

use super::{
    btf::Offsets,
    cast::{CALL, Cast, KERNEL_FUNCTION},
    faults::Faults,
};

/// The ELF file, aligned as its parser wants it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRACER_BPF_OBJECT"));
/// As its parser wants it.
const ALIGNMENT: usize = 32;
/// The bytes of an instruction.
const INSTRUCTION: usize = 8;
/// Loads of one byte to eight (`BPF_LDX | BPF_MEM`), a move of a number, and the beginning of one of a number
/// that takes the next instruction's place too.
const LOADS: [u8; 4] = [0x71, 0x69, 0x61, 0x79];
const MOVE: u8 = 0xb7;
const WIDE_MOVE: u8 = 0x18;

/// Why the object cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is none.
    #[error("the BPF object cannot be read: {0}; rebuild it with `cargo xtask ebpf`")]
    Elf(#[from] object::Error),
    /// A member is out of reach.
    #[error(
        "{member} of this kernel's struct {structure} begins at byte {offset}, and a BPF instruction reaches \
         32767: the tracer cannot work with this kernel"
    )]
    Far {
        /// The structure.
        structure: &'static str,
        /// The member.
        member: &'static str,
        /// Its offset.
        offset: u32,
    },
}

/// The object for one kernel.
#[derive(Debug)]
pub struct Object {
    /// Somewhere in it, where it is aligned: a copy of this would not be.
    bytes: Vec<u8>,
    begin: usize,
}

impl Object {
    /// For a kernel with these offsets, of which faults do that, and with that cast, or one without.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn new(offsets: &Offsets, faults: Faults, cast: Option<Cast>) -> Result<Self, ObjectError> {
        let mut bytes = vec![0; OBJECT.len() + ALIGNMENT];
        let begin = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let object = &mut bytes[begin..][..OBJECT.len()];
        object.copy_from_slice(OBJECT);
        Kernel::new(offsets, faults, cast).complete(object)?;
        Ok(Self { bytes, begin })
    }

    /// The ELF file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.begin..][..OBJECT.len()]
    }
}

/// What is written into the object.
struct Kernel {
    constants: [u32; stand_in::COUNT],
    function: Option<u32>,
}

impl Kernel {
    fn new(offsets: &Offsets, faults: Faults, cast: Option<Cast>) -> Self {
        let mut constants = [ABSENT; stand_in::COUNT];
        for (constant, field) in constants.iter_mut().zip(FIELDS) {
            *constant = offsets.get(field.name).unwrap_or(ABSENT);
        }
        let id = |of: fn(Cast) -> u32| cast.map_or(cast::NONE, of);
        constants[stand_in::FAULTS_ARE_FATAL] = u32::from(faults == Faults::Fatal);
        constants[stand_in::CAST_WORDS] = id(|cast| cast.words);
        constants[stand_in::CAST_BUFFER] = id(|cast| cast.buffer);
        constants[stand_in::RETURN_ADDRESS] = tracer_common::fields::RETURN_ADDRESS;
        Self {
            constants,
            function: cast.map(|cast| cast.function),
        }
    }

    /// Completes all code in the file.
    fn complete(&self, object: &mut [u8]) -> Result<(), ObjectError> {
        for section in code(object)? {
            let mut instructions = object[section].as_chunks_mut::<INSTRUCTION>().0.iter_mut();
            while let Some(instruction) = instructions.next() {
                self.complete_one(instruction)?;
                if instruction[0] == WIDE_MOVE {
                    instructions.next();
                }
            }
        }
        Ok(())
    }

    /// Code, registers, offset, immediate: as the machine has them, which is what the object is for.
    fn complete_one(&self, instruction: &mut [u8; INSTRUCTION]) -> Result<(), ObjectError> {
        let [code, registers, a, b, c, d, e, f] = *instruction;
        let (offset, immediate) = (i16::from_ne_bytes([a, b]), i32::from_ne_bytes([c, d, e, f]));
        let with_immediate = |registers, value: u32| {
            let [c, d, e, f] = value.to_ne_bytes();
            [code, registers, a, b, c, d, e, f]
        };
        if LOADS.contains(&code)
            && let Some((constant, behind)) = stand_in::of_load(offset)
        {
            // What is absent stays, out of the verifier's bounds: such code must be dead.
            if self.constants[constant] != ABSENT {
                let [a, b] = self.reach(constant, behind)?.to_ne_bytes();
                *instruction = [code, registers, a, b, c, d, e, f];
            }
        } else if code == MOVE
            && let Some(constant) = stand_in::of_value(immediate)
        {
            *instruction = with_immediate(registers, self.constants[constant]);
        } else if code == CALL
            && immediate == cast::CALL.cast_signed()
            && let Some(function) = self.function
        {
            // The registers' byte: from << 4 | to.
            *instruction = with_immediate(KERNEL_FUNCTION << 4, function);
        }
        Ok(())
    }

    fn reach(&self, constant: usize, behind: u16) -> Result<i16, ObjectError> {
        let offset = self.constants[constant];
        let sum = offset.saturating_add(behind.into());
        i16::try_from(sum).map_err(|_| {
            let (structure, member) = FIELDS.get(constant).map_or(("", ""), named);
            ObjectError::Far {
                structure,
                member,
                offset,
            }
        })
    }
}

const fn named(field: &Field) -> (&'static str, &'static str) {
    (field.structure, field.member)
}

/// Where there are instructions in the file.
fn code(object: &[u8]) -> Result<Vec<Range<usize>>, ObjectError> {
    let file = File::parse(object)?;
    let sections = file.sections().filter(|it| it.kind() == SectionKind::Text);
    let ranges = sections.filter_map(|section| {
        let (begin, length) = section.file_range()?;
        let begin = usize::try_from(begin).ok()?;
        Some(begin..begin + usize::try_from(length).ok()?)
    });
    Ok(ranges.collect())
}

#[cfg(test)]
mod tests;
