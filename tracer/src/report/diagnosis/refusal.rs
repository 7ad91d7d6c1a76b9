//! Somebody said no: by a reset, or by an ICMP error.

use std::net::IpAddr;

use super::{
    Case, Diagnosis, Layer,
    symptom::Symptom,
    words::{end, inside, of_protocol},
};
use crate::{
    journey::model::{Direction, Hop, Process, Stage, Transport},
    report::{
        PacketReport,
        listening::{Port, is_unwanted},
    },
};

/// The packets came to the server's network, and no socket wants them.
pub(super) fn nothing_listens(case: &Case<'_>) -> Option<Diagnosis> {
    if case.symptom != Symptom::Refused {
        return None;
    }
    let mut losses = case.seen.evidence.losses(Direction::Original);
    let (loss, report) = losses.find_map(|loss| {
        let report = case.known.packet(&loss.sample);
        let drop = report.drop.as_ref()?;
        let unwanted = is_unwanted(drop.reason.as_deref(), drop.function.as_deref());
        unwanted.then_some((loss, report))
    })?;
    let hop = loss.sample.hops.last()?;
    let asked = hop.tuple.destination;
    let target = end(case.flow.protocol, asked);
    let listener = match case.flow.protocol {
        17 => "ss -lunp",
        _ => "ss -ltnp",
    };
    let drop = report.drop.as_ref()?;
    let place = drop.pod.as_deref().or(drop.netns.as_deref());
    let layer = if asked.ip().is_loopback() {
        Layer::Loopback
    } else {
        Layer::Server
    };
    let proto = of_protocol(case.flow.protocol);
    let (cause, what) = match listens_elsewhere(case, hop) {
        Some(elsewhere) => (
            "listens-elsewhere",
            format!(
                "{proto} {target} is called{}, but {elsewhere}",
                inside(place)
            ),
        ),
        None => (
            "nothing-listens",
            format!("nothing listens on {proto} {target}{}", inside(place)),
        ),
    };
    let mut diagnosis = Diagnosis::new(layer, cause, what)
        .culprit(&target)
        .seen(case.drops(loss, &report))
        .look(case.command_in(hop.netns, hop.time, listener));
    if let Some(said) = said_no(case) {
        diagnosis = diagnosis.seen(said);
    }
    Some(diagnosis)
}

/// The port is listened on at other addresses of the same namespace: at `127.0.0.1`, as
/// kube-scheduler and kube-controller-manager do unless told otherwise.
fn listens_elsewhere(case: &Case<'_>, hop: &Hop) -> Option<String> {
    let asked = hop.tuple.destination;
    let port = Port {
        netns: hop.netns,
        protocol: case.flow.protocol,
        port: asked.port,
    };
    let listeners = case.seen.listening.at(port, hop.time);
    // One that takes it has begun to listen since.
    if listeners.is_empty() || listeners.iter().any(|one| one.serves(asked.ip())) {
        return None;
    }
    let mut addresses: Vec<String> = listeners.iter().map(|one| one.local.to_string()).collect();
    addresses.sort();
    addresses.dedup();
    let processes = listeners.iter().map(|one| one.process.as_ref());
    let first = processes.clone().next().flatten();
    let one = first.filter(|_| processes.clone().all(|process| process == first));
    let who = one.map_or_else(
        || "its port is listened on".to_owned(),
        |process| {
            let pod = case.known.pod_of_process(process);
            let pod = pod.map_or_else(String::new, |pod| format!(" of {pod}"));
            format!("{} (pid {}{pod}) listens", process.comm, process.pid)
        },
    );
    let all = match asked.ip() {
        IpAddr::V4(_) => "0.0.0.0",
        IpAddr::V6(_) => "[::]",
    };
    let setting = one.and_then(setting_of).map_or_else(
        || format!("on {} or {all}", asked.ip()),
        |setting| format!("there by its {setting}"),
    );
    Some(format!(
        "{who} at {} only: have it listen {setting}",
        addresses.join(" and ")
    ))
}

