//! What the engine is given, and its work on it.

use std::error::Error;

use tracer::{
    event::{self, Record},
    journey::{Journeys, Limits, Patience, Reasons},
};
use tracer_common::{address::to_bytes, record};

use super::traffic::Traffic;

/// The bytes of a record of a plain packet, of which made-up traffic consists.
pub(crate) const RECORD: usize = size_of::<record::PlainEvent>();
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
                let plain = plain(&event.record);
                // SAFETY: the record has integers only and no padding, and outlives the slice.
                let bytes =
                    unsafe { std::slice::from_raw_parts((&raw const plain).cast::<u8>(), RECORD) };
                self.bytes.extend_from_slice(bytes);
            }
        }
        &self.bytes
    }
}

/// A segment's event as the kernel side writes it, with the header as it was.
fn plain(event: &record::Event) -> record::PlainEvent {
    let (source, destination) = (to_bytes(event.source), to_bytes(event.destination));
    let mut header = [0; record::PLAIN_BYTES];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(event.length as u16).to_be_bytes());
    header[4..6].copy_from_slice(&(event.ip_id as u16).to_be_bytes());
    header[8] = event.ttl;
    header[9] = event.protocol;
    header[12..16].copy_from_slice(&source[12..]);
    header[16..20].copy_from_slice(&destination[12..]);
    header[20..22].copy_from_slice(&event.source_port.to_be_bytes());
    header[22..24].copy_from_slice(&event.destination_port.to_be_bytes());
    header[24..28].copy_from_slice(&event.sequence.to_be_bytes());
    header[28..32].copy_from_slice(&event.acknowledgement.to_be_bytes());
    // The words of the TCP header, in the byte's upper half.
    header[32] = (((event.length - event.payload - 20) / 4) << 4) as u8;
    header[33] = event.tcp_flags;
    let mut words = [0; record::PLAIN_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(header.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    let head = record::Head {
        kind: record::KIND_PLAIN_EVENT,
        payload: 0,
        ..event.head
    };
    record::PlainEvent {
        head,
        header: words,
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
