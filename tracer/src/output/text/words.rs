//! The words of the text, for sinks of other formats: what a packet is, what a hop did to it, which
//! rule did that, on one line each and in all characters.

use super::{
    flow,
    glyphs::{self, Page},
    label, ladder,
    line::{self, Piece},
    rule, units,
};
use crate::{
    event::{Endpoint, Tuple},
    journey::model::{Direction, Encapsulation, Hole, Verdict},
    output::terminal::Terminal,
    report::{DropReport, FlowReport, PacketReport, RuleReport, TranslationReport, protocol_name},
};

pub(crate) use super::{
    ladder::{Rung, rungs},
    paths::Paths,
};

/// A page without limits.
fn page() -> Page {
    Page::new(Terminal {
        width: None,
        color: false,
        unicode: true,
    })
}

fn joined(pieces: Vec<Piece>) -> String {
    let mut text = String::new();
    for piece in pieces {
        if !text.is_empty() {
            text.push_str(piece.gap);
        }
        text.push_str(&piece.text);
    }
    text
}

/// `PSH-ACK 74 bytes`.
pub(crate) fn label(packet: &PacketReport) -> String {
    label::of(packet)
}

/// `131.0µs`.
pub(crate) fn duration(nanoseconds: u64) -> String {
    units::duration(nanoseconds, &page().glyphs)
}

/// `10.244.1.2:37500`, without the port where there is none.
pub(crate) fn endpoint(protocol: u8, endpoint: Endpoint) -> String {
    glyphs::endpoint(protocol, endpoint)
}

/// A name in at most that many columns.
pub(crate) fn shortened(name: &str, columns: usize) -> String {
    page().short_name(name, columns)
}

/// A text in lines of that many columns.
pub(crate) fn folded(text: &str, columns: usize) -> Vec<String> {
    line::fold(text, columns)
}

/// `10.244.1.2:37500 -> 10.96.0.81:80`.
pub(crate) fn tuple(tuple: &Tuple) -> String {
    glyphs::tuple(tuple)
}

/// `→` as the client's first packet, `←` as the answer.
pub(crate) fn arrow(direction: Direction) -> &'static str {
    page().arrow(direction)
}

/// `flow 1 tcp 10.244.1.2:37500 (app/a1) -> 10.96.0.81:80 (default/web:http) => 10.244.1.3:8080 (app/b1)`.
pub(crate) fn flow(flow: &FlowReport) -> String {
    let ends = joined(flow::ends(&page(), flow));
    format!("flow {} {} {ends}", flow.id, protocol_name(flow.protocol))
}

/// `DNAT 10.96.0.81:80 -> 10.244.1.3:8080`.
pub(crate) fn translation(protocol: u8, report: &TranslationReport) -> String {
    ladder::remarks::translation(protocol, report)
}

/// `by KUBE-SERVICES > KUBE-SVC-.. (service default/web:http, endpoint 1 of 2)`.
pub(crate) fn translating(rule: &RuleReport) -> String {
    joined(rule::translation(&page(), rule))
}

/// `by filter FORWARD rule 3: -A FORWARD -p tcp --dport 81 -j DROP`.
pub(crate) fn dropping(rule: &RuleReport) -> String {
    joined(rule::drop(&page(), rule))
}

/// `✗ DROPPED at forward in node1: NETFILTER_DROP (nf_hook_slow+0xa6)`.
pub(crate) fn drop(drop: &DropReport) -> String {
    joined(ladder::remarks::drop(&page(), drop))
}

/// `?? hole: no postrouting event here`.
pub(crate) fn hole(hole: Hole) -> String {
    ladder::remarks::hole(hole).text
}

/// `VXLAN vni 1 192.168.77.11 -> 192.168.77.12`.
pub(crate) fn tunnel(tunnel: Encapsulation) -> String {
    ladder::remarks::tunnel(Some(tunnel), None)
}

/// `delivered`.
pub(crate) const fn verdict(verdict: Verdict) -> &'static str {
    ladder::verdict_words(verdict)
}
