//! `tracer export`: a recording as a file of another program's format.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
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
    pipe::{Closed, Pipe},
    sanitize,
};

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
    let playback = Playback::open(&args.subject, !args.no_names)?;
    let target = Target::open(args)?;
    let span = Span {
        from: args.from.as_ref(),
        to: args.until.as_ref(),
        at: args.at.as_ref(),
    };
    let sink = sink(args, Origin::from(playback.about()), target.writer()?);
    let mut progress = Progress::new();
    let played = playback.within(span)?.play(sink, |read| {
        progress.show(read);
        target.closed.get()
    });
    progress.end();
    let end = played.inspect_err(|_| target.remove())?;
    Ok(end.exit_code())
}

fn usage(text: &'static str) -> anyhow::Error {
    super::Usage(anyhow::anyhow!(text)).into()
}

fn sink(args: &ExportArgs, origin: Origin, out: Out) -> Box<dyn Sink> {
    match args.format {
        Format::Json => Box::new(JsonSink::new(out)),
        Format::Pcapng => Box::new(PcapngSink::new(out, origin)),
        Format::Perfetto => Box::new(PerfettoSink::new(out, origin)),
        Format::Html => Box::new(HtmlSink::new(out, origin)),
        Format::Csv => Box::new(CsvSink::new(out, origin, args.rows.unwrap_or_default())),
    }
}

/// What is written to, in large pieces.
type Out = BufWriter<Pipe<Box<dyn Write>>>;

/// Where the export goes.
struct Target {
    file: Option<File>,
    /// The file's path, if it was not there before.
    made: Option<PathBuf>,
    closed: Closed,
}

impl Target {
    /// Opens it: a file of its own, for its owner's eyes only as recordings are, or standard output.
    fn open(args: &ExportArgs) -> anyhow::Result<Self> {
        let path = args
            .output
            .as_deref()
            .filter(|path| *path != Path::new("-"));
        let Some(path) = path else {
            if !args.format.is_text() && io::stdout().is_terminal() {
                return Err(usage(
                    "this format is not for a terminal: give a file with -o",
                ));
            }
            return Ok(Self {
                file: None,
                made: None,
                closed: Closed::default(),
            });
        };
        let (file, made) = create(path, args)?;
        Ok(Self {
            file: Some(file),
            made: made.then(|| path.to_owned()),
            closed: Closed::default(),
        })
    }

    fn writer(&self) -> anyhow::Result<Out> {
        let inner: Box<dyn Write> = match &self.file {
            Some(file) => Box::new(file.try_clone()?),
            None => Box::new(io::stdout().lock()),
        };
        Ok(BufWriter::with_capacity(
            1 << 16,
            Pipe::noticed_by(inner, self.closed.clone()),
        ))
    }

    /// Half a file is none.
    fn remove(&self) {
        if let Some(path) = &self.made {
            // What could not be written may not be removable either; the error is said anyway.
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens the file to write, and says whether it is new.
fn create(path: &Path, args: &ExportArgs) -> anyhow::Result<(File, bool)> {
    let name = || sanitize::plain(&path.to_string_lossy()).into_owned();
    let new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match new {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !args.overwrite {
                bail!("{} exists: give another file, or --overwrite", name());
            }
            if args
                .subject
                .files()
                .iter()
                .any(|file| same_file(path, file))
            {
                bail!("{} is the recording itself: give another file", name());
            }
            let file = File::create(path).with_context(|| format!("cannot write {}", name()))?;
            Ok((file, false))
        }
        Err(error) => Err(error).with_context(|| format!("cannot write {}", name())),
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|one| Some(one) == identity(other))
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
