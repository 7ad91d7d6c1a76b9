//! Reading kernel memory.
//!
//! A hook with BTF-typed arguments (tp_btf, fentry, netfilter) may read members of structures with
//! plain loads: the verifier checks offset and type, and a fault reads zero. That is several times
//! cheaper than the probe-read helper, which is left for hooks that are given bare addresses (kprobes,
//! cgroup_skb). [`Pointer`] knows which of the two it is, so that what is read and why is written
//! once. Packet bytes are read by the helper, too, but where the kernel lets a number be taken for a pointer:
//! [`words`].

use core::{marker::PhantomData, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use tracer_common::{
    cast,
    stand_in::{CAST_BUFFER, CAST_WORDS, FAULTS_ARE_FATAL},
};

use crate::fields::{Field, constant};

/// An integer of a member's size.
pub(crate) trait Integer: Copy {
    /// Of the register that it was loaded into, which has nothing else.
    fn of(register: u64) -> Self;
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Integer for $integer {
            #[inline(always)]
            fn of(register: u64) -> Self {
                register as Self
            }
        }
    )*};
}

integers! { u8 u16 u32 i32 u64 }

/// How members behind a kernel pointer are read. Each way reads zero where nothing can be read.
pub(crate) trait Access: Copy {
    /// How one reads behind pointers that were read that way.
    type Followed: Access;

    /// Whether a glance is taken first. Where each member takes a helper's call there is less to win, and
    /// the more paths for the verifier.
    const GLANCES: bool = true;

    /// The member of the structure at `base`.
    ///
    /// # Safety
    /// `T` must be of the member's size, and `base` a pointer for which this way is right.
    unsafe fn load<T: Integer, const I: usize, const B: usize>(base: u64, field: Field<I, B>) -> T;
}

/// By plain loads: the verifier knows the pointer's type, and it points to such a thing.
#[derive(Clone, Copy)]
pub(crate) struct Typed;

/// As [`Typed`] where that is safe. What was read from a structure may be null, or no pointer at all:
/// a socket keeps numbers where `sk_buff.dev` was. The load faults then, and kernels before 6.4
/// look for the program that did in a tree where a program with functions stands twice, once
/// without its table of loads that may fault (`jit_subprogs`); finding that one, the kernel
/// panics. There, probe reads.
#[derive(Clone, Copy)]
pub(crate) struct Doubtful;

/// By probe reads: the pointer is a number to the verifier.
#[derive(Clone, Copy)]
pub(crate) struct Untyped;

impl Access for Typed {
    type Followed = Doubtful;

    #[inline(always)]
    unsafe fn load<T: Integer, const I: usize, const B: usize>(base: u64, _: Field<I, B>) -> T {
        // SAFETY: the verifier proves the access or refuses the program.
        T::of(unsafe { load::<T, I, B>(base) })
    }
}

impl Access for Doubtful {
    type Followed = Self;

    #[inline(always)]
    unsafe fn load<T: Integer, const I: usize, const B: usize>(base: u64, field: Field<I, B>) -> T {
        // SAFETY: the caller's.
        unsafe {
            if constant::<FAULTS_ARE_FATAL>() == 0 {
                Typed::load(base, field)
            } else {
                Untyped::load(base, field)
            }
        }
    }
}

impl Access for Untyped {
    type Followed = Self;
    const GLANCES: bool = false;

    #[inline(always)]
    unsafe fn load<T: Integer, const I: usize, const B: usize>(base: u64, field: Field<I, B>) -> T {
        let mut value = MaybeUninit::uninit();
        // The helper clears what it cannot fill.
        let _ = copy(&mut value, base + field.offset());
        // SAFETY: the helper wrote all of it, and any bytes are a value of integers.
        unsafe { value.assume_init() }
    }
}

/// By plain loads where the kernel lets a number be taken for a pointer, to what [`cast_to_buffer`] says;
/// else by probe reads.
#[derive(Clone, Copy)]
pub(crate) struct Cast;

impl Access for Cast {
    type Followed = Self;
    const GLANCES: bool = false;

    #[inline(always)]
    unsafe fn load<T: Integer, const I: usize, const B: usize>(base: u64, field: Field<I, B>) -> T {
        // SAFETY: the caller's.
        unsafe {
            if casts::<CAST_BUFFER>() {
                Typed::load(base, field)
            } else {
                Untyped::load(base, field)
            }
        }
    }
}

/// A kernel address with the way to read behind it. May be null.
#[derive(Clone, Copy)]
pub(crate) struct Pointer<A> {
    pub(crate) address: u64,
    access: PhantomData<A>,
}

impl<A: Access> Pointer<A> {
    /// For [`Typed`], of a value that the verifier knows as a typed pointer.
    #[inline(always)]
    pub(crate) fn new(address: u64) -> Self {
        Self {
            address,
            access: PhantomData,
        }
    }

    /// The member; zero where it cannot be read.
    ///
    /// # Safety
    /// `T` must be of the member's size.
    #[inline(always)]
    pub(crate) unsafe fn load<T: Integer, const I: usize, const B: usize>(
        self,
        field: Field<I, B>,
    ) -> T {
        // SAFETY: the caller's.
        unsafe { A::load(self.address, field) }
    }

