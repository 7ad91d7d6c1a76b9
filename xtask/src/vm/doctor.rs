//! What `tracer doctor --json` says of a kernel: what was chosen for each family of hooks.

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::results::Section;

/// The words of its choices, by family.
#[derive(Debug, Default)]
pub(crate) struct Choices([String; Choices::FAMILIES.len()]);

#[derive(Deserialize)]
struct Report {
    readiness: String,
    plan: Option<Plan>,
}

#[derive(Deserialize)]
struct Plan {
    families: Vec<Family>,
}

#[derive(Deserialize)]
struct Family {
    kind: String,
    choice: Option<String>,
}

impl Choices {
    /// The families whose choice differs by kernel.
    pub(crate) const FAMILIES: [&'static str; 4] = ["netfilter", "drops", "socket", "conntrack"];

    /// Reads what doctor said.
    ///
    /// # Errors
    /// When it said nothing that is understood, or that tracing is not possible.
    pub(crate) fn read(section: Option<&Section>) -> anyhow::Result<Self> {
        let section = section.context("was not run")?;
        let line = section.output.iter().find(|line| line.starts_with('{'));
        let line = line.with_context(|| {
            let messages = section.messages.join(" ");
            format!("no JSON, exit status {:?}: {messages}", section.status)
        })?;
        let report: Report = serde_json::from_str(line)?;
        let readiness = report.readiness.as_str();
        ensure!(
            ["ready", "degraded"].contains(&readiness),
            "tracing is {readiness}"
        );
        let plan = report.plan.context("no plan")?;
        let choice = |name: &&str| {
            let mut families = plan.families.iter();
            let family = families.find(|family| family.kind == *name);
            let choice = family.and_then(|family| family.choice.as_deref());
            short(choice.unwrap_or("none"))
        };
        Ok(Self(Self::FAMILIES.each_ref().map(choice)))
    }

    /// The choice for the family of that number.
    pub(crate) fn of(&self, family: usize) -> &str {
        self.0.get(family).map_or("", String::as_str)
    }
}

/// A choice in a word or two, for the table: what is known of the sentence that doctor prints.
fn short(choice: &str) -> String {
    let known = [
        ("fentry", "fentry"),
        ("kprobe", "kprobe"),
        ("netfilter links", "link"),
        ("with reason", "reason"),
        ("kfree_skb", "no reason"),
        ("cgroup_skb", "cgroup_skb"),
        ("read at netfilter hooks", "read"),
    ];
    let word = known.iter().find(|(part, _)| choice.contains(part));
    word.map_or(choice, |(_, word)| word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(line: &str) -> Section {
        Section {
            output: vec![line.to_owned()],
            ..Section::default()
        }
    }

    #[test]
    fn choices_are_read() {
        let line = r#"{"readiness":"degraded","plan":{"families":[
            {"kind":"netfilter","choice":"fentry and fexit of nf_hook_slow"},
            {"kind":"drops","choice":"tp_btf kfree_skb"},{"kind":"socket","choice":null}]}}"#;
        let choices = Choices::read(Some(&section(line))).unwrap();
        assert_eq!(choices.of(0), "fentry");
        assert_eq!(choices.of(1), "no reason");
        assert_eq!(choices.of(2), "none");
    }

    #[test]
    fn no_answer_is_an_error() {
        assert!(Choices::read(None).is_err());
        assert!(Choices::read(Some(&section("oops"))).is_err());
        let line = r#"{"readiness":"impossible","plan":null}"#;
        assert!(Choices::read(Some(&section(line))).is_err());
    }
}
