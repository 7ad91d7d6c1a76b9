//! `tracer replay`: a recording through the code that live tracing uses.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use jiff::tz::TimeZone;

use super::{
    arguments::{self, OutputArgs},
    moment::{self, Moment},
};
use crate::{
    filter::{Filter, ResolvedFilter},
    journey::{Journeys, Limits, Patience, Reasons},
    node::snapshot::Snapshot,
    output::{Sink, sanitize},
    pipeline::{Pipeline, When, Window},
    report::Knowledge,
    trace::{About, Reader, Steps},
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
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    to: Option<Moment>,
    /// Show what was under way at this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse, conflicts_with_all = ["from", "to"])]
    at: Option<Moment>,
    /// The recording
    file: PathBuf,
    /// Which flows, in the words of docs/filter.md; without, all
    filter: Vec<String>,
}

/// How long before the asked-for time reading begins, in nanoseconds: what began then and is still
/// under way is shown whole.
const LEAD: u64 = 5_000_000_000;

type Recording = Steps<BufReader<File>>;

/// Shows the recording.
///
/// # Errors
/// A wrong filter, a file that is no recording, or that output cannot be written.
pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let filter = arguments::filter(&args.filter)?;
    let name = sanitize::plain(&args.file.to_string_lossy()).into_owned();
    let file = File::open(&args.file).with_context(|| format!("cannot open {name}"))?;
    let reader = Reader::open(BufReader::new(file)).with_context(|| name.clone())?;
    introduce(&name, &reader);
    let filter = resolve(&filter, &args.file, reader.about())?;
    let window = window(args, reader.about());
    let mut steps = Steps::new(reader);
    if window.from > 0 {
        steps.seek(window.from.saturating_sub(LEAD))?;
    }
    show(steps, filter, window, &args.output)
}

/// One line for people on what is going to be shown.
fn introduce<R: io::Read + io::Seek>(name: &str, reader: &Reader<R>) {
    let about = reader.about();
    let (first, last) = reader.times().unwrap_or_default();
    let begin = moment::begin(about.clock, &TimeZone::system());
    let host = sanitize::plain(&about.host);
    let kernel = sanitize::plain(&about.kernel);
    eprintln!(
        "tracer: {name}: {host}, Linux {kernel}, {}, {:.1} s, {} events",
        begin.strftime("%Y-%m-%d %H:%M:%S %Z"),
        seconds(last.saturating_sub(first)),
        reader.records(),
    );
    if !reader.ended_well() {
        eprintln!(
            "tracer: {name}: its end is missing: the tracer that recorded it did not end by itself"
        );
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// What both filters let through: that of the recording and that of the command line.
///
/// Names are looked up in what the node knew at the begin, and when there is no such name, in what
/// it knew later.
fn resolve(filter: &Filter, file: &Path, about: &About) -> anyhow::Result<ResolvedFilter> {
    let both = if about.filter.trim().is_empty() {
        filter.clone()
    } else {
        let recorded = Filter::parse(&about.filter).context("in the recording's own filter")?;
        recorded.and(filter)
    };
    let reader = Reader::open(BufReader::new(File::open(file)?))?;
    let mut result = arguments::resolve(&both, &Snapshot::default());
    for node in reader.into_nodes() {
        if result.is_ok() {
            break;
        }
        result = arguments::resolve(&both, &node);
    }
    result
}

fn window(args: &ReplayArgs, about: &About) -> Window {
    let zone = TimeZone::system();
    let on_clock = |moment: &Moment| moment.on_clock(about.clock, &zone);
    let at = args.at.as_ref().map(on_clock);
    let from = args.from.as_ref().map(on_clock);
    let to = args.to.as_ref().map(on_clock);
    Window {
        from: at.or(from).unwrap_or(0),
        to: at.or(to).unwrap_or(u64::MAX),
    }
}

fn show(
    mut steps: Recording,
    filter: ResolvedFilter,
    window: Window,
    output: &OutputArgs,
) -> anyhow::Result<ExitCode> {
    let reasons = steps.reader().about().reasons.clone();
    let nameless = (!output.names()).then(|| Arc::new(Snapshot::default()));
    let journeys = Journeys::new(
        Limits::default(),
        Patience::default(),
        Reasons::by_name(|name| reasons.number(name)),
    );
    let when = if steps.reader().about().at_the_end {
        When::AtTheEnd
    } else {
        When::AsTheyEnd
    };
    let (sink, closed) = output.sink();
    let mut pipeline = Pipeline::new(journeys, filter, when, sink).within(window);
    let mut damaged = false;
    loop {
        let step = steps.next_step()?;
        damaged |= say_damages(&mut steps);
        let node = nameless.clone().unwrap_or_else(|| Arc::clone(steps.node()));
        let function_at = |address| steps.function_at(address).map(str::to_owned);
        let known = Knowledge {
            node: &node,
            reasons: &reasons,
            function_at: &function_at,
        };
        let over = step
            .as_ref()
            .and_then(|step| step.now)
            .is_some_and(|now| window.is_over(now));
        let Some(step) = step.filter(|_| !over && !closed.get()) else {
            pipeline.finish(&known)?;
            break;
        };
        pipeline.batch(&step.batch, &known)?;
        if let Some(now) = step.now {
            pipeline.advance(now, &known)?;
        }
        pipeline.take_unknown();
        say_problems(&mut pipeline);
    }
    say_problems(&mut pipeline);
    Ok(if damaged {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn say_damages(steps: &mut Recording) -> bool {
    let damages = steps.take_damages();
    for damage in &damages {
        eprintln!("tracer: {}", sanitize::plain(&damage.to_string()));
    }
    !damages.is_empty()
}

fn say_problems<K: Sink>(pipeline: &mut Pipeline<K>) {
    for problem in pipeline.take_problems() {
        eprintln!("tracer: {}", sanitize::plain(&problem));
    }
}
