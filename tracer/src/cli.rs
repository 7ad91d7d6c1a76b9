//! The command line: one file a subcommand, each of which parses, calls and prints.
//!
//! What several of them do: trace live (`session`), play recordings (`playback`), show on a terminal
//! (`screen`), look up a filter's names (`resolution`).
//!
//! Exit status: 0, or for `run` the traced command's; 1 for a failure, 2 for wrong usage.

mod arguments;
pub mod doctor;
mod export;
mod interrupts;
mod live;
pub mod memory;
mod moment;
pub mod names;
mod playback;
mod record;
mod recording;
mod replay;
mod resolution;
mod run;
mod screen;
mod session;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use crate::{command::Caller, privilege};

/// Where each packet of a flow went on this node: every device, bridge and netfilter hook, with
/// the translations of Services, the time from hop to hop, and the place of every drop
#[derive(Debug, Parser)]
#[command(name = "tracer", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a command, trace what it causes, print its journeys, exit with its status
    Run(run::RunArgs),
    /// Stream journeys as they complete
    Watch(watch::WatchArgs),
    /// Watch the node's flows on a terminal: also `tracer` alone
    Live(live::ViewArgs),
    /// Record what is traced into a file, for `tracer replay`
    Record(record::RecordArgs),
    /// Show a recording as if it happened now
    Replay(replay::ReplayArgs),
    /// Convert a recording into a file for another program
    Export(export::ExportArgs),
    /// Show what this node knows: network namespaces, devices, addresses and pods, and from where
    Names(names::NamesArgs),
    /// Say whether tracing can work here, how, what is degraded and how to fix it
    Doctor(doctor::DoctorArgs),
}

impl Command {
    /// Whether it traces, until it is told to end.
    fn attaches(&self) -> bool {
        matches!(
            self,
            Self::Run(_) | Self::Watch(_) | Self::Live(_) | Self::Record(_)
        )
    }
}

/// Wrong usage, as clap has it.
const USAGE: u8 = 2;

/// An error of usage: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Usage(#[from] anyhow::Error);

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let Some(command) = Cli::parse().command.or_else(alone) else {
        let _ = Cli::command().print_help();
        return ExitCode::from(USAGE);
    };
    if let Err(errno) = privilege::lower_file_access() {
        eprintln!("tracer: cannot lower its access to files: {errno}; capset(2) must be allowed");
        return ExitCode::FAILURE;
    }
    // Before anything of that is changed.
    let caller = Caller::now();
    if command.attaches()
        && let Err(error) = interrupts::end_at_once()
    {
        eprintln!("tracer: cannot take over SIGINT, SIGTERM and SIGHUP: {error}");
        return ExitCode::FAILURE;
    }
    let result = match command {
        Command::Run(args) => run::run(args, caller),
        Command::Watch(args) => watch::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Live(args) => live::run(&args),
        Command::Record(args) => record::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Replay(args) => replay::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Names(args) => names::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tracer: {}", sentence(&error));
        match error.downcast_ref::<crate::command::Error>() {
            Some(error) => ExitCode::from(error.exit_code()),
            None if error.is::<Usage>() => ExitCode::from(USAGE),
            None => ExitCode::FAILURE,
        }
    })
}

/// What is done without a subcommand: the live view, where there is a terminal.
fn alone() -> Option<Command> {
    screen::check().ok()?;
    Cli::parse_from(["tracer", "live"]).command
}

/// An error with its causes. Most say their cause themselves; what was said is not said again.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if sentence.is_empty() {
            sentence = text;
        } else if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};
    use clap::CommandFactory as _;

    #[test]
    fn a_cause_is_said_once() {
        let plain = Err::<(), _>(anyhow!("no such file")).context("cannot read x");
        assert_eq!(
            super::sentence(&plain.unwrap_err()),
            "cannot read x: no such file"
        );
        let said =
            Err::<(), _>(anyhow!("no such file")).context("cannot read x: no such file; mount it");
        assert_eq!(
            super::sentence(&said.unwrap_err()),
            "cannot read x: no such file; mount it"
        );
    }

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
