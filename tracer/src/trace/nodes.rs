//! Recordings of several nodes as one timeline.
//!
//! Each node's recordings are a [`Timeline`] of their own. Their steps are read side by side, put on the
//! first node's clock (`clocks`), kept apart (`apart`), and given in the order of time, as far as all
//! nodes are known up to it. What left one node and entered another is then one packet to the journey
//! engine, which knows it by its fingerprint. A single node's timeline is given as it is.
//!
//! Limit: to compare the clocks the recordings are read once before they are shown.

mod apart;
mod clocks;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io::{Read, Seek},
    sync::Arc,
};

use self::{apart::Apart, clocks::Crossings};
use super::{About, Damage, ReadError, Reader, Step, Timeline, TimelineError};
use crate::{
    event::Record,
    node::snapshot::{Contents, Snapshot},
    source::{Batch, NodeClock, Notice, Statistics},
};

/// So many records of a node wait for its clock at most; more than it has come in a step.
const MAX_WAITING: usize = 1 << 15;

/// Why recordings cannot be shown together.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// Those of one node are no timeline.
    #[error(transparent)]
    Timeline(#[from] TimelineError),
    /// There are too many nodes.
    #[error("these are recordings of {0} nodes: no more than {most} can be shown together", most = Apart::MOST)]
    Many(usize),
    /// A recording cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reads recordings of one node or several step by step.
#[derive(Debug)]
pub struct Nodes<R> {
    /// One at least.
    lanes: Vec<Lane<R>>,
    about: About,
    clocks: Vec<NodeClock>,
    /// What all nodes knew, and what of each that is made of.
    node: Arc<Snapshot>,
    known: Vec<Arc<Snapshot>>,
}

/// One node's recordings.
#[derive(Debug)]
struct Lane<R> {
    timeline: Timeline<R>,
    apart: Apart,
    /// What is not given yet.
    records: VecDeque<Record>,
    /// Up to then everything of it was read, by the first node's clock.
    clock: u64,
    is_over: bool,
    sees_everywhere: Option<u64>,
    statistics: Option<Statistics>,
}

type Named<R> = (String, Reader<R>);

impl<R: Read + Seek> Nodes<R> {
    /// Puts recordings, with their names for people, together: those of one boot of one node into one
    /// timeline, of which the first that is given has the clock.
    ///
    /// # Errors
    /// [`NodesError`].
    pub fn new(first: Named<R>, further: Vec<Named<R>>) -> Result<Self, NodesError> {
        let mut groups: Vec<Vec<Named<R>>> = Vec::new();
        for given in [first].into_iter().chain(further) {
            let about = given.1.about();
            // The same host with another boot is one that was started anew.
            let same = |group: &&mut Vec<Named<R>>| {
                let known = group[0].1.about();
                known.boot == about.boot || known.host == about.host && !known.host.is_empty()
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(given),
                None => groups.push(vec![given]),
            }
        }
        if groups.len() > Apart::MOST {
            return Err(NodesError::Many(groups.len()));
        }
        let names = names(&groups);
        let clocks = if groups.len() > 1 {
            clocks_of(&mut groups, &names)?
        } else {
            Vec::new()
        };
        let mut lanes = Vec::new();
        for mut group in groups {
            let first = group.remove(0);
            lanes.push(Lane::new(Timeline::new(first, group)?));
        }
        let about = tell_apart(&mut lanes, &names, &clocks);
        Ok(Self {
            lanes,
            about,
            clocks,
            node: Arc::default(),
            known: Vec::new(),
        })
    }

    /// What the nodes knew first, and what they knew last, together; what cannot be read is left out.
    pub fn into_nodes(self) -> Vec<Arc<Snapshot>> {
        let (mut first, mut last) = (Contents::default(), Contents::default());
        for lane in self.lanes {
            let readers = lane.timeline.into_readers();
            let mut known = readers.into_iter().flat_map(Reader::into_nodes);
            let Some(earliest) = known.next() else {
                continue;
            };
            add(&mut first, lane.apart.contents(earliest.contents()));
            let latest = known.last().unwrap_or(earliest);
            add(&mut last, lane.apart.contents(latest.contents()));
        }
        let both = [first, last].map(|contents| Arc::new(Snapshot::from(contents)));
        both.into()
    }

    fn only(&self) -> Option<&Lane<R>> {
        self.lanes.first().filter(|_| self.lanes.len() == 1)
    }

    /// What the recording being read is; of several nodes that of the first, with what is the same in all.
    pub fn about(&self) -> &About {
        self.only()
            .map_or(&self.about, |lane| lane.timeline.about())
    }

    /// How the clocks of the nodes behind the first stand to its clock.
    pub fn clocks(&self) -> &[NodeClock] {
        &self.clocks
    }

    /// How many nodes.
    pub fn nodes(&self) -> usize {
        self.lanes.len()
    }

    /// The recordings to be read yet.
    pub fn readers(&self) -> impl Iterator<Item = (&str, &Reader<R>)> {
        self.lanes.iter().flat_map(|lane| lane.timeline.readers())
    }

    /// When the recordings begin and end, by the first node's clock; `None` without any event.
    pub fn times(&self) -> Option<(u64, u64)> {
        let times = self.lanes.iter().flat_map(|lane| {
            let readers = lane.timeline.readers();
            let times = readers.filter_map(|(_, reader)| reader.times());
            times.map(|(first, last)| (lane.apart.time(first), lane.apart.time(last)))
        });
        times.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }

    /// How many recordings.
    pub fn count(&self) -> usize {
        self.lanes.iter().map(|lane| lane.timeline.count()).sum()
    }

    /// What the nodes knew at the step given last.
    pub fn node(&self) -> &Arc<Snapshot> {
        self.only().map_or(&self.node, |lane| lane.timeline.node())
    }

    /// The functions that drop packets, by address, as far as was read.
    pub fn function_at(&self, address: u64) -> Option<&str> {
        let mut lanes = self.lanes.iter();
        lanes.find_map(|lane| lane.timeline.function_at(lane.apart.own_address(address)))
    }

    /// What could not be read since this was asked last, with the recording's name.
    pub fn take_damages(&mut self) -> Vec<(String, Damage)> {
        let lanes = self.lanes.iter_mut();
        lanes
            .flat_map(|lane| lane.timeline.take_damages())
            .collect()
    }

    /// Where reading stands and where it ends, in bytes of all recordings.
    pub fn progress(&self) -> (u64, u64) {
        let lanes = self.lanes.iter().map(|lane| lane.timeline.progress());
        lanes.fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1))
    }

    /// Goes on with what covers a time, by the first node's clock, and what comes later.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn seek(&mut self, time: u64) -> Result<(), ReadError> {
        for lane in &mut self.lanes {
            lane.timeline.seek(lane.apart.own_time(time))?;
        }
        Ok(())
    }

    /// The next step; `None` at the end of the last recording.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_step(&mut self) -> Result<Option<Step>, ReadError> {
        if let [only] = &mut self.lanes[..] {
            return only.timeline.next_step();
        }
        let mut notices = Vec::new();
        loop {
            let going_on = self.lanes.iter_mut().filter(|lane| !lane.is_over);
            let behind = going_on.min_by_key(|lane| lane.clock);
            let Some(lane) = behind else {
                let records = self.up_to(u64::MAX);
                let batch = Batch { notices, records };
                return Ok((!batch.is_empty()).then_some(Step { batch, now: None }));
            };
            lane.read(&mut notices)?;
            self.common(&mut notices);
            self.renew();
            let going_on = self.lanes.iter().filter(|lane| !lane.is_over);
            let Some(now) = going_on.map(|lane| lane.clock).min() else {
                continue;
            };
            let records = self.up_to(now);
            if !records.is_empty() || !notices.is_empty() {
                let batch = Batch { notices, records };
                let now = Some(now);
                return Ok(Some(Step { batch, now }));
            }
        }
    }

    /// The records of all nodes up to a time, in its order.
    fn up_to(&mut self, time: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for lane in &mut self.lanes {
            // Records of several processors are nearly in order.
            let all = lane.records.len();
            for _ in 0..all {
                match lane.records.pop_front() {
                    Some(record) if record.time() <= time => records.push(record),
                    Some(record) => lane.records.push_back(record),
                    None => break,
                }
            }
        }
        records.sort_by_key(Record::time);
        records
    }

    /// What holds for all nodes together: what all see, and the sums of what they counted.
    fn common(&mut self, notices: &mut Vec<Notice>) {
        let mut counted = false;
        notices.retain(|notice| match notice {
            Notice::Statistics(_) => {
                counted = true;
                false
            }
            _ => true,
        });
        if counted {
            let lanes = self.lanes.iter();
            let all = lanes.filter_map(|lane| lane.statistics);
            let sum = all.reduce(|one, other| one.and(&other)).unwrap_or_default();
            notices.push(Notice::Statistics(Box::new(sum)));
        }
        let lanes = self.lanes.iter_mut();
        let all: Option<Vec<u64>> = lanes.map(|lane| lane.sees_everywhere).collect();
        if let Some(time) = all.and_then(|all| all.into_iter().max()) {
            notices.push(Notice::NetfilterEverywhere { time });
            for lane in &mut self.lanes {
                lane.sees_everywhere = None;
            }
        }
    }

    /// Puts together what the nodes know, when one of them knows something else now.
    fn renew(&mut self) {
        let now = self.lanes.iter().map(|lane| lane.timeline.node());
        if self
            .known
            .iter()
            .map(Arc::as_ptr)
            .eq(now.clone().map(Arc::as_ptr))
        {
            return;
        }
        self.known = now.map(Arc::clone).collect();
        let mut all = Contents::default();
        for lane in &self.lanes {
            add(
                &mut all,
                lane.apart.contents(lane.timeline.node().contents()),
            );
        }
        self.node = Arc::new(Snapshot::from(all));
    }
}

