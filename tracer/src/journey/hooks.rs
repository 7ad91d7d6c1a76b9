//! Which of netfilter's hooks are observed, and which there are.

use foldhash::{HashMap, HashSet};
use tracer_common::{hook, record::FLAG_HAS_PREROUTING};

use super::{
    model::{Hole, NetnsId, Stage},
    path::{Before, Step},
};
use crate::event::Event;

/// How many hooks of namespaces are kept in mind.
const SEEN: usize = 1 << 14;
/// How many namespaces are looked up without the table.
const RECENT: usize = 64;

/// What is known of netfilter's hooks.
#[derive(Debug)]
pub(super) struct Hooks {
    /// Since when they are observed in a namespace.
    observed: HashMap<NetnsId, u64>,
    everywhere: Option<u64>,
    /// Those that some packet ran through: with everything observed, those that there are.
    seen: HashSet<(NetnsId, Stage)>,
    /// Of some namespaces, those that are among them, one bit a stage: most events are of such.
    recent: [(NetnsId, u16); RECENT],
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            observed: HashMap::default(),
            everywhere: None,
            seen: HashSet::default(),
            recent: [(NetnsId(0), 0); RECENT],
        }
    }
}

impl Hooks {
    /// They are observed in the namespace from that time on; `None`: no longer.
    pub(super) fn observe(&mut self, netns: NetnsId, since: Option<u64>) {
        match since {
            // No node has more; a recording may say so.
            Some(_) if self.observed.len() >= SEEN && !self.observed.contains_key(&netns) => None,
            Some(time) => self.observed.insert(netns, time),
            None => self.observed.remove(&netns),
        };
    }

    /// They are observed in every namespace from that time on.
    pub(super) fn observe_everywhere(&mut self, since: u64) {
        self.everywhere = Some(since);
    }

    /// Whether they, where there are any, would be seen at the event's place.
    pub(super) fn observes(&self, event: &Event) -> bool {
        let since = self
            .observed
            .get(&NetnsId(event.record.netns))
            .or(self.everywhere.as_ref());
        let seen = since.is_some_and(|since| *since <= event.record.time);
        // Seen everywhere does not mean that there is anything to see.
        let any = self.everywhere.is_none()
            || event.record.hook != hook::DEVICE_RECEIVE
            || event.has(FLAG_HAS_PREROUTING);
        seen && any
    }

    /// Notes the hook that the event is at.
    pub(super) fn note(&mut self, event: &Event) {
        let (Step::Enter(stage) | Step::Leave(stage)) = Step::of(event) else {
            return;
        };
        if self.everywhere.is_none() {
            return;
        }
        let (netns, bit) = (NetnsId(event.record.netns), 1 << stage as u16);
        let recent = &mut self.recent[netns.0 as usize % RECENT];
        if recent.0 == netns && recent.1 & bit != 0 {
            return;
        }
        if self.seen.len() < SEEN {
            self.seen.insert((netns, stage));
            let stages = if recent.0 == netns { recent.1 } else { 0 };
            *recent = (netns, stages | bit);
        }
    }

    /// With everything observed, a hook that no function is registered at is not run and not seen:
    /// only what was seen to be there can be missing.
    pub(super) fn is_hole(&self, hole: Hole, event: &Event) -> bool {
        if self.everywhere.is_none() {
            return true;
        }
        match hole {
            Hole::Missing(
                stage @ (Stage::Prerouting
                | Stage::Input
                | Stage::Forward
                | Stage::Output
                | Stage::Postrouting),
            ) => self.seen.contains(&(NetnsId(event.record.netns), stage)),
            Hole::Beginning => Step::of(event) != Step::Enter(Stage::Postrouting),
            _ => true,
        }
    }

    /// With everything observed, a hook is not seen left when it gave the packet to a process, which
    /// gave it back (NFQUEUE).
    pub(super) fn is_queued(&self, hole: Hole, before: &Before) -> bool {
        let entered = match hole {
            Hole::Missing(stage) => before.step == Step::Enter(stage),
            _ => false,
        };
        self.everywhere.is_some() && entered
    }
}
