//! A flow of the live view: how it stands, its packets, its times and rates.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
    sync::Arc,
};

use super::{series::Series, times::Times};
use crate::{
    filter::FlowFacts,
    journey::model::{Direction, Verdict},
    report::{FlowReport, PacketReport, protocol_name},
};

/// Packets that are kept of one flow: its first and its last ones.
pub(super) const PACKETS: usize = 128;
/// How many of these are first ones.
const FIRST: usize = PACKETS / 2;

/// Reasons of drops that are kept of one flow.
const REASONS: usize = 8;

/// A flow.
#[derive(Clone, Debug)]
pub struct Row {
    /// How it stands.
    pub report: Arc<FlowReport>,
    /// What filters judge it by.
    pub facts: Arc<FlowFacts>,
    /// Whether it is over.
    pub over: bool,
    /// Those of its packets that are kept, in order.
    pub packets: VecDeque<Arc<PacketReport>>,
    /// Packets that are not.
    pub not_kept: u64,
    /// How long packets took from their first hop to their last.
    pub path_times: Times,
    /// How long it took from a packet's begin to an answer's end.
    pub round_trips: Times,
    /// IP bytes of both directions.
    pub bytes: Series<4>,
    /// What is searched in: names, addresses and states in small letters.
    pub text: String,
    /// Why packets of it were dropped, in the kernel's words.
    pub reasons: BTreeSet<String>,
    /// When the packet began that has no answer yet.
    unanswered: Option<u64>,
    /// How long its slowest packet took.
    slowest: u64,
    /// How many bytes of memory it takes without its packets, about.
    pub(super) room: usize,
}

impl Row {
    pub(super) fn new(report: FlowReport, facts: FlowFacts) -> Self {
        let text = text(&report);
        Self {
            room: room(&report, &facts, &text),
            text,
            report: Arc::new(report),
            facts: Arc::new(facts),
            over: false,
            packets: VecDeque::new(),
            not_kept: 0,
            path_times: Times::default(),
            round_trips: Times::default(),
            bytes: Series::default(),
            reasons: BTreeSet::new(),
            unanswered: None,
            slowest: 0,
        }
    }

    pub(super) fn stands(&mut self, report: FlowReport, facts: FlowFacts) {
        if *self.report != report {
            self.text = text(&report);
            self.report = Arc::new(report);
        }
        self.room = room(&self.report, &facts, &self.text);
        self.facts = Arc::new(facts);
    }

    /// Takes a packet; says which one goes for it.
    pub(super) fn packet(&mut self, packet: Arc<PacketReport>) -> Option<Arc<PacketReport>> {
        let (first, last) = ends(&packet);
        self.bytes.add(last, u64::from(packet.length));
        if packet.verdict == Verdict::Delivered {
            self.path_times.add(last - first);
        }
        match packet.direction {
            Direction::Original => {
                self.unanswered.get_or_insert(first);
            }
            Direction::Reply => {
                if let Some(asked) = self.unanswered.take() {
                    self.round_trips.add(last.saturating_sub(asked));
                }
            }
        }
        self.slowest = self.slowest.max(packet.duration());
        if let Some(drop) = &packet.drop
            && self.reasons.len() < REASONS
        {
            let reason = drop.reason.as_deref().unwrap_or("no reason given");
            self.reasons.insert(reason.to_owned());
        }
        self.packets.push_back(packet);
        if self.packets.len() <= PACKETS {
            return None;
        }
        self.not_kept += 1;
        self.packets.remove(self.least_interesting())
    }

    /// Lets the oldest packet go that is kept of it.
    pub(super) fn let_go(&mut self) -> Option<Arc<PacketReport>> {
        let packet = self.packets.pop_front()?;
        self.not_kept += 1;
        Some(packet)
    }

    /// The oldest of the last ones that is neither a problem nor the slowest.
    fn least_interesting(&self) -> usize {
        let mut last_ones = self.packets.iter().enumerate().skip(FIRST);
        let dull = last_ones
            .find(|(_, packet)| !packet.is_problem() && packet.duration() < self.slowest.max(1));
        dull.map_or(FIRST, |(index, _)| index)
    }
}

fn room(report: &FlowReport, facts: &FlowFacts, text: &str) -> usize {
    /// Places in tables and queues, which may be half empty, and the list of packets.
    const BESIDE: usize = 256 + PACKETS * size_of::<usize>();
    let pods: usize = facts.pods.iter().flatten().map(String::capacity).sum();
    let facts = size_of::<FlowFacts>() + size_of_val(facts.hops.as_slice()) + pods;
    BESIDE + 2 * size_of::<Row>() + report.room() + facts + text.len()
}

fn ends(packet: &PacketReport) -> (u64, u64) {
    match (packet.hops.first(), packet.hops.last()) {
        (Some(first), Some(last)) => (first.time, last.time.max(first.time)),
        _ => (0, 0),
    }
}

fn text(report: &FlowReport) -> String {
    let mut text = format!(
        "{} {} {}",
        protocol_name(report.protocol),
        report.state.as_str(),
        report.destination
    );
    let mut say = |word: &dyn std::fmt::Display| {
        // Writing to a string cannot fail.
        let _ = write!(text, " {word}");
    };
    for party in [Some(&report.client), report.backend.as_ref()]
        .into_iter()
        .flatten()
    {
        say(&party.endpoint);
        if let Some(name) = party.called() {
            say(&name);
        }
        if let Some(process) = &party.process {
            say(&process.comm);
        }
    }
    if let Some(service) = &report.service {
        say(service);
    }
    if let Some(asked) = &report.asked {
        say(&asked.name);
    }
    if let Some(diagnosis) = &report.diagnosis {
        say(&diagnosis.cause);
    }
    text.to_lowercase()
}