impl<R: Read + Seek> Lane<R> {
    fn new(timeline: Timeline<R>) -> Self {
        Self {
            timeline,
            apart: Apart::default(),
            records: VecDeque::new(),
            clock: 0,
            is_over: false,
            sees_everywhere: None,
            statistics: None,
        }
    }

    /// Reads a step.
    fn read(&mut self, notices: &mut Vec<Notice>) -> Result<(), ReadError> {
        let Some(step) = self.timeline.next_step()? else {
            self.is_over = true;
            return Ok(());
        };
        for notice in step.batch.notices {
            match self.apart.notice(notice) {
                Notice::NetfilterEverywhere { time } => self.sees_everywhere = Some(time),
                Notice::Statistics(statistics) => {
                    self.statistics = Some(*statistics);
                    notices.push(Notice::Statistics(statistics));
                }
                other => notices.push(other),
            }
        }
        let mut last = 0;
        for mut record in step.batch.records {
            self.apart.record(&mut record);
            last = last.max(record.time());
            self.records.push_back(record);
        }
        let now = step.now.map(|now| self.apart.time(now));
        self.clock = self.clock.max(now.unwrap_or(last));
        if self.records.len() > MAX_WAITING {
            // Of a time to which its clock never comes: somebody made that up.
            let latest = self.records.iter().map(Record::time).max();
            self.clock = self.clock.max(latest.unwrap_or_default());
        }
        Ok(())
    }
}

