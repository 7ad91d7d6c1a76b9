//! Figures in the documentation: each benchmark's between two marks of its own.

use std::{fs, path::Path};

use anyhow::Context as _;

use crate::process;

/// Where the figures are.
const PAGE: &str = "docs/performance.md";

/// Puts a benchmark's figures into the page.
///
/// # Errors
/// When the page has no place for them.
pub(crate) fn write_down(subject: &str, figures: &str) -> anyhow::Result<()> {
    let page = process::root().join(PAGE);
    write_into(&page, subject, figures)
}

fn write_into(page: &Path, subject: &str, figures: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let text = with_figures(&text, subject, figures)
        .with_context(|| format!("{} has no marks for {subject}", page.display()))?;
    fs::write(page, text).with_context(|| page.display().to_string())
}

/// The page with the figures between the subject's marks; `None` without marks.
fn with_figures(page: &str, subject: &str, figures: &str) -> Option<String> {
    let begin = format!("<!-- figures: {subject} -->\n");
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once("<!-- end of figures -->")?;
    let figures = figures.trim();
    Some(format!(
        "{before}{begin}\n{figures}\n\n<!-- end of figures -->{after}"
    ))
}

#[cfg(test)]
mod tests {
    use super::with_figures;

    #[test]
    fn figures_are_replaced_and_nothing_else() {
        let page = "a\n<!-- figures: x -->\nold\n<!-- end of figures -->\nb\n";
        let new = with_figures(page, "x", "| new |\n").unwrap();
        assert_eq!(
            new,
            "a\n<!-- figures: x -->\n\n| new |\n\n<!-- end of figures -->\nb\n"
        );
        assert_eq!(with_figures(&new, "x", "| new |").as_ref(), Some(&new));
        assert_eq!(with_figures(page, "y", ""), None);
    }
}
