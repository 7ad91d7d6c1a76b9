//! The pipeline's sink that fills the model.
//!
//! What comes is collected and handed over whenever the pipeline flushes, so that the model is
//! locked seldom, and for a millisecond or two at most: who draws waits no longer.

use std::{io, mem, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use super::model::Model;
use crate::{
    filter::FlowFacts,
    journey::model::FlowId,
    node::snapshot::Snapshot,
    output::Sink,
    report::{FlowReport, PacketReport, StatsReport},
};

/// How many items wait for being handed over, at most.
const WAITING: usize = 512;
/// How many items are handed over under one lock.
const AT_ONCE: usize = 64;

/// A model that two threads share: one fills it, one draws it.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Model>>);

impl Shared {
    /// Shares a model.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self(Arc::new(Mutex::new(model)))
    }

    /// The model, for as long as it takes to look at it.
    pub fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock()
    }

    /// Up to that time everything was seen, and the node is like that.
    pub fn tick(&self, now: u64, node: &Arc<Snapshot>) {
        self.lock().tick(now, node);
    }
}

/// What came since the last flush.
#[derive(Debug)]
enum Item {
    Packet(Arc<PacketReport>),
    Flow(Box<(FlowReport, FlowFacts)>),
    Over(FlowId),
    Stats(StatsReport),
}

/// The sink.
#[derive(Debug)]
pub struct Feed {
    shared: Shared,
    items: Vec<Item>,
}

impl Feed {
    /// Fills that model.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            items: Vec::new(),
        }
    }

    /// A batch may bring more than there should be of.
    fn is_crowded(&mut self) -> io::Result<()> {
        if self.items.len() < WAITING {
            return Ok(());
        }
        self.flush()
    }
}

impl Sink for Feed {
    fn packet(&mut self, packet: &PacketReport) -> io::Result<()> {
        self.items.push(Item::Packet(Arc::new(packet.clone())));
        self.is_crowded()
    }

    fn flow_now(&mut self, report: &FlowReport, facts: FlowFacts) -> io::Result<()> {
        self.items
            .push(Item::Flow(Box::new((report.clone(), facts))));
        self.is_crowded()
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        self.items.push(Item::Over(flow.id));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut items = mem::take(&mut self.items).into_iter();
        while items.len() > 0 {
            let mut model = self.shared.lock();
            for item in items.by_ref().take(AT_ONCE) {
                match item {
                    Item::Packet(packet) => model.packet(packet),
                    Item::Flow(flow) => model.flow(flow.0, flow.1),
                    Item::Over(id) => model.over(id),
                    Item::Stats(stats) => model.count(&stats),
                }
            }
            // Who draws has waited long enough.
            MutexGuard::unlock_fair(model);
        }
        Ok(())
    }

    fn stats(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.items.push(Item::Stats(stats.clone()));
        Ok(())
    }

    fn finish(&mut self, stats: &StatsReport) -> io::Result<()> {
        self.stats(stats)?;
        self.flush()
    }
}
