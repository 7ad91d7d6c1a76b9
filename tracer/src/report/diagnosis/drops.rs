//! The kernel dropped packets for a reason of its own, or by a rule that is not known.

use std::net::IpAddr;

use super::{
    Case, Diagnosis, Layer, Loss, filter,
    symptom::Symptom,
    words::{dropped_at, inside},
};
use crate::{
    journey::model::{Device, Direction, Hop, Stage, Transport},
    report::{DropReport, PacketReport},
};

/// Packets of the flow were dropped: the client's, where nobody answered, else the answers.
pub(super) fn dropped(case: &Case<'_>) -> Option<Diagnosis> {
    let directions = match case.symptom {
        Symptom::AnswerLost => &[Direction::Reply][..],
        Symptom::Stalled | Symptom::LookupLost => &[Direction::Original, Direction::Reply],
        Symptom::Refused
        | Symptom::Unanswered
        | Symptom::Slow
        | Symptom::LookupSlow
        | Symptom::LookupFailed => &[Direction::Original],
    };
    let evidence = case.seen.evidence;
    let mut losses = directions
        .iter()
        .flat_map(|&direction| evidence.losses(direction));
    losses.find_map(|loss| of_loss(case, loss))
}

/// A kind of drop.
struct Dropped<'a> {
    case: &'a Case<'a>,
    loss: &'a Loss,
    report: &'a PacketReport,
    drop: &'a DropReport,
    hop: &'a Hop,
}

fn of_loss(case: &Case<'_>, loss: &Loss) -> Option<Diagnosis> {
    let report = case.known.packet(&loss.sample);
    let dropped = Dropped {
        case,
        loss,
        report: &report,
        drop: report.drop.as_ref()?,
        hop: loss.sample.hops.last()?,
    };
    dropped.diagnose()
}

