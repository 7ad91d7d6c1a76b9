//! Addresses whose packet is over for the engine, and not yet for the kernel.
//!
//! A packet that was merged into another one is freed with that one, and what a socket took may be
//! taken by a second socket late. Such events are of no new packet.

use std::collections::VecDeque;

use foldhash::HashMap;

use super::Fingerprint;

/// How many are kept in mind.
const KEPT: usize = 1 << 13;

/// The addresses, each until a packet begins there.
#[derive(Debug, Default)]
pub(super) struct Spent {
    by_skb: HashMap<u64, Fingerprint>,
    order: VecDeque<u64>,
}

impl Spent {
    pub(super) fn note(&mut self, skb: u64, fingerprint: Fingerprint) {
        if self.by_skb.insert(skb, fingerprint).is_none() {
            self.order.push_back(skb);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.by_skb.remove(&oldest);
            }
        }
    }

    /// Whether the event of that fingerprint, at that address, is of what was there.
    pub(super) fn is(&self, skb: u64, fingerprint: &Fingerprint) -> bool {
        self.by_skb.get(&skb) == Some(fingerprint)
    }

    /// Another packet is there now.
    pub(super) fn forget(&mut self, skb: u64) {
        // Its place in the order stays, and then removes nothing or a later note of the address a
        // little early.
        self.by_skb.remove(&skb);
    }
}
