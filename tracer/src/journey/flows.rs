//! Flows: which packets belong together, across namespaces and translations.
//!
//! A flow is known by every tuple under which one of its packets was seen, each with the namespace
//! where that was: pods of different nodes, and the same address in two namespaces, are told apart.
//! A packet's first hop finds its flow there; each new place or tuple of the packet is added. So
//! the reply, which starts with the translated tuple in the server's namespace, is found, because
//! the request was seen arriving there.

mod direction;
mod table;
mod translation;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque, binary_heap::PeekMut},
    hash::{Hash, Hasher},
};

use foldhash::HashMap;
use tracer_common::{filter::Subject, flow::FlowKey};

use super::{
    Patience,
    model::{Direction, Ends, Flow, FlowId, NetnsId, Process, State, Transport},
    state,
};
use crate::{
    event::{Endpoint, Event, Tuple},
    filter::Sighting,
};
use direction::tracked_direction;
pub(super) use table::Seat;
use table::Table;

/// How many distinct places and tuples of a flow are kept for filters.
const SUBJECTS: usize = 64;
/// How many names a flow may be known by: more than any real path has.
const ALIASES: usize = 64;

/// How many flows that are gone may stand in a queue beside as many as there are.
const SLACK: usize = 1024;

/// A tuple in a namespace, whichever way it points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alias {
    key: FlowKey,
    netns: NetnsId,
}

/// Word by word, which is what hashing is fast with.
impl Hash for Alias {
    fn hash<H: Hasher>(&self, to: &mut H) {
        let FlowKey {
            low,
            high,
            low_port,
            high_port,
            protocol,
        } = self.key;
        for word in [low[0], low[1], high[0], high[1]] {
            to.write_u64(word);
        }
        let ports = u64::from(low_port) << 48 | u64::from(high_port) << 32;
        to.write_u64(ports | u64::from(protocol));
        to.write_u32(self.netns.0);
    }
}

impl Alias {
    fn new(tuple: &Tuple, netns: NetnsId) -> Self {
        let (a, b) = (tuple.source, tuple.destination);
        Self {
            key: FlowKey::new(a.address, a.port, b.address, b.port, tuple.protocol),
            netns,
        }
    }
}

/// Which flow an alias names, and which end is the client's there.
#[derive(Clone, Copy, Debug)]
struct Named {
    seat: Seat,
    client: Endpoint,
}

/// A flow's own alias, with which end is the client's there: as the table of all has it, as long as no
/// other flow took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OwnName {
    alias: Alias,
    client: Endpoint,
}

/// A flow and what the table keeps with it.
#[derive(Debug)]
struct Entry {
    flow: Flow,
    aliases: Vec<OwnName>,
    /// Where among them the last one is that was needed.
    alias_at: usize,
    /// One of them was taken from another flow, or by one.
    robbed: bool,
    tcp: state::Tcp,
    /// Whether the direction is known, or assumed from who was seen first.
    certain: bool,
    /// Whether it was turned round: packets under way then are still counted the other way.
    turned: bool,
    /// Touched since it was last looked at for eviction.
    touched: bool,
    /// Whether it is among [`Flows::closed`].
    is_closed: bool,
    /// Where among the flow's places and tuples the last event was.
    at: usize,
}

impl Entry {
    /// Whether the flow has that name. A packet's next one is mostly the one that came next the last time.
    fn has_name(&mut self, own: &OwnName) -> bool {
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

    /// How many bytes of memory it takes beside itself, with its places in the tables.
    fn room(&self) -> usize {
        /// Places in tables and queues, which may be half empty, and what the pipeline keeps of a flow.
        const BESIDE: usize = 1024;
        const ALIAS: usize = (size_of::<Alias>() + size_of::<Named>()) * 5 / 2;
        let lists = self.flow.room() - size_of::<Flow>();
        let aliases = self.aliases.capacity() * size_of::<OwnName>() + self.aliases.len() * ALIAS;
        BESIDE + lists + aliases
    }

    /// Notes which end is the client's under a name that the flow has.
    fn name_again(&mut self, own: &OwnName) {
        let mut names = self.aliases.iter_mut();
        if let Some(known) = names.find(|known| known.alias == own.alias) {
            known.client = own.client;
        }
    }

    /// Notes a place and tuple. A packet's next hop is mostly the one that came next the last time.
    fn sighted(&mut self, sighting: &Sighting) {
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

/// All flows under way.
#[derive(Debug, Default)]
pub(super) struct Flows {
    table: Table,
    by_alias: HashMap<Alias, Named>,
    /// In order of age, for eviction; each flow once.
    ages: VecDeque<FlowId>,
    /// Flows that are closed, by when their last event was when that was looked at.
    closed: BinaryHeap<Reverse<(u64, FlowId)>>,
    /// When to look for silent flows again.
    next_look: u64,
    next: u64,
}

/// What of a packet's place is another than at its event before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    /// The namespace, or the packet's tuple.
    pub(super) place: bool,
    /// The device.
    pub(super) device: bool,
}

/// A packet's place in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) seat: Seat,
    pub(super) direction: Direction,
}

impl Flows {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many bytes of memory they take.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.table.room()
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&Flow> {
        let seat = self.table.seat(id)?;
        self.at(seat)
    }

