//! From a source's batches to a sink: records become journeys, journeys are judged by the filter,
//! joined with what the node knows, and shown.
//!
//! The same for live, recording and scenario. What the node knows is a value given with each call,
//! so that names are those of the moment; nothing here reads a clock or the system.
//!
//! Here is the way of records and flows; what is asked of them, what waits, and what is said beside
//! them is in the modules below, most of them parts of [`Pipeline`].

mod account;
mod asked;
mod caused;
mod changes;
mod evidence;
mod held;
mod notices;
mod silence;
mod waiting;
mod window;

use std::{collections::BTreeSet, io, mem};

use asked::Asked;
use changes::Changes;
use evidence::Shelf;
pub use held::Held;
use held::Holding;
use silence::Silence;
pub use window::Window;

use crate::{
    filter::ResolvedFilter,
    journey::{
        Journeys,
        model::{Ends, Flow, NetnsId, Packet, State},
    },
    output::Sink,
    report::{
        Evidence, FlowReport, Knowledge, Seen,
        listening::{Listening, Port},
        lookups::Lookups,
    },
    source::{Batch, NodeClock, Statistics, TracedCommand},
};

/// Records after which it is looked at whether much waits to be shown.
const PORTION: usize = 64;

/// How many namespaces wait to be asked for.
const UNKNOWN: usize = 1024;

/// When journeys are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Each packet when it is over, each flow when it is.
    AsTheyEnd,
    /// All at the end, flow by flow.
    AtTheEnd,
    /// Each packet when it is over, each flow whenever it has changed and when it is over.
    AsTheyChange,
}

/// The pipeline.
#[derive(Debug)]
pub struct Pipeline<K> {
    journeys: Journeys,
    asked: Asked,
    when: When,
    sink: K,
    held: Holding,
    evidence: Shelf,
    /// That there is not room for everything was said.
    said_full: bool,
    changes: Changes,
    /// Up to then everything was seen.
    now: u64,
    /// Packets of which rules may be read yet that explain what happened to them.
    waiting: waiting::Queue,
    statistics: Option<Statistics>,
    lookups: Lookups,
    listening: Listening,
    silence: Silence,
    /// Namespaces that the node's snapshot did not know.
    unknown: BTreeSet<u32>,
    problems: Vec<String>,
    clocks: Vec<NodeClock>,
}

impl<K: Sink> Pipeline<K> {
    /// A pipeline that shows the flows which the filter matches.
    pub fn new(journeys: Journeys, filter: ResolvedFilter, when: When, sink: K) -> Self {
        let held = Held::default();
        Self {
            journeys,
            asked: Asked {
                filter,
                command: None,
                window: Window::ALWAYS,
            },
            when,
            sink,
            held: Holding::new(held),
            evidence: Shelf::new(held.evidence),
            said_full: false,
            changes: Changes::default(),
            now: 0,
            waiting: waiting::Queue::default(),
            statistics: None,
            lookups: Lookups::default(),
            listening: Listening::default(),
            silence: Silence::default(),
            unknown: BTreeSet::new(),
            problems: Vec::new(),
            clocks: Vec::new(),
        }
    }

    /// Shows only what was under way at some time.
    #[must_use]
    pub fn within(mut self, window: Window) -> Self {
        self.asked.window = window;
        self
    }

    /// Shows only what a command caused, if there is one.
    #[must_use]
    pub fn caused_by(mut self, command: Option<TracedCommand>) -> Self {
        self.asked.command = command;
        self
    }

    /// Keeps no more than that; to be said before anything comes.
    #[must_use]
    pub fn holding(self, held: Held) -> Self {
        Self {
            held: Holding::new(held),
            evidence: Shelf::new(held.evidence),
            lookups: Lookups::within(held.lookups),
            ..self
        }
    }

    /// Goes on with the same filter, its names looked up anew.
    pub fn set_filter(&mut self, filter: ResolvedFilter) {
        self.asked.filter = filter;
    }

