//! The BPF object, as built by `cargo xtask ebpf` and kept with the sources.

/// The ELF file, aligned as its parser wants it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRACER_BPF_OBJECT"));
