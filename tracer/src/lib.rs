//! The packet path tracer: everything but the thin command line.
//!
//! Data flows one way: hooks -> ring -> source -> [`event`] -> journey -> report -> sinks; the
//! drawing is in ARCHITECTURE.md.

pub mod cli;
pub mod command;
pub mod dns;
pub mod event;
pub mod filter;
pub mod journey;
pub mod kernel;
pub mod node;
pub mod output;
pub mod pipeline;
pub mod privilege;
pub mod report;
mod signals;
pub mod source;
pub mod trace;
pub mod tui;
