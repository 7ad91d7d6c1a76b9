//! The BPF object, as built by `cargo xtask ebpf` and kept with the sources, made ready for a kernel.

use tracer_common::cast;

use super::cast::{CALL, Cast, KERNEL_FUNCTION};

/// The ELF file, aligned as its parser wants it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRACER_BPF_OBJECT"));
/// As its parser wants it.
const ALIGNMENT: usize = 32;
/// The bytes of an instruction.
const INSTRUCTION: usize = 8;

/// The object for one kernel.
#[derive(Debug)]
pub struct Object {
    /// Somewhere in it, where it is aligned: a copy of this would not be.
    bytes: Vec<u8>,
    begin: usize,
    words: u32,
    buffer: u32,
}

impl Object {
    /// For a kernel with that cast, or one without.
    #[must_use]
    pub fn new(cast: Option<Cast>) -> Self {
        let mut bytes = vec![0; OBJECT.len() + ALIGNMENT];
        let begin = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let object = &mut bytes[begin..][..OBJECT.len()];
        object.copy_from_slice(OBJECT);
        if let Some(cast) = cast {
            write_calls(object, cast.function);
        }
        let id = |of: fn(Cast) -> u32| cast.map_or(cast::NONE, of);
        Self {
            bytes,
            begin,
            words: id(|cast| cast.words),
            buffer: id(|cast| cast.buffer),
        }
    }

    /// The ELF file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.begin..][..OBJECT.len()]
    }

    /// The globals that say how packets' bytes and socket programs' contexts are read, and their values. By reference, as
    /// `EbpfLoader::override_global` takes them.
    pub(super) const fn globals(&self) -> [(&'static str, &u32); 2] {
        [("CAST_WORDS", &self.words), ("CAST_BUFFER", &self.buffer)]
    }
}

/// The call that stands for a cast.
const fn stand_in() -> [u8; INSTRUCTION] {
    let [a, b, c, d] = cast::CALL.to_ne_bytes();
    [CALL, 0, 0, 0, a, b, c, d]
}

/// Writes the calls of the kernel function where others stand for them; how many. The file has code at
/// multiples of an instruction's length, and nothing else that looks like these eight bytes.
fn write_calls(object: &mut [u8], function: u32) -> usize {
    let [a, b, c, d] = function.to_ne_bytes();
    // The registers' byte: from << 4 | to.
    let call = [CALL, KERNEL_FUNCTION << 4, 0, 0, a, b, c, d];
    let stand_in = stand_in();
    let mut written = 0;
    for instruction in object.chunks_exact_mut(INSTRUCTION) {
        if *instruction == stand_in {
            instruction.copy_from_slice(&call);
            written += 1;
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(object: &[u8], immediate: u32) -> usize {
        let object = aya_obj::Object::parse(object).unwrap();
        let instructions = object.functions.values().flat_map(|it| &it.instructions);
        let found = instructions.filter(|it| it.code == CALL && it.imm == immediate.cast_signed());
        found.count()
    }

    #[test]
    fn every_cast_is_a_call_of_the_kernels_function() {
        let plain = Object::new(None);
        assert_eq!(plain.bytes(), OBJECT);
        assert!(plain.globals().iter().all(|(_, id)| **id == cast::NONE));
        let stand_ins = calls(plain.bytes(), cast::CALL);
        assert!(stand_ins > 0);
        let cast = Cast {
            function: 0x0012_3456,
            words: 77,
            buffer: 78,
        };
        let ready = Object::new(Some(cast));
        let values = ready.globals().map(|(_, id)| *id);
        assert_eq!(values, [77, 78]);
        assert_eq!(calls(ready.bytes(), cast::CALL), 0);
        assert_eq!(calls(ready.bytes(), cast.function), stand_ins);
        assert_eq!(ready.bytes().as_ptr().align_offset(ALIGNMENT), 0);
        // All that was written are those instructions.
        let other = ready
            .bytes()
            .chunks(INSTRUCTION)
            .zip(OBJECT.chunks(INSTRUCTION));
        assert_eq!(other.filter(|(a, b)| a != b).count(), stand_ins);
    }
}
