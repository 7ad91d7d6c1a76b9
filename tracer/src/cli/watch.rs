//! `tracer watch`: journeys as they complete.

use super::{
    arguments::{self, AlsoRecordArgs, LiveArgs, OutputArgs},
    interrupts::Interrupts,
    resolution,
    session::{Session, Step, Subject, Target},
};
use crate::{kernel::live, pipeline::When, privilege::Role};

/// Stream journeys as they complete
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    record: AlsoRecordArgs,
    /// Which flows, in the words of docs/filter.md; without, all
    filter: Vec<String>,
}

/// Traces until interrupted.
///
/// # Errors
/// A wrong filter, why tracing cannot start, or that output cannot be written.
pub(super) fn run(args: &WatchArgs) -> anyhow::Result<()> {
    let filter = arguments::filter(&args.filter)?;
    let room = args.live.room();
    live::check(args.live.sizes())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let node = args.live.node()?;
        let filter = resolution::resolve_live(&filter, node.watched())?;
        let compiled = filter.compile();
        if args.live.verbose() {
            eprintln!("{compiled}");
        }
        let subject = Subject {
            text: &args.filter.join(" "),
            program: &compiled.program,
            by_filter: true,
            filter,
            command: None,
        };
        let target = Target::output(&args.output, &args.record, When::AsTheyEnd, room);
        let mut session = Session::start(node, subject, &args.live, target)?;
        session.give_up_privileges(Role::Watch);
        let mut interrupts = Interrupts::new()?;
        eprintln!("tracer: watching; Ctrl-C ends it");
        loop {
            tokio::select! {
                step = session.step() => if step? == Step::Over { break },
                () = interrupts.next() => break,
            }
        }
        session.finish().await.map(drop)
    })
}
