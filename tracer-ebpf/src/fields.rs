//! The offsets of kernel structure members, as the agent found them in the kernel's BTF.
//!
//! The names are those of `tracer_common::fields::FIELDS`; a test of the agent holds the two
//! lists against each other in the built object.

use aya_ebpf::Global;
use tracer_common::fields::ABSENT;

macro_rules! fields {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        pub(crate) static $name: Global<u32> = Global::new(ABSENT);
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
