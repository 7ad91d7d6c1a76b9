//! The constants of the running kernel, which the agent writes over what stands for them here: the offsets of
//! structure members, by the names of `tracer_common::fields::FIELDS`, and some numbers more.
//!
//! See [`tracer_common::stand_in`].

use tracer_common::{fields, stand_in};

/// A member of a kernel structure: its number among the constants, and how many bytes behind it is meant.
#[derive(Clone, Copy)]
pub(crate) struct Field<const INDEX: usize, const BEHIND: usize = 0>;

impl<const INDEX: usize, const BEHIND: usize> Field<INDEX, BEHIND> {
    /// What stands for its offset in a load.
    pub(crate) const LOAD: usize = stand_in::load(INDEX, BEHIND);

    /// What lies so many bytes behind.
    #[inline(always)]
    pub(crate) fn and<const BYTES: usize>(self) -> Field<INDEX, BYTES> {
        const { assert!(BEHIND == 0) };
        Field
    }

    /// Where it is in its structure.
    #[inline(always)]
    pub(crate) fn offset(self) -> u64 {
        constant::<INDEX>() + BEHIND as u64
    }

    /// Whether this kernel lacks it.
    #[inline(always)]
    pub(crate) fn is_absent(self) -> bool {
        // `fields::ABSENT` as a move extends its sign.
        constant::<INDEX>() == u64::MAX
    }
}

/// The constant of that number.
#[inline(always)]
pub(crate) fn constant<const INDEX: usize>() -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let value;
        // SAFETY: a number into a register.
        unsafe {
            core::arch::asm!(
                "{value} = {stand_in}",
                value = out(reg) value, stand_in = const stand_in::value(INDEX),
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        stand_in::value(INDEX).cast_unsigned().into()
    }
}

// No structure of the programs' own has members where the stand-ins are.
const _: () = {
    assert!(size_of::<tracer_common::cpu::CpuState>() < stand_in::load(0, 0));
    assert!(size_of::<tracer_common::filter::Program>() < stand_in::load(0, 0));
};

macro_rules! fields {
    ($($name:ident)*) => {$(
        pub(crate) const $name: Field<{ fields::index(stringify!($name)) }> = Field;
    )*};
}

fields! {
    SKB_HEAD SKB_DATA SKB_TAIL SKB_LEN SKB_PROTOCOL SKB_NETWORK_HEADER SKB_DEV SKB_SK SKB_NFCT
    SKB_PACKET_TYPE
    DEV_NAME DEV_IFINDEX DEV_FLAGS DEV_PRIV_FLAGS DEV_NET DEV_LINK_OPS
    NET_INUM NET_HOOKS_IPV4 NET_HOOKS_IPV6
    SOCK_STATE SOCK_NET SOCK_CGROUP CGROUP_NODE KERNFS_ID
    STATE_HOOK STATE_PF STATE_IN STATE_OUT
    CONN_STATUS CONN_TUPLES
    CALL_FIRST CALL_SECOND CALL_RESULT CALL_STACK
    SOCK_COOKIE TASK_LEADER TASK_COMM
}
