//! What both sides of the kernel boundary agree on.
//!
//! The BPF programs (`tracer-ebpf`) and the agent (`tracer`) are built apart, by different
//! compilers, and meet only in bytes: ring records, map keys and values, and the stand-ins for numbers of the
//! running kernel.
//! All of those are defined here, once, with their layout asserted at compile time on both sides.
//!
//! Rules of this crate: `no_std`, no allocation, integers and arrays of integers only (no enum,
//! bool or Option crosses the boundary), no padding left to the compiler, and code that the BPF
//! verifier accepts wherever a function is shared.
#![no_std]

pub mod address;
pub mod cast;
pub mod cpu;
pub mod fields;
pub mod filter;
pub mod flow;
pub mod glance;
pub mod hook;
pub mod reader;
pub mod record;
pub mod shed;
pub mod stand_in;
