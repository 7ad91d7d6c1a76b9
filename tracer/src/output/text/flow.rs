//! A flow's line.

use super::{
    glyphs::{Page, endpoint},
    line::{Line, Piece, Style},
    units::duration,
};
use crate::{
    journey::model::State,
    report::{FlowReport, Lookup, Party, Rewriting, protocol_name},
};

/// Columns before a diagnosis.
const DIAGNOSIS_INDENT: usize = 2;

/// One line where the page is wide enough:
/// `flow 1: tcp a:p (app/a) -> vip:80 => b:8080 (app/b)  closed  6/5 packets  0 drops 0 holes  ..`.
pub(super) fn lines(page: &Page, flow: &FlowReport) -> Vec<Line> {
    let mut line = Line::default();
    let mark = match (flow.affected_by_loss, flow.sampled) {
        (true, true) => "?~",
        (true, false) => "?",
        (false, true) => "~",
        (false, false) => "",
    };
    line.push(Style::Strong, format!("flow {}{mark}:", flow.id));
    line.push(Style::Plain, format!(" {}", protocol_name(flow.protocol)));
    let indent = line.width() + 1;
    let (ends, facts) = (ends(page, flow), facts(page, flow));
    let whole = page.lay(
        line.clone(),
        ends.iter().chain(&facts).cloned().collect(),
        indent,
    );
    if whole.len() <= 1 {
        let lines = whole
            .into_iter()
            .chain(answers(page, flow, indent))
            .collect();
        return with_diagnosis(page, lines, flow);
    }
    // Where one line is not enough, the facts stay together.
    let mut lines = page.lay(line, ends, indent);
    let mut below = Line::default();
    below.pad(indent - 2);
    lines.extend(page.lay(below, facts, indent));
    lines.extend(answers(page, flow, indent));
    with_diagnosis(page, lines, flow)
}

/// What is wrong with it, below.
fn with_diagnosis(page: &Page, mut lines: Vec<Line>, flow: &FlowReport) -> Vec<Line> {
    if let Some(diagnosis) = &flow.diagnosis {
        let words = page.name(&diagnosis.sentence());
        let words = words.split(' ').map(|word| Piece::on(Style::Problem, word));
        let mut line = Line::default();
        line.pad(DIAGNOSIS_INDENT);
        line.push(Style::Problem, format!("{} ", page.glyphs.dropped));
        let mut pieces: Vec<Piece> = words.collect();
        if let Some(first) = pieces.first_mut() {
            first.gap = "";
        }
        lines.extend(page.lay(line, pieces, DIAGNOSIS_INDENT + 2));
    }
    lines
}

/// What a name server answered, a line each: `web.default.svc.cluster.local A 10.96.0.81  0.4ms`; and how
/// many questions it did not.
fn answers(page: &Page, flow: &FlowReport, indent: usize) -> Vec<Line> {
    let line = |lookup: &Lookup| {
        let Some(answer) = &lookup.answer else {
            return Vec::new();
        };
        let mut below = Line::default();
        below.pad(indent - 2);
        let asked = format!("{} {}", page.name(&answer.name), answer.kind_name());
        let said = match answer.code {
            0 if answer.addresses.is_empty() => vec!["nothing".to_owned()],
            0 => answer.addresses.iter().map(ToString::to_string).collect(),
            _ => vec![answer.code_name()],
        };
        let style = if answer.code == 0 {
            Style::Plain
        } else {
            Style::Problem
        };
        let said = said.into_iter().map(|word| Piece::on(style, word));
        let mut pieces = vec![Piece::on(Style::Plain, asked)];
        pieces.extend(said);
        if answer.truncated {
            pieces.push(Piece::on(Style::Warning, "(cut off)"));
        }
        let took = lookup.took().map(|took| duration(took, &page.glyphs));
        pieces.extend(took.map(|took| Piece::apart(Style::Plain, took)));
        if lookup.sent > 1 {
            let sent = format!("asked {} times", lookup.sent);
            pieces.push(Piece::apart(Style::Warning, sent));
        }
        page.lay(below, pieces, indent)
    };
    let mut lines: Vec<Line> = flow.lookups.iter().flat_map(line).collect();
    if flow.unanswered > 0 {
        let plural = if flow.unanswered == 1 { "" } else { "s" };
        let said = format!("{} question{plural} without an answer", flow.unanswered);
        let mut below = Line::default();
        below.pad(indent - 2);
        lines.extend(page.lay(below, vec![Piece::on(Style::Problem, said)], indent));
    }
    lines
}

