//! The words for places, rules and commands.

use std::net::IpAddr;

use super::Case;
use crate::{
    event::Endpoint,
    journey::model::{Direction, NetnsId, Packet, Stage, Transport},
    node::rules::path::{Place, Source, Step},
    report::{DropReport, HopReport, PacketReport, RuleReport, protocol_name},
};

/// `1 packet`, `3 packets`.
pub(super) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// `10.244.1.3:8080`, without the port where there is none.
pub(super) fn end(protocol: u8, end: Endpoint) -> String {
    if matches!(protocol, 1 | 58) || end.port == 0 {
        end.ip().to_string()
    } else {
        end.to_string()
    }
}

/// Seconds, as `1.04 s`.
pub(super) fn seconds(nanoseconds: u64) -> String {
    let centis = nanoseconds.saturating_add(5_000_000) / 10_000_000;
    format!("{}.{:02} s", centis / 100, centis % 100)
}

/// What the client sent: `SYN`, `DNS question`, `echo request`, `UDP datagram`.
pub(super) fn question(packet: &Packet) -> &'static str {
    match packet.transport {
        Transport::Tcp { flags: 2, .. } => "SYN",
        Transport::Tcp { .. } => "segment",
        Transport::Udp { .. } => "datagram",
        Transport::Icmp { .. } => "echo request",
        Transport::Other => "packet",
    }
}

impl Case<'_> {
    /// Whom the client called, with the Service: `10.96.0.85:80 (default/ghost:http)`.
    pub(super) fn called(&self) -> String {
        let called = end(self.flow.protocol, self.flow.destination);
        match &self.report.service {
            Some(service) => format!("{called} ({service})"),
            None => called,
        }
    }

    /// Who gets, or should get, the packets: `10.244.1.3:8080 (default/b1)`.
    pub(super) fn backend(&self) -> String {
        let target = self.target();
        let text = end(self.flow.protocol, target);
        let called = self
            .report
            .backend
            .as_ref()
            .and_then(|party| party.called());
        match called {
            Some(name) => format!("{text} ({name})"),
            None => text,
        }
    }

    /// Where the client's packets go after all translations.
    pub(super) fn target(&self) -> Endpoint {
        use crate::journey::model::TranslationKind::Dnat;
        let mut translations = self.flow.translations.iter();
        let last = translations.rfind(|placed| placed.kind == Dnat);
        let translated = last.map(|placed| placed.to);
        self.flow
            .backend
            .or(translated)
            .unwrap_or(self.flow.destination)
    }

    /// A command as it is to be typed on the node to have it run in that namespace.
    pub(super) fn command_in(&self, netns: NetnsId, time: u64, command: &str) -> String {
        let Some(namespace) = self.known.at(netns, time) else {
            return command.to_owned();
        };
        if namespace.initial {
            return command.to_owned();
        }
        match (namespace.mounts.first(), &namespace.process) {
            (Some(mount), _) => format!("nsenter --net={mount} {command}"),
            (None, Some(process)) => format!("nsenter --net --target {} {command}", process.pid),
            (None, None) => command.to_owned(),
        }
    }

    /// `3 packets dropped in forward on node1 (NETFILTER_DROP, nf_hook_slow+0xa6)`.
    pub(super) fn drops(&self, loss: &super::Loss, report: &PacketReport) -> String {
        let count = match (loss.sample.direction, loss.sample.transport) {
            (Direction::Original, _) => counted(loss.count, question(&loss.sample)),
            (Direction::Reply, Transport::Tcp { flags: 18, .. }) => counted(loss.count, "SYN-ACK"),
            (Direction::Reply, _) => counted(loss.count, "answer"),
        };
        let Some(drop) = &report.drop else {
            return format!("{count} dropped");
        };
        let mut why: Vec<&str> = Vec::new();
        why.extend(drop.reason.as_deref());
        why.extend(drop.function.as_deref());
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(", {}", why.join(" in "))
        };
        let tunnel = report.hops.last().and_then(|hop| hop.encapsulation);
        let tunnel = tunnel.map_or_else(String::new, |around| {
            let (from, to) = (around.outer.source.ip(), around.outer.destination.ip());
            format!(" inside the tunnel from {from} to {to}")
        });
        format!("{count} dropped {}{tunnel}{why}", dropped_at(drop, report))
    }

    /// The last place where a packet was seen: `device.transmit of eth0 in node1`.
    pub(super) fn last_seen(&self, packet: &Packet) -> String {
        let report = self.known.packet(packet);
        let hop = report.hops.iter().rfind(|hop| hop.stage != Stage::Drop);
        hop.map_or_else(|| "nowhere".to_owned(), place)
    }
}

/// `at forward of cni0 in node1`.
pub(super) fn dropped_at(drop: &DropReport, report: &PacketReport) -> String {
    let hop = report.hops.iter().rfind(|hop| hop.stage == drop.stage);
    match hop {
        Some(hop) => format!("at {}", place(hop)),
        None => format!(
            "at {}{}",
            drop.stage,
            inside(drop.pod.as_deref().or(drop.netns.as_deref()))
        ),
    }
}

/// `forward of cni0 in node1`.
pub(super) fn place(hop: &HopReport) -> String {
    let device = hop.device.as_ref();
    let device = device.map_or_else(String::new, |device| format!(" of {}", device.name));
    format!("{}{device}{}", hop.stage, inside(hop.called()))
}

/// ` in node1`.
pub(super) fn inside(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" in {name}"))
}

/// The rule that decided, where it is known, or the likeliest.
pub(super) fn deciding(rule: &RuleReport) -> Option<&Step> {
    let path = if rule.path.is_empty() {
        rule.candidates.first().map(|candidate| &candidate.path)
    } else {
        Some(&rule.path)
    };
    path?.last()
}

/// The command that lists a rule's chain.
pub(super) fn list_chain(step: &Step, address: IpAddr) -> String {
    let six = if address.is_ipv6() { "6" } else { "" };
    match (step.source, step.place) {
        (Source::Nftables, Place::Element) => {
            format!("nft list map {} {}", step.table, step.chain)
        }
        (Source::Nftables, _) => format!("nft -a list chain {} {}", step.table, step.chain),
        (Source::IptablesLegacy, _) => {
            format!("ip{six}tables-legacy -t {} -vS {}", step.table, step.chain)
        }
        (Source::Ipvs, _) => "ipvsadm -Ln".to_owned(),
        _ => format!("ip{six}tables-nft -t {} -vS {}", step.table, step.chain),
    }
}

/// `tcp 10.244.1.2 to 10.244.1.3:8080`.
pub(super) fn of_protocol(protocol: u8) -> String {
    protocol_name(protocol).to_uppercase()
}
