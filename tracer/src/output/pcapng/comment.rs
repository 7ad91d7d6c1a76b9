//! What is said of a packet at a hop.

use crate::{
    journey::model::Stage,
    output::{sanitize, text::words},
    report::{HopReport, PacketReport},
};

/// `prerouting at cni0 in node1; took 23.9µs; DNAT .. by ..; flow 1 original, packet 4, hop 5 of 13:
/// PSH-ACK 74 bytes, delivered; headers rebuilt`.
pub(super) fn of(packet: &PacketReport, at: usize, hop: &HopReport, kept: bool) -> String {
    let mut parts = vec![place(hop)];
    if let Some(spent) = hop.spent {
        parts.push(format!("took {}", words::duration(spent)));
    }
    parts.extend(hop.hole.map(words::hole));
    for report in &hop.translations {
        let mut text = words::translation(packet.protocol, report);
        if let Some(rule) = &report.rule {
            text.push_str(&format!(" {}", words::translating(rule)));
        }
        parts.push(text);
    }
    if let Some(drop) = packet.drop.as_ref().filter(|_| hop.stage == Stage::Drop) {
        parts.push(words::drop(drop));
        parts.extend(drop.rule.as_ref().map(words::dropping));
    }
    parts.extend(hop.encapsulation.map(words::tunnel));
    parts.push(which(packet, at));
    let bytes = if kept {
        "bytes kept, addresses, ports and checksums rebuilt"
    } else {
        "headers rebuilt"
    };
    parts.push(bytes.to_owned());
    sanitize::plain(&parts.join("; ")).into_owned()
}

fn place(hop: &HopReport) -> String {
    let mut text = hop.stage.as_str().to_owned();
    if let Some(device) = &hop.device {
        text.push_str(&format!(" at {}", device.name));
    }
    if let Some(name) = hop.called() {
        text.push_str(&format!(" in {name}"));
    }
    text
}

fn which(packet: &PacketReport, at: usize) -> String {
    let direction = words::arrow(packet.direction);
    let inferred = if packet.verdict_observed {
        ""
    } else {
        " (inferred)"
    };
    format!(
        "flow {} {direction} packet {}, hop {} of {}: {}, {}{inferred}",
        packet.flow,
        packet.id,
        at + 1,
        packet.hops.len(),
        words::label(packet),
        words::verdict(packet.verdict),
    )
}
