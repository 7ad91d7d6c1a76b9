//! What of a recording a page has room for.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
};

use crate::{
    journey::model::{FlowId, State, Verdict},
    output::text::words::{self, Paths},
    report::{FlowReport, PacketReport},
};

/// Flows on a page.
const FLOWS: usize = 500;
/// Hops of ladders on a page: some 10 MB of SVG.
const HOPS: usize = 20_000;
/// Bytes of memory of all, where it is not said: flows that are not over yet have a half of them.
const ROOM: usize = 48 << 20;
/// Ladders of one flow.
const LADDERS: usize = 12;
/// Kinds of drops.
const DROPS: usize = 200;

/// A flow with the ladders of its packets' ways.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) report: FlowReport,
    pub(super) ladders: Vec<PacketReport>,
    /// Packets that have no ladder.
    pub(super) others: u64,
}

/// Ladders of a flow that is not over.
#[derive(Debug, Default)]
struct Waiting {
    ladders: Vec<PacketReport>,
    others: u64,
}

/// Drops that are alike: their words, and those of the rule.
pub(super) type DropKind = (String, Option<String>);

/// What was seen in all, and what is kept of it.
#[derive(Debug)]
pub(super) struct Kept {
    paths: Paths,
    waiting: HashMap<FlowId, Waiting>,
    waiting_room: usize,
    room: usize,
    most: usize,
    /// Flows with a problem, and flows without, each in order of their end.
    problems: Vec<Flow>,
    others: VecDeque<Flow>,
    hops: usize,
    drops: BTreeMap<DropKind, u64>,
    /// Drops of further kinds.
    pub(super) more_drops: u64,
    /// Flows that there were.
    pub(super) flow_count: u64,
    /// Packets that there were.
    pub(super) packet_count: u64,
    /// Packets that were dropped.
    pub(super) drop_count: u64,
    /// Holes in their journeys.
    pub(super) hole_count: u64,
    /// The first and the last event.
    pub(super) times: Option<(u64, u64)>,
}

impl Default for Kept {
    fn default() -> Self {
        Self::within(ROOM)
    }
}

impl Kept {
    /// What takes no more bytes of memory than that, about.
    pub(super) fn within(most: usize) -> Self {
        Self {
            paths: Paths::default(),
            waiting: HashMap::new(),
            waiting_room: 0,
            room: 0,
            most,
            problems: Vec::new(),
            others: VecDeque::new(),
            hops: 0,
            drops: BTreeMap::new(),
            more_drops: 0,
            flow_count: 0,
            packet_count: 0,
            drop_count: 0,
            hole_count: 0,
            times: None,
        }
    }

    /// Takes a packet.
    pub(super) fn packet(&mut self, packet: &PacketReport) {
        self.packet_count += 1;
        self.hole_count += packet.holes() as u64;
        if packet.verdict == Verdict::Dropped {
            self.drop_count += 1;
        }
        self.count_drop(packet);
        let new = self.paths.is_new(packet) || packet.is_problem();
        let waiting = self.waiting.entry(packet.flow).or_default();
        let room = self.waiting_room + packet.room() <= self.most / 2;
        if new && room && waiting.ladders.len() < LADDERS {
            self.waiting_room += packet.room();
            waiting.ladders.push(packet.clone());
        } else {
            waiting.others += 1;
        }
    }

    fn count_drop(&mut self, packet: &PacketReport) {
        let Some(drop) = &packet.drop else {
            return;
        };
        let rule = drop.rule.as_ref().map(words::dropping);
        let kind = (words::drop(drop), rule);
        let full = self.drops.len() >= DROPS && !self.drops.contains_key(&kind);
        if full {
            self.more_drops += 1;
        } else {
            *self.drops.entry(kind).or_default() += 1;
        }
    }

    /// Takes a flow, whose packets came before it.
    pub(super) fn flow(&mut self, report: &FlowReport) {
        self.flow_count += 1;
        let (first, last) = self.times.unwrap_or((u64::MAX, 0));
        self.times = Some((first.min(report.first), last.max(report.last)));
        let Waiting {
            mut ladders,
            others,
        } = self.waiting.remove(&report.id).unwrap_or_default();
        self.waiting_room -= room(&ladders);
        ladders.sort_by_key(|packet| packet.hops.first().map(|hop| hop.time));
        let flow = Flow {
            report: report.clone(),
            ladders,
            others,
        };
        self.hops += hops(&flow.ladders);
        self.room += room(&flow.ladders) + flow.report.room();
        if is_problem(report) {
            self.problems.push(flow);
        } else {
            self.others.push_back(flow);
        }
        while self.problems.len() + self.others.len() > FLOWS
            || self.hops > HOPS
            || self.room > self.most / 2
        {
            // The newest goes where all have problems: the first ones tell how it began.
            let Some(out) = self.others.pop_front().or_else(|| self.problems.pop()) else {
                break;
            };
            self.hops -= hops(&out.ladders);
            self.room -= room(&out.ladders) + out.report.room();
        }
    }

