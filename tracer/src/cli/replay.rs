//! `tracer replay`: a recording through the code that live tracing uses.

use std::process::ExitCode;

use super::{
    arguments::OutputArgs,
    moment::{self, Moment},
    playback::{Playback, Span, SubjectArgs},
};

/// Show a recording as if it happened now
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Show flows and packets from this time on: 03:12:05, 2026-11-21T03:12:05Z, or +90s since the
    /// recording began
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    from: Option<Moment>,
    /// Show flows and packets up to this time
    #[arg(long, visible_alias = "until", value_name = "TIME", value_parser = moment::parse)]
    to: Option<Moment>,
    /// Show what was under way at this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse, conflicts_with_all = ["from", "to"])]
    at: Option<Moment>,
    #[command(flatten)]
    subject: SubjectArgs,
}

/// Shows the recording.
///
/// # Errors
/// A wrong filter, a file that is no recording, or that output cannot be written.
pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let playback = Playback::open(&args.subject, args.output.names())?;
    let span = Span {
        from: args.from.as_ref(),
        to: args.to.as_ref(),
        at: args.at.as_ref(),
    };
    let (sink, closed) = args.output.sink();
    let end = playback.within(span)?.play(sink, |_| closed.get())?;
    Ok(end.exit_code())
}
