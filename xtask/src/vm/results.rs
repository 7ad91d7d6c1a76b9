//! What the test machine wrote to its second serial line, taken apart.
//!
//! The other end is `guest.sh`. A kernel that crashes, or a machine that was ended, leaves any part
//! of it, so nothing is taken for granted.

use std::collections::BTreeMap;
use std::ops::Range;

/// The results of one machine.
#[derive(Debug, Default)]
pub(crate) struct Results {
    sections: BTreeMap<String, Section>,
    /// In the order in which they were walked.
    walks: Vec<Walk>,
    /// What the script says went wrong.
    pub(crate) failures: Vec<String>,
    /// Whether the script came to its end.
    pub(crate) complete: bool,
}

/// What one tracer wrote.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// Standard output, by lines.
    pub(crate) output: Vec<String>,
    /// Standard error, by lines.
    pub(crate) messages: Vec<String>,
    /// The exit status; `None` when it did not come to its end.
    pub(crate) status: Option<i32>,
}

/// A path was walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// The path.
    pub(crate) name: String,
    /// From when to when, in nanoseconds since the boot, rounded down to hundredths of seconds: as
    /// the tracer's times. It ends where the next one begins.
    pub(crate) time: Range<u64>,
    /// Its command's exit status; `None` when it did not come to its end.
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

    /// The path of that name, if it was begun.
    pub(crate) fn walk(&self, name: &str) -> Option<&Walk> {
        self.walks.iter().find(|walk| walk.name == name)
    }

    /// Reads a mark and returns the section that the lines after it belong to.
    fn mark(&mut self, mark: &str, current: Option<String>) -> Option<String> {
        let (word, rest) = mark.split_once(' ').unwrap_or((mark, ""));
        let (name, last) = rest.rsplit_once(' ').unwrap_or((rest, ""));
        match word {
            "begin" => {
                self.sections.entry(rest.to_owned()).or_default();
                return Some(rest.to_owned());
            }
            "end" => {
                if let Some(section) = self.sections.get_mut(name) {
                    section.status = last.parse().ok();
                }
                return None;
            }
            "path" => self.begin(name, last),
            "status" => {
                if let Some(walk) = self.walks.iter_mut().find(|walk| walk.name == name) {
                    walk.status = last.parse().ok();
                }
            }
            "fail" => self.failures.push(rest.to_owned()),
            "done" => self.complete = true,
            _ => self.failures.push(format!("an unknown mark: {mark}")),
        }
        current
    }

    fn begin(&mut self, name: &str, seconds: &str) {
        let Some(begin) = nanoseconds(seconds) else {
            self.failures.push(format!("no time: {name} {seconds}"));
            return;
        };
        if let Some(before) = self.walks.last_mut() {
            before.time.end = begin;
        }
        self.walks.push(Walk {
            name: name.to_owned(),
            time: begin..u64::MAX,
            status: None,
        });
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

/// Seconds with two decimals, as `/proc/uptime` has them.
fn nanoseconds(seconds: &str) -> Option<u64> {
    let (whole, hundredths) = seconds.split_once('.')?;
    let hundredths: u64 = (hundredths.len() == 2).then(|| hundredths.parse().ok())??;
    let whole: u64 = whole.parse().ok()?;
    whole
        .checked_mul(100)?
        .checked_add(hundredths)?
        .checked_mul(10_000_000)
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
        let results = Results::parse("@@ path x 1.00\n@@ begin a\n{\"x\"");
        assert_eq!(results.section("a").unwrap().status, None);
        assert_eq!(results.walk("x").unwrap().status, None);
        assert!(results.section("b").is_none());
        assert!(!results.complete);
    }

    #[test]
    fn a_path_ends_where_the_next_begins() {
        let log = "@@ path a/b 7.05\n@@ status a/b 28\n@@ path a/c 107.50\n";
        let results = Results::parse(log);
        let walk = results.walk("a/b").unwrap();
        assert_eq!(walk.time, 7_050_000_000..107_500_000_000);
        assert_eq!(walk.status, Some(28));
        assert_eq!(results.walk("a/c").unwrap().time.end, u64::MAX);
        for wrong in ["", "7", "7.5", "x.00", "99999999999999999999.00"] {
            let results = Results::parse(&format!("@@ path a {wrong}\n"));
            assert_eq!(results.failures.len(), 1, "{wrong}");
        }
    }
}
