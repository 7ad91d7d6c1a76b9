//! Whose the sockets at a flow's ends are.
//!
//! A packet's first hop carries the cookie of the socket that sent it; the process that made that
//! socket was told before. For an end of which that says nothing (a socket that was there before
//! tracing began, or that `accept` returned), its [`Ends`] are given out once, and who knows how to
//! find out may say later whose it is.

use std::collections::VecDeque;

use foldhash::HashMap;
use tracer_common::hook;

use super::{
    Journeys,
    flows::Membership,
    model::{Direction, Ends, NetnsId, Process, Stage},
    path::Step,
};
use crate::event::Event;

/// Sockets whose process is kept in mind.
const SOCKETS: usize = 1 << 14;
/// Ends that wait to be asked for.
const QUESTIONS: usize = 1024;

/// The processes that made sockets, and the ends that nobody knows the process of.
#[derive(Debug, Default)]
pub(super) struct Processes {
    by_cookie: HashMap<u64, Process>,
    /// In the order of their coming.
    ages: VecDeque<u64>,
    unknown: Vec<Ends>,
}

impl Processes {
    fn made(&mut self, cookie: u64, process: Process) {
        if self.by_cookie.insert(cookie, process).is_none() {
            self.ages.push_back(cookie);
        }
        if self.ages.len() > SOCKETS
            && let Some(oldest) = self.ages.pop_front()
        {
            self.by_cookie.remove(&oldest);
        }
    }

    pub(super) fn ask(&mut self, ends: Ends) {
        if self.unknown.len() < QUESTIONS && matches!(ends.protocol, 6 | 17) {
            self.unknown.push(ends);
        }
    }
}

impl Journeys {
    /// Takes the process that made the socket with that cookie.
    pub fn socket_made(&mut self, cookie: u64, process: Process) {
        self.processes.made(cookie, process);
    }

    /// Takes the process that holds the socket with those ends.
    pub fn socket_held(&mut self, ends: &Ends, process: Process) {
        self.flows.held_by(ends, process);
    }

    /// Ends of flows of which the process is not known; each once.
    pub fn take_sockets(&mut self) -> Vec<Ends> {
        std::mem::take(&mut self.processes.unknown)
    }

    /// Notes who sent the packet that begins with the event.
    pub(super) fn note_sender(&mut self, member: Membership, event: &Event) {
        let record = &event.record;
        let sends =
            record.hook == hook::DEVICE_QUEUE || Step::of(event) == Step::Enter(Stage::Output);
        if !sends || record.detail == 0 || event.outer().is_some() {
            return;
        }
        let Some(process) = self.processes.by_cookie.get(&record.detail) else {
            return;
        };
        if let Some(flow) = self.flows.at_mut(member.seat) {
            let end = match member.direction {
                Direction::Original => &mut flow.client_process,
                Direction::Reply => &mut flow.backend_process,
            };
            if end.is_none() {
                *end = Some(process.clone());
            }
        }
    }

    /// Asks for the process of an end that has just been seen, unless it is known.
    pub(super) fn ask_for_process(
        &mut self,
        member: Membership,
        direction: Direction,
        event: &Event,
    ) {
        let Some(flow) = self.flows.at(member.seat) else {
            return;
        };
        let known = match direction {
            Direction::Original => &flow.client_process,
            Direction::Reply => &flow.backend_process,
        };
        if known.is_some() {
            return;
        }
        let tuple = event.tuple();
        let sent = direction == member.direction;
        let (local, remote) = if sent {
            (tuple.source, tuple.destination)
        } else {
            (tuple.destination, tuple.source)
        };
        self.processes.ask(Ends {
            netns: NetnsId(event.record.netns),
            protocol: tuple.protocol,
            local,
            remote,
        });
    }
}
