//! From a source's batches to a sink: records become journeys, journeys are judged by the filter,
//! joined with what the node knows, and shown.
//!
//! The same for live, recording and scenario. What the node knows is a value given with each call,
//! so that names are those of the moment; nothing here reads a clock or the system.

mod caused;
mod changes;
mod evidence;
mod held;
mod silence;
mod window;

use std::{
    collections::{BTreeSet, VecDeque},
    io, mem,
};

use changes::{Changes, Standing};
use evidence::Shelf;
pub use held::Held;
use held::Holding;
use silence::Silence;
use tracer_common::hook;
pub use window::Window;

use crate::{
    filter::{FlowView, ResolvedFilter},
    journey::{
        Journeys, Overflow,
        model::{Ends, Flow, NetnsId, Packet, Process, State},
    },
    output::Sink,
    report::{
        Awaited, Counts, Evidence, FlowReport, Knowledge, Seen, StatsReport,
        listening::{Listener, Listening, Port},
        lookups::Lookups,
    },
    source::{
        self, Batch, ListeningSocket, NodeClock, Notice, Shedding, SocketProcess, Statistics,
        TracedCommand,
    },
};

/// Records after which it is looked at whether much waits to be shown.
const PORTION: usize = 64;

/// How many packets wait for rules, and how many bytes of memory they take.
const MOST_WAITING: usize = 256;
const WAITING_ROOM: usize = 2 << 20;
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

/// A packet that waits for rules.
#[derive(Debug)]
struct Waiting {
    packet: Packet,
    awaited: Vec<Awaited>,
}

/// The pipeline.
#[derive(Debug)]
pub struct Pipeline<K> {
    journeys: Journeys,
    filter: ResolvedFilter,
    /// Only flows of this command are shown.
    command: Option<TracedCommand>,
    window: Window,
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
    waiting: VecDeque<Waiting>,
    waiting_room: usize,
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
            filter,
            command: None,
            window: Window::ALWAYS,
            when,
            sink,
            held: Holding::new(held),
            evidence: Shelf::new(held.evidence),
            said_full: false,
            changes: Changes::default(),
            now: 0,
            waiting: VecDeque::new(),
            waiting_room: 0,
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
    pub fn within(self, window: Window) -> Self {
        Self { window, ..self }
    }