    /// Says how the clocks of several nodes stand to the first one's, with what was counted.
    #[must_use]
    pub fn on_clocks(self, clocks: Vec<NodeClock>) -> Self {
        Self { clocks, ..self }
    }

    /// Takes a batch.
    ///
    /// # Errors
    /// The sink's.
    pub fn batch(&mut self, batch: &Batch, known: &Knowledge<'_>) -> io::Result<()> {
        for notice in &batch.notices {
            self.notice(notice)?;
        }
        for records in batch.records.chunks(PORTION) {
            for record in records {
                self.journeys.push(record);
            }
            // No live batch is so large, but a recording may be made to be.
            if self.journeys.is_crowded() {
                self.packets_over(known)?;
                for flow in self.journeys.take_given_up() {
                    self.flow_over(flow, known)?;
                }
            }
        }
        self.packets_over(known)
    }

    /// Ends what is over at that time (nanoseconds of the records' clock).
    ///
    /// # Errors
    /// The sink's.
    pub fn advance(&mut self, now: u64, known: &Knowledge<'_>) -> io::Result<()> {
        self.now = self.now.max(now);
        self.journeys.advance(now);
        self.packets_over(known)?;
        self.show_explained(now, known)?;
        self.flows_over(now, known)?;
        self.say_when_full();
        if self.when == When::AsTheyChange && self.changes.are_due(now) {
            self.show_changes(known)?;
        }
        let early = self.when == When::AsTheyEnd && self.sink.takes_ongoing();
        if early && self.silence.is_due(now) {
            self.show_silent(known)?;
        }
        Ok(())
    }

