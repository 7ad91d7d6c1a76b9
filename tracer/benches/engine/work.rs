//! What the engine is given, and its work on it.

use std::error::Error;

use tracer::{
    event::{self, Record},
    journey::{Journeys, Limits, Patience, Reasons},
};
use tracer_common::record;

use super::traffic::Traffic;

/// The bytes of a record without a second header, of which made-up traffic consists.
pub(crate) const RECORD: usize = size_of::<record::Event>();
/// Records of a ring of 8 MiB.
pub(crate) const RECORDS: usize = (8 << 20) / RECORD;
/// Records between two looks at the clock, as under load.
const BATCH: usize = 2_000;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A ring's bytes, filled again and again.
pub(crate) struct Ring {
    traffic: Traffic,
    bytes: Vec<u8>,
}

impl Ring {
    pub(crate) fn new(traffic: Traffic) -> Self {
        Self {
            traffic,
            bytes: Vec::with_capacity(RECORDS * RECORD),
        }
    }

    /// The next records, one behind the other.
    pub(crate) fn fill(&mut self) -> &[u8] {
        self.bytes.clear();
        for record in self.traffic.by_ref().take(RECORDS) {
            if let Record::Event(event) = record {
                // SAFETY: the record has integers only and no padding, and outlives the slice.
                let bytes = unsafe {
                    std::slice::from_raw_parts((&raw const event.record).cast::<u8>(), RECORD)
                };
                self.bytes.extend_from_slice(bytes);
            }
        }
        &self.bytes
    }
}

/// Decodes alone; something of the records, so that they are made.
#[inline(never)]
pub(crate) fn decode(ring: &[u8]) -> Result<u64> {
    let mut times = 0_u64;
    for bytes in ring.chunks(RECORD) {
        match &event::decode(bytes) {
            Ok(record) => times = times.wrapping_add(std::hint::black_box(record).time()),
            Err(error) => return Err((*error).into()),
        }
    }
    Ok(times)
}

/// The engine, and what came out of it.
pub(crate) struct Engine {
    journeys: Journeys,
    pub(crate) packets: u64,
    pub(crate) flows: u64,
    pub(crate) holes: u64,
}

impl Engine {
    pub(crate) fn new() -> Self {
        let (limits, patience) = (Limits::default(), Patience::default());
        let mut journeys = Journeys::new(limits, patience, Reasons::by_name(|_| None));
        journeys.netfilter_observed_everywhere(0);
        Self {
            journeys,
            packets: 0,
            flows: 0,
            holes: 0,
        }
    }

    /// Decodes and puts together.
    #[inline(never)]
    pub(crate) fn take(&mut self, ring: &[u8]) -> Result<()> {
        for batch in ring.chunks(BATCH * RECORD) {
            let mut now = 0;
            for bytes in batch.chunks(RECORD) {
                match &event::decode(bytes) {
                    Ok(record) => {
                        now = record.time();
                        self.journeys.push(record);
                    }
                    Err(error) => return Err((*error).into()),
                }
            }
            self.count(now);
        }
        Ok(())
    }

    /// Puts together what was decoded.
    pub(crate) fn assemble(&mut self, records: &[Record]) {
        for batch in records.chunks(BATCH) {
            for record in batch {
                self.journeys.push(record);
            }
            self.count(batch.last().map_or(0, Record::time));
        }
    }

    /// Takes what is done.
    fn count(&mut self, now: u64) {
        while let Some(packet) = self.journeys.next_packet() {
            self.packets += 1;
            self.holes += u64::from(packet.holes());
            self.journeys.take_back(packet);
        }
        self.journeys.advance(now);
        self.flows += self.journeys.take_given_up().count() as u64;
        for id in self.journeys.flows_over(now) {
            self.flows += u64::from(self.journeys.take_flow(id).is_some());
        }
    }
}
