//! Reading kernel memory.
//!
//! A hook with BTF-typed arguments (tp_btf, fentry, netfilter) may read members of structures with
//! plain loads: the verifier checks offset and type, and a fault reads zero. That is several times
//! cheaper than the probe-read helper, which is left for packet bytes.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// The value at `base + offset`, `base` a BTF-typed kernel pointer.
///
/// # Safety
/// `base` must be what the verifier knows as a typed pointer, and `offset` a member of size `T`.
#[inline(always)]
pub(crate) unsafe fn load<T: Copy>(base: u64, offset: u32) -> T {
    // Volatile, so that the compiler neither splits nor merges loads: the verifier accepts a
    // member's own size and offset only.
    // SAFETY: the verifier proves the access or refuses the program.
    unsafe { core::ptr::read_volatile((base + offset as u64) as *const T) }
}

/// Fills `to` from the kernel address `from`; false when it cannot be read.
#[inline(always)]
pub(crate) fn copy<T>(to: &mut MaybeUninit<T>, from: u64) -> bool {
    // SAFETY: the helper writes at most size_of::<T>() bytes to `to` and checks `from` itself.
    unsafe {
        bpf_probe_read_kernel(
            to.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            from as *const _,
        ) == 0
    }
}
