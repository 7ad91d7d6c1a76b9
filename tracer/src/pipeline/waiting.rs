//! Packets that wait for rules: those had changed just before the packet passed, and what explains its journey
//! may be read yet.
//!
//! Bounded by number and bytes: where more wait, the first is shown with what is known.

use std::{collections::VecDeque, io, mem};

use super::Pipeline;
use crate::{
    journey::model::{FlowId, Packet},
    output::Sink,
    report::{Awaited, Knowledge},
};

/// How many packets wait, and how many bytes of memory they take.
const MOST: usize = 256;
const ROOM: usize = 2 << 20;

/// A packet that waits for rules.
#[derive(Debug)]
struct Waiting {
    packet: Packet,
    awaited: Vec<Awaited>,
}

/// The packets that wait, in the order of their end.
#[derive(Debug, Default)]
pub(super) struct Queue {
    packets: VecDeque<Waiting>,
    /// Bytes of memory.
    room: usize,
}

impl Queue {
    fn push(&mut self, waiting: Waiting) {
        self.room += waiting.packet.room();
        self.packets.push_back(waiting);
    }

    /// The first, where too many wait.
    fn pop_surplus(&mut self) -> Option<Packet> {
        if self.packets.len() <= MOST && self.room <= ROOM {
            return None;
        }
        let first = self.packets.pop_front()?;
        self.room -= first.packet.room();
        Some(first.packet)
    }

    /// Those that wait no longer.
    fn take(&mut self, enough: impl Fn(&Waiting) -> bool) -> Vec<Packet> {
        let mut taken = Vec::new();
        for waiting in mem::take(self).packets {
            if enough(&waiting) {
                taken.push(waiting.packet);
            } else {
                self.push(waiting);
            }
        }
        taken
    }

    /// Whether a packet of the flow waits.
    pub(super) fn has(&self, flow: FlowId) -> bool {
        let mut waiting = self.packets.iter();
        waiting.any(|waiting| waiting.packet.flow == flow)
    }
}

impl<K: Sink> Pipeline<K> {
    /// Shows a packet that is over, or lets it wait.
    pub(super) fn show_or_wait(&mut self, packet: Packet, known: &Knowledge<'_>) -> io::Result<()> {
        if !self.asked.meets(&packet) {
            return Ok(());
        }
        let report = known.packet(&packet);
        let awaited = known.awaited(&packet, &report);
        if awaited.is_empty() {
            self.journeys.take_back(packet);
            return self.sink.packet(&report);
        }
        self.waiting.push(Waiting { packet, awaited });
        while let Some(packet) = self.waiting.pop_surplus() {
            self.show(&packet, known)?;
        }
        Ok(())
    }

    /// Shows the packets of which the rules are read, or are not to be expected any more at that time.
    pub(super) fn show_explained(&mut self, now: u64, known: &Knowledge<'_>) -> io::Result<()> {
        self.show_waiting(known, |waiting| {
            let mut awaited = waiting.awaited.iter();
            !awaited.any(|it| now <= it.until && known.is_awaited(it))
        })
    }

    /// Shows the packets of a flow that is over.
    pub(super) fn show_waiting_of(
        &mut self,
        flow: FlowId,
        known: &Knowledge<'_>,
    ) -> io::Result<()> {
        self.show_waiting(known, |waiting| waiting.packet.flow == flow)
    }

    /// Shows all that wait.
    pub(super) fn show_all_waiting(&mut self, known: &Knowledge<'_>) -> io::Result<()> {
        self.show_waiting(known, |_| true)
    }

    fn show_waiting(
        &mut self,
        known: &Knowledge<'_>,
        enough: impl Fn(&Waiting) -> bool,
    ) -> io::Result<()> {
        for packet in self.waiting.take(enough) {
            self.show(&packet, known)?;
        }
        Ok(())
    }
}
