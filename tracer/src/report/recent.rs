//! What was seen lately, by key: a map that forgets what was written least recently, bounded in keys and in
//! bytes of memory.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Keys that are kept.
pub(super) const KEPT: usize = 4096;
/// Bytes of memory that are kept where it is not said how many.
const ROOM: usize = 1 << 20;

/// What memory a value takes.
pub(super) trait Room {
    /// Bytes beside those of the value itself; about.
    fn room(&self) -> usize;
}

impl Room for u64 {
    fn room(&self) -> usize {
        0
    }
}

/// A value, when it was written last, and with how many bytes it is counted.
#[derive(Debug, Default)]
struct Written<V> {
    age: u64,
    counted: usize,
    value: V,
}

/// A map that forgets what was written least recently.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    values: HashMap<K, Written<V>>,
    order: BTreeMap<u64, K>,
    next: u64,
    room: usize,
    most: usize,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self::within(ROOM)
    }
}

impl<K, V> Recent<K, V> {
    /// One that takes so many bytes of memory, about.
    pub(super) fn within(most: usize) -> Self {
        Self {
            values: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            room: 0,
            most,
        }
    }
}

impl<K: Copy + Eq + Hash, V: Default + Room> Recent<K, V> {
    /// What a key costs: a place in a table and one in a tree, which may be half empty.
    const BESIDE: usize = 2 * (size_of::<(K, Written<V>)>() + size_of::<(u64, K)>());

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|written| &written.value)
    }

    /// Writes what is there for a key, or something new.
    pub(super) fn write<R>(&mut self, key: K, write: impl FnOnce(&mut V) -> R) -> R {
        let age = self.next;
        self.next += 1;
        if let Some(before) = self.values.get(&key) {
            self.order.remove(&before.age);
        } else if self.values.len() >= KEPT {
            self.forget_oldest();
        }
        self.order.insert(age, key);
        let written = self.values.entry(key).or_default();
        written.age = age;
        let result = write(&mut written.value);
        let now = Self::BESIDE + written.value.room();
        self.room = self.room + now - written.counted;
        written.counted = now;
        while self.room > self.most && self.values.len() > 1 {
            self.forget_oldest();
        }
        result
    }

    fn forget_oldest(&mut self) {
        let oldest = self.order.pop_first();
        if let Some(gone) = oldest.and_then(|(_, oldest)| self.values.remove(&oldest)) {
            self.room -= gone.counted;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.values.len(), self.order.len());
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Large(usize);

    impl Room for Large {
        fn room(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn what_was_written_least_recently_makes_room() {
        let mut recent: Recent<u32, Large> = Recent::within(10_000);
        for key in 0..9 {
            recent.write(key, |value| value.0 = 1_000 - Recent::<u32, Large>::BESIDE);
        }
        recent.write(0, |_| ());
        recent.write(9, |value| value.0 = 2_500 - Recent::<u32, Large>::BESIDE);
        assert!(recent.get(&0).is_some() && recent.get(&9).is_some());
        assert!(recent.get(&1).is_none() && recent.get(&2).is_none());
        assert_eq!((recent.len(), recent.room), (8, 9_500));
        // What is larger than all the room is there until the next.
        recent.write(10, |value| value.0 = 50_000);
        assert_eq!(recent.len(), 1);
        recent.write(11, |_| ());
        assert_eq!(recent.len(), 1);
    }
}
