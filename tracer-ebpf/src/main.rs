//! The tracer's BPF programs.
//!
//! Observer only: no verdict is changed, no packet, mark or rule touched. Each hook reads the
//! headers, decides whether the packet concerns the question, and only then writes a record.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod bytes;
mod device;
mod emit;
mod end;
mod fields;
mod glance;
mod header;
mod maps;
mod matching;
mod memory;
mod netfilter;
mod owner;
mod packet;
mod plain;
mod probe;
mod shed;
mod skb;
mod socket;
mod wake;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier would refuse the loop.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
