//! Reading a packet's bytes by plain loads, where the kernel has a way to (`bpf_rdonly_cast`, 6.2 and newer).
//!
//! To the verifier the address of a packet's bytes is a number, and only a helper reads behind a number: a
//! call through five functions. The kernel function `bpf_rdonly_cast` makes a number a pointer to a
//! structure, which may be read as such, and is itself no call but one move (`fixup_kfunc_call`). Kernel
//! functions are called by their id in the running kernel's BTF, so the object has [`CALL`] in place of it,
//! where the agent writes that id. Programs whose context is an `sk_buff` that only the helper reads get at its
//! members in the same way.

/// The number of the helper that stands for the call; no kernel has so many.
pub const CALL: u32 = 0x7063_6173;

/// The structure: whole words side by side, as many as are read of a packet and more (uapi, 2.6.35 and newer).
pub const WORDS: &str = "rtnl_link_stats64";
/// What a program for sockets is given, by its true name.
pub const BUFFER: &str = "sk_buff";
/// The kernel function.
pub const FUNCTION: &str = "bpf_rdonly_cast";

/// No id: the kernel has no such function, or it is not to be called.
pub const NONE: u32 = 0;
