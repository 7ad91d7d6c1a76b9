//! The table of flows: which are shown, in what order, which one is selected.

use std::{
    cmp::{Ordering, Reverse},
    collections::HashMap,
};

use super::super::model::{Model, Row};
use crate::{filter::ResolvedFilter, journey::model::FlowId, report::Party};

/// What the table can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Column {
    /// Who began.
    Client,
    /// The Service, or whom the client called.
    Service,
    /// Who got the packets.
    Backend,
    /// The protocol.
    Protocol,
    /// What its packets say of it.
    State,
    /// Packets of both directions.
    Packets,
    /// Bytes of both directions.
    Bytes,
    /// Bytes in the last second.
    Rate,
    /// Half of the round trips took no longer.
    RoundTrip,
    /// 99 of a hundred round trips took no longer.
    RoundTripTail,
    /// Half of the packets took no longer.
    Path,
    /// 99 of a hundred packets took no longer.
    PathTail,
    /// Packets dropped.
    Drops,
    /// Places where an event should be and is not.
    Holes,
    /// Since when it is there: the newest first.
    #[default]
    Age,
}

impl Column {
    /// All of them, from left to right.
    pub const ALL: [Self; 15] = [
        Self::Client,
        Self::Service,
        Self::Backend,
        Self::Protocol,
        Self::State,
        Self::Packets,
        Self::Bytes,
        Self::Rate,
        Self::RoundTrip,
        Self::RoundTripTail,
        Self::Path,
        Self::PathTail,
        Self::Drops,
        Self::Holes,
        Self::Age,
    ];

    /// Its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Client => "CLIENT",
            Self::Service => "SERVICE",
            Self::Backend => "BACKEND",
            Self::Protocol => "PROT",
            Self::State => "STATE",
            Self::Packets => "PKTS",
            Self::Bytes => "BYTES",
            Self::Rate => "RATE",
            Self::RoundTrip => "RTT",
            Self::RoundTripTail => "RTT99",
            Self::Path => "PATH",
            Self::PathTail => "PATH99",
            Self::Drops => "DROP",
            Self::Holes => "HOLE",
            Self::Age => "AGE",
        }
    }

    fn compare(self, a: &Row, b: &Row, now: u64) -> Ordering {
        let (x, y) = (&*a.report, &*b.report);
        let sum = |pair: [u64; 2]| pair[0] + pair[1];
        // What is most comes first, for numbers; names go by the alphabet, and what has none is last.
        match self {
            Self::Client => by_name(Some(x.client.called()), Some(y.client.called())),
            Self::Service => match (&x.service, &y.service) {
                (Some(one), Some(other)) => one.cmp(other),
                (one, other) => one.is_none().cmp(&other.is_none()),
            },
            Self::Backend => by_name(
                x.backend.as_ref().map(Party::called),
                y.backend.as_ref().map(Party::called),
            ),
            Self::Protocol => x.protocol.cmp(&y.protocol),
            Self::State => x.state.cmp(&y.state),
            Self::Packets => sum(y.packets).cmp(&sum(x.packets)),
            Self::Bytes => sum(y.bytes).cmp(&sum(x.bytes)),
            Self::Rate => b.bytes.rate(now).cmp(&a.bytes.rate(now)),
            Self::RoundTrip => b
                .round_trips
                .percentile(50)
                .cmp(&a.round_trips.percentile(50)),
            Self::RoundTripTail => b
                .round_trips
                .percentile(99)
                .cmp(&a.round_trips.percentile(99)),
            Self::Path => b
                .path_times
                .percentile(50)
                .cmp(&a.path_times.percentile(50)),
            Self::PathTail => b
                .path_times
                .percentile(99)
                .cmp(&a.path_times.percentile(99)),
            Self::Drops => y.drops.cmp(&x.drops),
            Self::Holes => y.holes.cmp(&x.holes),
            Self::Age => y.first.cmp(&x.first),
        }
    }
}

/// By the alphabet; then those without a name, then those who are not there.
fn by_name(a: Option<Option<&str>>, b: Option<Option<&str>>) -> Ordering {
    let key = |party: Option<Option<&str>>| (party.is_none(), party.flatten().is_none());
    key(a).cmp(&key(b)).then_with(|| a.cmp(&b))
}

/// What flows are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// The Service that was called.
    Service,
    /// The pods at both ends.
    Pod,
    /// Why packets were dropped.
    DropReason,
}

impl Grouping {
    /// Its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Service => "SERVICE",
            Self::Pod => "POD",
            Self::DropReason => "DROP REASON",
        }
    }

    /// The groups that a flow is in.
    fn of(self, row: &Row) -> Vec<String> {
        let report = &row.report;
        match self {
            Self::Service => {
                let called = || format!("{} (no Service)", report.destination);
                let service = report.service.as_ref();
                vec![service.map_or_else(called, ToString::to_string)]
            }
            Self::Pod => {
                let ends = [Some(&report.client), report.backend.as_ref()];
                let mut pods: Vec<String> = ends
                    .into_iter()
                    .flatten()
                    .filter_map(|party| party.called().map(str::to_owned))
                    .collect();
                pods.dedup();
                if pods.is_empty() {
                    pods.push("elsewhere".to_owned());
                }
                pods
            }
            Self::DropReason if row.reasons.is_empty() => vec!["nothing dropped".to_owned()],
            Self::DropReason => row.reasons.iter().cloned().collect(),
        }
    }
}

/// Flows together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many flows.
    pub flows: u64,
    /// Of these, how many have a problem.
    pub problems: u64,
    /// Packets of both directions.
    pub packets: u64,
    /// Bytes of both directions.
    pub bytes: u64,
    /// Bytes in the last second.
    pub rate: u64,
    /// Packets dropped.
    pub drops: u64,
}