    /// Lets the reader have what was shown up to now.
    ///
    /// # Errors
    /// The sink's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    /// Nothing comes any more: ends everything, shows what was held, and the final statistics.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(&mut self, known: &Knowledge<'_>) -> io::Result<()> {
        self.journeys.finish();
        self.packets_over(known)?;
        self.show_all_waiting(known)?;
        self.flows_over(u64::MAX, known)?;
        while let Some((flow, packets)) = self.held.next() {
            for packet in packets {
                self.show(&packet, known)?;
            }
            let report = self.flow_report(&flow, known);
            self.evidence.forget(flow.id);
            self.sink.flow(&report)?;
        }
        self.say_what_was_let_go();
        let statistics = self.statistics.take().unwrap_or_default();
        self.sink.finish(&self.stats_report(&statistics))
    }

    /// Gives out the flows that are over at that time, one after the other.
    fn flows_over(&mut self, now: u64, known: &Knowledge<'_>) -> io::Result<()> {
        for flow in self.journeys.take_given_up() {
            self.flow_over(flow, known)?;
        }
        for id in self.journeys.flows_over(now) {
            if let Some(flow) = self.journeys.take_flow(id) {
                self.flow_over(flow, known)?;
            }
        }
        Ok(())
    }

    /// Whether no flow is waiting for its end: nothing more is to be expected soon.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let waiting = |flow: &&Flow| !flow.state.is_over() && flow.state != State::Replied;
        self.journeys.in_flight() == 0 && !self.journeys.flows().iter().any(waiting)
    }

    /// When a packet is over that is delivered by now, nanoseconds of the records' clock.
    #[must_use]
    pub fn next_over(&self) -> Option<u64> {
        self.journeys.next_over()
    }

    /// Whether nothing is to be shown soon, unless something comes: no packet is under way, and flows are not
    /// shown as they change, or there are none.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let changing = self.when != When::AsTheyEnd && self.open_flows() > 0;
        self.journeys.in_flight() == 0 && !changing
    }

    /// How many flows are known now.
    #[must_use]
    pub fn open_flows(&self) -> usize {
        self.journeys.open_flows()
    }

    /// Up to then everything was seen, nanoseconds of the records' clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Where everything was shown.
    pub fn into_sink(self) -> K {
        self.sink
    }

    /// Where everything is shown.
    pub fn sink(&self) -> &K {
        &self.sink
    }

    /// Namespaces that had no name when they were to be shown; each once.
    pub fn take_unknown(&mut self) -> BTreeSet<u32> {
        mem::take(&mut self.unknown)
    }

    /// Sockets at the ends of flows of which the process is not known; each once.
    pub fn take_sockets(&mut self) -> Vec<Ends> {
        self.journeys.take_sockets()
    }

    /// Ports of which it is to be found out who listens there.
    pub fn take_ports(&mut self) -> Vec<Port> {
        self.listening.take_wanted()
    }

    /// What a person should know.
    pub fn take_problems(&mut self) -> Vec<String> {
        mem::take(&mut self.problems)
    }

    fn packets_over(&mut self, known: &Knowledge<'_>) -> io::Result<()> {
        let shows_packets = self.sink.shows_packets();
        while let Some(packet) = self.journeys.next_packet() {
            self.note_unknown(&packet, known);
            self.listening
                .packet(&packet, known.reasons, known.function_at);
            self.lookups.packet(&packet);
            if let Some(flow) = self.journeys.flow(packet.flow) {
                self.evidence.packet(flow, &packet);
            }
            match self.when {
                _ if !shows_packets => self.journeys.take_back(packet),
                When::AsTheyEnd | When::AsTheyChange => {
                    let flow = self.journeys.flow(packet.flow);
                    let Some(flow) = flow.filter(|flow| self.asked.wants(flow, known)) else {
                        continue;
                    };
                    if self.when == When::AsTheyChange && !self.changes.was_shown(flow.id) {
                        let flow = flow.clone();
                        self.show_first(&flow, known)?;
                    }
                    self.show_or_wait(packet, known)?;
                }
                When::AtTheEnd => self.held.packet(packet),
            }
        }
        Ok(())
    }

    fn note_unknown(&mut self, packet: &Packet, known: &Knowledge<'_>) {
        let mut before = NetnsId(0);
        for hop in &packet.hops {
            let is_room = self.unknown.len() < UNKNOWN;
            if hop.netns != before && is_room && known.node.namespace(hop.netns.0).is_none() {
                self.unknown.insert(hop.netns.0);
            }
            before = hop.netns;
        }
        self.unknown.remove(&0);
    }

    fn show(&mut self, packet: &Packet, known: &Knowledge<'_>) -> io::Result<()> {
        if !self.asked.meets(packet) {
            return Ok(());
        }
        self.sink.packet(&known.packet(packet))
    }

    /// The flow with names, with what was looked up and what is wrong with it.
    fn flow_report(&self, flow: &Flow, known: &Knowledge<'_>) -> FlowReport {
        let none = Evidence::default();
        let seen = Seen {
            evidence: self.evidence.of(flow.id).unwrap_or(&none),
            until: self.now,
            listening: &self.listening,
            lookups: &self.lookups,
        };
        let lookups = self.lookups.of(flow);
        let open = lookups.iter();
        let unanswered = open.filter(|lookup| lookup.is_unanswered(self.now)).count();
        FlowReport {
            asked: self.lookups.asked(flow),
            unanswered,
            lookups,
            ..known.flow_seen(flow, seen)
        }
    }

    fn flow_over(&mut self, flow: Flow, known: &Knowledge<'_>) -> io::Result<()> {
        self.show_waiting_of(flow.id, known)?;
        let was_shown = self.changes.over(flow.id);
        let news = self.silence.is_news(&flow);
        if !news || !self.asked.wants(&flow, known) && !was_shown {
            self.held.forget(flow.id);
            self.evidence.forget(flow.id);
            return Ok(());
        }
        match self.when {
            When::AsTheyEnd | When::AsTheyChange => {
                let report = self.flow_report(&flow, known);
                self.evidence.forget(flow.id);
                if self.when == When::AsTheyChange {
                    self.sink.flow_now(&report, known.facts(&flow))?;
                }
                self.sink.flow(&report)
            }
            When::AtTheEnd => {
                let id = flow.id;
                if !self.held.flow(flow) {
                    self.evidence.forget(id);
                }
                Ok(())
            }
        }
    }
}
