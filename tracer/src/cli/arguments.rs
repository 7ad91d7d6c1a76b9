//! What several subcommands have in common: the filter, what is printed and how, how is traced.

use std::{
    io::{self, BufWriter},
    path::PathBuf,
};

use anyhow::Context as _;

use super::{
    Usage, interrupts,
    memory::{self, MemoryArgs, Room},
};
use crate::{
    filter::Filter,
    kernel::{budget::Budget, coverage::Node, load::Sizes, plan::NetfilterWay},
    node::{
        cluster::{Access, api},
        pods::HostRoot,
    },
    output::{
        Sink,
        json::JsonSink,
        pipe::{Closed, Patient, Pipe},
        terminal::{Color, Terminal},
        text::{Detail, TextSink},
    },
    report::{FlowReport, PacketReport, StatsReport},
    trace::recorder,
};

/// What is printed and how.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct OutputArgs {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Print flows only
    #[arg(long, conflicts_with_all = ["packets", "json"])]
    summary: bool,
    /// Print every packet's ladder
    #[arg(long, conflicts_with = "json")]
    packets: bool,
    /// Print only what went wrong, and the flows
    #[arg(short, long, conflicts_with_all = ["packets", "summary", "json"])]
    quiet: bool,
    /// When to use colours
    #[arg(long, value_enum, default_value_t)]
    color: Color,
    /// Show namespaces by number, and ask the node for no names
    #[arg(long)]
    no_names: bool,
}

impl OutputArgs {
    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn names(&self) -> bool {
        !self.no_names
    }

    pub(super) fn color(&self) -> Color {
        self.color
    }

    /// Whether it is said what is to be printed.
    pub(super) fn is_chosen(&self) -> bool {
        self.json || self.summary || self.packets || self.quiet
    }

    /// The sink on standard output, and whether its reader went away.
    pub(super) fn sink(&self) -> (Output, Closed) {
        let stdout = io::stdout();
        let pipe = Pipe::new(Patient::new(stdout.lock(), interrupts::asked));
        let closed = pipe.closed();
        let writer = BufWriter::new(pipe);
        let sink = if self.json {
            Output::Json(JsonSink::new(writer))
        } else {
            Output::Text(TextSink::new(
                writer,
                Terminal::of(&stdout, self.color),
                self.detail(),
            ))
        };
        (sink, closed)
    }

    fn detail(&self) -> Detail {
        match (self.summary, self.packets, self.quiet) {
            (true, ..) => Detail::Summary,
            (_, true, _) => Detail::Packets,
            (.., true) => Detail::Problems,
            _ => Detail::Paths,
        }
    }
}

/// How the running kernel is traced.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LiveArgs {
    /// Say on stderr what is attached and what the kernel was asked for
    #[arg(short, long)]
    verbose: bool,
    /// How to see netfilter's hooks, instead of the best way that works
    #[arg(long, value_enum)]
    netfilter: Option<NetfilterWay>,
    /// The ring buffer between kernel and tracer, in bytes or with K, M or G: a power of two; a sixteenth of
    /// --memory unless told
    #[arg(long, value_name = "SIZE", value_parser = ring_size)]
    ring_size: Option<u32>,
    /// How much tracing may cost: a part of all processors' time as 2%, or events a second as 50000/s; above
    /// it less is seen, and that is said
    #[arg(long, value_name = "N%|N/s")]
    max_overhead: Option<Budget>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Where the node's files are, and who else is asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct HostArgs {
    /// The directory that the node's root is at, for a tracer in a container
    #[arg(
        long,
        value_name = "DIR",
        env = "TRACER_HOST_ROOT",
        default_value = "/",
        hide_default_value = true
    )]
    host_root: PathBuf,
    /// Ask the Kubernetes API as well, for what this node does not know: pods of other nodes, names of Services in
    /// IPVS mode. By this file, else as `kubectl` would or by a pod's service account
    #[arg(long, value_name = "KUBECONFIG", num_args = 0..=1, require_equals = true)]
    kubernetes_api: Option<Option<PathBuf>>,
}

impl HostArgs {
    /// Whether and how the Kubernetes API is asked.
    ///
    /// # Errors
    /// [`Usage`], when the file cannot be read, or this program cannot ask.
    pub(super) fn kubernetes(&self) -> anyhow::Result<Option<Access>> {
        let Some(file) = &self.kubernetes_api else {
            return Ok(None);
        };
        let access = match file {
            None => Access::Found,
            Some(path) => Access::Kubeconfig(path.clone()),
        };
        let checked = api::check(&access).context("--kubernetes-api");
        checked.map_err(Usage)?;
        Ok(Some(access))
    }

