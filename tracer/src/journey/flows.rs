//! Flows: which packets belong together, across namespaces and translations.
//!
//! A flow is known by every tuple under which one of its packets was seen, each with the namespace
//! where that was: pods of different nodes, and the same address in two namespaces, are told apart.
//! A packet's first hop finds its flow there; each new place or tuple of the packet is added. So
//! the reply, which starts with the translated tuple in the server's namespace, is found, because
//! the request was seen arriving there.

mod direction;
mod translation;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque, binary_heap::PeekMut},
    mem,
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

/// How many distinct places and tuples of a flow are kept for filters.
const SUBJECTS: usize = 64;
/// How many names a flow may be known by: more than any real path has.
const ALIASES: usize = 64;

/// How many flows that are gone may stand in a queue beside as many as there are.
const SLACK: usize = 1024;

/// A tuple in a namespace, whichever way it points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Alias {
    key: FlowKey,
    netns: NetnsId,
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
    flow: FlowId,
    client: Endpoint,
}

/// A flow and what the table keeps with it.
#[derive(Debug)]
struct Entry {
    flow: Flow,
    aliases: Vec<Alias>,
    tcp: state::Tcp,
    /// Whether the direction is known, or assumed from who was seen first.
    certain: bool,
    /// Touched since it was last looked at for eviction.
    touched: bool,
    /// Whether it is among [`Flows::closed`].
    is_closed: bool,
    /// Where among the flow's places and tuples the last event was.
    at: usize,
    /// Changed since it was last asked for what did.
    changed: bool,
}

impl Entry {
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
    by_id: HashMap<FlowId, Entry>,
    by_alias: HashMap<Alias, Named>,
    /// In order of age, for eviction; each flow once.
    ages: VecDeque<FlowId>,
    /// Flows that are closed, by when their last event was when that was looked at.
    closed: BinaryHeap<Reverse<(u64, FlowId)>>,
    /// When to look for silent flows again.
    next_look: u64,
    next: u64,
}

/// A packet's place in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) flow: FlowId,
    pub(super) direction: Direction,
}