    /// The flow in that seat.
    pub(super) fn at(&self, seat: Seat) -> Option<&Flow> {
        self.table.at(seat).map(|entry| &entry.flow)
    }

    /// The flow in that seat, in which something happens.
    pub(super) fn at_mut(&mut self, seat: Seat) -> Option<&mut Flow> {
        self.table.change(seat).map(|entry| {
            entry.touched = true;
            &mut entry.flow
        })
    }

    pub(super) fn seat(&self, id: FlowId) -> Option<Seat> {
        self.table.seat(id)
    }

    /// The flows that changed since this was asked last, in no order.
    pub(super) fn take_changed(&mut self) -> impl Iterator<Item = &Flow> {
        self.table.take_changed()
    }

    /// Marks that something of the flow may be lost; that is no sign of life.
    pub(super) fn mark_lost(&mut self, seat: Seat) {
        if let Some(entry) = self.table.change(seat) {
            entry.flow.affected_by_loss = true;
        }
    }

    /// Marks that a packet of the flow was given out before its end.
    pub(super) fn mark_let_go(&mut self, seat: Seat) {
        if let Some(entry) = self.table.change(seat) {
            entry.flow.let_go = true;
        }
    }

    /// Marks that packets of the flow may be let go unseen.
    pub(super) fn mark_sampled(&mut self, seat: Seat) {
        // Who knows it already need not be shown the flow again.
        if self.at(seat).is_none_or(|flow| flow.sampled) {
            return;
        }
        if let Some(entry) = self.table.change(seat) {
            entry.flow.sampled = true;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.table.iter()
    }

    /// Whether the end that gets packets of that direction has sent its FIN.
    pub(super) fn receiver_has_finished(&self, seat: Seat, direction: Direction) -> bool {
        let sender = match direction {
            Direction::Original => Direction::Reply,
            Direction::Reply => Direction::Original,
        };
        let entry = self.table.at(seat);
        entry.is_some_and(|entry| entry.tcp.has_finished(sender))
    }

    /// The flow that a packet beginning with this event belongs to; a new one where none is known.
    pub(super) fn join(&mut self, event: &Event, transport: &Transport) -> Membership {
        let netns = NetnsId(event.record.netns);
        if let Some(quoted) = event.quoted()
            && let Some(named) = self.by_alias.get(&Alias::new(&quoted, netns)).copied()
        {
            // An error goes to who sent what it quotes.
            let original = quoted.source == named.client;
            let direction = if original {
                Direction::Reply
            } else {
                Direction::Original
            };
            return self.count(named.seat, direction, event, transport);
        }
        let tuple = event.tuple();
        let known = self.by_alias.get(&Alias::new(&tuple, netns)).copied();
        if let Some(named) = known
            && !self.begins_again(named.seat, &tuple, named.client, transport)
        {
            let original = tuple.source == named.client;
            let direction = if original {
                Direction::Original
            } else {
                Direction::Reply
            };
            return self.count(named.seat, direction, event, transport);
        }
        let seat = self.create(event, transport, tuple);
        let direction = self.direction(seat, &tuple);
        self.count(seat, direction, event, transport)
    }

    fn direction(&self, seat: Seat, tuple: &Tuple) -> Direction {
        match self.at(seat) {
            Some(flow) if flow.client != tuple.source => Direction::Reply,
            _ => Direction::Original,
        }
    }

    /// A client's SYN on a connection that is over: the port is used again.
    fn begins_again(
        &self,
        seat: Seat,
        tuple: &Tuple,
        client: Endpoint,
        transport: &Transport,
    ) -> bool {
        let Some(entry) = self.table.at(seat) else {
            return true;
        };
        tuple.source == client && state::begins(transport) && entry.tcp.is_over(transport)
    }

    fn create(&mut self, event: &Event, transport: &Transport, tuple: Tuple) -> Seat {
        self.next += 1;
        let id = FlowId(self.next);
        let evidence = state::first_direction(transport).or_else(|| tracked_direction(event));
        let reply = evidence == Some(Direction::Reply);
        let forward = if reply { tuple.reversed() } else { tuple };
        let flow = Flow {
            id,
            protocol: tuple.protocol,
            client: forward.source,
            client_netns: None,
            client_seen: 0,
            client_process: None,
            destination: forward.destination,
            backend: None,
            backend_netns: None,
            backend_seen: 0,
            backend_process: None,
            translations: Vec::new(),
            state: if matches!(transport, Transport::Tcp { .. }) {
                State::Established
            } else {
                State::Unreplied
            },
            packets: [0; 2],
            bytes: [0; 2],
            drops: 0,
            holes: 0,
            affected_by_loss: false,
            let_go: false,
            sampled: false,
            first: event.record.time,
            last: event.record.time,
            subjects: Vec::new(),
        };
        let tcp = state::Tcp::default();
        let entry = Entry {
            flow,
            aliases: Vec::new(),
            alias_at: 0,
            robbed: false,
            tcp,
            certain: evidence.is_some(),
            turned: false,
            touched: true,
            is_closed: false,
            at: 0,
        };
        let seat = self.table.insert(entry);
        self.ages.push_back(id);
        self.name(seat, &tuple, NetnsId(event.record.netns), forward.source);
        seat
    }

    /// Counts a packet of the flow and takes what it says of the flow's state.
    fn count(
        &mut self,
        seat: Seat,
        direction: Direction,
        event: &Event,
        transport: &Transport,
    ) -> Membership {
        if let Some(entry) = self.table.change(seat) {
            let side = direction as usize;
            entry.flow.packets[side] += 1;
            entry.flow.bytes[side] += u64::from(event.record.length);
            entry.flow.last = event.record.time;
            entry.touched = true;
            entry.flow.state = entry.tcp.next(entry.flow.state, direction, transport);
            if is_closed(&entry.flow) && !entry.is_closed {
                entry.is_closed = true;
                self.closed.push(Reverse((entry.flow.last, seat.flow)));
            }
        }
        Membership { seat, direction }
    }

    /// A packet of the flow goes on as one more.
    pub(super) fn one_more(&mut self, Membership { seat, direction }: Membership, length: u32) {
        if let Some(entry) = self.table.change(seat) {
            let side = direction as usize;
            entry.flow.packets[side] += 1;
            entry.flow.bytes[side] += u64::from(length);
        }
    }

    /// A packet of the flow was counted that is another's copy.
    pub(super) fn one_less(&mut self, Membership { seat, direction }: Membership, length: u32) {
        if let Some(entry) = self.table.change(seat) {
            let side = direction as usize;
            entry.flow.packets[side] = entry.flow.packets[side].saturating_sub(1);
            entry.flow.bytes[side] = entry.flow.bytes[side].saturating_sub(u64::from(length));
        }
    }

    /// Makes the flow known by the tuple in the namespace; `client` is the client's end of it.
    fn name(&mut self, seat: Seat, tuple: &Tuple, netns: NetnsId, client: Endpoint) {
        let Some(entry) = self.table.beside(seat) else {
            return;
        };
        let alias = Alias::new(tuple, netns);
        let own = OwnName { alias, client };
        if !entry.robbed && entry.has_name(&own) {
            return;
        }
        let named = Named { seat, client };
        let before = self.by_alias.insert(alias, named);
        if before.is_some_and(|before| before.seat == seat) {
            entry.name_again(&own);
            return;
        }
        // What the other flow does to its names later may concern this one as well.
        entry.robbed |= before.is_some();
        if entry.aliases.len() < ALIASES {
            grow(&mut entry.aliases, 4);
            entry.aliases.push(own);
        } else {
            self.by_alias.remove(&alias);
        }
        self.table.count_again(seat);
        if let Some(before) = before
            && let Some(robbed) = self.table.beside(before.seat)
        {
            robbed.robbed = true;
        }
    }

    /// Notes that a packet of the flow is at the event's place with the event's tuple, and what of that is
    /// another than at its event before.
    pub(super) fn seen(&mut self, member: &mut Membership, event: &Event, moved: Moved) {
        if moved.place && event.quoted().is_none() {
            let (tuple, netns) = (event.tuple(), NetnsId(event.record.netns));
            let client = if member.direction == Direction::Original {
                tuple.source
            } else {
                tuple.destination
            };
            self.name(member.seat, &tuple, netns, client);
        }
        let Some(entry) = self.table.change(member.seat) else {
            return;
        };
        if !entry.certain {
            entry.settle_direction(&mut self.by_alias, member, event);
        }
        entry.touched = true;
        entry.flow.last = entry.flow.last.max(event.record.time);
        // Where nothing is another, neither is what filters are asked about.
        if moved.place || moved.device || entry.turned {
            let before = entry.flow.subjects.capacity();
            entry.sighted(&Sighting {
                subject: subject_of(event),
                reply: member.direction == Direction::Reply,
            });
            if entry.flow.subjects.capacity() != before {
                self.table.count_again(member.seat);
            }
        }
    }

    /// Notes which process holds a socket of a flow, where that is not known yet.
    pub(super) fn held_by(&mut self, ends: &Ends, process: Process) {
        let tuple = Tuple {
            source: ends.local,
            destination: ends.remote,
            protocol: ends.protocol,
        };
        let Some(named) = self.by_alias.get(&Alias::new(&tuple, ends.netns)) else {
            return;
        };
        let client = ends.local == named.client;
        let known = |flow: &Flow| {
            if client {
                flow.client_process.is_some()
            } else {
                flow.backend_process.is_some()
            }
        };
        let seat = named.seat;
        if self.at(seat).is_none_or(known) {
            return;
        }
        if let Some(entry) = self.table.change(seat) {
            let end = if client {
                &mut entry.flow.client_process
            } else {
                &mut entry.flow.backend_process
            };
            *end = Some(process);
        }
    }

    /// Forgets a flow that is closed, and of which no packet is under way: of those, about the one in which
    /// nothing happened the longest. Gives it out.
    pub(super) fn evict_closed(&mut self, under_way: impl Fn(FlowId) -> bool) -> Option<Flow> {
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
            if !is_closed(&entry.flow) {
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
    pub(super) fn evict(&mut self) -> Option<Flow> {
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
    pub(super) fn remove(&mut self, id: FlowId) -> Option<Flow> {
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
    pub(super) fn over(
        &mut self,
        now: u64,
        patience: &Patience,
        under_way: impl Fn(FlowId) -> bool,
    ) -> Vec<FlowId> {
        let mut ids = self.closed_before(now.saturating_sub(patience.closed), &under_way);
        if now >= self.next_look {
            self.next_look = now.saturating_add(patience.silent / 100);
            let silent_before = now.saturating_sub(patience.silent);
            let silent = self.iter().filter(|flow| {
                !is_closed(flow) && flow.last < silent_before && !under_way(flow.id)
            });
            ids.extend(silent.map(|flow| flow.id));
        }
        ids.sort_unstable();
        ids
    }

    /// The flows of which the last event was before that time and that are closed.
    fn closed_before(&mut self, time: u64, under_way: &impl Fn(FlowId) -> bool) -> Vec<FlowId> {
        let (mut over, mut not_yet) = (Vec::new(), Vec::new());
        while let Some(first) = self.closed.peek_mut().filter(|first| first.0.0 < time) {
            let Reverse((_, id)) = PeekMut::pop(first);
            let seat = self.table.seat(id);
            let Some(entry) = seat.and_then(|seat| self.table.beside(seat)) else {
                continue;
            };
            if !is_closed(&entry.flow) {
                entry.is_closed = false;
            } else if entry.flow.last >= time || under_way(id) {
                not_yet.push(Reverse((entry.flow.last, id)));
            } else {
                over.push(id);
            }
        }
        self.closed.extend(not_yet);
        over
    }
}

/// Makes room for some more where there is none: not for twice as many, of which there are many flows.
fn grow<T>(list: &mut Vec<T>, more: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact(more);
    }
}

fn is_closed(flow: &Flow) -> bool {
    matches!(flow.state, State::Closed | State::Refused | State::Reset)
}

fn subject_of(event: &Event) -> Subject {
    let r = &event.record;
    Subject {
        source: r.source,
        destination: r.destination,
        device_name: r.device_name,
        cgroup: 0,
        netns: r.netns,
        source_port: r.source_port,
        destination_port: r.destination_port,
        protocol: r.protocol,
        ip_version: r.ip_version,
    }
}
