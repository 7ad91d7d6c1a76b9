//! Two packets hop by hop: a fast and a slow one.
//!
//! Hops are aligned by stage and place, as a difference of two texts is: what both have stands on
//! one line with both times, what one lacks is empty there.

use ratatui::text::Line;

use super::theme::{Theme, Tone};
use crate::{
    output::text::words,
    report::{HopReport, PacketReport},
};

const TIME: usize = 10;
/// Hops of a packet that are aligned: the engine keeps no more.
const HOPS: usize = 256;

/// The table: the marked packet at the left, the other at the right.
pub(super) fn lines(
    theme: Theme,
    marked: &PacketReport,
    other: &PacketReport,
    width: usize,
) -> Vec<Line<'static>> {
    let name_width = width.saturating_sub(3 * (TIME + 1));
    let title = |packet: &PacketReport| {
        format!(
            "{} {}",
            words::arrow(packet.direction),
            words::label(packet)
        )
    };
    let mut lines = vec![theme.line(&[
        (Tone::Strong, &theme.cell("hop", name_width)),
        (Tone::Strong, &theme.right(&title(marked), TIME + 1)),
        (Tone::Strong, &theme.right(&title(other), TIME + 1)),
        (Tone::Strong, &theme.right("more", TIME + 1)),
    ])];
    let pairs = aligned(&marked.hops, &other.hops);
    let most = pairs.iter().map(|(a, b)| grown(*a, *b)).max().unwrap_or(0);
    for (a, b) in &pairs {
        lines.push(line(theme, (*a, *b), most, name_width));
    }
    let total = |packet: &PacketReport| words::duration(packet.duration());
    let more = other.duration().saturating_sub(marked.duration());
    lines.push(theme.line(&[
        (Tone::Strong, &theme.cell("in all", name_width)),
        (Tone::Strong, &theme.right(&total(marked), TIME + 1)),
        (Tone::Strong, &theme.right(&total(other), TIME + 1)),
        (Tone::Strong, &theme.right(&difference(more), TIME + 1)),
    ]));
    lines
}

type Pair<'a> = (Option<&'a HopReport>, Option<&'a HopReport>);

fn line(theme: Theme, (a, b): Pair<'_>, most: u64, name_width: usize) -> Line<'static> {
    let name = a.or(b).map_or(String::new(), name);
    let time = |hop: Option<&HopReport>| {
        hop.map_or("-".to_owned(), |hop| {
            format!("+{}", words::duration(hop.since_previous))
        })
    };
    let grown = grown(a, b);
    let tone = match grown {
        0 => Tone::Dim,
        grown if grown == most => Tone::Problem,
        grown if grown > most / 4 => Tone::Warning,
        _ => Tone::Dim,
    };
    let one_only = a.is_none() || b.is_none();
    let name_tone = if one_only { Tone::Warning } else { Tone::Plain };
    theme.line(&[
        (name_tone, &theme.cell(&name, name_width)),
        (Tone::Plain, &theme.right(&time(a), TIME + 1)),
        (Tone::Plain, &theme.right(&time(b), TIME + 1)),
        (tone, &theme.right(&difference(grown), TIME + 1)),
    ])
}

fn name(hop: &HopReport) -> String {
    let device = hop
        .device
        .as_ref()
        .map_or("", |device| device.name.as_str());
    let place = hop.called().unwrap_or("?");
    format!("{} {device} in {place}", hop.stage)
}

fn difference(nanoseconds: u64) -> String {
    match nanoseconds {
        0 => String::new(),
        more => format!("+{}", words::duration(more)),
    }
}

/// How much longer the second took to come there.
fn grown(a: Option<&HopReport>, b: Option<&HopReport>) -> u64 {
    match (a, b) {
        (Some(a), Some(b)) => b.since_previous.saturating_sub(a.since_previous),
        _ => 0,
    }
}

/// What makes hops of two packets the same.
fn same(a: &HopReport, b: &HopReport) -> bool {
    let device = |hop: &HopReport| hop.device.as_ref().map(|device| device.name.clone());
    a.stage == b.stage && a.called() == b.called() && device(a) == device(b)
}

/// The longest common sequence, and what is between.
fn aligned<'a>(a: &'a [HopReport], b: &'a [HopReport]) -> Vec<Pair<'a>> {
    let (a, b) = (&a[..a.len().min(HOPS)], &b[..b.len().min(HOPS)]);
    // common[i][j]: how many hops a[i..] and b[j..] have in common.
    let mut common = vec![vec![0_u16; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if same(&a[i], &b[j]) {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && same(&a[i], &b[j]) {
            pairs.push((Some(&a[i]), Some(&b[j])));
            (i, j) = (i + 1, j + 1);
        } else if j >= b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            pairs.push((Some(&a[i]), None));
            i += 1;
        } else {
            pairs.push((None, Some(&b[j])));
            j += 1;
        }
    }
    pairs
}
