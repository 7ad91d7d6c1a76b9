//! The line at the bottom: searching, and filtering in the filter language.

use std::ops::Range;

use super::editor::{self, Line};
use crate::{
    filter::{self, Filter, ResolveError, ResolvedFilter},
    node::{cluster::Cluster, snapshot::Snapshot},
    report::services_of,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words that a flow must have, taken as they are typed.
    Search,
    /// A filter, taken when it is entered.
    Filter,
}

/// Looks a filter's names up.
pub type Resolve = fn(&Filter, &Snapshot) -> Result<ResolvedFilter, ResolveError>;

/// A line that is being typed.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// What for.
    pub kind: Kind,
    /// What was typed.
    pub line: Line,
    /// What is wrong with it, and where in the text.
    pub error: Option<(String, Range<usize>)>,
    /// What the last word may go on as.
    pub candidates: Vec<String>,
}

impl Prompt {
    /// For that, with a text to begin with.
    #[must_use]
    pub fn new(kind: Kind, text: &str) -> Self {
        Self {
            kind,
            line: Line::new(text),
            error: None,
            candidates: Vec::new(),
        }
    }

    /// Marks what is wrong with the text, if anything is.
    pub fn check(&mut self) {
        self.candidates.clear();
        self.error = match Filter::parse(self.line.text()) {
            Err(error) if self.kind == Kind::Filter => {
                Some((error.message().to_owned(), error.span()))
            }
            _ => None,
        };
    }

    /// The filter that was typed; `None` where it is none, which is then marked.
    pub fn entered(&mut self, node: &Snapshot, resolve: Resolve) -> Option<ResolvedFilter> {
        let filter = match Filter::parse(self.line.text()) {
            Ok(filter) => filter,
            Err(error) => {
                self.error = Some((error.message().to_owned(), error.span()));
                return None;
            }
        };
        match resolve(&filter, node) {
            Ok(filter) => Some(filter),
            Err(error) => {
                let length = self.line.text().len();
                self.error = Some((error.to_string(), length..length));
                None
            }
        }
    }

    /// Completes the last word as far as that is sure; shows what it may go on as.
    pub fn complete(&mut self, node: &Snapshot) {
        let before = self.line.before();
        let word = self.line.word().to_owned();
        let head = before.strip_suffix(word.as_str()).unwrap_or(before);
        let earlier = head.trim_end().rsplit([' ', '(', ')']).next();
        let names = names(earlier.unwrap_or_default(), node);
        let fitting: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| name.starts_with(&word))
            .collect();
        let completed = editor::completed(&word, &fitting);
        let sole = fitting.len() == 1;
        let replacement = format!("{completed}{}", if sole { " " } else { "" });
        if !fitting.is_empty() {
            self.line.replace_word(&replacement);
        }
        self.check();
        if !sole {
            self.candidates = fitting.into_iter().map(str::to_owned).collect();
        }
    }
}

/// What can stand behind a word.
fn names(earlier: &str, node: &Snapshot) -> Vec<String> {
    let mut names: Vec<String> = match earlier {
        "pod" => pods(node),
        "netns" => node.names().keys().cloned().collect(),
        "dev" => {
            let links = node
                .namespaces()
                .iter()
                .flat_map(|netns| netns.links.values());
            links.map(|link| link.name.clone()).collect()
        }
        "service" => services(node),
        _ => filter::vocabulary().map(str::to_owned).collect(),
    };
    names.sort_unstable();
    names.dedup();
    names
}

/// This node's, and those that the Kubernetes API has on others.
fn pods(node: &Snapshot) -> Vec<String> {
    let own = node.pods().iter().map(|pod| &pod.name);
    let elsewhere = node.cluster().into_iter().flat_map(Cluster::pods);
    let names = own.chain(elsewhere.map(|pod| &pod.name));
    names.map(ToString::to_string).collect()
}

/// Those of the rules, and those that the Kubernetes API has.
fn services(node: &Snapshot) -> Vec<String> {
    let by_rules = node.namespaces().iter().filter_map(services_of).flatten();
    let cluster = node.cluster().into_iter();
    let services = by_rules.chain(cluster.flat_map(Cluster::all_services));
    let names = services.filter_map(|service| service.name.as_ref());
    names.map(ToString::to_string).collect()
}
