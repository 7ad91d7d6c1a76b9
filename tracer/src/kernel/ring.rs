//! Reading the ring buffer: bytes to records, with the accounts of what came and what did not.
//!
//! A record that cannot be decoded is counted and said once: the others are none the worse.

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};
use tracer_common::{
    cpu::CpuState,
    hook,
    record::{self, FLAG_HAS_NETFILTER},
};

use super::loss::LossMeter;
use crate::{
    event::{self, DecodeError, Message, Record},
    source::{Batch, Counts, Loss, Notice, PacketBytes, Statistics},
};

/// The most records in one batch.
const BATCH: usize = 2048;

/// The ring buffer with its accounts.
pub(super) struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    losses: LossMeter,
    emitted: [u64; hook::COUNT],
    tuples: u64,
    undecodable: u64,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// In the calling thread's tokio runtime.
    pub(super) fn new(ring: RingBuf<MapData>) -> std::io::Result<Self> {
        // SAFETY: the ring owns its map's descriptor, which stays open and the same while it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self {
            ring,
            losses: LossMeter::default(),
            emitted: [0; hook::COUNT],
            tuples: 0,
            undecodable: 0,
        })
    }

    /// Until the kernel side says that there are many records.
    pub(super) async fn filling(&self) {
        // An error is that of a closing runtime; the caller looks by its clock as well.
        if let Ok(mut ready) = self.ring.readable().await {
            ready.clear_ready();
        }
    }

    /// Takes what is in the ring, up to a batch; whether there may be more. `flagged` is called
    /// with the namespace of each packet that passes netfilter hooks.
    pub(super) fn drain(&mut self, into: &mut Batch, mut flagged: impl FnMut(u32)) -> bool {
        for _ in 0..BATCH {
            let Some(bytes) = self.ring.get_mut().next() else {
                return false;
            };
            match event::decode_message(&bytes) {
                Ok(Message::Bytes(taken)) => {
                    drop(bytes);
                    let loss = self.losses.record(taken.cpu, taken.order, taken.time);
                    into.notices.extend(loss.map(Notice::Loss));
                    into.notices.push(Notice::Bytes(packet_bytes(&taken)));
                }
                Ok(Message::Record(record)) => {
                    drop(bytes);
                    let loss = self.account(&record, &mut flagged);
                    into.notices.extend(loss.map(Notice::Loss));
                    into.records.push(record);
                }
                Err(error) => {
                    drop(bytes);
                    into.notices.extend(self.undecodable(&error));
                }
            }
        }
        true
    }

    fn account(&mut self, record: &Record, flagged: &mut impl FnMut(u32)) -> Option<Loss> {
        match record {
            Record::Event(event) => {
                let record = &event.record;
                self.emitted[usize::from(record.hook)] += 1;
                if event.has(FLAG_HAS_NETFILTER) {
                    flagged(record.netns);
                }
                self.losses.record(record.cpu, record.order, record.time)
            }
            Record::Conntrack(tuples) => {
                self.tuples += 1;
                self.losses.record(tuples.cpu, tuples.order, tuples.time)
            }
        }
    }

    fn undecodable(&mut self, error: &DecodeError) -> Option<Notice> {
        self.undecodable += 1;
        (self.undecodable == 1).then(|| {
            Notice::Problem(format!(
                "a record of the BPF programs cannot be read: {error}; rebuild them with `cargo \
                 xtask ebpf`"
            ))
        })
    }

    /// Nothing is on its way any more: what is missing is lost.
    pub(super) fn settle(&mut self) -> impl Iterator<Item = Notice> {
        self.losses.settle().map(Notice::Loss)
    }

    /// The statistics at `time`, from what the CPUs counted.
    pub(super) fn statistics(&self, cpus: &[CpuState], time: u64) -> Statistics {
        let hooks = std::array::from_fn(|hook| {
            let mut counts = Counts {
                emitted: self.emitted[hook],
                ..Counts::default()
            };
            for counters in cpus.iter().map(|cpu| cpu.hooks[hook]) {
                counts.seen += counters.seen;
                counts.matched += counters.matched;
                counts.lost += counters.lost;
                counts.shed += counters.shed;
            }
            counts
        });
        Statistics::new(time, hooks, self.tuples)
    }

    /// Whether everything that the CPUs counted has come or is lost.
    pub(super) fn is_complete(&self, statistics: &Statistics) -> bool {
        let Counts {
            matched,
            emitted,
            lost,
            ..
        } = statistics.total;
        emitted + lost + self.undecodable >= matched
    }

    /// The final accounts: the statistics completed, and the losses not reported yet.
    pub(super) fn finish(&mut self, statistics: &mut Statistics, cpus: &[CpuState]) -> Vec<Loss> {
        let orders: Vec<u64> = cpus.iter().map(|cpu| cpu.order).collect();
        let came = self.losses.received() + self.undecodable + statistics.total.lost;
        statistics.tuples_lost = orders.iter().sum::<u64>().saturating_sub(came);
        self.losses.finish(&orders, statistics.time)
    }
}

fn packet_bytes(record: &record::Bytes) -> PacketBytes {
    let taken = usize::try_from(record.taken).unwrap_or(usize::MAX);
    let bytes = record.bytes.get(..taken).unwrap_or(&record.bytes);
    PacketBytes {
        time: record.time,
        skb: record.skb,
        netns: record.netns,
        hook: record.hook,
        length: record.length,
        bytes: bytes.to_vec(),
    }
}