fn add(to: &mut Contents, from: Contents) {
    to.namespaces.extend(from.namespaces);
    to.past.extend(from.past);
    to.pods.extend(from.pods);
    // It says the same to all nodes.
    to.cluster = to.cluster.take().or(from.cluster);
    to.notes.extend(from.notes);
}

/// Compares the clocks of each node with the first one's, by the packets between them, and else by the
/// nodes' calendars.
fn clocks_of<R: Read + Seek>(
    groups: &mut [Vec<Named<R>>],
    names: &[String],
) -> Result<Vec<NodeClock>, ReadError> {
    let mut all = Vec::new();
    for group in groups.iter_mut() {
        let mut crossings = Crossings::default();
        for (_, reader) in group {
            reader.for_each_record(|record| crossings.note(record))?;
        }
        all.push(crossings);
    }
    let calendar = |node: usize| {
        let clock = groups[node][0].1.about().clock;
        i128::from(clock.monotonic) - i128::from(clock.realtime)
    };
    let mut clocks: Vec<NodeClock> = Vec::new();
    for second in 1..all.len() {
        // By way of a third node, where nothing went from the first to this one.
        let known = (0..second).filter_map(|first| {
            let clock = clocks::difference(&all[first], &all[second])?;
            Some(match first.checked_sub(1) {
                Some(between) => clocks::by_way_of(&clocks[between], clock),
                None => clock,
            })
        });
        let known = known.max_by_key(|clock| clock.packets[0].min(clock.packets[1]));
        let by_calendar = || NodeClock {
            ahead: i64::try_from(calendar(second) - calendar(0)).unwrap_or(0),
            ..NodeClock::default()
        };
        clocks.push(known.unwrap_or_else(by_calendar));
    }
    for (clock, name) in clocks.iter_mut().zip(names.iter().skip(1)) {
        clock.node.clone_from(name);
    }
    Ok(clocks)
}

