//! Which process and thread of the timeline a packet's stay in a namespace belongs to.
//!
//! Threads of a flow are forgotten when it is over, and everything when there is too much: their
//! names are then said again, under new numbers. So what is remembered is bounded.

use std::collections::HashMap;

use crate::journey::model::FlowId;

/// How many processes are remembered.
const PROCESSES: usize = 1 << 12;
/// How many flows are remembered that are not over.
const FLOWS: usize = 1 << 16;
/// Threads that a flow has in one namespace at most. What finds none free shares the last one.
const LANES: usize = 64;

/// A thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Where {
    pub(super) process: u32,
    pub(super) thread: u64,
}

/// A thread for a stay.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) at: Where,
    /// The process's number, where it is new.
    pub(super) new_process: Option<u32>,
    /// Whether the thread is new.
    pub(super) new_thread: bool,
}

/// A thread, and when what is in it ends.
#[derive(Debug)]
struct Lane {
    at: Where,
    end: u64,
}

/// A namespace and a pod by their names.
type Place = [Option<String>; 2];

/// All of them.
#[derive(Debug)]
pub(super) struct Tracks {
    processes: HashMap<Place, u32>,
    next_process: u32,
    lanes: HashMap<FlowId, HashMap<u32, Vec<Lane>>>,
    threads: u64,
}

impl Default for Tracks {
    fn default() -> Self {
        Self {
            processes: HashMap::new(),
            // The first one has the flows.
            next_process: super::FLOWS + 1,
            lanes: HashMap::new(),
            threads: 0,
        }
    }
}

impl Tracks {
    /// A number for a thread, of the whole timeline: some viewers tell threads by it alone.
    pub(super) fn next_thread(&mut self) -> u64 {
        self.threads += 1;
        self.threads
    }

    /// The thread for a stay of a flow's packet from one time to another.
    pub(super) fn place(
        &mut self,
        place: [Option<&str>; 2],
        flow: FlowId,
        (begin, end): (u64, u64),
    ) -> Track {
        let (process, new_process) = self.process(place);
        let next = self.threads + 1;
        if self.lanes.len() >= FLOWS && !self.lanes.contains_key(&flow) {
            self.lanes.clear();
        }
        let lanes = self.lanes.entry(flow).or_default();
        let lanes = lanes.entry(process).or_default();
        // What ends when the next begins would hold it where neither lasts.
        let free = lanes.iter().position(|lane| lane.end < begin);
        let full = lanes.len() >= LANES;
        let reused = free.or(full.then_some(LANES - 1));
        if let Some(lane) = reused.and_then(|at| lanes.get_mut(at)) {
            lane.end = lane.end.max(end);
            return Track {
                at: lane.at,
                new_process: None,
                new_thread: false,
            };
        }
        let at = Where {
            process,
            thread: next,
        };
        lanes.push(Lane { at, end });
        self.threads = next;
        Track {
            at,
            new_process: new_process.then_some(process),
            new_thread: true,
        }
    }

    /// A flow is over: its threads.
    pub(super) fn end(&mut self, flow: FlowId) -> Vec<Where> {
        let lanes = self.lanes.remove(&flow).unwrap_or_default();
        let mut threads: Vec<Where> = lanes.into_values().flatten().map(|lane| lane.at).collect();
        threads.sort_by_key(|at| at.thread);
        threads
    }

    fn process(&mut self, place: [Option<&str>; 2]) -> (u32, bool) {
        let place = place.map(|name| name.map(str::to_owned));
        if let Some(process) = self.processes.get(&place) {
            return (*process, false);
        }
        if self.processes.len() >= PROCESSES {
            self.processes.clear();
        }
        let process = self.next_process;
        self.next_process = process.checked_add(1).unwrap_or(super::FLOWS + 1);
        self.processes.insert(place, process);
        (process, true)
    }
}
