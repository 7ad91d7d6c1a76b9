//! Whether the BPF programs may read packets' bytes by plain loads: see [`tracer_common::cast`].
//!
//! Whether the verifier lets them is not told by the version (distributions carry such things back, and leave
//! others out), so that a program of some instructions is given to it.

use std::io;

use aya_obj::generated::{bpf_attach_type, bpf_insn, bpf_prog_type};

use tracer_common::cast;

use super::{bpf, btf::KernelBtf, faults::Faults};

/// `BPF_PSEUDO_KFUNC_CALL`: what makes a call one of a kernel function (uapi).
pub(super) const KERNEL_FUNCTION: u8 = 2;
/// `call imm`.
pub(super) const CALL: u8 = 0x85;

/// The BTF ids that a cast takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// [`tracer_common::cast::FUNCTION`]
    pub function: u32,
    /// [`tracer_common::cast::WORDS`]
    pub words: u32,
    /// [`tracer_common::cast::BUFFER`]
    pub buffer: u32,
}

impl Cast {
    /// That of the running kernel; none where it has none or faults are not to be had: nothing says
    /// that the bytes behind a number can be read.
    #[must_use]
    pub fn find(kernel: &KernelBtf, faults: Faults) -> Option<Self> {
        if faults == Faults::Fatal {
            return None;
        }
        Self::ids(kernel).filter(|cast| cast.is_taken().is_ok())
    }

    fn ids(kernel: &KernelBtf) -> Option<Self> {
        Some(Self {
            function: kernel.function(cast::FUNCTION)?,
            words: kernel.structure(cast::WORDS)?,
            buffer: kernel.structure(cast::BUFFER)?,
        })
    }

    /// Gives a program with the cast to the verifier.
    ///
    /// # Errors
    /// What the kernel said; nothing stays loaded.
    fn is_taken(self) -> io::Result<()> {
        let program = [
            // r1 = 0; r2 = words; r0 = cast(r1, r2); r0 = *(u64 *)(r0 + 0); r0 = 1; exit
            instruction(0xb7, 1, 0, 0),
            instruction(0xb7, 2, 0, self.words.cast_signed()),
            instruction(CALL, 0, KERNEL_FUNCTION, self.function.cast_signed()),
            instruction(0x79, 0, 0, 0),
            instruction(0xb7, 0, 0, 1),
            instruction(0x95, 0, 0, 0),
        ];
        let kind = bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB;
        let attach = bpf_attach_type::BPF_CGROUP_INET_INGRESS;
        let load = || bpf::load(kind, attach, "cast", &program, &mut []);
        bpf::persist(load, bpf::interrupted).map(drop)
    }
}

fn instruction(code: u8, to: u8, from: u8, immediate: i32) -> bpf_insn {
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off: 0,
        imm: immediate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root; on this kernel, if it has the function.
    #[test]
    fn the_verifier_takes_a_cast_and_no_other_function() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let Some(cast) = Cast::ids(&KernelBtf::load().unwrap()) else {
            eprintln!("skipped: this kernel has no bpf_rdonly_cast (6.2)");
            return;
        };
        cast.is_taken().unwrap();
        let function = cast.words;
        assert!(Cast { function, ..cast }.is_taken().is_err());
        let words = 0x7fff_ffff;
        assert!(Cast { words, ..cast }.is_taken().is_err());
    }
}
