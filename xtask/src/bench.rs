//! Benchmarks, and their figures in the documentation.
//!
//! Some are programs of the tracer's crate that print a table: these are built as a release is, and run. The
//! others trace real traffic on the lab: [`overhead`] says what a tracer takes from it, [`hooks`] what each of its
//! programs costs, [`growth`] whether that stays so on a large node, [`idle`] what it takes where nothing happens, [`machine`] what is taken on an older kernel. All put
//! their table between two marks in docs/performance.md ([`page`]), so that the figures there are never
//! others than measured ones.

mod bpf;
mod empty;
mod growth;
mod hooks;
mod idle;
mod machine;
mod observer;
mod overhead;
mod page;
mod programs;
mod single;
mod stage;
mod statistics;

use std::path::PathBuf;

/// What is measured.
#[derive(clap::Subcommand)]
pub(crate) enum Subject {
    /// The engine alone: records in memory, decoded and put together
    Engine {
        /// How many events are measured
        #[arg(long, default_value_t = 20_000_000)]
        events: u64,
    },
    /// Each part that only computes: time by criterion, instructions by valgrind
    Parts,
    /// Recordings: size, rates, memory, seeking
    Recording {
        /// How many events are written and read
        #[arg(long, default_value_t = 50_000_000)]
        events: u64,
        /// Where the recording is made, some 4 bytes an event, and removed again
        #[arg(long, default_value = "target/bench")]
        directory: PathBuf,
    },
    /// The live view under 50,000 new connections a minute: processor time, memory, keys
    Live {
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Rules: reading those of many Services, evaluating them; needs root
    Rules {
        /// How many Services
        #[arg(long, default_value_t = 5_000)]
        services: u32,
    },
    /// What tracing takes from traffic, beside what other tools take; on the lab, needs root
    Overhead(overhead::Arguments),
    /// What each of the tracer's programs costs a run; on the lab, needs root
    Hooks(hooks::Arguments),
    /// Whether a packet costs the same with many flows, namespaces, rules; on the lab, needs root
    Growth(growth::Arguments),
    /// What the tracer takes of a processor where nothing happens; on the lab, needs root
    Idle(idle::Arguments),
    /// What tracing takes in a virtual machine with an older kernel
    Vm(machine::Arguments),
}

/// Measures, and writes the figures down.
///
/// # Errors
/// When something cannot be built or run, or the page has no place for the figures.
pub(crate) fn run(subject: &Subject) -> anyhow::Result<()> {
    match subject {
        Subject::Engine { events } => single::run("engine", &[events.to_string().into()]),
        Subject::Parts => single::run("parts", &["table".into()]),
        Subject::Recording { events, directory } => single::recording(*events, directory),
        Subject::Live { seconds } => single::run("live", &[seconds.to_string().into()]),
        Subject::Rules { services } => single::run("rules", &[services.to_string().into()]),
        Subject::Overhead(arguments) => overhead::run(arguments),
        Subject::Hooks(arguments) => hooks::run(arguments),
        Subject::Growth(arguments) => growth::run(arguments),
        Subject::Idle(arguments) => idle::run(arguments),
        Subject::Vm(arguments) => machine::run(arguments),
    }
}
