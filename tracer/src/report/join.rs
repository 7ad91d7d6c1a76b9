//! Putting names to the numbers of a journey.

use super::{
    DeviceReport, DropReport, FlowReport, HopReport, PacketReport, Party, PlacedTranslation,
    ProcessReport, Rewriting, TranslationReport,
};
use crate::{
    event::Endpoint,
    filter::FlowFacts,
    journey::model::{
        Device, Dropped, Flow, FlowTranslation, Hop, NetnsId, Packet, Process, Translation,
        TranslationKind,
    },
    node::{
        link::LinkKind,
        pods::PodName,
        reasons::DropReasons,
        snapshot::{Namespace, Snapshot},
    },
};

/// What is known when a journey is reported.
#[derive(Clone, Copy)]
pub struct Knowledge<'a> {
    /// Namespaces, devices and pods.
    pub node: &'a Snapshot,
    /// Whether names are shown; without, there are numbers only.
    pub names: bool,
    /// Drop reasons by number.
    pub reasons: &'a DropReasons,
    /// The function at a kernel address, as `nf_hook_slow+0xa6`.
    pub function_at: &'a dyn Fn(u64) -> Option<String>,
}

impl Knowledge<'_> {
    /// The flow with names.
    #[must_use]
    pub fn flow(&self, flow: &Flow) -> FlowReport {
        let [client_pod, backend_pod] = self.pods_at(flow);
        let party = |endpoint, (netns, time), pod, process: &Option<Process>| Party {
            endpoint,
            netns: Option::and_then(netns, |netns| self.netns(netns, time)),
            pod,
            process: process.as_ref().map(|process| ProcessReport {
                pid: process.pid,
                comm: process.comm.clone(),
            }),
        };
        let client = party(
            flow.client,
            (flow.client_netns, flow.client_seen),
            client_pod,
            &flow.client_process,
        );
        let backend = flow.backend.map(|endpoint| {
            let place = (flow.backend_netns, flow.backend_seen);
            party(endpoint, place, backend_pod, &flow.backend_process)
        });
        let translations: Vec<_> = flow
            .translations
            .iter()
            .map(|t| self.placed(flow, t))
            .collect();
        let rules = translations.iter();
        let rules: Vec<_> = rules
            .filter_map(|placed| placed.translation.rule.as_ref())
            .collect();
        FlowReport {
            id: flow.id,
            protocol: flow.protocol,
            client,
            destination: flow.destination,
            service: self.service(flow, &rules),
            asked: None,
            lookups: Vec::new(),
            unanswered: 0,
            ongoing: false,
            backend,
            translations,
            state: flow.state,
            packets: flow.packets,
            bytes: flow.bytes,
            drops: flow.drops,
            holes: flow.holes,
            affected_by_loss: flow.may_miss(),
            sampled: flow.sampled,
            first: flow.first,
            last: flow.last,
            diagnosis: None,
        }
    }

    /// The packet with names.
    #[must_use]
    pub fn packet(&self, packet: &Packet) -> PacketReport {
        let mut previous = None;
        let hops = packet.hops.iter().map(|hop| {
            let before = previous.replace(hop.time).unwrap_or(hop.time);
            self.hop(packet, hop, before)
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
            bytes: packet.bytes.clone(),
            verdict: packet.verdict,
            verdict_observed: packet.verdict_observed,
            drop: packet
                .dropped
                .as_ref()
                .map(|dropped| self.drop(packet, dropped)),
        }
    }

    fn hop(&self, packet: &Packet, hop: &Hop, before: u64) -> HopReport {
        HopReport {
            time: hop.time,
            since_previous: hop.time.saturating_sub(before),
            spent: hop.left.map(|left| left.saturating_sub(hop.time)),
            stage: hop.stage,
            netns: self.netns(hop.netns, hop.time),
            pod: self.pod(hop.netns, hop.time),
            device: hop.device.as_ref().map(|device| self.device(hop, device)),
            tuple: hop.tuple,
            translations: self.translations(packet, hop),
            encapsulation: hop.encapsulation,
            hole: hop.hole,
        }
    }

    /// What the namespace was called at that time.
    fn netns(&self, netns: NetnsId, time: u64) -> Option<String> {
        let known = || match self.at(netns, time) {
            Some(namespace) => namespace.display_name().into_owned(),
            None => Snapshot::unknown_name(netns.0),
        };
        (netns.0 != 0).then(known)
    }

    /// Whose pod's it was at that time.
    fn pod(&self, netns: NetnsId, time: u64) -> Option<String> {
        self.at(netns, time)?.pod.as_ref().map(PodName::to_string)
    }

    pub(super) fn at(&self, netns: NetnsId, time: u64) -> Option<&Namespace> {
        self.node.at(netns.0, time).filter(|_| self.names)
    }

    /// What filters judge the flow by: whatever they ask of it.
    #[must_use]
    pub fn facts(&self, flow: &Flow) -> FlowFacts {
        FlowFacts {
            hops: flow.subjects.clone(),
            pods: self.pods_of(flow),
            service: self.called_service(flow),
            dropped: flow.drops > 0,
        }
    }

    /// The pods that the client and the backend are, also where names are not shown.
    #[must_use]
    pub fn pods_of(&self, flow: &Flow) -> [Option<String>; 2] {
        let named = Self {
            names: true,
            ..*self
        };
        named.pods_at(flow)
    }

    /// By the namespaces of the two ends; with the node's own network, by the processes.
    fn pods_at(&self, flow: &Flow) -> [Option<String>; 2] {
        let client = (flow.client_netns, flow.client_seen);
        let backend = (flow.backend_netns, flow.backend_seen);
        [
            (client, &flow.client_process, Some(flow.client)),
            (backend, &flow.backend_process, flow.backend),
        ]
        .map(|((netns, time), process, endpoint)| {
            let by_netns = netns.and_then(|netns| self.pod(netns, time));
            let by_process = || self.pod_of_process(process.as_ref()?);
            let elsewhere = || self.pod_elsewhere(endpoint?, netns);
            by_netns.or_else(by_process).or_else(elsewhere)
        })
    }

    /// What the Kubernetes API says of an end that is not on this node.
    fn pod_elsewhere(&self, endpoint: Endpoint, netns: Option<NetnsId>) -> Option<String> {
        let cluster = self
            .node
            .cluster()
            .filter(|_| self.names && netns.is_none())?;
        Some(cluster.pod_at(endpoint.ip())?.name.to_string())
    }

    pub(super) fn pod_of_process(&self, process: &Process) -> Option<String> {
        let pod = self.node.pod_of_cgroup(process.cgroup)?;
        self.names.then(|| pod.name.to_string())
    }

    /// The device, with its kind where the node knows a device of this index and name; an index
    /// may have passed to another device since the snapshot.
    fn device(&self, hop: &Hop, device: &Device) -> DeviceReport {
        let raw = device.raw_name.split(|&byte| byte == 0).next();
        let netns = self.at(hop.netns, hop.time);
        let link = netns.and_then(|netns| netns.links.get(&device.ifindex));
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
    fn translations(&self, packet: &Packet, hop: &Hop) -> Vec<TranslationReport> {
        let mut reports: Vec<TranslationReport> = Vec::new();
        for translation in hop.translations() {
            for report in self.ends((hop.netns, hop.time), &translation) {
                if !reports.contains(&report) {
                    reports.push(report);
                }
            }
        }
        for report in &mut reports {
            let kind = match report.kind {
                Rewriting::Dnat => TranslationKind::Dnat,
                Rewriting::Snat | Rewriting::Masquerade => TranslationKind::Snat,
                Rewriting::UnDnat | Rewriting::UnSnat => continue,
            };
            report.rule = self.translating(packet, hop, (kind, report.to));
        }
        reports
    }

    fn ends(
        &self,
        place: (NetnsId, u64),
        Translation { kind, from, to }: &Translation,
    ) -> impl Iterator<Item = TranslationReport> {
        let (source, destination) = match kind {
            TranslationKind::Dnat | TranslationKind::Snat => {
                (self.source_kind(place, to.source), Rewriting::Dnat)
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
        .map(|(kind, from, to)| TranslationReport {
            kind,
            from,
            to,
            rule: None,
        })
    }

    fn source_kind(&self, (netns, time): (NetnsId, u64), after: Endpoint) -> Rewriting {
        let namespace = self.at(netns, time);
        let links = namespace
            .into_iter()
            .flat_map(|namespace| namespace.links.values());
        let mut addresses = links.flat_map(|link| &link.addresses);
        if addresses.any(|prefix| prefix.address == after.ip()) {
            Rewriting::Masquerade
        } else {
            Rewriting::Snat
        }
    }

    fn placed(&self, flow: &Flow, translation: &FlowTranslation) -> PlacedTranslation {
        let &FlowTranslation {
            stage,
            netns,
            from,
            to,
            time,
            ..
        } = translation;
        let kind = match translation.kind {
            TranslationKind::Dnat => Rewriting::Dnat,
            TranslationKind::Snat => self.source_kind((netns, time), to),
            TranslationKind::UnDnat => Rewriting::UnDnat,
            TranslationKind::UnSnat => Rewriting::UnSnat,
        };
        PlacedTranslation {
            translation: TranslationReport {
                kind,
                from,
                to,
                rule: self.placing(flow, translation),
            },
            stage,
            netns: self.netns(netns, time),
        }
    }

    fn drop(&self, packet: &Packet, dropped: &Dropped) -> DropReport {
        let time = last_time(packet);
        DropReport {
            reason: self
                .reasons
                .name(dropped.reason)
                .map(std::borrow::Cow::into_owned),
            reason_number: dropped.reason,
            stage: dropped.stage,
            netns: self.netns(dropped.netns, time),
            pod: self.pod(dropped.netns, time),
            address: dropped.location,
            function: (self.function_at)(dropped.location),
            rule: self.dropping(packet, dropped),
        }
    }
}

/// When a packet was seen last.
fn last_time(packet: &Packet) -> u64 {
    packet.hops.last().map_or(0, |hop| hop.time)
}
