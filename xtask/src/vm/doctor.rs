//! What `tracer doctor --json` says of a kernel: what was chosen for each family of hooks, and what
//! attaching took.

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::results::Section;

/// The words of its choices, by family, and how long it took.
#[derive(Debug, Default)]
pub(crate) struct Choices([String; Choices::NAMES.len()]);

#[derive(Deserialize)]
struct Report {
    readiness: String,
    plan: Option<Plan>,
    timing: Option<Timing>,
}

#[derive(Deserialize)]
struct Timing {
    attach_us: u64,
    detach_us: u64,
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
    /// The families, and what is said of time.
    pub(crate) const NAMES: [&'static str; 10] = [
        "devices",
        "drops",
        "consume",
        "netfilter",
        "socket",
        "conntrack",
        "processes",
        "bytes",
        "attaching",
        "detaching",
    ];

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
        let timing = report.timing.context("nothing was attached")?;
        let seconds = |us: u64| format!("{}.{} s", us / 1_000_000, us / 100_000 % 10);
        let choice = |name: &&str| {
            match *name {
                "attaching" => return seconds(timing.attach_us),
                "detaching" => return seconds(timing.detach_us),
                _ => {}
            }
            let mut families = plan.families.iter();
            let family = families.find(|family| family.kind == *name);
            let choice = family.and_then(|family| family.choice.as_deref());
            short(choice.unwrap_or("none"))
        };
        Ok(Self(Self::NAMES.each_ref().map(choice)))
    }

    /// What is said under the name of that number.
    pub(crate) fn of(&self, number: usize) -> &str {
        self.0.get(number).map_or("", String::as_str)
    }
}

/// A choice in a word or two, for the table: what is known of the sentence that doctor prints.
fn short(choice: &str) -> String {
    let known = [
        ("fentry", "fentry"),
        ("kprobe", "kprobe"),
        ("netfilter links", "link"),
        ("with reason", "place, reason"),
        ("kfree_skb", "place"),
        ("consume_skb", "consume_skb"),
        ("cgroup_skb", "cgroup_skb"),
        ("tp_btf", "tracepoints"),
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
            {"kind":"drops","choice":"tp_btf kfree_skb"},{"kind":"socket","choice":null}]},
            "timing":{"attach_us":12345678,"detach_us":99999}}"#;
        let choices = Choices::read(Some(&section(line))).unwrap();
        let said = |name: &str| {
            let number = Choices::NAMES.iter().position(|it| *it == name).unwrap();
            choices.of(number)
        };
        assert_eq!(said("netfilter"), "fentry");
        assert_eq!(said("drops"), "place");
        assert_eq!(said("socket"), "none");
        assert_eq!(said("attaching"), "12.3 s");
        assert_eq!(said("detaching"), "0.0 s");
    }

    #[test]
    fn no_answer_is_an_error() {
        assert!(Choices::read(None).is_err());
        assert!(Choices::read(Some(&section("oops"))).is_err());
        let line = r#"{"readiness":"impossible","plan":null}"#;
        assert!(Choices::read(Some(&section(line))).is_err());
    }
}
