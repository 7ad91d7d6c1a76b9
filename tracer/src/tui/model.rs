//! What the live view shows: flows with their packets, drops, rates, counters. Bounded, and what
//! was let go for want of room is counted.
//!
//! It is filled by [`Feed`](super::feed::Feed) and read by what draws. Time is the records' clock,
//! as [`Model::tick`] is told it: a recording that is played slowly looks as it did then.

pub mod drops;
mod row;
pub mod series;
pub mod times;
pub mod traffic;

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

pub use row::Row;

use self::{drops::Drops, series::Series, traffic::Traffic};
use crate::{
    filter::FlowFacts,
    journey::model::{FlowId, PacketId, Verdict},
    node::snapshot::Snapshot,
    output::text::words,
    report::{Counts, FlowReport, PacketReport, StatsReport},
};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Flows.
    pub flows: usize,
    /// Hops of packets, of all flows together.
    pub hops: usize,
    /// Bytes of memory, of flows and packets together: flows have a third of them.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            flows: 10_000,
            hops: 120_000,
            bytes: 80 << 20,
        }
    }
}

impl Bounds {
    /// Those of a model that takes so many bytes of memory when it is full.
    #[must_use]
    pub fn within(bytes: usize) -> Self {
        let full = Self::default();
        let part = |of: usize| of * (bytes >> 10) / ((80 << 20) >> 10);
        Self {
            flows: part(full.flows).max(100),
            hops: part(full.hops).max(1_000),
            bytes,
        }
    }
}

/// What was let go for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetGo {
    /// Flows.
    pub flows: u64,
    /// Packets of flows that are still there.
    pub packets: u64,
}

/// What the tracer itself takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Own {
    /// Of one processor, since it was asked last: 0.5 is a half.
    pub processor: f64,
    /// Resident memory in bytes.
    pub memory: u64,
}

/// What one of the attached programs took in a while.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// How long in all.
    pub time: Duration,
    /// In what time.
    pub within: Duration,
}

/// The hooks' counters.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// As they stood last.
    pub last: StatsReport,
    /// As they stood before that.
    pub before: StatsReport,
    /// How long lies between, in nanoseconds of the records' clock.
    pub between: u64,
    taken: u64,
}

impl Counters {
    /// How much that grew in a second, of a hook or (`None`) of all.
    #[must_use]
    pub fn rate(&self, hook: Option<&str>, of: impl Fn(&Counts) -> u64) -> u64 {
        let value = |stats: &StatsReport| match hook {
            None => of(&stats.total),
            Some(name) => {
                let mut hooks = stats.hooks.iter();
                hooks
                    .find(|(hook, _)| *hook == name)
                    .map_or(0, |(_, counts)| of(counts))
            }
        };
        let grown = value(&self.last).saturating_sub(value(&self.before));
        let per_second = u128::from(grown) * 1_000_000_000 / u128::from(self.between.max(1));
        if self.between == 0 {
            0
        } else {
            u64::try_from(per_second).unwrap_or(u64::MAX)
        }
    }
}

/// How many problems are kept.
const PROBLEMS: usize = 50;

/// Everything that is shown.
#[derive(Debug, Default)]
pub struct Model {
    bounds: Bounds,
    now: u64,
    rows: HashMap<FlowId, Row>,
    /// Flows in the order in which they came, for letting go.
    ages: VecDeque<FlowId>,
    /// Kept packets in the order in which they came.
    kept: VecDeque<(FlowId, PacketId)>,
    hops: usize,
    /// Bytes of memory of packets, and of flows without them.
    packet_room: usize,
    flow_room: usize,
    let_go: LetGo,
    /// What was dropped.
    pub drops: Drops,
    /// How much goes where.
    pub traffic: Traffic,
    /// Packets that were over, in each of the last seconds.
    pub packets: Series<60>,
    /// The counters as they stood last.
    pub counters: Counters,
    /// What the node knows.
    pub node: Arc<Snapshot>,
    /// What the tracer takes.
    pub own: Own,
    /// What the attached programs take; empty where that is not measured.
    pub costs: Vec<ProgramCost>,
    /// What a person should know, the newest last.
    pub problems: VecDeque<String>,
    /// How it is attached, a line each: family, choice, what is missing.
    pub plan: Vec<[String; 3]>,
    version: u64,
}

