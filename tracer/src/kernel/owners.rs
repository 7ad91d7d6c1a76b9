//! Whose the sockets are that send: what the kernel side noted when they were made.
//!
//! A packet's first event has its socket's cookie. What is noted under it is read from the map once, a moment
//! after the packet: a map of thousands of sockets forgets the oldest, so that one of a process that has
//! ended meanwhile is still there.

use std::collections::HashSet;

use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use tracer_common::{
    flow::Owner,
    hook::{self, netfilter},
};

use crate::{
    event::{self, Record},
    source::{Notice, SocketProcess},
};

/// Cookies that were looked up; when there are more, it begins anew.
const ASKED: usize = 1 << 14;

#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct OwnerValue(Owner);

// SAFETY: the owner is integers without padding (its size is asserted in tracer-common).
unsafe impl Pod for OwnerValue {}

/// The map, and what of it was read.
pub(super) struct Owners {
    map: HashMap<MapData, u64, OwnerValue>,
    asked: HashSet<u64>,
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners").finish_non_exhaustive()
    }
}

impl Owners {
    pub(super) fn new(map: HashMap<MapData, u64, OwnerValue>) -> Self {
        Self {
            map,
            asked: HashSet::new(),
        }
    }

    /// Whose sockets are is said again: who listens begins anew.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }

    /// Whose the socket is that sent the packet, where that is noted and was not said before.
    pub(super) fn of(&mut self, record: &Record) -> Option<Notice> {
        let cookie = cookie(record)?;
        if self.asked.len() >= ASKED {
            self.asked.clear();
        }
        if !self.asked.insert(cookie) {
            return None;
        }
        // Not noted is the usual case: sockets of before, and those of connections that came in.
        let OwnerValue(owner) = self.map.get(&cookie, 0).ok()?;
        Some(Notice::Owner {
            cookie,
            process: SocketProcess {
                pid: owner.pid,
                comm: event::process_name(owner.comm),
                cgroup: owner.cgroup,
            },
        })
    }
}

/// The sending socket's.
fn cookie(record: &Record) -> Option<u64> {
    let Record::Event(event) = record else {
        return None;
    };
    let event = &event.record;
    let sends = match event.hook {
        hook::DEVICE_QUEUE => true,
        hook::NETFILTER_ENTER => event.netfilter_hook == netfilter::OUTPUT,
        _ => false,
    };
    (sends && event.detail != 0).then_some(event.detail)
}

#[cfg(test)]
mod tests {
    use tracer_common::record;

    use super::*;
    use crate::event::Event;

    #[test]
    fn only_what_sends_has_a_sender() {
        let event = |hook, netfilter_hook| {
            let record = record::Event {
                head: record::Head {
                    hook,
                    netfilter_hook,
                    detail: 7,
                    ..record::Head::default()
                },
                ..record::Event::default()
            };
            let other = None;
            cookie(&Record::Event(Event { record, other }))
        };
        assert_eq!(event(hook::DEVICE_QUEUE, 0), Some(7));
        assert_eq!(event(hook::NETFILTER_ENTER, netfilter::OUTPUT), Some(7));
        // The receiver's; the address of what drops.
        assert_eq!(event(hook::NETFILTER_ENTER, netfilter::INPUT), None);
        assert_eq!(event(hook::DROP, 0), None);
    }
}
