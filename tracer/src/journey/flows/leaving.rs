//! How flows go: those that are over, and those that make room for others.

use std::{cmp::Reverse, collections::binary_heap::PeekMut};

use super::{Flows, names::OwnName};
use crate::journey::{
    Patience,
    model::{Flow, FlowId},
};

/// How many flows that are gone may stand in a queue beside as many as there are.
const SLACK: usize = 1024;

impl Flows {
    /// Forgets a flow that is closed, and of which no packet is under way: of those, about the one in which
    /// nothing happened the longest. Gives it out.
    pub(in crate::journey) fn evict_closed(
        &mut self,
        under_way: impl Fn(FlowId) -> bool,
    ) -> Option<Flow> {
        /// How many that are not over yet are passed over.
        const TRIES: usize = 8;
        let mut not_yet = [None; TRIES];
        let mut found = None;
        for passed in &mut not_yet {
            let Some(Reverse((time, id))) = self.closed.pop() else {
                break;
            };
            let seat = self.table.seat(id);
            let Some(entry) = seat.and_then(|seat| self.table.beside(seat)) else {
                continue;
            };
            if !entry.flow.state.is_over() {
                entry.is_closed = false;
            } else if under_way(id) {
                *passed = Some(Reverse((time, id)));
            } else {
                found = Some(id);
                break;
            }
        }
        self.closed.extend(not_yet.into_iter().flatten());
        self.remove(found?)
    }

    /// Forgets the flow that was touched least recently, about; gives it out.
    pub(in crate::journey) fn evict(&mut self) -> Option<Flow> {
        // One round at most: a flow is passed over once for being touched.
        for _ in 0..=self.ages.len() {
            let id = self.ages.pop_front()?;
            let seat = self.table.seat(id);
            match seat.and_then(|seat| self.table.beside(seat)) {
                Some(entry) if entry.touched => {
                    entry.touched = false;
                    self.ages.push_back(id);
                }
                Some(_) => return self.remove(id),
                None => {}
            }
        }
        None
    }

    /// Forgets a flow; gives it out.
    pub(in crate::journey) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let entry = self.table.remove(id)?;
        // Most flows end long before their age would matter.
        if self.ages.len() > 2 * self.table.len() + SLACK {
            let table = &self.table;
            self.ages.retain(|id| table.contains(*id));
        }
        if self.closed.len() > 2 * self.table.len() + SLACK {
            let table = &self.table;
            self.closed.retain(|Reverse((_, id))| table.contains(*id));
        }
        for OwnName { alias, .. } in &entry.aliases {
            if self
                .by_alias
                .get(alias)
                .is_some_and(|named| named.seat.flow == id)
            {
                self.by_alias.remove(alias);
            }
        }
        Some(entry.flow)
    }

    /// The flows that are over by now, by number: closed, or silent, for long enough, and with no packet
    /// under way.
    ///
    /// Silence is looked for a hundred times within its patience: to find it takes a look at every flow.
    pub(in crate::journey) fn over(
        &mut self,
        now: u64,
        patience: &Patience,
        under_way: impl Fn(FlowId) -> bool,
    ) -> Vec<FlowId> {
        let mut ids = self.closed_for_long(now, patience, &under_way);
        if now >= self.next_look {
            self.next_look = now.saturating_add(patience.silent / 100);
            let silent_before = now.saturating_sub(patience.silent);
            let silent = self.iter().filter(|flow| {
                !flow.state.is_over() && flow.last < silent_before && !under_way(flow.id)
            });
            ids.extend(silent.map(|flow| flow.id));
        }
        ids.sort_unstable();
        ids
    }

    /// The flows that are closed, and of which the last event was long enough ago.
    fn closed_for_long(
        &mut self,
        now: u64,
        patience: &Patience,
        under_way: &impl Fn(FlowId) -> bool,
    ) -> Vec<FlowId> {
        let time = now.saturating_sub(patience.closed);
        let (mut over, mut not_yet) = (Vec::new(), Vec::new());
        while let Some(first) = self.closed.peek_mut().filter(|first| first.0.0 < time) {
            let Reverse((_, id)) = PeekMut::pop(first);
            let seat = self.table.seat(id);
            let Some(entry) = seat.and_then(|seat| self.table.beside(seat)) else {
                continue;
            };
            let longer = if entry.tcp.may_be_tried_again() {
                patience.refused.saturating_sub(patience.closed)
            } else {
                0
            };
            let last = entry.flow.last.saturating_add(longer);
            if !entry.flow.state.is_over() {
                entry.is_closed = false;
            } else if last >= time || under_way(id) {
                not_yet.push(Reverse((last, id)));
            } else {
                over.push(id);
            }
        }
        self.closed.extend(not_yet);
        over
    }
}
