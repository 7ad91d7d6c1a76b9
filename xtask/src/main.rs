//! The project's own commands: `cargo xtask lab`, `demo`, `test`, `ebpf`, `bench`,
//! `soak`, `screenshots`, `vm`.
//!
//! One file for each; this one only parses and dispatches.

mod bench;
mod demo;
mod ebpf;
mod interrupt;
mod lab;
mod packages;
mod process;
mod screenshots;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Raise a cluster in network namespaces, trace one curl in it, print its journey.
    Demo,
    /// Check and test everything.
    Test,
    /// Build the BPF object from source and keep it, with the hash of its sources.
    Ebpf,
    /// Two Kubernetes nodes made of network namespaces, to try things on.
    #[command(subcommand)]
    Lab(lab::Command),
    /// Measure, and write the figures into docs/performance.md.
    #[command(subcommand)]
    Bench(bench::Subject),
    /// Trace for minutes while pods, flows and rules come and go, and look whether the tracer stays as it was.
    Soak(soak::Arguments),
    /// Make the pictures of the live view in docs/images anew, from a real run.
    Screenshots,
    /// Boot kernels in virtual machines, trace the same paths on each, compare.
    Vm(vm::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo => demo::run(),
        Command::Test => test::run().map(|()| ExitCode::SUCCESS),
        Command::Ebpf => ebpf::build().map(|()| ExitCode::SUCCESS),
        Command::Lab(command) => lab::run(command).map(|()| ExitCode::SUCCESS),
        Command::Bench(subject) => bench::run(&subject).map(|()| ExitCode::SUCCESS),
        Command::Soak(arguments) => soak::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Screenshots => screenshots::run().map(|()| ExitCode::SUCCESS),
        Command::Vm(arguments) => vm::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