    /// The pointer that the member is.
    ///
    /// # Safety
    /// The member must be a pointer.
    #[inline(always)]
    pub(crate) unsafe fn follow<const I: usize, const B: usize>(
        self,
        field: Field<I, B>,
    ) -> Pointer<A::Followed> {
        // SAFETY: the caller's.
        Pointer::new(unsafe { self.load(field) })
    }
}

/// One instruction, whose offset the agent writes. The compiler neither splits nor merges these: the verifier
/// accepts a member's own size and offset only.
///
/// # Safety
/// As [`Access::load`].
#[inline(always)]
unsafe fn load<T: Integer, const I: usize, const B: usize>(base: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let value: u64;
        macro_rules! load {
            ($size:literal) => {
                core::arch::asm!(
                    concat!("{value} = *(", $size, " *)({base} + {offset})"),
                    value = out(reg) value, base = in(reg) base,
                    offset = const Field::<I, B>::LOAD,
                    options(readonly, nostack, preserves_flags),
                )
            };
        }
        // SAFETY: the caller's. A load clears what is above it.
        unsafe {
            match size_of::<T>() {
                1 => {
                    load!("u8");
                    core::hint::assert_unchecked(value <= u8::MAX as u64);
                }
                2 => {
                    load!("u16");
                    core::hint::assert_unchecked(value <= u16::MAX as u64);
                }
                4 => {
                    load!("u32");
                    core::hint::assert_unchecked(value <= u32::MAX as u64);
                }
                _ => load!("u64"),
            }
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = Field::<I, B>::LOAD;
        base
    }
}

/// Whether that id of a structure is one: whether this kernel has casts.
#[inline(always)]
fn casts<const ID: usize>() -> bool {
    constant::<ID>() != u64::from(cast::NONE)
}

/// Reads so many words from the kernel address `from` on, straight to where they are wanted: the stack has
/// no room for them twice. False when they cannot be read. By plain loads where that is possible, which
/// read zero then: not what begins a packet.
#[inline(always)]
pub(crate) fn words<const N: usize>(to: &mut MaybeUninit<[u64; N]>, from: u64) -> bool {
    const { assert!(N <= WORDS) };
    if !casts::<CAST_WORDS>() {
        return copy(to, from);
    }
    let (words, to) = (cast_to_words(from), to.as_mut_ptr().cast::<u64>());
    for at in 0..N {
        // SAFETY: the verifier proves the load, or refuses the program; `to` has N words.
        unsafe {
            let word = core::ptr::read_volatile((words as *const u64).add(at));
            put(to.add(at), word);
        };
    }
    true
}

/// How many words [`cast::WORDS`] has at least.
const WORDS: usize = 23;

/// The same number, which is a pointer to [`cast::WORDS`] to the verifier.
#[inline(always)]
fn cast_to_words(from: u64) -> u64 {
    cast_to(constant::<CAST_WORDS>(), from)
}

/// A program's context as the `sk_buff` that it is, for [`Cast`].
#[inline(always)]
pub(crate) fn cast_to_buffer(from: u64) -> u64 {
    if !casts::<CAST_BUFFER>() {
        return from;
    }
    cast_to(constant::<CAST_BUFFER>(), from)
}

#[inline(always)]
fn cast_to(structure: u64, from: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let to;
        // SAFETY: the function does nothing but name its argument's type; calls use up five registers.
        unsafe {
            core::arch::asm!(
                "call {call}",
                call = const cast::CALL,
                inlateout("r1") from => _,
                inlateout("r2") structure => _,
                lateout("r0") to,
                lateout("r3") _,
                lateout("r4") _,
                lateout("r5") _,
                options(nomem, nostack),
            );
        }
        to
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = structure;
        from
    }
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

/// Writes into a record, this very word. What is written plainly side by side the compiler joins to a
/// call of `memmove` or `memset`, which here go byte by byte and cost more than all the rest of an event.
///
/// # Safety
/// `to` must be memory of the record's member.
#[inline(always)]
pub(crate) unsafe fn put<T: Copy>(to: *mut T, value: T) {
    // SAFETY: the caller's.
    unsafe { to.write_volatile(value) }
}

/// As [`put`], both words of an address or a name.
///
/// # Safety
/// As [`put`].
#[inline(always)]
pub(crate) unsafe fn put_both(to: *mut [u64; 2], value: [u64; 2]) {
    let [first, second] = value;
    // SAFETY: the caller's; the array is two words.
    unsafe {
        put(to.cast(), first);
        put(to.cast::<u64>().add(1), second);
    }
}

/// An address that was read from a kernel structure, as a number.
///
/// From 6.17 on the verifier takes what is read from a member like `unsigned char *` for a pointer, each
/// sum of which is one of its own to it; 7.3's refuses to add two of these. What is negated is a number
/// to all kernels.
#[inline(always)]
pub(crate) fn number(address: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut address = address;
        // SAFETY: arithmetic in a register.
        unsafe {
            core::arch::asm!(
                "{address} = -{address}", "{address} = -{address}",
                address = inout(reg) address,
                options(pure, nomem, nostack),
            );
        }
        address
    }
    #[cfg(not(target_arch = "bpf"))]
    address
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
