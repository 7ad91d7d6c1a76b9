//! Which flows and packets are asked for: by the filter, the time, and the traced command.

use super::{Window, caused};
use crate::{
    filter::{FlowView, ResolvedFilter},
    journey::model::{Flow, Packet},
    report::Knowledge,
    source::TracedCommand,
};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Only flows that it matches.
    pub(super) filter: ResolvedFilter,
    /// Only flows of this command.
    pub(super) command: Option<TracedCommand>,
    /// Only what was under way then.
    pub(super) window: Window,
}

impl Asked {
    /// Whether the flow is asked for, by all that is known of it.
    pub(super) fn wants(&self, flow: &Flow, known: &Knowledge<'_>) -> bool {
        if !self.window.meets(flow.first, flow.last) {
            return false;
        }
        if self
            .command
            .is_some_and(|command| !caused::by(command, flow))
        {
            return false;
        }
        let [client, backend] = if self.filter.asks_for_pods() {
            known.pods_of(flow)
        } else {
            [None, None]
        };
        let asked = self.filter.asks_for_services();
        let service = asked.then(|| known.called_service(flow)).flatten();
        self.filter.matches(&FlowView {
            hops: &flow.subjects,
            client_pod: client.as_deref(),
            backend_pod: backend.as_deref(),
            service: service.as_ref(),
            dropped: flow.drops > 0,
        })
    }

    /// Whether the packet was under way in the time that is asked for.
    pub(super) fn meets(&self, packet: &Packet) -> bool {
        let times = packet.hops.first().zip(packet.hops.last());
        times.is_none_or(|(first, last)| self.window.meets(first.time, last.time))
    }
}
