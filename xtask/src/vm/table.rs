//! The verdicts of all kernels as a table in Markdown, which is read on a terminal as well; and
//! that table in docs/kernels.md, between two lines that mark its place.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::check::Judgement;
use super::doctor::Choices;
use super::likeness::Likenesses;
use super::verdicts::Row;

/// What stands before and after the table in the documentation.
const BEGIN: &str = "<!-- cargo xtask vm --document: from here -->\n";
const END: &str = "<!-- to here -->\n";

/// Everything that came out of one kernel.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The kernel's upstream version.
    pub(crate) version: String,
    /// What the tracer's doctor said.
    pub(crate) choices: anyhow::Result<Choices>,
    /// What was judged, the same for each kernel.
    pub(crate) rows: Vec<Row>,
    /// What the paths look like there.
    pub(crate) likenesses: Likenesses,
    /// What went wrong beside the paths.
    pub(crate) failures: Vec<String>,
}

impl Outcome {
    /// Whether nothing failed.
    pub(crate) fn is_good(&self) -> bool {
        let failed = |(_, judgement): &Row| matches!(judgement, Judgement::Fail(_));
        self.failures.is_empty() && self.choices.is_ok() && !self.rows.iter().any(failed)
    }
}

/// The table, and the degradations that it points to.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut notes = Vec::new();
    let mut rows = Vec::new();
    rows.push(row("", outcomes, |outcome| outcome.version.clone()));
    for (number, name) in Choices::NAMES.iter().enumerate() {
        rows.push(row(name, outcomes, |outcome| match &outcome.choices {
            Ok(choices) => choices.of(number).to_owned(),
            Err(_) => "?".to_owned(),
        }));
    }
    let judged = outcomes.first().map_or(&[][..], |first| &first.rows[..]);
    for (number, (name, _)) in judged.iter().enumerate() {
        rows.push(row(name, outcomes, |outcome| {
            let judgement = outcome.rows.get(number);
            judgement.map_or_else(String::new, |(_, judgement)| word(judgement, &mut notes))
        }));
    }
    let mut text = markdown(&rows);
    for (number, reason) in notes.iter().enumerate() {
        let _ = write!(text, "\n{}. {reason}", number + 1);
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    text
}

/// What failed, in full.
pub(crate) fn failures(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let version = &outcome.version;
        if let Err(error) = &outcome.choices {
            let _ = writeln!(text, "\n{version} doctor: {error:#}");
        }
        for failure in &outcome.failures {
            let _ = writeln!(text, "\n{version}: {failure}");
        }
        for (name, judgement) in &outcome.rows {
            if let Judgement::Fail(why) = judgement {
                let _ = writeln!(text, "\n{version} {name}: {why}");
            }
        }
    }
    text
}

/// The documentation with the table in its place.
///
/// # Errors
/// When the place is not marked.
pub(crate) fn document(text: &str, table: &str) -> anyhow::Result<String> {
    let place = || format!("docs/kernels.md lacks the lines\n{BEGIN}{END}");
    let (before, rest) = text.split_once(BEGIN).with_context(place)?;
    let (_, after) = rest.split_once(END).with_context(place)?;
    Ok(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

fn row<'a>(
    name: &str,
    outcomes: &'a [Outcome],
    cell: impl FnMut(&'a Outcome) -> String,
) -> Vec<String> {
    let cells = outcomes.iter().map(cell);
    std::iter::once(name.to_owned()).chain(cells).collect()
}

/// Rows as a table, the first as its head, in columns.
fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
            .max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        line(&mut text, row, &widths);
        if number == 0 {
            let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            line(&mut text, &dashes, &widths);
        }
    }
    text
}

fn line(text: &mut String, cells: &[String], widths: &[usize]) {
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(text, "| {cell:<width$} ");
    }
    text.push_str("|\n");
}

fn word(judgement: &Judgement, notes: &mut Vec<&'static str>) -> String {
    match judgement {
        Judgement::Fail(_) => "FAILED".to_owned(),
        Judgement::Good { word, but } => {
            let numbers = but.iter().map(|reason| note(reason, notes));
            let numbers: String = numbers.map(|number| format!(" ({number})")).collect();
            format!("{word}{numbers}")
        }
    }
}

fn note(reason: &'static str, notes: &mut Vec<&'static str>) -> usize {
    let known = notes.iter().position(|note| *note == reason);
    let at = known.unwrap_or_else(|| {
        notes.push(reason);
        notes.len() - 1
    });
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::degradations::DEGRADATIONS;

    fn outcome(version: &str, judgement: Judgement) -> Outcome {
        Outcome {
            version: version.to_owned(),
            choices: Ok(Choices::default()),
            rows: vec![
                ("nftables/tcp".to_owned(), Judgement::complete(Vec::new())),
                ("nftables/drop".to_owned(), judgement),
            ],
            likenesses: Likenesses::new(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn degradations_are_explained_once() {
        let less = || Judgement::complete(vec![DEGRADATIONS[0].reason]);
        let outcomes = [
            outcome("5.10", less()),
            outcome("5.11", less()),
            outcome("6.1", Judgement::Fail("why".to_owned())),
        ];
        let text = table(&outcomes);
        assert!(
            text.contains("| nftables/drop | complete (1) | complete (1) | FAILED   |\n"),
            "{text}"
        );
        assert_eq!(text.matches(DEGRADATIONS[0].reason).count(), 1);
        let failures = failures(&outcomes);
        assert_eq!(failures, "\n6.1 nftables/drop: why\n");
        assert!(outcomes[0].is_good() && !outcomes[2].is_good());
    }

    #[test]
    fn the_table_takes_its_place_in_the_documentation() {
        let old = format!("a\n{BEGIN}old\n{END}z\n");
        let new = document(&old, "| new |\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\n| new |\n\n{END}z\n"));
        assert_eq!(document(&new, "| new |\n").unwrap(), new);
        assert!(document("a\n", "").is_err());
        let documentation = include_str!("../../../docs/kernels.md");
        assert!(document(documentation, "").is_ok());
    }
}