    /// Shows only what a command caused, if there is one.
    #[must_use]
    pub fn caused_by(self, command: Option<TracedCommand>) -> Self {
        Self { command, ..self }
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
        self.filter = filter;
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

    fn notice(&mut self, notice: &Notice) -> io::Result<()> {
        match notice {
            Notice::Began { time } => self.journeys.began(*time),
            Notice::NetfilterAttached { netns, time } => {
                self.journeys
                    .netfilter_observed(NetnsId(*netns), Some(*time));
            }
            Notice::NetfilterDetached { netns, .. } => {
                self.journeys.netfilter_observed(NetnsId(*netns), None);
            }
            Notice::NetfilterEverywhere { time } => {
                self.journeys.netfilter_observed_everywhere(*time);
            }
            Notice::Owner { cookie, process } => {
                self.journeys.socket_made(*cookie, process_of(process));
            }
            Notice::Socket {
                netns,
                protocol,
                local,
                remote,
                process,
            } => {
                let ends = Ends {
                    netns: NetnsId(*netns),
                    protocol: *protocol,
                    local: (*local).into(),
                    remote: (*remote).into(),
                };
                self.journeys.socket_held(&ends, process_of(process));
            }
            Notice::Listeners {
                netns,
                protocol,
                port,
                time,
                sockets,
            } => {
                let port = Port {
                    netns: NetnsId(*netns),
                    protocol: *protocol,
                    port: *port,
                };
                let listeners = sockets.iter().map(listener_of).collect();
                self.listening.found(port, *time, listeners);
            }
            Notice::Bytes(bytes) => {
                self.lookups.take(bytes);
                self.journeys.bytes(bytes.time, &bytes.bytes, bytes.length);
            }
            Notice::Loss(loss) => self.journeys.lost(loss.after, loss.before),
            Notice::Statistics(statistics) => {
                let before = self.statistics.map_or(Shedding::None, |it| it.shedding);
                let changes = before != statistics.shedding;
                if changes {
                    let sampled = statistics.shedding != Shedding::None;
                    self.journeys.sampled(statistics.time, sampled);
                }
                if self.when != When::AtTheEnd && (self.statistics.is_some() || changes) {
                    let report = self.stats_report(statistics);
                    self.sink.stats(&report)?;
                }
                self.statistics = Some(**statistics);
            }
            Notice::Problem(problem) => self.problems.push(problem.clone()),
        }
        Ok(())
    }

    /// Ends what is over at that time (nanoseconds of the records' clock).
    ///
    /// # Errors
    /// The sink's.
    pub fn advance(&mut self, now: u64, known: &Knowledge<'_>) -> io::Result<()> {
        self.now = self.now.max(now);
        self.journeys.advance(now);
        self.packets_over(known)?;
        self.show_waiting(known, |waiting| {
            let mut awaited = waiting.awaited.iter();
            !awaited.any(|it| now <= it.until && known.is_awaited(it))
        })?;
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

    /// Shows the flows that changed, and those that have been silent for a while.
    fn show_changes(&mut self, known: &Knowledge<'_>) -> io::Result<()> {
        let changed = self.journeys.take_changed().map(|flow| flow.id);
        let due = self.changes.take_due(changed, self.now);
        for (id, standing) in due {
            if let Some(flow) = self.journeys.flow(id).cloned()
                && self.wanted(&flow, known)
            {
                self.changes.shown(id, standing);
                self.show_now(&flow, known)?;
            }
        }
        Ok(())
    }

    /// Shows a flow as it stands.
    fn show_now(&mut self, flow: &Flow, known: &Knowledge<'_>) -> io::Result<()> {
        let report = self.flow_report(flow, known);
        self.sink.flow_now(&report, known.facts(flow))
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
        self.show_waiting(known, |_| true)?;
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

    fn stats_report(&self, statistics: &Statistics) -> StatsReport {
        let counts = |c: &source::Counts| Counts {
            seen: c.seen,
            matched: c.matched,
            emitted: c.emitted,
            lost: c.lost,
            shed: c.shed,
        };
        StatsReport {
            total: counts(&statistics.total),
            hooks: hook::NAMES
                .into_iter()
                .zip(statistics.hooks.iter().map(counts))
                .collect(),
            shedding: statistics.shedding,
            clocks: self.clocks.clone(),
        }
    }

    /// Says once, as soon as it is so, that there is not room for everything; how much was let go is said at
    /// the end.
    fn say_when_full(&mut self) {
        let Overflow { packets, flows } = self.journeys.overflow();
        if !self.said_full && packets + flows + self.evidence.let_go > 0 {
            self.said_full = true;
            self.problems.push(
                "more comes than --memory has room for: flows and packets are let go before their end, flows marked ? may be incomplete"
                    .to_owned(),
            );
        }
    }

    fn say_what_was_let_go(&mut self) {
        let Holding {
            packets_let_go,
            flows_let_go,
            ..
        } = self.held;
        if packets_let_go > 0 {
            self.problems.push(format!(
                "{packets_let_go} packets were too many to keep until the end: their flows are counted, their journeys not shown; a larger --memory holds more"
            ));
        }
        if flows_let_go > 0 {
            self.problems.push(format!(
                "{flows_let_go} flows were too many to keep until the end, and are not shown; a larger --memory holds more"
            ));
        }
        if self.evidence.let_go > 0 {
            self.problems.push(format!(
                "of {} flows what says what is wrong with them had to make room: they are marked ?, and not diagnosed; a larger --memory holds more",
                self.evidence.let_go
            ));
        }
        let Overflow { packets, flows } = self.journeys.overflow();
        if packets + flows > 0 {
            self.problems.push(format!(
                "{packets} packets and {flows} flows were given up before their end, for want of room: flows marked ? may be incomplete; a larger --memory gives more"
            ));
        }
    }

    /// Whether no flow is waiting for its end: nothing more is to be expected soon.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let waiting = |flow: &&Flow| {
            !matches!(
                flow.state,
                State::Closed | State::Refused | State::Reset | State::Replied
            )
        };
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

    /// Whether the filter lets the flow through, by all that is known of it.
    fn wanted(&self, flow: &Flow, known: &Knowledge<'_>) -> bool {
        if !self.window.meets(flow.first, flow.last) {
            return false;
        }
        if self
            .command
            .is_some_and(|command| !caused::by(command, flow))
        {
            return false;
        }
        let [client, backend] = if self.filter.asks_for_pods() {
            known.pods_of(flow)
        } else {
            [None, None]
        };
        let asked = self.filter.asks_for_services();
        let service = asked.then(|| known.called_service(flow)).flatten();
        self.filter.matches(&FlowView {
            hops: &flow.subjects,
            client_pod: client.as_deref(),
            backend_pod: backend.as_deref(),
            service: service.as_ref(),
            dropped: flow.drops > 0,
        })
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
                    let Some(flow) = flow.filter(|flow| self.wanted(flow, known)) else {
                        continue;
                    };
                    if self.when == When::AsTheyChange && !self.changes.was_shown(flow.id) {
                        let flow = flow.clone();
                        self.changes.shown(flow.id, Standing::new(self.now));
                        self.show_now(&flow, known)?;
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
        if !self.is_of_window(packet) {
            return Ok(());
        }
        self.sink.packet(&known.packet(packet))
    }

    fn is_of_window(&self, packet: &Packet) -> bool {
        let times = packet.hops.first().zip(packet.hops.last());
        times.is_none_or(|(first, last)| self.window.meets(first.time, last.time))
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

    /// Shows a packet that is over, or lets it wait for rules that changed just before it passed.
    fn show_or_wait(&mut self, packet: Packet, known: &Knowledge<'_>) -> io::Result<()> {
        if !self.is_of_window(&packet) {
            return Ok(());
        }
        let report = known.packet(&packet);
        let awaited = known.awaited(&packet, &report);
        if awaited.is_empty() {
            self.journeys.take_back(packet);
            return self.sink.packet(&report);
        }
        self.wait(Waiting { packet, awaited });
        while (self.waiting.len() > MOST_WAITING || self.waiting_room > WAITING_ROOM)
            && let Some(first) = self.waiting.pop_front()
        {
            self.waiting_room -= first.packet.room();
            self.show(&first.packet, known)?;
        }
        Ok(())
    }

    fn wait(&mut self, waiting: Waiting) {
        self.waiting_room += waiting.packet.room();
        self.waiting.push_back(waiting);
    }

    /// Shows the packets that wait no longer.
    fn show_waiting(
        &mut self,
        known: &Knowledge<'_>,
        enough: impl Fn(&Waiting) -> bool,
    ) -> io::Result<()> {
        self.waiting_room = 0;
        for waiting in mem::take(&mut self.waiting) {
            if enough(&waiting) {
                self.show(&waiting.packet, known)?;
            } else {
                self.wait(waiting);
            }
        }
        Ok(())
    }

    fn flow_over(&mut self, flow: Flow, known: &Knowledge<'_>) -> io::Result<()> {
        self.show_waiting(known, |waiting| waiting.packet.flow == flow.id)?;
        let was_shown = self.changes.over(flow.id);
        let news = self.silence.is_news(&flow);
        if !news || !self.wanted(&flow, known) && !was_shown {
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

fn process_of(process: &SocketProcess) -> Process {
    let SocketProcess { pid, comm, cgroup } = process;
    Process {
        pid: *pid,
        comm: comm.clone(),
        cgroup: *cgroup,
    }
}

fn listener_of(socket: &ListeningSocket) -> Listener {
    Listener {
        local: socket.local,
        process: socket.process.as_ref().map(process_of),
    }
}