impl Dropped<'_> {
    fn diagnose(&self) -> Option<Diagnosis> {
        let diagnosis = match self.drop.reason.as_deref() {
            Some(reason) => self.by_reason(reason),
            None => None,
        };
        let diagnosis = diagnosis.or_else(|| self.by_unknown_rule());
        let diagnosis = diagnosis.or_else(|| self.otherwise())?;
        Some(diagnosis.seen(self.case.drops(self.loss, self.report)))
    }

    fn by_reason(&self, reason: &str) -> Option<Diagnosis> {
        match reason {
            "IP_INNOROUTES" | "IP_OUTNOROUTES" => Some(self.no_route()),
            "IP_RPFILTER" => Some(self.reverse_path()),
            "IP_INADDRERRORS" => Some(self.not_forwarded()),
            "IP_INVALID_SOURCE" | "IP_LOCAL_SOURCE" | "IP_LOCALNET" | "IP_INVALID_DEST" => {
                Some(self.martian())
            }
            "NEIGH_FAILED" | "NEIGH_CREATEFAIL" | "NEIGH_QUEUEFULL" | "NEIGH_DEAD" => {
                Some(self.no_neighbour())
            }
            "PKT_TOO_BIG" => Some(self.too_big()),
            "TCP_LISTEN_OVERFLOW" | "SOCKET_BACKLOG" | "SOCKET_RCVBUFF" | "PROTO_MEM" => {
                Some(self.overloaded())
            }
            "XDP" | "TC_INGRESS" | "TC_EGRESS" | "BPF_CGROUP_EGRESS" | "SOCKET_FILTER"
            | "SECURITY_HOOK" | "XFRM_POLICY" => Some(self.by_program(reason)),
            "QDISC_DROP" | "QDISC_OVERLIMIT" | "QDISC_CONGESTED" | "CPU_BACKLOG" | "FULL_RING"
            | "DEV_READY" => Some(self.by_device()),
            _ => None,
        }
    }

    fn no_route(&self) -> Diagnosis {
        let to = self.hop.tuple.destination.ip();
        let what = format!("no route{} to {to}", self.node());
        Diagnosis::new(Layer::Routing, "no-route", what)
            .culprit(format!("{to}"))
            .look(self.command(&format!("ip route get {to}")))
    }

    fn reverse_path(&self) -> Diagnosis {
        let (from, device) = (self.hop.tuple.source.ip(), self.device());
        let what = format!(
            "rp_filter{} drops what comes from {from} by {device}, since its routes lead to {from} by \
             another device",
            self.node()
        );
        let command = format!("ip route get {from}");
        Diagnosis::new(Layer::Routing, "rp-filter", what)
            .culprit(format!("net.ipv4.conf.{device}.rp_filter"))
            .look(self.command(&command))
    }

    fn not_forwarded(&self) -> Diagnosis {
        let tuple = self.hop.tuple;
        let to = tuple.destination.ip();
        let name = match to {
            IpAddr::V4(_) => "net.ipv4.ip_forward",
            IpAddr::V6(_) => "net.ipv6.conf.all.forwarding",
        };
        let node = self.case.known.at(self.hop.netns, self.hop.time);
        let setting = node.and_then(|node| node.network.setting(name));
        let mut what = format!("packets to {to} are not forwarded{}", self.node());
        if setting == Some("0") {
            what.push_str(&format!(": {name} is 0"));
        }
        Diagnosis::new(Layer::Routing, "not-forwarded", what)
            .culprit(name)
            .look(self.command(&format!("sysctl {name}")))
    }

    fn martian(&self) -> Diagnosis {
        let tuple = self.hop.tuple;
        let what = format!(
            "packets from {} to {} may not come in by {}{}",
            tuple.source.ip(),
            tuple.destination.ip(),
            self.device(),
            self.node()
        );
        Diagnosis::new(Layer::Routing, "martian", what).culprit(self.device())
    }

    fn no_neighbour(&self) -> Diagnosis {
        let device = self.device();
        let to = self.hop.tuple.destination.ip();
        let what = format!(
            "nobody answers on {device}{} for {to}, or for the gateway to it",
            self.node()
        );
        Diagnosis::new(Layer::PodNetwork, "no-neighbour", what)
            .culprit(&device)
            .look(self.command(&format!("ip neigh show dev {device}")))
    }

    fn too_big(&self) -> Diagnosis {
        let (length, to) = (self.loss.sample.length, self.hop.tuple.destination.ip());
        let what = format!(
            "packets of up to {length} bytes are too large for the route to {to}{}",
            self.node()
        );
        let command = format!("ip route get {to}");
        let diagnosis = Diagnosis::new(Layer::Mtu, "packet-too-big", what)
            .culprit(self.device())
            .look(self.command(&command));
        match self.error_that_was_dropped() {
            Some(place) => diagnosis.seen(format!(
                "the error that would tell the sender was dropped {place}"
            )),
            None => diagnosis,
        }
    }

    /// Where "fragmentation needed" or "packet too big" ended.
    fn error_that_was_dropped(&self) -> Option<String> {
        let errors = self.case.seen.evidence.errors().iter();
        let mut errors = errors.filter(|error| {
            matches!(
                (error.protocol, error.transport),
                (
                    1,
                    Transport::Icmp {
                        kind: 3,
                        code: 4,
                        ..
                    }
                ) | (58, Transport::Icmp { kind: 2, .. })
            )
        });
        errors.find_map(|error| {
            let report = self.case.known.packet(error);
            Some(dropped_at(report.drop.as_ref()?, &report))
        })
    }

    fn overloaded(&self) -> Diagnosis {
        let target = self.case.backend();
        let what = format!("{target} does not keep up: its socket has no room for more");
        Diagnosis::new(Layer::Server, "overloaded", what)
            .culprit(target)
            .look(self.command("ss -tlnpm"))
    }

    fn by_program(&self, reason: &str) -> Diagnosis {
        let what = format!("a program that is attached{} drops packets", self.node());
        let command = match reason {
            "XDP" | "TC_INGRESS" | "TC_EGRESS" => "bpftool net show",
            "XFRM_POLICY" => "ip xfrm policy",
            _ => "bpftool cgroup tree",
        };
        Diagnosis::new(Layer::Filter, "dropped-by-program", what)
            .culprit(self.device())
            .look(self.command(command))
    }

    fn by_device(&self) -> Diagnosis {
        let device = self.device();
        let what = format!("{device}{} takes no more packets, or is down", self.node());
        Diagnosis::new(Layer::PodNetwork, "device-drops", what)
            .culprit(&device)
            .look(self.command(&format!("ip -s link show {device}")))
    }

    /// A hook dropped it, and what is known of the rules does not say which did.
    fn by_unknown_rule(&self) -> Option<Diagnosis> {
        if !filter::is_by_rules(self.drop) {
            return None;
        }
        let what = format!(
            "a rule{} drops packets, and which one cannot be told from the rules as they were read",
            self.node()
        );
        let command = "iptables-save -c; nft list ruleset";
        let diagnosis = Diagnosis::new(Layer::Filter, "dropped-by-hook", what);
        Some(diagnosis.look(self.command(command)))
    }

    /// Any other reason. A connection that is open has packets dropped for many that harm nobody.
    fn otherwise(&self) -> Option<Diagnosis> {
        let plain = matches!(self.case.symptom, Symptom::Unanswered | Symptom::AnswerLost);
        let no_socket = self.drop.reason.as_deref() == Some("NO_SOCKET");
        if !plain || no_socket {
            return None;
        }
        let what = format!(
            "the kernel drops packets {}",
            dropped_at(self.drop, self.report)
        );
        let layer = match self.drop.stage {
            Stage::Socket => Layer::Server,
            _ => Layer::PodNetwork,
        };
        Some(Diagnosis::new(layer, "dropped", what))
    }

    /// ` on node1`.
    fn node(&self) -> String {
        inside(self.drop.pod.as_deref().or(self.drop.netns.as_deref()))
    }

    fn device(&self) -> String {
        let device = self.hop.device.as_ref();
        device.map_or_else(|| "its device".to_owned(), Device::name)
    }

    fn command(&self, command: &str) -> String {
        self.case.command_in(self.hop.netns, self.hop.time, command)
    }
}
