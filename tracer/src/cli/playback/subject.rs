//! What is to be played: which recordings, and which flows of them.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;

use crate::{
    cli::{Usage, arguments, memory::MemoryArgs, resolution},
    filter::{Filter, Meanings, ResolvedFilter},
    node::snapshot::Snapshot,
    output::sanitize,
    trace::{self, About, Nodes, NodesError, Reader},
};

/// What is played.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct SubjectArgs {
    /// The recording
    file: PathBuf,
    /// More recordings of the same node, as the parts of a rotation, which are shown as one; and then
    /// which flows, in the words of docs/filter.md; without, all
    #[arg(value_name = "FILE|FILTER")]
    rest: Vec<String>,
    #[command(flatten)]
    memory: MemoryArgs,
}

impl SubjectArgs {
    /// The recordings, and the filter's words: those from the first one on that is no recording.
    fn split(&self) -> (Vec<&Path>, &[String]) {
        let is_recording = |word: &&String| trace::is_recording(Path::new(word));
        let count = self.rest.iter().take_while(is_recording).count();
        let (files, filter) = self.rest.split_at(count);
        let files = files.iter().map(Path::new);
        (
            [self.file.as_path()].into_iter().chain(files).collect(),
            filter,
        )
    }

    /// Opens the recordings, together, and finds out what the filter means of them.
    ///
    /// # Errors
    /// A wrong filter, a file that is no recording, or recordings that do not belong together.
    pub(super) fn open(&self) -> anyhow::Result<(Nodes<BufReader<File>>, ResolvedFilter)> {
        let (files, filter) = self.split();
        check(filter)?;
        let filter = arguments::filter(filter)?;
        let mut readers = files
            .iter()
            .map(|file| reader(file))
            .collect::<Result<Vec<_>, _>>()?;
        let first = readers.remove(0);
        let timeline = Nodes::new(first, readers).map_err(|error| match error {
            NodesError::Read(_) => anyhow::Error::from(error),
            _ => Usage(error.into()).into(),
        })?;
        let filter = resolve(&filter, timeline.about(), known(&files, &timeline))?;
        Ok((timeline, filter))
    }

    /// The memory that the tracer may take.
    pub(in crate::cli) fn memory(&self) -> MemoryArgs {
        self.memory
    }

    /// The filter's text.
    pub(in crate::cli) fn filter(&self) -> String {
        self.split().1.join(" ")
    }

    /// The recordings' files.
    pub(in crate::cli) fn files(&self) -> Vec<&Path> {
        self.split().0
    }
}

/// A filter does not begin as a path does: that is a file which was meant to be a recording.
fn check(filter: &[String]) -> anyhow::Result<()> {
    match filter.first() {
        Some(word) if word.starts_with(['/', '.']) => {
            let name = sanitize::plain(word).into_owned();
            let error = anyhow::anyhow!("{name} is not there, or is no recording");
            Err(Usage(error).into())
        }
        _ => Ok(()),
    }
}

/// A recording, with its name for people.
fn reader(file: &Path) -> anyhow::Result<(String, Reader<BufReader<File>>)> {
    let name = sanitize::plain(&file.to_string_lossy()).into_owned();
    let opened = File::open(file).with_context(|| format!("cannot open {name}"))?;
    let reader = Reader::open(BufReader::new(opened)).with_context(|| name.clone())?;
    Ok((name, reader))
}

/// What the nodes knew, read from the files once more, as far as it is asked for.
fn known(
    files: &[&Path],
    timeline: &Nodes<BufReader<File>>,
) -> Box<dyn Iterator<Item = Arc<Snapshot>>> {
    let files: Vec<PathBuf> = files.iter().map(|file| (*file).to_owned()).collect();
    if timeline.nodes() == 1 {
        let readers = files.into_iter().filter_map(|file| reader(&file).ok());
        return Box::new(readers.flat_map(|(_, reader)| reader.into_nodes()));
    }
    let together = move || {
        let mut readers = files.iter().filter_map(|file| reader(file).ok());
        let nodes = readers
            .next()
            .map(|first| Nodes::new(first, readers.collect()));
        let nodes = nodes.and_then(Result::ok);
        nodes.map(Nodes::into_nodes).unwrap_or_default()
    };
    Box::new(std::iter::once_with(together).flatten())
}

/// What both filters let through: that of the recording and that of the command line.
///
/// Names are looked up in what the node knew at the begin, and when one of them is not there, in what
/// it knew later, each by itself.
fn resolve(
    filter: &Filter,
    about: &About,
    nodes: impl Iterator<Item = Arc<Snapshot>>,
) -> anyhow::Result<ResolvedFilter> {
    let own = &about.filter;
    let both = if own.trim().is_empty() {
        filter.clone()
    } else {
        let own = Filter::parse(own).context("in the recording's own filter")?;
        own.and(filter)
    };
    let mut result = resolution::resolve(&both, &Snapshot::default());
    let mut known = false;
    let mut meanings = Meanings::default();
    if result.is_ok() {
        return result;
    }
    for node in nodes {
        known = true;
        result = resolution::resolve_later(&both, &node, &mut meanings);
        if result.is_ok() {
            break;
        }
    }
    if !known {
        // Broken off before anything was known of the node: nothing is in it that a name could be of.
        return resolution::resolve(filter, &Snapshot::default());
    }
    result
}