/// The nodes' names: their hosts', or the files' where two have the same or none has any.
fn names<R: Read + Seek>(groups: &[Vec<Named<R>>]) -> Vec<String> {
    let hosts: Vec<&str> = groups
        .iter()
        .map(|group| group[0].1.about().host.as_str())
        .collect();
    let once = |host: &&str| hosts.iter().filter(|other| *other == host).count() == 1;
    let tells = hosts.iter().all(|host| !host.is_empty() && once(host));
    let files = groups.iter().map(|group| group[0].0.clone());
    if tells {
        hosts.into_iter().map(str::to_owned).collect()
    } else {
        files.collect()
    }
}

/// Gives the nodes' numbers and names; what all of them together are.
fn tell_apart<R: Read + Seek>(
    lanes: &mut [Lane<R>],
    names: &[String],
    clocks: &[NodeClock],
) -> About {
    let abouts: Vec<About> = lanes
        .iter()
        .map(|lane| lane.timeline.about().clone())
        .collect();
    let (reasons, numbered) = apart::reasons(abouts.iter().map(|about| &about.reasons));
    let mut all = abouts.first().cloned().unwrap_or_default();
    let same_kernel = abouts.iter().all(|about| about.kernel == all.kernel);
    for (number, lane) in lanes.iter_mut().enumerate() {
        lane.apart = Apart {
            number: u8::try_from(number).unwrap_or(u8::MAX),
            name: names[number].clone(),
            ahead: number.checked_sub(1).map_or(0, |at| clocks[at].ahead),
            reasons: numbered[number].clone(),
        };
    }
    if lanes.len() > 1 {
        all.host = names.join(" and ");
        all.reasons = reasons;
        all.at_the_end &= abouts.iter().all(|about| about.at_the_end);
        // Each node's own filter chose what is in its recordings; names in it are of that node.
        all.filter = String::new();
        // Its numbers are of one node, and its packets cross several.
        all.command = None;
        if !same_kernel {
            let kernels: Vec<&str> = abouts.iter().map(|about| about.kernel.as_str()).collect();
            all.kernel = kernels.join(" and ");
        }
    }
    all
}
