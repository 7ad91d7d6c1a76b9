//! Which namespace had a number when, and whose it was.
//!
//! The kernel gives an inode number to a new namespace as soon as the one that had it has ended,
//! and a runtime may give a new pod the address of the one before. What is asked about a packet is
//! therefore asked with its time. A [`Life`] begins with the look that first showed a namespace; it
//! ends with the first look that no longer does, or when another pod is found in it.
//!
//! A namespace keeps its pod to its end: a runtime removes what it wrote of a pod shortly before
//! the namespace, when the last packets are still on their way.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{
    pods::Pod,
    rules::{held::Rules, history::History},
    snapshot::{Namespace, Past},
};

/// How many that have ended are kept in mind.
const PAST: usize = 256;

/// What is known of a namespace besides what it says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Life {
    /// The look that first showed it, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) since: u64,
    /// The pod whose it is.
    pub(super) pod: Option<Pod>,
    /// Its rules.
    pub(super) rules: History,
}

/// The lives of the namespaces that there are, and of the last ones that ended.
#[derive(Debug, Default)]
pub(super) struct Lives {
    now: BTreeMap<u32, Life>,
    past: VecDeque<Past>,
}

impl Lives {
    pub(super) fn of(&self, inode: u32) -> Option<&Life> {
        self.now.get(&inode)
    }

    pub(super) fn past(&self) -> impl Iterator<Item = &Past> {
        self.past.iter()
    }

    pub(super) fn began(&mut self, inode: u32, time: u64) {
        let life = Life {
            since: time,
            ..Life::default()
        };
        self.now.insert(inode, life);
    }

    /// The namespace was last seen at `last` and is gone at `until`.
    pub(super) fn ended(&mut self, namespace: Namespace, last: u64, until: u64) {
        self.now.remove(&namespace.inode);
        self.keep(Past {
            namespace,
            last,
            until,
        });
    }

    /// The namespaces in which another pod than before is found: theirs is another life from now
    /// on.
    pub(super) fn replaced<'a>(&self, pods: &'a [Pod]) -> Vec<(u32, &'a Pod)> {
        let another = |(inode, pod): &(u32, &Pod)| {
            let before = self.now.get(inode).and_then(|life| life.pod.as_ref());
            before.is_some_and(|before| !is_same(before, pod))
        };
        owners(pods).filter(another).collect()
    }

    /// `before` is what the namespace was until now, when another pod's life in it begins.
    pub(super) fn replace(&mut self, before: Namespace, time: u64) {
        let inode = before.inode;
        let rules = before.rules.clone();
        self.ended(before, time, time);
        self.began(inode, time);
        if let Some(life) = self.now.get_mut(&inode) {
            life.rules = rules;
        }
    }

    /// Notes whose the namespaces are.
    pub(super) fn belong_to(&mut self, pods: &[Pod]) {
        for (inode, pod) in owners(pods) {
            if let Some(life) = self.now.get_mut(&inode) {
                life.pod = Some(pod.clone());
            }
        }
    }

    /// A namespace's rules were read, and those of before were seen to hold at the time `former`. Returns whether
    /// they are others than before.
    pub(super) fn rules_read(
        &mut self,
        inode: u32,
        (former, time): (u64, u64),
        rules: Arc<Rules>,
    ) -> bool {
        let life = self.now.get_mut(&inode);
        life.is_some_and(|life| life.rules.read_after(former, time, rules))
    }

    /// What could not be read of rules, for people.
    pub(super) fn notes_on_rules(&self) -> impl Iterator<Item = String> {
        let mut notes: Vec<String> = Vec::new();
        for version in self.now.values().filter_map(|life| life.rules.last()) {
            notes.extend(version.rules.notes.iter().cloned());
        }
        notes.sort();
        notes.dedup();
        notes.into_iter()
    }

    fn keep(&mut self, past: Past) {
        if self.past.len() == PAST {
            self.past.pop_front();
        }
        self.past.push_back(past);
    }
}

fn owners(pods: &[Pod]) -> impl Iterator<Item = (u32, &Pod)> {
    pods.iter()
        .filter_map(|pod| Some((pod.network.own()?, pod)))
}

/// Whether both are one pod, of which more may be known by now.
fn is_same(a: &Pod, b: &Pod) -> bool {
    fn agree<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
        a.zip(b).is_none_or(|(a, b)| a == b)
    }
    a.name == b.name
        && agree(a.uid.as_ref(), b.uid.as_ref())
        && agree(a.sandbox.as_ref(), b.sandbox.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::pods::{PodName, PodNetwork, Uid};

    fn pod(name: &str, uid: Option<&str>, netns: u32) -> Pod {
        Pod {
            name: PodName::parse(name).unwrap(),
            uid: uid.and_then(Uid::new),
            sandbox: None,
            network: PodNetwork::Own(netns),
            addresses: vec![],
            containers: vec![],
            cgroups: vec![],
            evidence: vec![],
        }
    }

    fn namespace(inode: u32) -> Namespace {
        Namespace {
            inode,
            ..Namespace::default()
        }
    }

    #[test]
    fn another_pod_in_a_namespace_is_another_life() {
        let mut lives = Lives::default();
        lives.began(5, 10);
        let first = [pod("web", None, 5)];
        assert!(lives.replaced(&first).is_empty());
        lives.belong_to(&first);
        // More is known of it; then it is gone, and the namespace is not yet.
        let more = [pod("web", Some("u1"), 5)];
        assert!(lives.replaced(&more).is_empty());
        lives.belong_to(&more);
        lives.belong_to(&[]);
        assert_eq!(lives.of(5).unwrap().pod.as_ref(), Some(&more[0]));
        let next = [pod("web", Some("u2"), 5)];
        let replaced: Vec<u32> = lives
            .replaced(&next)
            .iter()
            .map(|(inode, _)| *inode)
            .collect();
        assert_eq!(replaced, [5]);
        lives.replace(namespace(5), 20);
        lives.belong_to(&next);
        assert_eq!(lives.of(5).unwrap().since, 20);
        let past: Vec<(u64, u64)> = lives.past().map(|past| (past.last, past.until)).collect();
        assert_eq!(past, [(20, 20)]);
    }

    #[test]
    fn few_of_those_that_ended_are_kept() {
        let mut lives = Lives::default();
        for inode in 0..5000 {
            lives.began(inode, 1);
            lives.ended(namespace(inode), 2, 3);
        }
        assert_eq!((lives.past.len(), lives.now.len()), (PAST, 0));
        assert_eq!(lives.past().last().unwrap().namespace.inode, 4999);
    }
}
