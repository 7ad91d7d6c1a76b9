//! What flows' packets have shown, for all flows together, within a bound of bytes.
//!
//! Of a healthy flow that is counts only, which are counted with the flow. Packets are kept of flows that
//! failed or wait for their answer; where these become too many, those of the flow that has had some for
//! the longest are let go. Such a flow is marked, and nothing is concluded of it.

use std::collections::VecDeque;

use foldhash::HashMap;

use crate::{
    journey::model::{Flow, FlowId, Packet},
    report::Evidence,
};

/// How many flows that are gone may stand in the queue beside as many as there are.
const SLACK: usize = 1024;

/// One flow's.
#[derive(Debug, Default)]
struct Shown {
    evidence: Evidence,
    /// Bytes of the packets in it, as they are counted.
    room: usize,
    /// Whether it stands in the queue.
    queued: bool,
}

/// What the packets of flows have shown that are not over, or not shown yet.
#[derive(Debug)]
pub(super) struct Shelf {
    most: usize,
    room: usize,
    by_flow: HashMap<FlowId, Box<Shown>>,
    /// Flows with packets, in the order in which they got some.
    queue: VecDeque<FlowId>,
    /// Flows of which packets were let go.
    pub(super) let_go: u64,
}

impl Shelf {
    /// Keeps packets of so many bytes of memory.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            room: 0,
            by_flow: HashMap::default(),
            queue: VecDeque::new(),
            let_go: 0,
        }
    }

    /// Takes note of a packet that is over.
    pub(super) fn packet(&mut self, flow: &Flow, packet: &Packet) {
        let shown = self.by_flow.entry(flow.id).or_default();
        shown.evidence.packet(packet, flow.state);
        let room = shown.evidence.room();
        if room == shown.room {
            return;
        }
        self.room = self.room + room - shown.room;
        shown.room = room;
        if !shown.queued {
            shown.queued = true;
            self.queue.push_back(flow.id);
        }
        if self.room > self.most {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        while self.room > self.most
            && let Some(id) = self.queue.pop_front()
        {
            let Some(shown) = self.by_flow.get_mut(&id) else {
                continue;
            };
            shown.queued = false;
            if shown.room == 0 {
                continue;
            }
            self.room -= shown.room;
            shown.room = 0;
            self.let_go += u64::from(!shown.evidence.is_let_go());
            shown.evidence.let_go();
        }
    }

    /// What a flow's packets have shown.
    pub(super) fn of(&self, id: FlowId) -> Option<&Evidence> {
        self.by_flow.get(&id).map(|shown| &shown.evidence)
    }

    /// Forgets a flow.
    pub(super) fn forget(&mut self, id: FlowId) {
        if let Some(shown) = self.by_flow.remove(&id) {
            self.room -= shown.room;
        }
        if self.queue.len() > 2 * self.by_flow.len() + SLACK {
            let by_flow = &self.by_flow;
            self.queue.retain(|id| by_flow.contains_key(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journey::model::State, report::scenarios};

    fn flow(number: u64, state: State) -> Flow {
        Flow {
            id: FlowId(number),
            ..scenarios::flows::flow(6, "10.0.0.1:1", "10.0.0.2:2", state)
        }
    }

    #[test]
    fn packets_of_the_oldest_are_let_go_and_the_flow_is_marked() {
        let packet = scenarios::faults::unwanted(3, 0);
        let mut one = Evidence::default();
        one.packet(&packet, State::SynSent);
        let mut shelf = Shelf::new(3 * one.room());
        for number in 1..=4 {
            shelf.packet(&flow(number, State::SynSent), &packet);
        }
        let is_let_go = |shelf: &Shelf, number| shelf.of(FlowId(number)).map(Evidence::is_let_go);
        assert_eq!(is_let_go(&shelf, 1), Some(true));
        assert_eq!(is_let_go(&shelf, 2), Some(false));
        assert_eq!((shelf.let_go, shelf.room), (1, 3 * one.room()));
        // What comes later does not make it whole again.
        shelf.forget(FlowId(2));
        shelf.packet(&flow(1, State::SynSent), &packet);
        assert_eq!(is_let_go(&shelf, 1), Some(true));
        for number in [1, 3, 4] {
            shelf.forget(FlowId(number));
        }
        assert_eq!((shelf.room, shelf.by_flow.len()), (0, 0));
    }

    #[test]
    fn a_healthy_flow_takes_no_room_and_the_queue_does_not_grow() {
        let healthy =
            scenarios::faults::acknowledgement(crate::journey::model::Direction::Original, 0, 1);
        let failed = scenarios::faults::unwanted(3, 0);
        let mut shelf = Shelf::new(usize::MAX);
        for number in 0..10 * SLACK as u64 {
            shelf.packet(&flow(number, State::Established), &healthy);
            assert_eq!(shelf.room, 0);
            shelf.packet(&flow(number, State::SynSent), &failed);
            shelf.forget(FlowId(number));
        }
        assert!(shelf.queue.len() <= SLACK + 2);
    }
}
