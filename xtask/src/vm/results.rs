//! What the test machine wrote to its second serial line, taken apart.
//!
//! The other end is `guest.sh`. A kernel that crashes, or a machine that was ended, leaves any part
//! of it, so nothing is taken for granted.

use std::collections::BTreeMap;

/// The results of one machine.
#[derive(Debug, Default)]
pub(crate) struct Results {
    sections: BTreeMap<String, Section>,
    /// What the script says went wrong.
    pub(crate) failures: Vec<String>,
    /// Whether the script came to its end.
    pub(crate) complete: bool,
}

/// What one run of the tracer wrote.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// Standard output, by lines.
    pub(crate) output: Vec<String>,
    /// Standard error, by lines.
    pub(crate) messages: Vec<String>,
    /// The exit status; `None` when it did not come to its end.
    pub(crate) status: Option<i32>,
}

impl Results {
    /// Takes the log apart.
    pub(crate) fn parse(log: &str) -> Self {
        let mut results = Self::default();
        let mut current = None;
        for line in log.lines() {
            let line = line.trim_end_matches('\r');
            match line.strip_prefix("@@ ") {
                Some(mark) => current = results.mark(mark, current),
                None => {
                    if let Some(section) = current.as_ref() {
                        results.line(section, line);
                    }
                }
            }
        }
        results
    }

    /// The section of that name, if it was begun.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(name)
    }

    /// Reads a mark and returns the section that the lines after it belong to.
    fn mark(&mut self, mark: &str, current: Option<String>) -> Option<String> {
        let (word, rest) = mark.split_once(' ').unwrap_or((mark, ""));
        match word {
            "begin" => {
                self.sections.entry(rest.to_owned()).or_default();
                return Some(rest.to_owned());
            }
            "end" => {
                let (name, status) = rest.rsplit_once(' ').unwrap_or((rest, ""));
                if let Some(section) = self.sections.get_mut(name) {
                    section.status = status.parse().ok();
                }
                return None;
            }
            "fail" => self.failures.push(rest.to_owned()),
            "done" => self.complete = true,
            _ => self.failures.push(format!("an unknown mark: {mark}")),
        }
        current
    }

    fn line(&mut self, section: &str, line: &str) {
        let Some(section) = self.sections.get_mut(section) else {
            return;
        };
        match line.strip_prefix("! ") {
            Some(message) => section.messages.push(message.to_owned()),
            None => section.output.push(line.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_output_messages_and_a_status() {
        let log = "noise\n@@ begin a/b\n{\"x\":1}\r\n! server: b\n@@ end a/b 7\n@@ fail it is so\n@@ done\n";
        let results = Results::parse(log);
        let section = results.section("a/b").unwrap();
        assert_eq!(section.output, ["{\"x\":1}"]);
        assert_eq!(section.messages, ["server: b"]);
        assert_eq!(section.status, Some(7));
        assert_eq!(results.failures, ["it is so"]);
        assert!(results.complete);
    }

    #[test]
    fn a_cut_log_is_incomplete() {
        let results = Results::parse("@@ begin a\n{\"x\"");
        assert_eq!(results.section("a").unwrap().status, None);
        assert!(results.section("b").is_none());
        assert!(!results.complete);
    }
}
