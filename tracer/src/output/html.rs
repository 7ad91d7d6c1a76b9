//! One page that tells what a recording holds, for a browser, a ticket, a colleague without the tracer.
//!
//! It is self-contained and has no script: flows, drops and ladders stand in it as text and SVG, and its
//! content security policy forbids scripts and anything from elsewhere. All text goes through maud, which
//! escapes what is put between its tags, after [`super::sanitize`] took what acts on the order of text.
//!
//! A page is for people, so it is bounded (`kept`): so many flows, of which those with problems go
//! first, and of each flow the first ladder of each way. What was left out is counted and said.

mod kept;
mod ladder;
mod page;
mod problem;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use self::kept::Kept;
use super::{Sink, origin::Origin};
use crate::report::{FlowReport, PacketReport, StatsReport};

/// Writes a page.
#[derive(Debug)]
pub struct HtmlSink<W> {
    out: W,
    origin: Origin,
    kept: Kept,
}

impl<W: Write> HtmlSink<W> {
    /// A sink that writes to `out` when it is finished.
    pub fn new(out: W, origin: Origin) -> Self {
        Self {
            out,
            origin,
            kept: Kept::default(),
        }
    }

    /// Keeps what takes so many bytes of memory, to choose from.
    #[must_use]
    pub fn within(self, bytes: usize) -> Self {
        Self {
            kept: Kept::within(bytes),
            ..self
        }
    }
}

impl<W: Write> Sink for HtmlSink<W> {
    fn packet(&mut self, packet: &PacketReport) -> io::Result<()> {
        self.kept.packet(packet);
        Ok(())
    }

    fn flow(&mut self, flow: &FlowReport) -> io::Result<()> {
        self.kept.flow(flow);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, stats: &StatsReport) -> io::Result<()> {
        let (origin, kept) = (&self.origin, &self.kept);
        let mut write = |part: maud::Markup| self.out.write_all(part.into_string().as_bytes());
        write(page::begin(origin, kept, stats.total.lost))?;
        write(page::problems(kept))?;
        write(page::drops(kept))?;
        write(page::flows(origin, kept))?;
        for flow in kept.flows() {
            write(page::journeys(flow))?;
        }
        write(page::end(kept))?;
        self.out.flush()
    }
}