impl Flows {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&Flow> {
        self.by_id.get(&id).map(|entry| &entry.flow)
    }

    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.by_id.get_mut(&id).map(|entry| {
            entry.touched = true;
            entry.changed = true;
            &mut entry.flow
        })
    }

    /// The flows that changed since this was asked last, in no order.
    pub(super) fn take_changed(&mut self) -> impl Iterator<Item = &Flow> {
        let entries = self.by_id.values_mut();
        entries.filter_map(|entry| mem::take(&mut entry.changed).then_some(&entry.flow))
    }

    /// Marks that something of the flow may be lost; that is no sign of life.
    pub(super) fn mark_lost(&mut self, id: FlowId) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.flow.affected_by_loss = true;
            entry.changed = true;
        }
    }

    /// Marks that packets of the flow may be let go unseen.
    pub(super) fn mark_sampled(&mut self, id: FlowId) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.changed |= !entry.flow.sampled;
            entry.flow.sampled = true;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.by_id.values().map(|entry| &entry.flow)
    }

    /// Whether the end that gets packets of that direction has sent its FIN.
    pub(super) fn receiver_has_finished(&self, id: FlowId, direction: Direction) -> bool {
        let sender = match direction {
            Direction::Original => Direction::Reply,
            Direction::Reply => Direction::Original,
        };
        self.by_id
            .get(&id)
            .is_some_and(|entry| entry.tcp.has_finished(sender))
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
            return self.count(named.flow, direction, event, transport);
        }
        let tuple = event.tuple();
        let known = self.by_alias.get(&Alias::new(&tuple, netns)).copied();
        if let Some(named) = known
            && !self.begins_again(named.flow, &tuple, named.client, transport)
        {
            let original = tuple.source == named.client;
            let direction = if original {
                Direction::Original
            } else {
                Direction::Reply
            };
            return self.count(named.flow, direction, event, transport);
        }
        let flow = self.create(event, transport, tuple);
        let direction = self.direction(flow, &tuple);
        self.count(flow, direction, event, transport)
    }

    fn direction(&self, flow: FlowId, tuple: &Tuple) -> Direction {
        match self.get(flow) {
            Some(flow) if flow.client != tuple.source => Direction::Reply,
            _ => Direction::Original,
        }
    }

    /// A client's SYN on a connection that is over: the port is used again.
    fn begins_again(
        &self,
        id: FlowId,
        tuple: &Tuple,
        client: Endpoint,
        transport: &Transport,
    ) -> bool {
        let Some(entry) = self.by_id.get(&id) else {
            return true;
        };
        tuple.source == client && state::begins(transport) && entry.tcp.is_over(transport)
    }

    fn create(&mut self, event: &Event, transport: &Transport, tuple: Tuple) -> FlowId {
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
            sampled: false,
            first: event.record.time,
            last: event.record.time,
            subjects: Vec::new(),
        };
        let tcp = state::Tcp::default();
        let entry = Entry {
            flow,
            aliases: Vec::new(),
            tcp,
            certain: evidence.is_some(),
            touched: true,
            is_closed: false,
            at: 0,
            changed: true,
        };
        self.by_id.insert(id, entry);
        self.ages.push_back(id);
        self.name(id, &tuple, NetnsId(event.record.netns), forward.source);
        id
    }

    /// Counts a packet of the flow and takes what it says of the flow's state.
    fn count(
        &mut self,
        id: FlowId,
        direction: Direction,
        event: &Event,
        transport: &Transport,
    ) -> Membership {
        if let Some(entry) = self.by_id.get_mut(&id) {
            let side = direction as usize;
            entry.flow.packets[side] += 1;
            entry.flow.bytes[side] += u64::from(event.record.length);
            entry.flow.last = event.record.time;
            entry.touched = true;
            entry.changed = true;
            entry.flow.state = entry.tcp.next(entry.flow.state, direction, transport);
            if is_closed(&entry.flow) && !entry.is_closed {
                entry.is_closed = true;
                self.closed.push(Reverse((entry.flow.last, id)));
            }
        }
        Membership {
            flow: id,
            direction,
        }
    }

    /// A packet of the flow goes on as one more.
    pub(super) fn one_more(&mut self, (id, direction): (FlowId, Direction), length: u32) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            let side = direction as usize;
            entry.flow.packets[side] += 1;
            entry.flow.bytes[side] += u64::from(length);
            entry.changed = true;
        }
    }

    /// A packet of the flow was counted that is another's copy.
    pub(super) fn one_less(&mut self, (id, direction): (FlowId, Direction), length: u32) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            let side = direction as usize;
            entry.flow.packets[side] = entry.flow.packets[side].saturating_sub(1);
            entry.flow.bytes[side] = entry.flow.bytes[side].saturating_sub(u64::from(length));
            entry.changed = true;
        }
    }

    /// Makes the flow known by the tuple in the namespace; `client` is the client's end of it.
    fn name(&mut self, id: FlowId, tuple: &Tuple, netns: NetnsId, client: Endpoint) {
        let Some(entry) = self.by_id.get_mut(&id) else {
            return;
        };
        let alias = Alias::new(tuple, netns);
        let named = Named { flow: id, client };
        if let Some(before) = self.by_alias.insert(alias, named)
            && before.flow == id
        {
            return;
        }
        if entry.aliases.len() < ALIASES {
            entry.aliases.push(alias);
        } else {
            self.by_alias.remove(&alias);
        }
    }

    /// Notes that a packet of the flow is at the event's place with the event's tuple; `moved`: which it
    /// was not at its event before.
    pub(super) fn seen(&mut self, member: &mut Membership, event: &Event, moved: bool) {
        let (tuple, netns) = (event.tuple(), NetnsId(event.record.netns));
        if moved && event.quoted().is_none() {
            let client = if member.direction == Direction::Original {
                tuple.source
            } else {
                tuple.destination
            };
            self.name(member.flow, &tuple, netns, client);
        }
        self.settle_direction(member, event);
        let Some(entry) = self.by_id.get_mut(&member.flow) else {
            return;
        };
        entry.flow.last = entry.flow.last.max(event.record.time);
        entry.changed = true;
        let sighting = Sighting {
            subject: subject_of(event),
            reply: member.direction == Direction::Reply,
        };
        entry.sighted(&sighting);
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
        if let Some(entry) = self.by_id.get_mut(&named.flow) {
            let end = if client {
                &mut entry.flow.client_process
            } else {
                &mut entry.flow.backend_process
            };
            if end.is_none() {
                *end = Some(process);
                entry.changed = true;
            }
        }
    }

    /// Forgets the flow that was touched least recently, about; gives it out.
    pub(super) fn evict(&mut self) -> Option<Flow> {
        // One round at most: a flow is passed over once for being touched.
        for _ in 0..=self.ages.len() {
            let id = self.ages.pop_front()?;
            match self.by_id.get_mut(&id) {
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
        let entry = self.by_id.remove(&id)?;
        // Most flows end long before their age would matter.
        if self.ages.len() > 2 * self.by_id.len() + SLACK {
            let by_id = &self.by_id;
            self.ages.retain(|id| by_id.contains_key(id));
        }
        for alias in &entry.aliases {
            if self
                .by_alias
                .get(alias)
                .is_some_and(|named| named.flow == id)
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
            let Some(entry) = self.by_id.get_mut(&id) else {
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
