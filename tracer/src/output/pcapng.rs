//! A packet capture, for Wireshark, tshark and all that reads pcapng: the packet at each of its hops.
//!
//! Each device of each network namespace is an interface; the same packet seen at several has the
//! same `epb_packetid`, which the format has for that. What is known of a hop beyond the packet
//! (stage, time in a hook, translations and their rules, drop, verdict) is its comment.
//!
//! Where the recording has a packet's first bytes, these are what is written, with the addresses and ports
//! that it had at the hop (`kept`). It holds of nearly all packets only what was read of their headers,
//! unless it was told to keep more. So these are rebuilt (`headers`): addresses, ports, flags, sequence numbers and lengths are those that were observed,
//! the rest is made up, the payload is cut off as by a snapshot length, and each packet says so.
//!
//! Packets are reported when they end, hops of others having come between. Blocks wait until
//! `BUFFER` bytes of them do, so that a capture is in the order of time as far as that reaches.

mod block;
mod comment;
mod headers;
mod interfaces;
mod kept;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use self::{block::Block, interfaces::Interfaces};
use super::{Sink, origin::Origin, sanitize};
use crate::{
    journey::model::Stage,
    report::{FlowReport, HopReport, PacketReport, StatsReport},
};

/// How many bytes of blocks wait to be put in order, where it is not said.
const BUFFER: usize = 32 << 20;

/// What a block costs beside itself: its place in the tree.
const BESIDE: usize = 80;

/// Writes a capture.
#[derive(Debug)]
pub struct PcapngSink<W> {
    out: W,
    origin: Origin,
    interfaces: Interfaces,
    begun: bool,
    /// Blocks by their times, and by the order in which they came.
    waiting: BTreeMap<(u64, u64), Vec<u8>>,
    waiting_bytes: usize,
    blocks: u64,
    buffer: usize,
}

impl<W: Write> PcapngSink<W> {
    /// A sink that writes to `out`.
    pub fn new(out: W, origin: Origin) -> Self {
        Self {
            out,
            origin,
            interfaces: Interfaces::default(),
            begun: false,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            blocks: 0,
            buffer: BUFFER,
        }
    }

    /// Keeps blocks of so many bytes of memory at most, to put them in order.
    #[must_use]
    pub fn within(self, bytes: usize) -> Self {
        Self {
            buffer: bytes,
            ..self
        }
    }

    /// The section's header, before anything else.
    fn begin(&mut self) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let Origin {
            host,
            kernel,
            tracer,
            filter,
            ..
        } = &self.origin;
        let mut about = format!("Exported from a recording made on {host}.");
        if !filter.trim().is_empty() {
            about.push_str(&format!(" It was recorded with the filter: {filter}."));
        }
        about.push_str(
            " Where a packet's comment says that its headers are rebuilt, its bytes were not \
             captured: headers are made of what was read of them (addresses, ports, protocol, TCP \
             flags and numbers, ICMP type, code and numbers, lengths). TTL, IP id, TCP options and \
             window, checksums and link-layer addresses are made up, payloads are left out. Where it \
             says that bytes were kept, they are those of the packet where a socket sent or took it, \
             with the addresses and ports of the hop.",
        );
        let section = block::section(&block::Section {
            comment: &sanitize::plain(&about),
            system: &sanitize::plain(&format!("Linux {kernel}")),
            program: &sanitize::plain(&format!("tracer {tracer}")),
        });
        self.out.write_all(&section)
    }

    fn hop(&mut self, packet: &PacketReport, at: usize, hop: &HopReport) -> io::Result<()> {
        let (interface, new) = self.interfaces.of(hop);
        if let Some(description) = new {
            self.out.write_all(&description)?;
        }
        let rebuilt = headers::rebuild(packet, hop);
        let mut block = Block::packet(&block::Captured {
            interface,
            time: self.origin.realtime(hop.time),
            bytes: &rebuilt.bytes,
            length: rebuilt.length,
        });
        block.comment(&comment::of(packet, at, hop, rebuilt.kept));
        block.flags(direction(hop.stage));
        block.packet_id(packet.id.0);
        let block = block.finish();
        self.waiting_bytes += block.capacity() + BESIDE;
        self.blocks += 1;
        self.waiting.insert((hop.time, self.blocks), block);
        Ok(())
    }

    /// Writes the oldest until no more than so many bytes wait.
    fn write_down_to(&mut self, bytes: usize) -> io::Result<()> {
        while self.waiting_bytes > bytes
            && let Some((_, block)) = self.waiting.pop_first()
        {
            self.waiting_bytes -= block.capacity() + BESIDE;
            self.out.write_all(&block)?;
        }
        Ok(())
    }
}

/// Which way a packet goes at its interface: 1 in, 2 out, 0 where neither can be said.
const fn direction(stage: Stage) -> u32 {
    match stage {
        Stage::DeviceReceive | Stage::Prerouting | Stage::Input | Stage::Socket => 1,
        Stage::DeviceQueue | Stage::DeviceTransmit | Stage::Output | Stage::Postrouting => 2,
        Stage::Bridge | Stage::Forward | Stage::Drop => 0,
    }
}

impl<W: Write> Sink for PcapngSink<W> {
    fn packet(&mut self, packet: &PacketReport) -> io::Result<()> {
        self.begin()?;
        for (at, hop) in packet.hops.iter().enumerate() {
            self.hop(packet, at, hop)?;
        }
        self.write_down_to(self.buffer)
    }

    fn flow(&mut self, _: &FlowReport) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, _: &StatsReport) -> io::Result<()> {
        self.begin()?;
        self.write_down_to(0)?;
        self.out.flush()
    }
}
