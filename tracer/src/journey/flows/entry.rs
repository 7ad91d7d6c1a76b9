//! What is kept of a flow: what is given out of it, and what is needed to go on with it.

use super::names::{Alias, Named, OwnName};
use crate::{
    filter::Sighting,
    journey::{model::Flow, state},
};

/// How many distinct places and tuples of a flow are kept for filters.
const SUBJECTS: usize = 64;
/// How many names a flow may be known by: more than any real path has.
const ALIASES: usize = 64;

/// A flow and what the table keeps with it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) flow: Flow,
    pub(super) aliases: Vec<OwnName>,
    /// Where among them the last one is that was needed.
    pub(super) alias_at: usize,
    /// One of them was taken from another flow, or by one.
    pub(super) robbed: bool,
    pub(super) tcp: state::Tcp,
    /// Whether the direction is known, or assumed from who was seen first.
    pub(super) certain: bool,
    /// Whether it was turned round: packets under way then are still counted the other way.
    pub(super) turned: bool,
    /// Touched since it was last looked at for eviction.
    pub(super) touched: bool,
    /// Whether it is among [`Flows::closed`].
    pub(super) is_closed: bool,
    /// Where among the flow's places and tuples the last event was.
    pub(super) at: usize,
}

impl Entry {
    /// How many bytes of memory it takes beside itself, with its places in the tables.
    pub(super) fn room(&self) -> usize {
        /// Places in tables and queues, which may be half empty, and what the pipeline keeps of a flow.
        const BESIDE: usize = 1024;
        const ALIAS: usize = (size_of::<Alias>() + size_of::<Named>()) * 5 / 2;
        let lists = self.flow.room() - size_of::<Flow>();
        let aliases = self.aliases.capacity() * size_of::<OwnName>() + self.aliases.len() * ALIAS;
        BESIDE + lists + aliases
    }

    /// Whether the flow has that name. A packet's next one is mostly the one that came next the last time.
    #[inline]
    pub(super) fn has_name(&mut self, own: &OwnName) -> bool {
        let (before, from_here) = self.aliases.split_at(self.alias_at.min(self.aliases.len()));
        let further = from_here.iter().position(|it| it == own);
        let at = match further {
            Some(further) => Some(self.alias_at + further),
            None => before.iter().position(|it| it == own),
        };
        if let Some(at) = at {
            self.alias_at = at;
        }
        at.is_some()
    }

    /// Notes which end is the client's under a name that the flow has.
    pub(super) fn name_again(&mut self, own: &OwnName) {
        let mut names = self.aliases.iter_mut();
        if let Some(known) = names.find(|known| known.alias == own.alias) {
            known.client = own.client;
        }
    }

    /// Adds a name, if there is room; says whether there was.
    #[inline]
    pub(super) fn add_name(&mut self, own: OwnName) -> bool {
        let is_room = self.aliases.len() < ALIASES;
        if is_room {
            grow(&mut self.aliases, 4);
            self.aliases.push(own);
        }
        is_room
    }

    /// Notes a place and tuple. A packet's next hop is mostly the one that came next the last time.
    #[inline]
    pub(super) fn sighted(&mut self, sighting: &Sighting) {
        let known = &mut self.flow.subjects;
        let (before, from_here) = known.split_at(self.at.min(known.len()));
        let found = from_here.iter().position(|it| it == sighting);
        self.at = match found {
            Some(further) => self.at + further,
            None => match before.iter().position(|it| it == sighting) {
                Some(at) => at,
                None if known.len() < SUBJECTS => {
                    grow(known, 8);
                    known.push(*sighting);
                    known.len() - 1
                }
                None => self.at,
            },
        };
    }
}

/// Makes room for some more where there is none: not for twice as many, of which there are many flows.
pub(super) fn grow<T>(list: &mut Vec<T>, more: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact(more);
    }
}
