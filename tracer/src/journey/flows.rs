//! Flows: which packets belong together, across namespaces and translations.
//!
//! A flow is known by every tuple under which one of its packets was seen, each with the namespace
//! where that was: pods of different nodes, and the same address in two namespaces, are told apart.
//! A packet's first hop finds its flow there; each new place or tuple of the packet is added. So
//! the reply, which starts with the translated tuple in the server's namespace, is found, because
//! the request was seen arriving there.

//!
//! `table` has the flows, each an `entry`; `names` leads to them; `direction` and `translation` say what becomes
//! known of one on its way, `leaving` how it goes.

mod direction;
mod entry;
mod leaving;
mod names;
mod table;
mod translation;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use foldhash::HashMap;
use tracer_common::filter::Subject;

use super::{
    model::{Direction, Ends, Flow, FlowId, NetnsId, Process, State, Transport},
    state,
};
use crate::{
    event::{Endpoint, Event, Tuple},
    filter::Sighting,
};
use direction::tracked_direction;
use entry::Entry;
use names::{Alias, Named};
pub(super) use table::Seat;
use table::Table;

/// All flows under way.
#[derive(Debug, Default)]
pub(super) struct Flows {
    table: Table,
    by_alias: HashMap<Alias, Named>,
    /// In order of age, for eviction; each flow once.
    ages: VecDeque<FlowId>,
    /// Flows that are closed, by when their last event was when that was looked at, or later where that is not
    /// enough.
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
            if entry.flow.state.is_over() && !entry.is_closed {
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
