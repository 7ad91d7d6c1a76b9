//! What is to be said of a hop beyond when and where it was.

use crate::{
    event::Tuple,
    journey::model::{Encapsulation, Hole, Stage},
    output::text::{
        glyphs::{self, Page},
        line::{Piece, Style},
        units::duration,
    },
    report::{DropReport, HopReport, Rewriting, TranslationReport},
};

/// The UDP port of Geneve; what else is recognised as a tunnel is VXLAN.
const GENEVE: u16 = 6081;

/// What the line above shows, so that only changes are said.
#[derive(Default)]
pub(super) struct Above {
    pub(super) time: Option<u64>,
    tuple: Option<Tuple>,
    encapsulation: Option<Encapsulation>,
}

impl From<&HopReport> for Above {
    fn from(hop: &HopReport) -> Self {
        Self {
            time: Some(hop.time),
            tuple: Some(hop.tuple),
            encapsulation: hop.encapsulation,
        }
    }
}

pub(super) fn of(page: &Page, protocol: u8, hop: &HopReport, above: &Above) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if let Some(spent) = hop.spent {
        let text = format!("took {}", duration(spent, &page.glyphs));
        pieces.push(Piece::apart(Style::Plain, text));
    }
    if above.tuple != Some(hop.tuple) {
        let text = glyphs::tuple(&hop.tuple);
        pieces.push(Piece::apart(Style::Plain, text));
    }
    if hop.encapsulation != above.encapsulation {
        let text = tunnel(hop.encapsulation, above.encapsulation);
        pieces.push(Piece::apart(Style::Tunnel, text));
    }
    for report in &hop.translations {
        let text = translation(protocol, report);
        pieces.push(Piece::apart(Style::Translation, text));
    }
    pieces
}

/// `VXLAN vni 1 192.168.77.11 -> 192.168.77.12`, and `out of VXLAN`.
pub(in crate::output::text) fn tunnel(
    now: Option<Encapsulation>,
    before: Option<Encapsulation>,
) -> String {
    let name = |tunnel: Encapsulation| match tunnel.outer.destination.port {
        GENEVE => "Geneve",
        _ => "VXLAN",
    };
    match (now, before) {
        (Some(tunnel), _) => {
            let (from, to) = (tunnel.outer.source.ip(), tunnel.outer.destination.ip());
            format!("{} vni {} {from} -> {to}", name(tunnel), tunnel.vni)
        }
        (None, Some(tunnel)) => format!("out of {}", name(tunnel)),
        (None, None) => String::new(),
    }
}

/// `DNAT 10.96.0.81:80 -> 10.244.1.3:8080`.
pub(in crate::output::text) fn translation(protocol: u8, report: &TranslationReport) -> String {
    let &TranslationReport { kind, from, to, .. } = report;
    let word = match kind {
        Rewriting::Dnat => "DNAT",
        Rewriting::Snat => "SNAT",
        Rewriting::Masquerade => "masquerade",
        Rewriting::UnDnat => "(un-DNAT)",
        Rewriting::UnSnat => "(un-SNAT)",
    };
    format!("{word} {}", glyphs::change(protocol, from, to))
}

/// `?? hole: no postrouting event here`.
pub(in crate::output::text) fn hole(hole: Hole) -> Piece {
    let text = match hole {
        Hole::Missing(stage) => format!("?? hole: no {stage} event here"),
        Hole::Beginning => "?? hole: first seen here, where no packet begins".to_owned(),
        Hole::NetfilterUnobserved => "?? hole: netfilter hooks not observed here".to_owned(),
    };
    Piece::on(Style::Warning, text)
}

/// `✗ DROPPED at forward in node1: NETFILTER_DROP (nf_hook_slow+0xa6)`.
pub(in crate::output::text) fn drop(page: &Page, drop: &DropReport) -> Vec<Piece> {
    let mut text = format!("{} DROPPED", page.glyphs.dropped);
    // Dropped before any other hook saw it: there is no place but the kernel's function.
    if drop.stage != Stage::Drop {
        text.push_str(&format!(" at {}", drop.stage));
    }
    if let Some(place) = drop.pod.as_ref().or(drop.netns.as_ref()) {
        text.push_str(&format!(" in {}", page.party_name(place)));
    }
    let reason = match (&drop.reason, drop.reason_number) {
        (Some(reason), _) => page.name(reason),
        (None, 0) => "the kernel gives no reason".to_owned(),
        (None, number) => format!("reason {number}"),
    };
    let mut pieces = vec![Piece::on(Style::Problem, format!("{text}: {reason}"))];
    let function = match (&drop.function, drop.address) {
        (Some(function), _) => page.name(function),
        (None, 0) => return pieces,
        (None, address) => format!("{address:#x}"),
    };
    pieces.push(Piece::on(Style::Problem, format!("({function})")));
    pieces
}
