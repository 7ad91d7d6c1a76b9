//! `tracer live`, and `tracer` alone: the node's flows on a terminal.

mod tracing;

use std::{path::PathBuf, process::ExitCode};

use self::tracing::Tracing;
use super::{
    arguments::{self, AlsoRecordArgs, LiveArgs},
    recording, resolution, screen,
};
use crate::{
    kernel::live,
    output::{origin::Origin, terminal::Color},
    privilege::{self, Role},
    tui::{
        app::{App, Effect},
        feed::Shared,
        model::Model,
    },
};

pub(super) use self::tracing::lines;

/// Watch the node's flows on a terminal
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ViewArgs {
    /// When to use colours
    #[arg(long, value_enum, default_value_t)]
    color: Color,
    /// Show namespaces by number, and ask the node for no names
    #[arg(long)]
    no_names: bool,
    /// Have the kernel measure what each hook costs, for the screen of the node; while it does, every
    /// run of any BPF program of this machine costs some 20 ns more
    #[arg(long)]
    cost: bool,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    record: AlsoRecordArgs,
    /// Which flows, in the words of docs/filter.md; without, all
    filter: Vec<String>,
}

/// Traces and shows, until the user quits.
///
/// # Errors
/// A wrong filter, no terminal, why tracing cannot start.
pub(super) fn run(args: &ViewArgs) -> anyhow::Result<ExitCode> {
    let filter = arguments::filter(&args.filter)?;
    screen::check()?;
    let bounds = args.live.room().shown();
    live::check(args.live.sizes())?;
    let shared = Shared::new(Model::new(bounds));
    let text = args.filter.join(" ");
    let mut app = App::new(&text, resolution::names_of_filter);
    "attaching ...".clone_into(&mut app.waiting);
    let tracing = Tracing::start(args, filter, &shared)?;
    if let Err(errno) = privilege::keep_only(Role::Live.needs()) {
        let text = format!("it goes on with all its privileges: giving them up fails: {errno}");
        shared.lock().problem(&text);
    }
    screen::run(app, &shared, tracing, args.color)?;
    Ok(ExitCode::SUCCESS)
}

impl screen::Engine for Tracing {
    fn news(&mut self, app: &mut App) -> screen::News {
        self.listen(app)
    }

    fn perform(&mut self, effect: &Effect) -> anyhow::Result<Option<String>> {
        if *effect == Effect::Save {
            let now = jiff::Zoned::now();
            let name = format!("tracer-{}.rec", now.strftime("%Y%m%d-%H%M%S"));
            self.save(PathBuf::from(name));
        }
        // What came of it is news.
        Ok(None)
    }

    fn origin(&self) -> Origin {
        recording::origin(self.filter())
    }

    fn end(self) -> anyhow::Result<()> {
        self.join()
    }
}
