//! `tracer export`: a recording as a file of another program's format.

mod target;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    moment::{self, Moment},
    playback::{Playback, Span, SubjectArgs},
};
use crate::output::{
    Sink,
    csv::{CsvSink, Rows},
    html::HtmlSink,
    json::JsonSink,
    origin::Origin,
    pcapng::PcapngSink,
    perfetto::PerfettoSink,
};
use target::Out;
pub(super) use target::Target;

/// Convert a recording into a file for another program
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// The format
    #[arg(long = "to", value_enum, value_name = "FORMAT")]
    format: Format,
    /// The file to write; without, or as `-`, standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// What has a row of its own, in CSV: flows unless told
    #[arg(long, value_enum)]
    rows: Option<Rows>,
    /// Export flows and packets from this time on: 03:12:05, 2026-11-21T03:12:05Z, or +90s since
    /// the recording began
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    from: Option<Moment>,
    /// Export flows and packets up to this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<Moment>,
    /// Export what was under way at this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse, conflicts_with_all = ["from", "until"])]
    at: Option<Moment>,
    /// Show namespaces by number
    #[arg(long)]
    no_names: bool,
    #[command(flatten)]
    subject: SubjectArgs,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// JSON lines, as of `replay --json`
    Json,
    /// A packet capture: for Wireshark and tshark
    Pcapng,
    /// A timeline of each flow: for ui.perfetto.dev
    Perfetto,
    /// One self-contained page: for a browser
    Html,
    /// Comma-separated values: a table for spreadsheets and databases
    Csv,
}

impl Format {
    /// Whether a terminal can show it.
    fn is_text(self) -> bool {
        match self {
            Self::Json | Self::Csv | Self::Perfetto | Self::Html => true,
            Self::Pcapng => false,
        }
    }
}

/// Exports the recording.
///
/// # Errors
/// Wrong usage, a file that is no recording, or that the output cannot be written.
pub(super) fn run(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.rows.is_some() && args.format != Format::Csv {
        return Err(usage("--rows is of --to csv"));
    }
    let mut playback = Playback::open(&args.subject, !args.no_names)?;
    let target = open(args)?;
    let span = Span {
        from: args.from.as_ref(),
        to: args.until.as_ref(),
        at: args.at.as_ref(),
    };
    let room = playback.make_file();
    let sink = sink(args, Origin::from(playback.about()), target.writer()?, room);
    let mut progress = Progress::new();
    let played = playback.within(span)?.play(sink, |read| {
        progress.show(read);
        target.closed.get()
    });
    progress.end();
    match played {
        Ok(end) => target.keep().map(|()| end.exit_code()),
        Err(error) => {
            target.drop_it();
            Err(error)
        }
    }
}

fn usage(text: &'static str) -> anyhow::Error {
    super::Usage(anyhow::anyhow!(text)).into()
}

/// The maker of the file, which may keep so many bytes.
fn sink(args: &ExportArgs, origin: Origin, out: Out, room: usize) -> Box<dyn Sink> {
    match args.format {
        Format::Json => Box::new(JsonSink::new(out)),
        Format::Pcapng => Box::new(PcapngSink::new(out, origin).within(room)),
        Format::Perfetto => Box::new(PerfettoSink::new(out, origin)),
        Format::Html => Box::new(HtmlSink::new(out, origin).within(room)),
        Format::Csv => Box::new(CsvSink::new(out, origin, args.rows.unwrap_or_default())),
    }
}

fn open(args: &ExportArgs) -> anyhow::Result<Target> {
    let output = args.output.as_deref();
    let target = match output.filter(|path| *path != Path::new("-")) {
        Some(path) => Target::file(path, args.overwrite, &args.subject.files())?,
        None => Target::stdout(),
    };
    if !args.format.is_text() && target.is_terminal() {
        return Err(usage(
            "this format is not for a terminal: give a file with -o",
        ));
    }
    Ok(target)
}

/// A bar on a terminal, for exports that take a while.
struct Progress {
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// What is over sooner has none.
    const PATIENCE: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self {
            since: Instant::now(),
            bar: None,
        }
    }

    /// So many bytes of so many were read.
    fn show(&mut self, (at, length): (u64, u64)) {
        if self.bar.is_none() && self.since.elapsed() < Self::PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(length);
            let form = "tracer: {percent}% {bar:30} {bytes} of {total_bytes}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(form) {
                bar.set_style(style);
            }
            bar
        });
        bar.set_position(at);
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