    /// The flows, in order of their numbers.
    pub(super) fn flows(&self) -> Vec<&Flow> {
        let mut flows: Vec<&Flow> = self.problems.iter().chain(&self.others).collect();
        flows.sort_by_key(|flow| flow.report.id);
        flows
    }

    /// Those with a problem, in order of their end.
    pub(super) fn problems(&self) -> &[Flow] {
        &self.problems
    }

    /// Flows that are not on the page.
    pub(super) fn left_out(&self) -> u64 {
        self.flow_count - (self.problems.len() + self.others.len()) as u64
    }

    /// The kinds of drops, the most frequent first.
    pub(super) fn drops(&self) -> Vec<(&DropKind, u64)> {
        let mut drops: Vec<(&DropKind, u64)> = self
            .drops
            .iter()
            .map(|(kind, count)| (kind, *count))
            .collect();
        drops.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        drops
    }
}

fn room(ladders: &[PacketReport]) -> usize {
    ladders.iter().map(PacketReport::room).sum()
}

fn hops(ladders: &[PacketReport]) -> usize {
    ladders.iter().map(|packet| packet.hops.len()).sum()
}

/// Whether something is wrong with a flow, as far as it says itself.
pub(super) fn is_problem(flow: &FlowReport) -> bool {
    let failed = match flow.state {
        State::SynSent | State::SynReceived | State::Refused | State::Reset => true,
        State::Unreplied => asks_for_an_answer(flow),
        State::Established | State::Closing | State::Closed | State::Replied => false,
    };
    failed || flow.drops > 0 || flow.holes > 0 || flow.diagnosis.is_some()
}

/// Whether silence means that something is missing: not of what is said to many, nor of ICMP messages
/// other than an echo, which has its id in the port's place.
fn asks_for_an_answer(flow: &FlowReport) -> bool {
    let icmp = matches!(flow.protocol, 1 | 58);
    let many = match flow.destination.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    !many && (!icmp || flow.client.endpoint.port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scenarios;

    #[test]
    fn what_is_kept_is_bounded_and_problems_stay() {
        let mut kept = Kept::default();
        let (good, bad) = (scenarios::cluster_ip(), scenarios::forward_drop());
        for number in 0..3000 {
            let scenario = if number % 10 == 0 { &bad } else { &good };
            let mut flow = scenario.flow.clone();
            flow.id = FlowId(number);
            for packet in &scenario.packets {
                let mut packet = packet.clone();
                packet.flow = flow.id;
                kept.packet(&packet);
            }
            kept.flow(&flow);
            assert!(kept.flows().len() <= FLOWS && kept.hops <= HOPS);
        }
        assert_eq!((kept.waiting.len(), kept.waiting_room), (0, 0));
        assert_eq!(kept.problems().len(), 300);
        assert_eq!((kept.flow_count, kept.drop_count), (3000, 300));
        assert_eq!(kept.left_out() + kept.flows().len() as u64, 3000);
        assert_eq!(kept.drops().len(), 1);
        let shown: usize = kept.flows().iter().map(|flow| hops(&flow.ladders)).sum();
        assert_eq!(shown, kept.hops);
    }

    #[test]
    fn flows_that_never_end_are_bounded_too() {
        let mut kept = Kept::default();
        let mut packet = scenarios::forward_drop().packets.remove(0);
        for number in 0..50_000 {
            packet.flow = FlowId(number);
            kept.packet(&packet);
        }
        assert!(kept.waiting_room <= ROOM / 2);
    }

    #[test]
    fn a_way_has_one_ladder_and_the_others_are_counted() {
        let mut kept = Kept::default();
        let scenario = scenarios::cluster_ip();
        for packet in &scenario.packets {
            kept.packet(packet);
        }
        kept.flow(&scenario.flow);
        let flow = kept.flows().remove(0);
        assert_eq!((flow.ladders.len(), flow.others), (2, 2));
    }

    #[test]
    fn silence_is_a_problem_where_an_answer_is_asked_for() {
        let mut flow = scenarios::echo().flow;
        flow.state = State::Unreplied;
        assert!(is_problem(&flow));
        flow.client.endpoint.port = 0;
        assert!(!is_problem(&flow));
        flow.protocol = 17;
        assert!(is_problem(&flow));
        flow.destination.address = tracer_common::address::from_ipv4([224, 0, 0, 251]);
        assert!(!is_problem(&flow));
        flow.drops = 1;
        assert!(is_problem(&flow));
    }
}