/// What says where a program of Kubernetes' listens, by its name (cut to 15 letters, as the kernel
/// keeps it).
fn setting_of(process: &Process) -> Option<&'static str> {
    Some(match process.comm.as_str() {
        "kube-scheduler" | "kube-controller" => "--bind-address",
        "etcd" => "--listen-client-urls or --listen-metrics-urls",
        "kube-proxy" => "metricsBindAddress or healthzBindAddress",
        "kubelet" => "healthzBindAddress",
        _ => return None,
    })
}

/// An ICMP error came from somewhere.
pub(super) fn refused_by_error(case: &Case<'_>) -> Option<Diagnosis> {
    if case.symptom != Symptom::Refused {
        return None;
    }
    let mut errors = case.seen.evidence.errors().iter();
    let error = errors.find(|error| error.direction == Direction::Reply)?;
    let Transport::Icmp { kind, code, .. } = error.transport else {
        return None;
    };
    let said = unreachable(error.protocol, kind, code)?;
    let report = case.known.packet(error);
    let by = sender(&report);
    let (layer, cause) = match said {
        "port unreachable" => (Layer::Server, "port-unreachable"),
        "administratively prohibited" => (Layer::Filter, "prohibited"),
        _ => (Layer::Routing, "unreachable"),
    };
    let target = end(case.flow.protocol, case.target());
    let what = format!("{by} says that {target} is {}", adjective(said));
    Some(
        Diagnosis::new(layer, cause, what)
            .culprit(by)
            .seen(format!("ICMP {said} came for {}", case.called())),
    )
}

/// A reset came from where nothing is seen.
pub(super) fn refused_elsewhere(case: &Case<'_>) -> Option<Diagnosis> {
    if case.symptom != Symptom::Refused {
        return None;
    }
    let reset = case.seen.evidence.reset()?;
    let report = case.known.packet(reset);
    let target = end(case.flow.protocol, case.target());
    let what = format!(
        "{} refuses connections: it, or something before it, answers with RST",
        case.backend()
    );
    Some(
        Diagnosis::new(Layer::Server, "reset", what)
            .culprit(target)
            .seen(format!("RST from {}", sender(&report))),
    )
}

/// How the client was told.
fn said_no(case: &Case<'_>) -> Option<String> {
    let evidence = case.seen.evidence;
    if let Some(reset) = evidence.reset() {
        let report = case.known.packet(reset);
        return Some(format!("RST from {}", sender(&report)));
    }
    let error = evidence.errors().first()?;
    let Transport::Icmp { kind, code, .. } = error.transport else {
        return None;
    };
    let said = unreachable(error.protocol, kind, code)?;
    let report = case.known.packet(error);
    Some(format!("ICMP {said} from {}", sender(&report)))
}

/// Who sent a packet: its address, and where it was seen first.
fn sender(report: &PacketReport) -> String {
    let Some(hop) = report.hops.first() else {
        return "somebody".to_owned();
    };
    let address = end(report.protocol, hop.tuple.source);
    // What comes in by a device was sent before it.
    let place = (hop.stage != Stage::DeviceReceive).then(|| hop.called());
    format!("{address}{}", inside(place.flatten()))
}

fn unreachable(protocol: u8, kind: u8, code: u8) -> Option<&'static str> {
    Some(match (protocol, kind, code) {
        (1, 3, 0) => "network unreachable",
        (1, 3, 1) => "host unreachable",
        (1, 3, 2) => "protocol unreachable",
        (1, 3, 3) | (58, 1, 4) => "port unreachable",
        (1, 3, 9 | 10 | 13) | (58, 1, 1) => "administratively prohibited",
        (1, 3, 4) => return None,
        (1, 3, _) | (58, 1, _) => "destination unreachable",
        _ => return None,
    })
}

fn adjective(said: &str) -> String {
    match said {
        "administratively prohibited" => "prohibited by a filter".to_owned(),
        "port unreachable" => "a port that nobody listens on, or one that is rejected".to_owned(),
        other => format!("out of reach ({other})"),
    }
}
