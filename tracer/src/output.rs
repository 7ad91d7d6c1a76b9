//! What people and programs are shown: one module for each format.
//!
//! A sink takes reports as they come and writes each at once, in one call to its writer, so that a
//! reader sees whole lines and a caller may buffer as it likes. The text is for people, and may
//! change; the JSON lines are for programs, and may not. The other formats are those of other
//! programs: spreadsheets, packet analysers, trace viewers, browsers.

pub mod csv;
pub mod html;
pub mod json;
pub mod origin;
pub mod pcapng;
pub mod perfetto;
pub mod pipe;
pub mod sanitize;
pub mod terminal;
pub mod text;

use std::io;

use crate::{
    filter::FlowFacts,
    report::{FlowReport, PacketReport, StatsReport},
};

/// Where reports go.
///
/// Every method may fail with what the writer fails with. A writer of [`pipe::Pipe`] takes a
/// reader that went away for one that has seen enough; ask it to find out.
pub trait Sink {
    /// Whether packets are of interest to it; it is not given any otherwise.
    fn shows_packets(&self) -> bool {
        true
    }

    /// Shows a packet that is over.
    ///
    /// # Errors
    /// The writer's.
    fn packet(&mut self, packet: &PacketReport) -> io::Result<()>;

    /// Shows a flow, after its packets.
    ///
    /// # Errors
    /// The writer's.
    fn flow(&mut self, flow: &FlowReport) -> io::Result<()>;

    /// Shows a flow as it stands, with what filters judge it by: before the first of its packets, now and
    /// then when it changed, and when it is over. Only live views have that.
    ///
    /// # Errors
    /// The writer's.
    fn flow_now(&mut self, _report: &FlowReport, _facts: FlowFacts) -> io::Result<()> {
        Ok(())
    }

    /// Whether it can show a flow that is not over yet and will perhaps be shown again. Most formats
    /// have a place for each flow once.
    fn takes_ongoing(&self) -> bool {
        false
    }

    /// Lets the reader have what was shown up to now.
    ///
    /// # Errors
    /// The writer's.
    fn flush(&mut self) -> io::Result<()>;

    /// Shows the counters as they stand: now and then while tracing goes on. Most formats have the
    /// final ones only.
    ///
    /// # Errors
    /// The writer's.
    fn stats(&mut self, _stats: &StatsReport) -> io::Result<()> {
        Ok(())
    }

    /// Shows the final counters and ends: everything is written and flushed.
    ///
    /// # Errors
    /// The writer's.
    fn finish(&mut self, stats: &StatsReport) -> io::Result<()>;
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn shows_packets(&self) -> bool {
        (**self).shows_packets()
    }

    fn packet(&mut self, packet: &PacketReport) -> io::Result<()> {
        (**self).packet(packet)
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        (**self).flow(flow)
    }

    fn flow_now(&mut self, report: &FlowReport, facts: FlowFacts) -> io::Result<()> {
        (**self).flow_now(report, facts)
    }

    fn takes_ongoing(&self) -> bool {
        (**self).takes_ongoing()
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }

    fn stats(&mut self, stats: &StatsReport) -> io::Result<()> {
        (**self).stats(stats)
    }

    fn finish(&mut self, stats: &StatsReport) -> io::Result<()> {
        (**self).finish(stats)
    }
}
