//! The page's parts, from top to bottom.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    kept::{Flow, Kept, is_problem},
    ladder, problem,
};
use crate::{
    output::{origin::Origin, sanitize, text::words},
    report::{FlowReport, PacketReport, Party, protocol_name},
};

/// No script, nothing from elsewhere; the page's own style only.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
const STYLE: &str = include_str!("style.css");

/// The head, and the recording at a glance.
pub(super) fn begin(origin: &Origin, kept: &Kept, lost: u64) -> Markup {
    let host = plain(&origin.host);
    let (first, last) = kept.times.unwrap_or_default();
    let begin = (first > 0).then(|| origin.date(first));
    // What is opened here is closed by `end`.
    html! {
        (DOCTYPE)
        (PreEscaped("<html lang=\"en\">"))
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(POLICY);
            meta name="referrer" content="no-referrer";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { "Flows of " (host) }
            style { (PreEscaped(STYLE)) }
        }
        (PreEscaped("<body>"))
        header {
            h1 { "Flows of " (host) }
            p {
                @if let Some(begin) = begin {
                    time datetime=(begin) { (begin) } ", " (words::duration(last.saturating_sub(first))) " · "
                }
                "Linux " (plain(&origin.kernel)) " · tracer " (plain(&origin.tracer))
                @if !origin.filter.trim().is_empty() {
                    " · recorded with the filter " code { (plain(&origin.filter)) }
                }
            }
            ul.counts {
                (count(kept.flow_count, "flow", ""))
                (count(kept.packet_count, "packet", ""))
                (count(kept.drop_count, "drop", "drop"))
                (count(kept.hole_count, "hole", "hole"))
                (count(lost, "lost event", "hole"))
            }
            @if kept.left_out() > 0 { (left_out(kept)) }
        }
    }
}

fn left_out(kept: &Kept) -> Markup {
    html! {
        p.hole {
            (kept.left_out()) " of the flows are not on this page, which has room for so many only. Those with \
             problems went first. A filter, or a shorter time, makes a page of what is asked for."
        }
    }
}

/// The end of what [`begin`] began.
pub(super) fn end(kept: &Kept) -> Markup {
    html! {
        @if kept.flow_count == 0 {
            p { "No flow was recorded, or none is asked for." }
        }
        (PreEscaped("</body></html>\n"))
    }
}

fn plain(text: &str) -> String {
    sanitize::plain(text).into_owned()
}

fn count(count: u64, what: &str, class: &str) -> Markup {
    let plural = if count == 1 { "" } else { "s" };
    html! {
        li class=(if count > 0 { class } else { "" }) { b { (count) } " " (what) (plural) }
    }
}

/// The flows that something is wrong with, and what.
pub(super) fn problems(kept: &Kept) -> Markup {
    html! {
        @if !kept.problems().is_empty() {
            section {
                h2 { "What went wrong" }
                ul.problems {
                    @for flow in kept.problems() {
                        li {
                            a href=(format!("#flow-{}", flow.report.id)) { (words::flow(&flow.report)) }
                            @for sentence in problem::sentences(flow) {
                                div { (plain(&sentence)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The kinds of drops.
pub(super) fn drops(kept: &Kept) -> Markup {
    let drops = kept.drops();
    html! {
        @if !drops.is_empty() {
            section {
                h2 { "Drops" }
                div.wide {
                    table {
                        thead { tr { th { "packets" } th { "where and why" } th { "rule" } } }
                        tbody {
                            @for ((what, rule), count) in drops {
                                tr {
                                    td.number { (count) }
                                    td { (plain(what)) }
                                    td { (plain(rule.as_deref().unwrap_or(""))) }
                                }
                            }
                        }
                    }
                }
                @if kept.more_drops > 0 {
                    p { "and " (kept.more_drops) " of other kinds" }
                }
            }
        }
    }
}

const HEADINGS: [&str; 10] = [
    "flow",
    "begin",
    "protocol",
    "client",
    "called",
    "answered",
    "state",
    "packets",
    "drops, holes",
    "lasted",
];

/// The table of flows.
pub(super) fn flows(origin: &Origin, kept: &Kept) -> Markup {
    html! {
        section {
            h2 { "Flows" }
            div.wide {
                table {
                    thead { tr { @for heading in HEADINGS { th { (heading) } } } }
                    tbody {
                        @for flow in kept.flows() { (row(origin, &flow.report)) }
                    }
                }
            }
        }
    }
}

fn row(origin: &Origin, flow: &FlowReport) -> Markup {
    let time = origin.date(flow.first);
    // The day stands above.
    let clock = time.split('T').nth(1).unwrap_or(&time);
    let protocol = flow.protocol;
    let class = if is_problem(flow) { "problem" } else { "" };
    html! {
        tr class=(class) {
            td.number { a href=(format!("#flow-{}", flow.id)) { (flow.id) } }
            td { (clock) }
            td { (protocol_name(protocol)) }
            td { (party(protocol, &flow.client)) }
            td {
                (words::endpoint(protocol, flow.destination))
                @if let Some(service) = &flow.service {
                    br; span.name { (plain(&service.to_string())) }
                }
            }
            td { @if let Some(backend) = &flow.backend { (party(protocol, backend)) } }
            td { (flow.state.as_str()) @if flow.affected_by_loss { " ?" } @if flow.sampled { " ~" } }
            td.number { (flow.packets[0]) "/" (flow.packets[1]) }
            td.number { (flow.drops) ", " (flow.holes) }
            td.number { (words::duration(flow.duration())) }
        }
    }
}

fn party(protocol: u8, party: &Party) -> Markup {
    html! {
        (words::endpoint(protocol, party.endpoint))
        @if let Some(name) = party.called() {
            br; span.name { (plain(name)) }
        }
        @if let Some(process) = &party.process {
            br; span.name { (plain(&process.comm)) "[" (process.pid) "]" }
        }
    }
}

/// A flow's ladders: open where something is wrong, to be opened elsewhere.
pub(super) fn journeys(flow: &Flow) -> Markup {
    html! {
        section.flow id=(format!("flow-{}", flow.report.id)) {
            details open[is_problem(&flow.report)] {
                summary { (words::flow(&flow.report)) " · " (flow.report.state.as_str()) }
                @for packet in &flow.ladders { (journey(packet)) }
                @if flow.others > 0 {
                    p { "and " (flow.others) " more packets, on the same ways where there was room for each way" }
                }
            }
        }
    }
}

fn journey(packet: &PacketReport) -> Markup {
    let inferred = if packet.verdict_observed {
        ""
    } else {
        " (inferred)"
    };
    html! {
        figure {
            figcaption {
                (words::arrow(packet.direction)) " " b { (words::label(packet)) } "  "
                span class=(packet.verdict.as_str()) { (words::verdict(packet.verdict)) }
                ", " (words::duration(packet.duration())) (inferred)
            }
            (ladder::picture(packet))
            @if packet.hops_cut > 0 {
                p.hole { (packet.hops_cut) " more hops, not kept" }
            }
        }
    }
}
