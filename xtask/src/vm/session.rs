//! What one tracer said of the paths of a form, and which of it is of which path.
//!
//! All paths of a form are walked under the same tracers, one after the other. Times are those of
//! one clock, so the time of a flow's first event tells its path.

use anyhow::{Context as _, bail, ensure};
use tracer_tests::trace::json::{Flow, Packet, Trace};

use super::results::{Section, Walk};

/// What a tracer said, whole and without loss.
#[derive(Debug)]
pub(crate) struct Session(Trace);

/// What it said of one path.
#[derive(Clone, Debug)]
pub(crate) struct Seen<'a> {
    /// The path's flow.
    pub(crate) flow: &'a Flow,
    /// Its packets, in order of their first hop.
    pub(crate) packets: Vec<&'a Packet>,
}

impl Session {
    /// Reads what a tracer wrote.
    ///
    /// # Errors
    /// When it failed, lost events, or wrote what is not of the contract.
    pub(crate) fn read(section: Option<&Section>) -> anyhow::Result<Self> {
        let section = section.context("did not come to that")?;
        let session = Self::of(section);
        session.with_context(|| {
            let messages = section.messages.iter();
            let said: String = messages.map(|line| format!("\n    | {line}")).collect();
            format!("the tracer's messages:{said}\n   ")
        })
    }

    fn of(section: &Section) -> anyhow::Result<Self> {
        let status = section.status.context("the machine ended before")?;
        ensure!(status == 0, "exit status {status}");
        let trace = Trace::read(section.output.iter().map(String::as_str))?;
        ensure!(trace.totals()?.lost == 0, "events were lost");
        for packet in &trace.packets {
            let known = trace.flows.iter().any(|flow| flow.id == packet.flow);
            ensure!(known, "a packet of no flow: {packet:?}");
        }
        Ok(Self(trace))
    }

    /// What was seen of a path.
    ///
    /// # Errors
    /// When that is not exactly one flow.
    pub(crate) fn seen(&self, walk: &Walk) -> anyhow::Result<Seen<'_>> {
        let in_time = |flow: &&Flow| walk.time.contains(&flow.first_ns);
        let flows: Vec<&Flow> = self.0.flows.iter().filter(in_time).collect();
        let [flow] = flows[..] else {
            bail!("{} flows, not one: {flows:#?}", flows.len());
        };
        Ok(Seen {
            flow,
            packets: self.0.packets_of(flow),
        })
    }
}
