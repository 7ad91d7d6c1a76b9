//! `tracer record`: into a file, without showing anything but how it goes.

use std::{
    io::{self, IsTerminal as _, Write as _},
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    arguments::{self, LiveArgs},
    interrupts::Interrupts,
    memory, resolution,
    session::{Session, Step, Subject, Target, on_stderr},
};
use crate::{
    kernel::{live, load::BYTES_RANGE},
    output::{Sink, pipe::Closed, sanitize},
    pipeline::When,
    privilege::Role,
    report::{Counts, FlowReport, PacketReport, StatsReport},
    source::Shedding,
    trace::recorder::{Options, Recorder, Rotation, Written},
};

/// Record what is traced into a file, for `tracer replay`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RecordArgs {
    /// The file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    live: LiveArgs,
    /// End after this time: 30s, 5m, 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// End when the file has this size, with K, M or G
    #[arg(long, value_name = "SIZE", value_parser = memory::quantity)]
    max_size: Option<u64>,
    /// Begin another file, FILE.000001 after FILE.000000, whenever one has this size
    #[arg(long, value_name = "SIZE", value_parser = memory::quantity, conflicts_with = "max_size", requires = "keep")]
    rotate: Option<u64>,
    /// Keep so many of these files, the newest
    #[arg(long, value_name = "N", requires = "rotate")]
    keep: Option<NonZeroUsize>,
    /// Keep the first N bytes of each packet that a socket of this node sends or takes, from its IP header
    /// on: 40 to 640
    #[arg(long, value_name = "N", value_parser = bytes)]
    bytes: Option<u32>,
    /// Which flows, in the words of docs/filter.md; without, all
    filter: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: give 30s, 5m or 2h"))
}

fn bytes(text: &str) -> Result<u32, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| BYTES_RANGE.contains(number));
    let (least, most) = (BYTES_RANGE.start(), BYTES_RANGE.end());
    number.ok_or_else(|| format!("give a number of bytes from {least} to {most}"))
}

impl RecordArgs {
    fn options(&self) -> Options {
        Options {
            path: self.output.clone(),
            overwrite: self.overwrite,
            max_size: self.max_size,
            rotation: self.rotate.zip(self.keep).map(|(size, keep)| Rotation {
                size,
                keep: keep.get(),
            }),
        }
    }
}

/// Records until interrupted, or until time or size are used up.
///
/// # Errors
/// A wrong filter, why tracing cannot start, or that the file cannot be written.
pub(super) fn run(args: &RecordArgs) -> anyhow::Result<()> {
    let filter = arguments::filter(&args.filter)?;
    let (limits, held) = args.live.room().stream();
    live::check(args.live.sizes())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let node = args.live.node()?;
        let filter = resolution::resolve_live(&filter, node.watched())?;
        let compiled = filter.compile();
        let subject = Subject {
            text: &args.filter.join(" "),
            program: &compiled.program,
            by_filter: true,
            filter,
            command: None,
        };
        let target = Target {
            sink: Tally::default(),
            closed: Closed::default(),
            when: When::AsTheyEnd,
            names: true,
            record: Some(args.options()),
            keep: None,
            say: on_stderr(),
            bytes: args.bytes,
            limits,
            held,
        };
        let mut session = Session::start(node, subject, &args.live, target)?;
        session.give_up_privileges(Role::Record);
        until_end(session, args.duration).await
    })
}

async fn until_end(mut session: Session<Tally>, duration: Option<Duration>) -> anyhow::Result<()> {
    let mut interrupts = Interrupts::new()?;
    let mut progress = Progress::new();
    let over = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    eprintln!("tracer: recording; Ctrl-C ends it");
    loop {
        tokio::select! {
            step = session.step() => {
                let step = step.inspect_err(|_| progress.end())?;
                progress.show(&State::of(&session));
                if step == Step::Over {
                    break;
                }
            }
            () = interrupts.next() => break,
            () = &mut over => break,
        }
    }
    progress.end();
    let path = session
        .recorder()
        .map(|recorder| recorder.path().to_owned());
    let (tally, written) = session.finish().await?;
    let state = State {
        written: written.unwrap_or_default(),
        flows: tally.flows,
        lost: tally.lost,
        shed: tally.shed,
        shedding: Shedding::None,
    };
    if let Some(path) = path {
        let path = path.to_string_lossy().into_owned();
        let path = sanitize::plain(&path).into_owned();
        eprintln!("tracer: {path}: {}", state.line());
    }
    Ok(())
}

/// Counts what would be shown.
#[derive(Debug, Default)]
struct Tally {
    flows: u64,
    lost: u64,
    shed: u64,
    shedding: Shedding,
}

impl Sink for Tally {
    fn shows_packets(&self) -> bool {
        false
    }

    fn packet(&mut self, _: &PacketReport) -> io::Result<()> {
        Ok(())
    }

    fn flow(&mut self, _: &FlowReport) -> io::Result<()> {
        self.flows += 1;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn stats(&mut self, stats: &StatsReport) -> io::Result<()> {
        let Counts { lost, shed, .. } = stats.total;
        (self.lost, self.shed, self.shedding) = (lost, shed, stats.shedding);
        Ok(())
    }

    fn finish(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.stats(stats)
    }
}

/// How a recording goes.
#[derive(Debug, Default)]
struct State {
    written: Written,
    flows: u64,
    lost: u64,
    shed: u64,
    shedding: Shedding,
}

impl State {
    fn of(session: &Session<Tally>) -> Self {
        let (pipeline, recorder) = (session.pipeline(), session.recorder());
        Self {
            written: recorder.map(Recorder::written).unwrap_or_default(),
            flows: pipeline.sink().flows + pipeline.open_flows() as u64,
            lost: pipeline.sink().lost,
            shed: pipeline.sink().shed,
            shedding: pipeline.sink().shedding,
        }
    }

    fn line(&self) -> String {
        let Self {
            written: Written { length, records },
            flows,
            lost,
            shed,
            shedding,
        } = self;
        let size = indicatif::HumanBytes(*length);
        let mut line = format!("{records} events, {flows} flows, {size}, {lost} events lost");
        if *shed > 0 {
            line.push_str(&format!(
                ", {shed} times a packet let go unseen (--max-overhead)"
            ));
        }
        if *shedding != Shedding::None {
            line.push_str(&format!(": {shedding}"));
        }
        line
    }
}

/// A line on a terminal that is written over and over.
#[derive(Debug)]
struct Progress {
    on_terminal: bool,
    next: Instant,
}

impl Progress {
    const PERIOD: Duration = Duration::from_millis(500);

    fn new() -> Self {
        Self {
            on_terminal: io::stderr().is_terminal(),
            next: Instant::now(),
        }
    }

    fn show(&mut self, state: &State) {
        if self.on_terminal && Instant::now() >= self.next {
            self.next = Instant::now() + Self::PERIOD;
            // A terminal that went away does not end a recording.
            let _ = write!(io::stderr(), "\r\x1b[K{}", state.line());
        }
    }

    fn end(&mut self) {
        if self.on_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