    /// The node's root.
    ///
    /// # Errors
    /// [`Usage`], when there is no such directory.
    pub(super) fn root(&self) -> anyhow::Result<HostRoot> {
        HostRoot::at(&self.host_root)
            .with_context(|| format!("--host-root: cannot open {}", self.host_root.display()))
            .map_err(|error| Usage(error).into())
    }
}

/// Recording beside showing.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AlsoRecordArgs {
    /// Record everything into this file as well, for `tracer replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Replace the recording's file if it exists
    #[arg(long, requires = "record")]
    overwrite: bool,
}

impl AlsoRecordArgs {
    /// Whether and where everything is recorded.
    pub(super) fn options(&self) -> Option<recorder::Options> {
        self.record.clone().map(|path| recorder::Options {
            path,
            overwrite: self.overwrite,
            max_size: None,
            rotation: None,
        })
    }
}

impl LiveArgs {
    /// The node, watched.
    ///
    /// # Errors
    /// As [`HostArgs::root`] and [`HostArgs::kubernetes`], and when nothing can be read.
    pub(super) fn node(&self) -> anyhow::Result<Node> {
        let access = self.host.kubernetes()?;
        let mut node = Node::watch(self.host.root()?)?;
        if let Some(access) = access {
            node.ask_kubernetes(&access)?;
        }
        Ok(node)
    }

    pub(super) fn host_root(&self) -> anyhow::Result<HostRoot> {
        self.host.root()
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            ring: self.ring_size.unwrap_or_else(|| self.memory.ring()),
            ..Sizes::default()
        }
    }

    /// The memory for what traffic makes the tracer keep.
    pub(super) fn room(&self) -> Room {
        self.memory.room()
    }

    pub(super) fn netfilter(&self) -> Option<NetfilterWay> {
        self.netfilter
    }

    pub(super) fn budget(&self) -> Option<Budget> {
        self.max_overhead
    }

    pub(super) fn verbose(&self) -> bool {
        self.verbose
    }
}

fn ring_size(text: &str) -> Result<u32, String> {
    // One too large for the type is out of range as well.
    let ring = u32::try_from(memory::quantity(text)?).unwrap_or(u32::MAX);
    let sizes = Sizes {
        ring,
        ..Sizes::default()
    };
    sizes.check().map_err(|error| error.to_string())?;
    Ok(ring)
}

type StandardOutput = Pipe<Patient<io::StdoutLock<'static>>>;

/// Standard output, as text or JSON.
#[derive(Debug)]
pub(super) enum Output {
    Json(JsonSink<BufWriter<StandardOutput>>),
    Text(TextSink<BufWriter<StandardOutput>>),
}

impl Output {
    fn sink(&mut self) -> &mut dyn Sink {
        match self {
            Self::Json(sink) => sink,
            Self::Text(sink) => sink,
        }
    }
}

impl Sink for Output {
    fn shows_packets(&self) -> bool {
        match self {
            Self::Json(sink) => sink.shows_packets(),
            Self::Text(sink) => sink.shows_packets(),
        }
    }

    fn packet(&mut self, packet: &PacketReport) -> io::Result<()> {
        self.sink().packet(packet)
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        self.sink().flow(flow)
    }

    fn takes_ongoing(&self) -> bool {
        match self {
            Self::Json(sink) => sink.takes_ongoing(),
            Self::Text(sink) => sink.takes_ongoing(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink().flush()
    }

    fn stats(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.sink().stats(stats)
    }

    fn finish(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.sink().finish(stats)
    }
}

/// The filter of those words.
///
/// # Errors
/// [`Usage`], with the place marked.
pub(super) fn filter(words: &[String]) -> anyhow::Result<Filter> {
    Filter::parse(&words.join(" ")).map_err(|error| Usage(error.into()).into())
}

#[cfg(test)]
mod tests {
    use super::ring_size as bytes;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("64K"), Ok(65536));
        assert_eq!(bytes("8M"), Ok(8 << 20));
        assert!(bytes("").is_err());
        assert!(bytes("M").is_err());
        assert!(bytes("8G").is_err());
        assert!(bytes("8µ").is_err());
        assert!(bytes("1000").unwrap_err().contains("64 KiB"));
        assert!(bytes("99999999999999999999").unwrap_err().contains("1 GiB"));
        assert!(bytes("3M").unwrap_err().contains("power of two"));
    }
}
