//! Putting names to the numbers of a journey.

use super::{
    DeviceReport, DropReport, FlowReport, HopReport, PacketReport, Party, PlacedTranslation,
    Rewriting, TranslationReport,
};
use crate::{
    event::Endpoint,
    journey::model::{
        Device, Dropped, Flow, FlowTranslation, Hop, NetnsId, Packet, Translation, TranslationKind,
    },
    node::{link::LinkKind, reasons::DropReasons, snapshot::Snapshot},
};

/// What is known when a journey is reported.
#[derive(Clone, Copy)]
pub struct Knowledge<'a> {
    /// Namespaces and devices.
    pub node: &'a Snapshot,
    /// Drop reasons by number.
    pub reasons: &'a DropReasons,
    /// The function at a kernel address, as `nf_hook_slow+0xa6`.
    pub function_at: &'a dyn Fn(u64) -> Option<String>,
}

impl Knowledge<'_> {
    /// The flow with names.
    #[must_use]
    pub fn flow(&self, flow: &Flow) -> FlowReport {
        let party = |endpoint, netns: Option<NetnsId>| Party {
            endpoint,
            netns: netns.and_then(|netns| self.netns(netns)),
        };
        FlowReport {
            id: flow.id,
            protocol: flow.protocol,
            client: party(flow.client, flow.client_netns),
            destination: flow.destination,
            backend: flow
                .backend
                .map(|endpoint| party(endpoint, flow.backend_netns)),
            translations: flow.translations.iter().map(|t| self.placed(t)).collect(),
            state: flow.state,
            packets: flow.packets,
            bytes: flow.bytes,
            drops: flow.drops,
            holes: flow.holes,
            affected_by_loss: flow.affected_by_loss,
            first: flow.first,
            last: flow.last,
        }
    }

    /// The packet with names.
    #[must_use]
    pub fn packet(&self, packet: &Packet) -> PacketReport {
        let mut previous = None;
        let hops = packet.hops.iter().map(|hop| {
            let before = previous.replace(hop.time).unwrap_or(hop.time);
            self.hop(hop, before)
        });
        PacketReport {
            id: packet.id,
            flow: packet.flow,
            direction: packet.direction,
            protocol: packet.protocol,
            transport: packet.transport,
            length: packet.length,
            payload: packet.payload,
            hops: hops.collect(),
            hops_cut: packet.hops_cut,
            verdict: packet.verdict,
            verdict_observed: packet.verdict_observed,
            drop: packet.dropped.as_ref().map(|dropped| self.drop(dropped)),
        }
    }

    fn hop(&self, hop: &Hop, before: u64) -> HopReport {
        HopReport {
            time: hop.time,
            since_previous: hop.time.saturating_sub(before),
            spent: hop.left.map(|left| left.saturating_sub(hop.time)),
            stage: hop.stage,
            netns: self.netns(hop.netns),
            device: hop.device.as_ref().map(|d| self.device(hop.netns, d)),
            tuple: hop.tuple,
            translations: self.translations(hop),
            encapsulation: hop.encapsulation,
            hole: hop.hole,
        }
    }

    fn netns(&self, netns: NetnsId) -> Option<String> {
        (netns.0 != 0).then(|| self.node.display_name(netns.0).into_owned())
    }

    /// The device, with its kind where the node knows a device of this index and name; an index
    /// may have passed to another device since the snapshot.
    fn device(&self, netns: NetnsId, device: &Device) -> DeviceReport {
        let raw = device.raw_name.split(|&byte| byte == 0).next();
        let link = self.node.link(netns.0, device.ifindex);
        let kind = link
            .filter(|link| raw == Some(link.name.as_bytes()))
            .map(|link| &link.kind)
            .or(match device {
                Device { bridge: true, .. } => Some(&LinkKind::Bridge),
                Device { loopback: true, .. } => Some(&LinkKind::Loopback),
                _ => None,
            });
        DeviceReport {
            name: device.name(),
            kind: kind.map(|kind| kind.as_str().to_owned()),
        }
    }

    /// Each end that the hop rewrote, once.
    fn translations(&self, hop: &Hop) -> Vec<TranslationReport> {
        let mut reports = Vec::new();
        for translation in hop.translations.iter().flatten() {
            for report in self.ends(hop.netns, translation) {
                if !reports.contains(&report) {
                    reports.push(report);
                }
            }
        }
        reports
    }

    fn ends(
        &self,
        netns: NetnsId,
        Translation { kind, from, to }: &Translation,
    ) -> impl Iterator<Item = TranslationReport> {
        let (source, destination) = match kind {
            TranslationKind::Dnat | TranslationKind::Snat => {
                (self.source_kind(netns, to.source), Rewriting::Dnat)
            }
            TranslationKind::UnDnat | TranslationKind::UnSnat => {
                (Rewriting::UnDnat, Rewriting::UnSnat)
            }
        };
        [
            (destination, from.destination, to.destination),
            (source, from.source, to.source),
        ]
        .into_iter()
        .filter(|(_, from, to)| from != to)
        .map(|(kind, from, to)| TranslationReport { kind, from, to })
    }

    fn source_kind(&self, netns: NetnsId, after: Endpoint) -> Rewriting {
        let holders = self.node.with_address(after.ip());
        if holders.iter().any(|link| link.netns == netns.0) {
            Rewriting::Masquerade
        } else {
            Rewriting::Snat
        }
    }

    fn placed(&self, translation: &FlowTranslation) -> PlacedTranslation {
        let &FlowTranslation {
            stage,
            netns,
            from,
            to,
            ..
        } = translation;
        let kind = match translation.kind {
            TranslationKind::Dnat => Rewriting::Dnat,
            TranslationKind::Snat => self.source_kind(netns, to),
            TranslationKind::UnDnat => Rewriting::UnDnat,
            TranslationKind::UnSnat => Rewriting::UnSnat,
        };
        PlacedTranslation {
            translation: TranslationReport { kind, from, to },
            stage,
            netns: self.netns(netns),
        }
    }

    fn drop(&self, dropped: &Dropped) -> DropReport {
        DropReport {
            reason: self
                .reasons
                .name(dropped.reason)
                .map(std::borrow::Cow::into_owned),
            reason_number: dropped.reason,
            stage: dropped.stage,
            netns: self.netns(dropped.netns),
            address: dropped.location,
            function: (self.function_at)(dropped.location),
        }
    }
}
