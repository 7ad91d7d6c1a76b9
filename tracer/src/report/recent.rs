//! What was seen lately, by key: a map of bounded size that forgets what was written least recently.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Keys that are kept.
pub(super) const KEPT: usize = 4096;

/// A map that forgets what was written least recently.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    values: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<K: Copy + Eq + Hash, V: Default> Recent<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }

    pub(super) fn entry(&mut self, key: K) -> &mut V {
        let age = self.next;
        self.next += 1;
        if let Some((before, _)) = self.values.get(&key) {
            self.order.remove(before);
        } else if self.values.len() >= KEPT
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.values.remove(&oldest);
        }
        self.order.insert(age, key);
        let entry = self.values.entry(key).or_default();
        entry.0 = age;
        &mut entry.1
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.values.len(), self.order.len());
        self.values.len()
    }
}
