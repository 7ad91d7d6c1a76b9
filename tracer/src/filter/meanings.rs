//! What the names in a filter meant when they were there last.
//!
//! A name may be there at one time and another one at another: of `service a or service b`, one Service may be
//! gone before the other is made. Looked up at one moment, the filter would be refused.

use std::collections::BTreeMap;

use super::{
    Filter,
    expression::Test,
    resolve::Namespaces,
    service::{Front, ServiceTest},
};

/// What names meant.
#[derive(Clone, Debug, Default)]
pub struct Meanings {
    namespaces: BTreeMap<String, Vec<u32>>,
    pods: BTreeMap<String, Vec<u32>>,
    /// By the Service and port as they are written.
    services: BTreeMap<String, Vec<Front>>,
}

/// What names mean now, or did when they were there last.
#[derive(Debug)]
pub struct Remembered<'a, N> {
    now: &'a N,
    before: &'a Meanings,
}

impl Meanings {
    /// Takes what the filter's names mean now, as far as they are there.
    pub fn note(&mut self, filter: &Filter, now: &impl Namespaces) {
        filter.each_test(&mut |test| match test {
            Test::Netns(name) => {
                let inodes = now.inodes(name);
                if !inodes.is_empty() {
                    self.namespaces.insert(name.clone(), inodes);
                }
            }
            Test::Pod(_, name) => {
                if let Some(inodes) = now.pod(name) {
                    self.pods.insert(name.clone(), inodes);
                }
            }
            Test::Service(service) => {
                if let Some(fronts) = now.service(service) {
                    self.services.insert(service.to_string(), fronts);
                }
            }
            _ => {}
        });
    }

    /// What names mean now, or else did.
    pub fn or<'a, N>(&'a self, now: &'a N) -> Remembered<'a, N> {
        Remembered { now, before: self }
    }
}

impl<N: Namespaces> Namespaces for Remembered<'_, N> {
    fn inodes(&self, name: &str) -> Vec<u32> {
        let now = self.now.inodes(name);
        if now.is_empty() {
            return self
                .before
                .namespaces
                .get(name)
                .cloned()
                .unwrap_or_default();
        }
        now
    }

    fn names(&self) -> Vec<String> {
        self.now.names()
    }

    fn pod(&self, name: &str) -> Option<Vec<u32>> {
        let before = || self.before.pods.get(name).cloned();
        self.now.pod(name).or_else(before)
    }

    fn similar_pods(&self, name: &str) -> Vec<String> {
        self.now.similar_pods(name)
    }

    fn service(&self, service: &ServiceTest) -> Option<Vec<Front>> {
        let before = || self.before.services.get(&service.to_string()).cloned();
        self.now.service(service).or_else(before)
    }

    fn similar_services(&self, service: &ServiceTest) -> Vec<String> {
        self.now.similar_services(service)
    }

    fn has_nameless_services(&self) -> bool {
        self.now.has_nameless_services()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_different_times_go_together() {
        let known = |name: &str, inode| BTreeMap::from([(name.to_owned(), vec![inode])]);
        let (first, later) = (known("a", 1), known("b", 2));
        let filter = Filter::parse("netns a or netns b").unwrap();
        let mut meanings = Meanings::default();
        meanings.note(&filter, &first);
        assert!(filter.resolve(&meanings.or(&first)).is_err());
        meanings.note(&filter, &later);
        let remembered = meanings.or(&later);
        assert!(filter.resolve(&later).is_err());
        assert!(filter.resolve(&remembered).is_ok());
        assert_eq!(
            (remembered.inodes("a"), remembered.inodes("b")),
            (vec![1], vec![2])
        );
        assert_eq!(
            meanings.or(&known("a", 3)).inodes("a"),
            [3],
            "what is now goes first"
        );
    }
}
