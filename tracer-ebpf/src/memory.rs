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
    unsafe { core::ptr::read_volatile((base + u64::from(offset)) as *const T) }
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

/// Fills `to` from the kernel address `from`; false when it cannot be read.
#[inline(always)]
pub(crate) fn fill<const N: usize>(to: &mut [u8; N], from: u64) -> bool {
    // SAFETY: the helper writes at most N bytes to `to` and checks `from` itself.
    unsafe { bpf_probe_read_kernel(to.as_mut_ptr().cast(), N as u32, from as *const _) == 0 }
}

/// `value`, of which the verifier knows no more than that it is a number.
///
/// The verifier walks on with each distinct value that it knows, and what comes after is long. A
/// number from which another unknown number was taken away and added again is the same number to
/// the machine and any number to the verifier, so that all paths go on as one. `noise` must be
/// unknown to it: bytes of a packet are.
#[inline(always)]
pub(crate) fn forget(value: u64, noise: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: arithmetic between registers.
        unsafe {
            core::arch::asm!(
                "{zero} = {noise}", "{zero} -= {noise}", "{value} += {zero}",
                zero = out(reg) _, noise = in(reg) noise, value = inout(reg) value,
                options(pure, nomem, nostack),
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = noise;
        value
    }
}