impl Model {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            ..Self::default()
        }
    }

    /// Begins anew, keeping what does not come with records.
    pub fn clear(&mut self) {
        *self = Self {
            node: Arc::clone(&self.node),
            plan: mem::take(&mut self.plan),
            version: self.version + 1,
            ..Self::new(self.bounds)
        };
    }

    /// Grows with every change that could be seen.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The time up to which everything was seen, nanoseconds of the records' clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// It is that time now, and the node is like that.
    pub fn tick(&mut self, now: u64, node: &Arc<Snapshot>) {
        // Ages and rates are shown in seconds.
        let second = |time: u64| time / 1_000_000_000;
        if second(now) > second(self.now) || !Arc::ptr_eq(node, &self.node) {
            self.version += 1;
        }
        self.now = self.now.max(now);
        if !Arc::ptr_eq(node, &self.node) {
            self.node = Arc::clone(node);
        }
    }

    /// A flow.
    #[must_use]
    pub fn row(&self, id: FlowId) -> Option<&Row> {
        self.rows.get(&id)
    }

    /// All flows, in no order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// How many flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What was let go.
    #[must_use]
    pub fn let_go(&self) -> LetGo {
        self.let_go
    }

    /// A flow stands like that, and is judged by that.
    pub fn flow(&mut self, report: FlowReport, facts: FlowFacts) {
        self.version += 1;
        let id = report.id;
        if let Some(row) = self.rows.get_mut(&id) {
            self.flow_room -= row.room;
            row.stands(report, facts);
            self.flow_room += row.room;
        } else {
            let row = Row::new(report, facts);
            self.flow_room += row.room;
            self.rows.insert(id, row);
            self.ages.push_back(id);
        }
        while self.rows.len() > self.bounds.flows.max(1)
            || self.flow_room > self.bounds.bytes / 3 && self.rows.len() > 1
        {
            self.let_flow_go();
        }
    }

    /// A flow is over.
    pub fn over(&mut self, id: FlowId) {
        self.version += 1;
        if let Some(row) = self.rows.get_mut(&id) {
            row.over = true;
        }
    }

    /// A packet is over.
    pub fn packet(&mut self, packet: Arc<PacketReport>) {
        self.version += 1;
        let time = packet.hops.last().map_or(0, |hop| hop.time);
        self.packets.add(time, 1);
        let row = self.rows.get_mut(&packet.flow);
        let flow = row.as_ref().map(|row| Arc::clone(&row.report));
        self.traffic.add(&packet, flow.as_deref());
        if let (Verdict::Dropped, Some(drop)) = (packet.verdict, &packet.drop) {
            self.drops
                .add(drops::Kind::of(drop, words::dropping), &packet);
        }
        let Some(row) = row else {
            self.let_go.packets += 1;
            return;
        };
        self.hops += packet.hops.len();
        self.packet_room += packet.room();
        self.kept.push_back((packet.flow, packet.id));
        if let Some(gone) = row.packet(packet) {
            self.gone(&gone);
        }
        self.make_room();
    }

    /// The counters stand like that.
    pub fn count(&mut self, stats: &StatsReport) {
        self.version += 1;
        let last = mem::take(&mut self.counters.last);
        self.counters = Counters {
            last: stats.clone(),
            before: last,
            between: self.now.saturating_sub(self.counters.taken),
            taken: self.now,
        };
    }

    /// The attached programs took that.
    pub fn cost(&mut self, costs: Vec<ProgramCost>) {
        self.version += 1;
        self.costs = costs;
    }

    /// Something a person should know.
    pub fn problem(&mut self, text: &str) {
        self.version += 1;
        self.problems.push_back(text.to_owned());
        if self.problems.len() > PROBLEMS {
            self.problems.pop_front();
        }
    }

    fn gone(&mut self, packet: &PacketReport) {
        self.hops -= packet.hops.len();
        self.packet_room -= packet.room();
        self.let_go.packets += 1;
    }

    /// Lets the oldest packets go that are too many.
    fn make_room(&mut self) {
        while (self.hops > self.bounds.hops || self.packet_room > self.bounds.bytes / 3 * 2)
            && let Some((flow, id)) = self.kept.pop_front()
        {
            let row = self.rows.get_mut(&flow);
            // What is not the flow's oldest packet was let go before, or is when that one is.
            let row = row.filter(|row| row.packets.front().is_some_and(|first| first.id <= id));
            if let Some(gone) = row.and_then(Row::let_go) {
                self.gone(&gone);
            }
        }
        // Entries of packets that are gone already.
        if self.kept.len() > self.bounds.hops.max(1) {
            let rows = &self.rows;
            self.kept.retain(|(flow, id)| {
                let row = rows.get(flow);
                row.is_some_and(|row| row.packets.iter().any(|packet| packet.id == *id))
            });
        }
    }

    /// Lets an old flow go: one that is over, if there is any among the oldest.
    fn let_flow_go(&mut self) {
        const LOOKED_AT: usize = 256;
        let is_over = |id: &FlowId| self.rows.get(id).is_none_or(|row| row.over);
        let mut oldest = self.ages.iter().take(LOOKED_AT);
        let index = oldest.position(is_over).unwrap_or(0);
        let Some(row) = self.ages.remove(index).and_then(|id| self.rows.remove(&id)) else {
            return;
        };
        let hops: usize = row.packets.iter().map(|packet| packet.hops.len()).sum();
        let packets: usize = row.packets.iter().map(|packet| packet.room()).sum();
        self.hops -= hops;
        self.packet_room -= packets;
        self.flow_room -= row.room;
        self.let_go.flows += 1;
    }
}
