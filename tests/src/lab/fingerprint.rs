//! The state of a namespace's network as one text, to compare before and after.
//!
//! Holds what an observer must not change: all rule sets in all forms, sysctls, devices with their
//! queueing disciplines, addresses, routes and rules. Leaves out what traffic and time change:
//! packet counters, conntrack entries, neighbours, set elements that packets add.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::{Lab, namespace};

/// What is asked of the namespace. None of these commands creates anything by being run.
const COMMANDS: &[&[&str]] = &[
    &["nft", "--stateless", "list", "ruleset"],
    &["iptables-nft-save"],
    &["ip6tables-nft-save"],
    &["iptables-legacy-save"],
    &["ip6tables-legacy-save"],
    // Without `-details`, which show a bridge's timers.
    &["ip", "-oneline", "link"],
    &["tc", "qdisc"],
    &["ip", "-oneline", "address"],
    &["ip", "-4", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
    &["ip", "-4", "rule"],
    &["ip", "-6", "rule"],
];

impl Lab {
    /// The state of the namespace called `name` for short. Two texts are equal when nothing but
    /// traffic happened in between.
    ///
    /// # Errors
    /// When a tool fails or a sysctl cannot be read.
    ///
    /// # Panics
    /// When there is no such namespace.
    pub fn fingerprint(&self, name: &str) -> anyhow::Result<String> {
        let mut text = String::new();
        for words in COMMANDS {
            let answer = self.run(self.command(name, words[0]).args(&words[1..]))?;
            let _ = writeln!(text, "# {}", words.join(" "));
            text.extend(answer.lines().filter_map(without_counters));
        }
        let sysctls = namespace::within(&self.netns(name), || {
            let mut sysctls = String::new();
            read_sysctls(Path::new("/proc/sys/net"), &mut sysctls)?;
            Ok(sysctls)
        })?;
        let _ = writeln!(text, "# sysctls");
        Ok(text + &sysctls)
    }
}

/// The line without what counts packets or tells the time; none for a comment.
fn without_counters(line: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    // `:FORWARD ACCEPT [41:2430]`
    let line = match line.split_once(" [") {
        Some((chain, _)) if chain.starts_with(':') => chain,
        _ => line,
    };
    Some(format!("{line}\n"))
}

/// All sysctls below the directory but those that count.
fn read_sysctls(directory: &Path, text: &mut String) -> anyhow::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            read_sysctls(&path, text)?;
        } else if !path.ends_with("nf_conntrack_count")
            // Some are write-only, some unset until written (`stable_secret`).
            && let Ok(value) = fs::read_to_string(&path)
        {
            let _ = writeln!(text, "{} = {}", path.display(), value.trim_end());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_dates_are_left_out() {
        assert_eq!(without_counters("# Generated on Sat"), None);
        let kept = without_counters(":FORWARD ACCEPT [41:2430]");
        assert_eq!(kept.as_deref(), Some(":FORWARD ACCEPT\n"));
        let rule = "-A FORWARD -m comment --comment \"a [b]\" -j X";
        assert_eq!(without_counters(rule), Some(format!("{rule}\n")));
    }
}
