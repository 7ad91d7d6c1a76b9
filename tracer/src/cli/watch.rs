//! `tracer watch`: journeys as they complete.

use super::{
    arguments::{self, OutputArgs},
    session::{Interrupts, Session, Step},
};
use crate::{
    kernel::{coverage::Node, live},
    pipeline::When,
};

/// Stream journeys as they complete
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Which flows, in the words of docs/filter.md; without, all
    filter: Vec<String>,
}

/// Traces until interrupted.
///
/// # Errors
/// A wrong filter, why tracing cannot start, or that output cannot be written.
pub(super) fn run(args: &WatchArgs) -> anyhow::Result<()> {
    let filter = arguments::filter(&args.filter)?;
    live::check(args.output.sizes())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let node = Node::watch()?;
        let filter = arguments::resolve(&filter, &node.watched().snapshot())?;
        let compiled = filter.compile();
        if args.output.verbose() {
            eprintln!("{compiled}");
        }
        let mut session = Session::start(
            node,
            &compiled.program,
            filter,
            When::AsTheyEnd,
            &args.output,
        )?;
        let mut interrupts = Interrupts::new()?;
        eprintln!("tracer: watching; Ctrl-C ends it");
        loop {
            tokio::select! {
                step = session.step() => if step? == Step::Over { break },
                () = interrupts.next() => break,
            }
        }
        session.finish().await
    })
}
