//! Where flows are kept: each has a seat of its own, which a packet remembers, so that its next event finds
//! the flow without looking for it. A seat that was given to another flow is none of the former.

use std::mem;

use foldhash::HashMap;

use super::entry::Entry;
use crate::journey::model::{Flow, FlowId};

/// A flow's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journey) struct Seat {
    at: usize,
    /// Whose it is.
    pub(in crate::journey) flow: FlowId,
}

/// A flow, and whether it changed since it was last asked for what did.
#[derive(Debug)]
struct Kept {
    entry: Entry,
    changed: bool,
    /// The bytes of memory that it is counted with.
    counted: usize,
}

/// All flows under way.
#[derive(Debug, Default)]
pub(super) struct Table {
    seats: Vec<Option<Box<Kept>>>,
    free: Vec<usize>,
    by_id: HashMap<FlowId, usize>,
    room: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Gives a new flow a seat.
    pub(super) fn insert(&mut self, entry: Entry) -> Seat {
        let flow = entry.flow.id;
        let counted = size_of::<Kept>() + entry.room();
        self.room += counted;
        let kept = Some(Box::new(Kept {
            entry,
            changed: true,
            counted,
        }));
        let at = if let Some(at) = self.free.pop() {
            self.seats[at] = kept;
            at
        } else {
            self.seats.push(kept);
            self.seats.len() - 1
        };
        self.by_id.insert(flow, at);
        Seat { at, flow }
    }

    /// How many bytes of memory all take.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Counts the memory of a flow that became larger.
    pub(super) fn count_again(&mut self, seat: Seat) {
        if let Some(kept) = self.kept_mut(seat) {
            let now = size_of::<Kept>() + kept.entry.room();
            let before = mem::replace(&mut kept.counted, now);
            self.room = self.room + now - before;
        }
    }

    /// Takes a flow away.
    pub(super) fn remove(&mut self, id: FlowId) -> Option<Entry> {
        let at = self.by_id.remove(&id)?;
        let kept = self.seats.get_mut(at)?.take()?;
        self.free.push(at);
        self.room -= kept.counted;
        Some(kept.entry)
    }

    pub(super) fn contains(&self, id: FlowId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The seat of a flow.
    pub(super) fn seat(&self, id: FlowId) -> Option<Seat> {
        let at = *self.by_id.get(&id)?;
        Some(Seat { at, flow: id })
    }

    fn kept(&self, seat: Seat) -> Option<&Kept> {
        let kept = self.seats.get(seat.at)?.as_deref()?;
        (kept.entry.flow.id == seat.flow).then_some(kept)
    }

    fn kept_mut(&mut self, seat: Seat) -> Option<&mut Kept> {
        let kept = self.seats.get_mut(seat.at)?.as_deref_mut()?;
        (kept.entry.flow.id == seat.flow).then_some(kept)
    }

    /// The flow in a seat; `None` when it is gone.
    pub(super) fn at(&self, seat: Seat) -> Option<&Entry> {
        self.kept(seat).map(|kept| &kept.entry)
    }

    /// The flow in a seat, to be changed.
    pub(super) fn change(&mut self, seat: Seat) -> Option<&mut Entry> {
        self.kept_mut(seat).map(|kept| {
            kept.changed = true;
            &mut kept.entry
        })
    }

    /// The flow in a seat, for what the table keeps beside it: nobody need be shown.
    pub(super) fn beside(&mut self, seat: Seat) -> Option<&mut Entry> {
        self.kept_mut(seat).map(|kept| &mut kept.entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        let kept = self.seats.iter().flatten();
        kept.map(|kept| &kept.entry.flow)
    }

    /// The flows that changed since this was asked last, in no order.
    pub(super) fn take_changed(&mut self) -> impl Iterator<Item = &Flow> {
        let kept = self.seats.iter_mut().flatten();
        kept.filter_map(|kept| mem::take(&mut kept.changed).then_some(&kept.entry.flow))
    }
}
