//! The members of kernel structures that the BPF programs read.
//!
//! Rust emits no CO-RE relocations. The agent finds each member's offset in the running kernel's
//! BTF and writes it where the object has a stand-in: see [`crate::stand_in`]. One list drives both sides.

/// One member to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What the programs call it.
    pub name: &'static str,
    /// The structure.
    pub structure: &'static str,
    /// The member, dots for a member of a member, `[n]` for the n-th of an array.
    pub member: &'static str,
    /// Whether the programs cannot do without it; an optional one that is missing reads as
    /// [`ABSENT`] and switches off what needs it.
    pub required: bool,
}

/// The offset of an optional member that this kernel lacks.
pub const ABSENT: u32 = u32::MAX;

const fn required(name: &'static str, structure: &'static str, member: &'static str) -> Field {
    Field {
        name,
        structure,
        member,
        required: true,
    }
}

const fn optional(name: &'static str, structure: &'static str, member: &'static str) -> Field {
    Field {
        name,
        structure,
        member,
        required: false,
    }
}

/// The place of the member of that name in [`FIELDS`].
///
/// # Panics
/// When there is none, which is while compiling.
#[must_use]
pub const fn index(name: &str) -> usize {
    let mut at = 0;
    while at < FIELDS.len() {
        if same(FIELDS[at].name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no member of that name");
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Every member the programs read.
pub const FIELDS: &[Field] = &[
    required("SKB_HEAD", "sk_buff", "head"),
    required("SKB_DATA", "sk_buff", "data"),
    required("SKB_TAIL", "sk_buff", "tail"),
    required("SKB_LEN", "sk_buff", "len"),
    required("SKB_PROTOCOL", "sk_buff", "protocol"),
    required("SKB_NETWORK_HEADER", "sk_buff", "network_header"),
    required("SKB_DEV", "sk_buff", "dev"),
    required("SKB_SK", "sk_buff", "sk"),
    optional("SKB_NFCT", "sk_buff", "_nfct"),
    optional("SKB_PACKET_TYPE", "sk_buff", "__pkt_type_offset"),
    required("DEV_NAME", "net_device", "name"),
    required("DEV_IFINDEX", "net_device", "ifindex"),
    required("DEV_FLAGS", "net_device", "flags"),
    required("DEV_PRIV_FLAGS", "net_device", "priv_flags"),
    required("DEV_NET", "net_device", "nd_net.net"),
    optional("DEV_LINK_OPS", "net_device", "rtnl_link_ops"),
    required("NET_INUM", "net", "ns.inum"),
    optional("NET_HOOKS_IPV4", "net", "nf.hooks_ipv4"),
    optional("NET_HOOKS_IPV6", "net", "nf.hooks_ipv6"),
    required("SOCK_STATE", "sock", "__sk_common.skc_state"),
    required("SOCK_NET", "sock", "__sk_common.skc_net.net"),
    optional("SOCK_CGROUP", "sock", "sk_cgrp_data.cgroup"),
    optional("CGROUP_NODE", "cgroup", "kn"),
    optional("KERNFS_ID", "kernfs_node", "id"),
    optional("STATE_HOOK", "nf_hook_state", "hook"),
    optional("STATE_PF", "nf_hook_state", "pf"),
    optional("STATE_IN", "nf_hook_state", "in"),
    optional("STATE_OUT", "nf_hook_state", "out"),
    optional("CONN_STATUS", "nf_conn", "status"),
    optional("CONN_TUPLES", "nf_conn", "tuplehash"),
    optional("CALL_FIRST", "pt_regs", REGISTERS[0]),
    optional("CALL_SECOND", "pt_regs", REGISTERS[1]),
    optional("CALL_RESULT", "pt_regs", REGISTERS[2]),
    optional("CALL_STACK", "pt_regs", REGISTERS[3]),
    optional("SOCK_COOKIE", "sock", "__sk_common.skc_cookie"),
    optional("TASK_LEADER", "task_struct", "group_leader"),
    optional("TASK_COMM", "task_struct", "comm"),
];

/// Where a function's first two arguments, its result and the stack pointer are in `pt_regs`: those
/// of the machine that this is compiled for.
const REGISTERS: [&str; 4] = if cfg!(target_arch = "x86_64") {
    ["di", "si", "ax", "sp"]
} else if cfg!(target_arch = "aarch64") {
    ["regs[0]", "regs[1]", "regs[0]", "sp"]
} else {
    ["(unknown)"; 4]
};

/// How many bytes of the stack a call takes for the return address, and gives back when the
/// function returns; where the machine has a register for it, none.
pub const RETURN_ADDRESS: u32 = if cfg!(target_arch = "x86_64") { 8 } else { 0 };
