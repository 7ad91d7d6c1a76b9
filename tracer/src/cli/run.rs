//! `tracer run`: a command, and where each of its packets went.

use std::{
    ffi::OsString,
    process::{ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use super::{
    arguments::{self, AlsoRecordArgs, LiveArgs, Output, OutputArgs},
    interrupts::Interrupts,
    resolution,
    session::{Session, Step, Subject, Target},
};
use crate::{
    command::{self, Caller, Place, Prepared, Running},
    filter::{Filter, cgroup_program},
    kernel::live,
    node::pods::PodName,
    pipeline::When,
    privilege::Role,
};

/// How long the command's last packets are waited for when they keep coming.
const LINGER: Duration = Duration::from_millis(1500);
/// Silence after which none are expected any more: while flows are open, and when all are closed.
const SILENCE: Duration = Duration::from_millis(400);
const SILENCE_WHEN_CLOSED: Duration = Duration::from_millis(50);
/// How long an interrupted command may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// The exit status after an interrupt that the command outlived: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Run a command, trace what it causes, print its journeys, exit with its status
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    record: AlsoRecordArgs,
    /// The network namespace to run it in: a name, a path, or the id of a process in it
    #[arg(long, value_name = "NAME|PATH|PID")]
    netns: Option<String>,
    /// The pod in whose network to run it; without NAMESPACE, in the namespace `default`
    #[arg(long, value_name = "[NAMESPACE/]NAME", conflicts_with = "netns", value_parser = PodName::parse)]
    pod: Option<PodName>,
    /// Which of its flows, in the words of docs/filter.md; without, all
    filter: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the command and traces it.
///
/// # Errors
/// A wrong filter, a command or namespace that is not there, why tracing cannot start, or that
/// output cannot be written.
pub(super) fn run(args: RunArgs, caller: Caller) -> anyhow::Result<ExitCode> {
    let filter = arguments::filter(&args.filter)?;
    live::check(args.live.sizes())?;
    let place = match (args.netns, args.pod) {
        (Some(word), _) => Place::Netns(word),
        (None, Some(name)) => Place::Pod(name, args.live.host_root()?),
        (None, None) => Place::Here,
    };
    let prepared = Prepared::new(command::Options {
        command: args.command,
        place,
        stdout_to_stderr: args.output.json(),
        caller,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let subject = (&filter, args.filter.join(" "));
    let how = (&args.output, &args.live, &args.record);
    runtime.block_on(trace(prepared, subject, how))
}

async fn trace(
    prepared: Prepared,
    (filter, text): (&Filter, String),
    (output, live, record): (&OutputArgs, &LiveArgs, &AlsoRecordArgs),
) -> anyhow::Result<ExitCode> {
    let node = live.node()?;
    let filter = resolution::resolve_live(filter, node.watched())?;
    let program = cgroup_program(prepared.cgroup_id());
    let subject = Subject {
        text: &text,
        program: &program,
        by_filter: false,
        filter,
        command: Some(prepared.traced()?),
    };
    let target = Target::output(output, record, When::AtTheEnd, live.room());
    let mut session = Session::start(node, subject, live, target)?;
    // Before the command can be interrupted, for the interrupt comes here too.
    let mut interrupts = Interrupts::new()?;
    let mut running = prepared.start()?;
    session.give_up_privileges(Role::Run);
    for note in running.notes() {
        eprintln!("tracer: {note}");
    }
    let status = until_end(&mut session, &mut running, &mut interrupts).await?;
    last_packets(&mut session, &mut interrupts).await?;
    session.finish().await?;
    running.close()?;
    Ok(ExitCode::from(
        status.map_or(INTERRUPTED, command::exit_code),
    ))
}

/// Until the command ends. An interrupt reaches the command too, which may take a moment to end,
/// or not: `None` then.
async fn until_end(
    session: &mut Session<Output>,
    running: &mut Running,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Option<ExitStatus>> {
    let mut deadline: Option<tokio::time::Instant> = None;
    loop {
        let patience = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            status = running.wait() => return Ok(Some(status?)),
            () = interrupts.next(), if deadline.is_none() => {
                deadline = Some(tokio::time::Instant::now() + GRACE);
            }
            () = patience => return Ok(None),
            step = session.step() => if step? == Step::Over { return Ok(None) },
        }
    }
}

/// The packets that come after the command's end: the last acknowledgements, answers to its FIN.
async fn last_packets(
    session: &mut Session<Output>,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut silent_since = begin;
    while begin.elapsed() < LINGER {
        let step = tokio::select! {
            step = session.step() => step?,
            () = interrupts.next() => return Ok(()),
        };
        match step {
            Step::Busy => silent_since = Instant::now(),
            Step::Idle => {}
            Step::Over => return Ok(()),
        }
        let enough = if session.is_quiet() {
            SILENCE_WHEN_CLOSED
        } else {
            SILENCE
        };
        if silent_since.elapsed() >= enough {
            return Ok(());
        }
    }
    Ok(())
}