/// Who talks to whom, and what becomes of either's address.
pub(super) fn ends(page: &Page, flow: &FlowReport) -> Vec<Piece> {
    let client = party(page, flow.protocol, &flow.client);
    let mut pieces = vec![Piece::on(Style::Plain, client)];
    for placed in &flow.translations {
        let word = match placed.translation.kind {
            Rewriting::Snat => "SNAT",
            Rewriting::Masquerade => "masquerade",
            _ => continue,
        };
        let to = endpoint(flow.protocol, placed.translation.to);
        pieces.push(Piece::on(Style::Translation, format!("as {to} ({word})")));
    }
    let destination = match &flow.backend {
        Some(backend) if backend.endpoint == flow.destination => {
            party(page, flow.protocol, backend)
        }
        _ => endpoint(flow.protocol, flow.destination),
    };
    pieces.push(Piece::on(Style::Plain, format!("-> {destination}")));
    if let Some(service) = &flow.service {
        let name = page.name(&service.to_string());
        pieces.push(Piece::on(Style::Plain, format!("({name})")));
    }
    if let Some(asked) = &flow.asked {
        let name = format!("asked for as {}", page.name(&asked.name));
        pieces.push(Piece::on(Style::Plain, name));
        let other = match asked.tried.len() {
            0 => None,
            1 => Some("(after 1 other name)".to_owned()),
            count => Some(format!("(after {count} other names)")),
        };
        pieces.extend(other.map(|other| Piece::on(Style::Plain, other)));
    }
    if let Some(backend) = translated_destination(page, flow) {
        pieces.push(Piece::on(Style::Translation, format!("=> {backend}")));
    }
    pieces
}

/// Who got the packets instead of whom the client called; while nobody did, who should have.
fn translated_destination(page: &Page, flow: &FlowReport) -> Option<String> {
    match &flow.backend {
        Some(backend) => {
            (backend.endpoint != flow.destination).then(|| party(page, flow.protocol, backend))
        }
        None => {
            let mut translations = flow.translations.iter().map(|placed| &placed.translation);
            let last = translations.rfind(|t| t.kind == Rewriting::Dnat)?;
            Some(endpoint(flow.protocol, last.to))
        }
    }
}

/// `10.244.1.2:37500 (app/a1 curl[4711])`.
fn party(page: &Page, protocol: u8, party: &Party) -> String {
    let end = endpoint(protocol, party.endpoint);
    let process = party
        .process
        .as_ref()
        .map(|process| format!("{}[{}]", page.party_name(&process.comm), process.pid));
    let place = party.called().map(|name| page.party_name(name));
    let said: Vec<String> = place.into_iter().chain(process).collect();
    match Some(said).filter(|said| !said.is_empty()) {
        Some(said) => format!("{end} ({})", said.join(" ")),
        None => end,
    }
}

fn facts(page: &Page, flow: &FlowReport) -> Vec<Piece> {
    let style = match flow.state {
        State::Closed | State::Established | State::Closing | State::Replied => Style::Good,
        State::Refused | State::Reset => Style::Problem,
        State::SynSent | State::SynReceived | State::Unreplied => Style::Warning,
    };
    let counted = |count: u64, what, style| {
        let style = if count > 0 { style } else { Style::Plain };
        let plural = if count == 1 { "" } else { "s" };
        (style, format!("{count} {what}{plural}"))
    };
    let (drop_style, drops) = counted(flow.drops, "drop", Style::Problem);
    let (hole_style, holes) = counted(flow.holes, "hole", Style::Warning);
    let [original, reply] = flow.packets;
    let mut time = duration(flow.duration(), &page.glyphs);
    if flow.ongoing {
        time.push_str(" so far");
    }
    vec![
        Piece::apart(style, flow.state.as_str()),
        Piece::apart(Style::Plain, format!("{original}/{reply} packets")),
        Piece::apart(drop_style, drops),
        Piece::on(hole_style, holes),
        Piece::apart(Style::Plain, time),
    ]
}
