//! The verdicts of all paths on all kernels, for a person.

use std::fmt::Write as _;

use super::check::Judgement;
use super::degradations::Degradation;
use super::doctor::Choices;
use super::paths::Traced;

/// Everything that came out of one kernel.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The kernel's upstream version.
    pub(crate) version: String,
    /// What the tracer's doctor said.
    pub(crate) choices: anyhow::Result<Choices>,
    /// Each path's verdict, in the order of the paths.
    pub(crate) verdicts: Vec<(Traced, Judgement)>,
    /// What went wrong beside the paths.
    pub(crate) failures: Vec<String>,
}

impl Outcome {
    /// Whether nothing failed.
    pub(crate) fn is_good(&self) -> bool {
        let failed = |(_, verdict): &(Traced, Judgement)| matches!(verdict, Judgement::Fail(_));
        self.failures.is_empty() && self.choices.is_ok() && !self.verdicts.iter().any(failed)
    }
}

/// The table, the degradations that it points to, and what failed.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let heads = outcomes.iter().map(|outcome| outcome.version.clone());
    row(&mut text, "", heads);
    for (number, family) in Choices::FAMILIES.iter().enumerate() {
        let choices = outcomes.iter().map(|outcome| match &outcome.choices {
            Ok(choices) => choices.of(number).to_owned(),
            Err(_) => "?".to_owned(),
        });
        row(&mut text, family, choices);
    }
    let mut notes = Vec::new();
    let paths = outcomes
        .first()
        .map_or(&[][..], |first| &first.verdicts[..]);
    for (number, (traced, _)) in paths.iter().enumerate() {
        let verdicts = outcomes.iter().map(|outcome| {
            let verdict = outcome.verdicts.get(number).map(|(_, verdict)| verdict);
            verdict.map_or_else(String::new, |verdict| word(verdict, &mut notes))
        });
        row(&mut text, &traced.to_string(), verdicts.collect::<Vec<_>>());
    }
    for (number, reason) in notes.iter().enumerate() {
        let _ = write!(text, "\n[{}] {reason}", number + 1);
    }
    text.push('\n');
    for outcome in outcomes {
        failures(&mut text, outcome);
    }
    text
}

fn row(text: &mut String, name: &str, cells: impl IntoIterator<Item = String>) {
    let mut line = format!("{name:<26}");
    for cell in cells {
        let _ = write!(line, " {cell:<16}");
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

fn word(verdict: &Judgement, notes: &mut Vec<&'static str>) -> String {
    match verdict {
        Judgement::Pass => "pass".to_owned(),
        Judgement::Fail(_) => "FAIL".to_owned(),
        Judgement::Degraded(why) => {
            let numbers = why.iter().map(|degradation| note(degradation, notes));
            let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
            format!("degraded [{}]", numbers.join(","))
        }
    }
}

fn note(degradation: &Degradation, notes: &mut Vec<&'static str>) -> usize {
    let known = notes.iter().position(|note| *note == degradation.reason);
    let at = known.unwrap_or_else(|| {
        notes.push(degradation.reason);
        notes.len() - 1
    });
    at + 1
}

fn failures(text: &mut String, outcome: &Outcome) {
    let version = &outcome.version;
    if let Err(error) = &outcome.choices {
        let _ = writeln!(text, "\n{version} doctor: {error:#}");
    }
    for failure in &outcome.failures {
        let _ = writeln!(text, "\n{version}: {failure}");
    }
    for (traced, verdict) in &outcome.verdicts {
        if let Judgement::Fail(why) = verdict {
            let _ = writeln!(text, "\n{version} {traced}: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::degradations::DEGRADATIONS;
    use crate::vm::paths;

    #[test]
    fn degradations_are_explained_once() {
        let verdicts = |verdict: fn() -> Judgement| {
            let paths = paths::all().into_iter().take(2);
            paths.map(|traced| (traced, verdict())).collect()
        };
        let outcome = |version: &str, verdict| Outcome {
            version: version.to_owned(),
            choices: Ok(Choices::default()),
            verdicts: verdicts(verdict),
            failures: Vec::new(),
        };
        let outcomes = [
            outcome("5.10", || Judgement::Degraded(vec![&DEGRADATIONS[0]])),
            outcome("6.1", || Judgement::Fail("why".to_owned())),
        ];
        let text = table(&outcomes);
        assert!(text.contains("degraded [1]     FAIL"), "{text}");
        assert_eq!(text.matches(DEGRADATIONS[0].reason).count(), 1);
        assert!(text.contains("6.1 iptables-nft/tcp: why"), "{text}");
        assert!(outcomes[0].is_good() && !outcomes[1].is_good());
    }
}
