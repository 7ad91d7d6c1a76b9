//! `tracer replay`: a recording through the code that live tracing uses.

mod player;

use std::process::ExitCode;

use self::player::Replaying;
use super::{
    arguments::OutputArgs,
    moment::{self, Moment},
    playback::{Playback, Span, SubjectArgs},
    resolution, screen,
};
use crate::tui::{app::App, feed::Shared, model::Model};

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
    /// Print text also on a terminal, where the live view is the default
    #[arg(long, conflicts_with = "json")]
    text: bool,
    #[command(flatten)]
    subject: SubjectArgs,
}

/// Shows the recording.
///
/// # Errors
/// A wrong filter, a file that is no recording, or that output cannot be written.
pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    if !args.text && !args.output.is_chosen() && screen::check().is_ok() {
        return show(args);
    }
    let (sink, closed) = args.output.sink();
    let end = open(args)?.play(sink, |_| closed.get())?;
    Ok(end.exit_code())
}

/// In the live view.
fn show(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let bounds = args.subject.memory().room().shown();
    let shared = Shared::new(Model::new(bounds));
    let replaying = Replaying::start(args, &shared)?;
    let mut app = App::new(&args.subject.filter(), resolution::names_of_filter);
    "reading ...".clone_into(&mut app.waiting);
    screen::run(app, &shared, replaying, args.output.color())?;
    Ok(ExitCode::SUCCESS)
}

fn open(args: &ReplayArgs) -> anyhow::Result<Playback> {
    let span = Span {
        from: args.from.as_ref(),
        to: args.to.as_ref(),
        at: args.at.as_ref(),
    };
    Playback::open(&args.subject, args.output.names())?.within(span)
}
