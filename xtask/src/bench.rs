//! Benchmarks, and their figures in the documentation.
//!
//! A benchmark is a program of the tracer's crate that prints a table; this runs it built as a release
//! is, and puts the table between two marks in docs/performance.md, so that the figures there are never
//! others than measured ones.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};

use crate::process;

/// Where the figures are.
const PAGE: &str = "docs/performance.md";

/// What is measured.
#[derive(clap::Subcommand)]
pub(crate) enum Subject {
    /// Recordings: size, rates, memory, seeking
    Recording {
        /// How many events are written and read
        #[arg(long, default_value_t = 50_000_000)]
        events: u64,
        /// Where the recording is made, some 4 bytes an event, and removed again
        #[arg(long, default_value = "target/bench")]
        directory: PathBuf,
    },
    /// The live view under 50,000 new connections a minute: processor time, memory, keys
    Live {
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Rules: reading those of many Services, evaluating them; needs root
    Rules {
        /// How many Services
        #[arg(long, default_value_t = 5_000)]
        services: u32,
    },
}

impl Subject {
    /// The benchmark's name, and that of its figures.
    const fn name(&self) -> &'static str {
        match self {
            Self::Recording { .. } => "recording",
            Self::Live { .. } => "live",
            Self::Rules { .. } => "rules",
        }
    }

    /// What the benchmark is told.
    fn arguments(&self, root: &Path) -> anyhow::Result<Vec<OsString>> {
        Ok(match self {
            Self::Recording { events, directory } => {
                let directory = root.join(directory);
                fs::create_dir_all(&directory)?;
                vec![events.to_string().into(), directory.into()]
            }
            Self::Live { seconds } => vec![seconds.to_string().into()],
            Self::Rules { services } => vec![services.to_string().into()],
        })
    }
}

/// Measures, and writes the figures down.
///
/// # Errors
/// When it cannot be built or run, or the page has no place for the figures.
pub(crate) fn run(subject: &Subject) -> anyhow::Result<()> {
    let root = process::root();
    let name = subject.name();
    let output = process::cargo()
        .args(["bench", "-q", "-p", "tracer", "--bench", name, "--"])
        .args(subject.arguments(&root)?)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the benchmark failed: {}", output.status);
    }
    let table = String::from_utf8(output.stdout).context("the benchmark's table")?;
    print!("{table}");
    write_down(&root.join(PAGE), name, &table)
}

fn write_down(page: &Path, subject: &str, table: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let text = with_table(&text, subject, table)
        .with_context(|| format!("{} has no marks for {subject}", page.display()))?;
    fs::write(page, text).with_context(|| page.display().to_string())
}

/// The page with the table between the subject's marks; `None` without marks.
fn with_table(page: &str, subject: &str, table: &str) -> Option<String> {
    let begin = format!("<!-- figures: {subject} -->\n");
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once("<!-- end of figures -->")?;
    let table = table.trim();
    Some(format!(
        "{before}{begin}\n{table}\n\n<!-- end of figures -->{after}"
    ))
}

#[cfg(test)]
mod tests {
    use super::with_table;

    #[test]
    fn figures_are_replaced_and_nothing_else() {
        let page = "a\n<!-- figures: x -->\nold\n<!-- end of figures -->\nb\n";
        let new = with_table(page, "x", "| new |\n").unwrap();
        assert_eq!(
            new,
            "a\n<!-- figures: x -->\n\n| new |\n\n<!-- end of figures -->\nb\n"
        );
        assert_eq!(with_table(&new, "x", "| new |").as_ref(), Some(&new));
        assert_eq!(with_table(page, "y", ""), None);
    }
}