/// What is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// A flow.
    Flow(FlowId),
    /// A group.
    Group(String),
}

/// The table's state.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// What it is sorted by.
    pub column: Column,
    /// The other way round.
    pub reversed: bool,
    /// What flows are put together by.
    pub grouping: Option<Grouping>,
    /// Only flows of that group.
    pub within: Option<(Grouping, String)>,
    /// Only flows with a problem.
    pub problems: bool,
    /// Only flows with these words, in small letters.
    pub search: String,
    /// Only flows that match, and the filter's text.
    pub filter: Option<(String, ResolvedFilter)>,
    /// What is selected; `None`: the first.
    pub selected: Option<Selected>,
    /// The first line that is shown.
    pub offset: usize,
    /// The flows as they stood when the table was frozen.
    pub frozen: Option<HashMap<FlowId, Row>>,
    /// What the lines stand for, in order: as of the last time that they were put in order.
    pub shown: Vec<Selected>,
    /// The groups, where flows are put together.
    pub groups: Vec<Group>,
    /// What is shown changed since.
    stale: bool,
}

/// Whether something is wrong with the flow, or something of it was not seen.
#[must_use]
pub fn is_problem(row: &Row) -> bool {
    let report = &row.report;
    report.diagnosis.is_some() || report.drops > 0 || report.holes > 0 || report.affected_by_loss
}

impl List {
    /// Puts the lines in order.
    pub fn order(&mut self, model: &Model) {
        self.stale = false;
        if let Some(grouping) = self.grouping {
            self.groups = self.grouped(grouping, model);
            let names = self.groups.iter().map(|group| group.name.clone());
            self.shown = names.map(Selected::Group).collect();
        } else {
            let rows = self.rows(model).into_iter();
            self.shown = rows.map(|row| Selected::Flow(row.report.id)).collect();
        }
    }

    /// What is shown has changed: the lines are put in order before they are used.
    pub fn changed(&mut self) {
        self.stale = true;
    }

    /// A flow that is shown.
    #[must_use]
    pub fn row<'a>(&'a self, model: &'a Model, id: FlowId) -> Option<&'a Row> {
        match &self.frozen {
            Some(rows) => rows.get(&id),
            None => model.row(id),
        }
    }

    /// The flows that are let through, in order.
    #[must_use]
    pub fn rows<'a>(&'a self, model: &'a Model) -> Vec<&'a Row> {
        let mut rows: Vec<&Row> = match &self.frozen {
            Some(rows) => rows.values().filter(|row| self.shows(row)).collect(),
            None => model.rows().filter(|row| self.shows(row)).collect(),
        };
        let now = model.now();
        rows.sort_unstable_by(|a, b| {
            let order = self.column.compare(a, b, now);
            let order = if self.reversed {
                order.reverse()
            } else {
                order
            };
            order.then_with(|| b.report.id.cmp(&a.report.id))
        });
        rows
    }

    fn shows(&self, row: &Row) -> bool {
        let found = || self.search.split(' ').all(|word| row.text.contains(word));
        let within = |(grouping, name): &(Grouping, String)| grouping.of(row).contains(name);
        (!self.problems || is_problem(row))
            && (self.search.is_empty() || found())
            && self.within.as_ref().is_none_or(within)
            && self
                .filter
                .as_ref()
                .is_none_or(|(_, filter)| filter.matches(&row.facts.view()))
    }

    /// The largest group first; of what is let through.
    fn grouped(&self, grouping: Grouping, model: &Model) -> Vec<Group> {
        let mut groups = HashMap::<String, Group>::new();
        for row in self.rows(model) {
            for name in grouping.of(row) {
                let group = groups.entry(name).or_default();
                group.flows += 1;
                group.problems += u64::from(is_problem(row));
                group.packets += row.report.packets.iter().sum::<u64>();
                group.bytes += row.report.bytes.iter().sum::<u64>();
                group.rate += row.bytes.rate(model.now());
                group.drops += row.report.drops;
            }
        }
        let named = groups
            .into_iter()
            .map(|(name, group)| Group { name, ..group });
        let mut groups: Vec<Group> = named.collect();
        groups.sort_by(|a, b| (Reverse(a.flows), &a.name).cmp(&(Reverse(b.flows), &b.name)));
        groups
    }

    /// The index of the selected line.
    #[must_use]
    pub fn index(&self) -> usize {
        let selected = self.selected.as_ref();
        let found = selected.and_then(|wanted| self.shown.iter().position(|line| line == wanted));
        found.unwrap_or(0)
    }

    /// The selected line.
    pub fn current(&mut self, model: &Model) -> Option<&Selected> {
        if self.stale {
            self.order(model);
        }
        self.shown.get(self.index())
    }

    /// Moves the selection.
    pub fn select(&mut self, model: &Model, to: impl FnOnce(usize, usize) -> usize) {
        if self.stale {
            self.order(model);
        }
        let last = self.shown.len().saturating_sub(1);
        let index = to(self.index(), last).min(last);
        self.selected = self.shown.get(index).cloned();
    }

    /// Holds the table still, or lets it go on.
    pub fn freeze(&mut self, model: &Model) {
        self.frozen = match self.frozen.take() {
            Some(_) => None,
            None => {
                let rows = model.rows().cloned();
                Some(rows.map(|row| (row.report.id, row)).collect())
            }
        };
    }

    /// Whether something keeps flows out of the table.
    #[must_use]
    pub fn is_narrowed(&self) -> bool {
        self.problems || !self.search.is_empty() || self.within.is_some() || self.filter.is_some()
    }

    /// Shows all flows again.
    pub fn clear(&mut self) {
        self.problems = false;
        self.search.clear();
        self.within = None;
        self.filter = None;
    }
}
