//! The tracer as the end-to-end tests use it: run, read, and judged.
//!
//! [`process`] runs the built program as an operator does, [`json`] reads what it prints, strictly.
//! [`path`] says which way a packet takes through a lab, from what is known of the kernel and of
//! the lab's variant and never from what the tracer said; [`judge`] compares the two. [`witness`]
//! asks tcpdump and conntrack about the same packets, [`remains`] what is left of a tracer in the
//! kernel; [`processor_time`] is what it used, [`clock`] the time as traces have it; [`recording`]
//! asks a recording of the same packets; [`screen`] is a terminal for the live view.

pub mod clock;
pub mod json;
pub mod judge;
pub mod path;
pub mod privileges;
pub mod process;
pub mod processor_time;
pub mod recording;
pub mod remains;
pub mod screen;
pub mod witness;
