//! A sentence on what is wrong with a flow.

use super::kept::Flow;
use crate::{journey::model::State, output::text::words, report::FlowReport};

/// The diagnosis where there is one, else what its packets say: how far it came, and the first drop with its
/// rule.
pub(super) fn sentences(flow: &Flow) -> Vec<String> {
    let diagnosis = flow.report.diagnosis.as_ref();
    let mut sentences = match diagnosis {
        Some(diagnosis) => vec![diagnosis.sentence()],
        None => vec![state(&flow.report).to_owned()],
    };
    let packets = flow.ladders.iter();
    let mut drops = packets.filter_map(|packet| packet.drop.as_ref());
    if diagnosis.is_none()
        && let Some(drop) = drops.next()
    {
        sentences.push(words::drop(drop));
        sentences.extend(drop.rule.as_ref().map(words::dropping));
    }
    let mut hops = flow.ladders.iter().flat_map(|packet| &packet.hops);
    sentences.extend(hops.find_map(|hop| hop.hole).map(words::hole));
    if flow.report.affected_by_loss {
        sentences.push("Events were lost meanwhile: something of it may be missing.".to_owned());
    }
    sentences
}

const fn state(flow: &FlowReport) -> &'static str {
    match flow.state {
        State::SynSent => "No answer to the connection's first packet.",
        State::SynReceived => "The connection was answered, and the answer not acknowledged.",
        State::Refused => "The connection was refused.",
        State::Reset => "The connection was reset after it was open.",
        State::Unreplied => "No answer.",
        State::Established => "The connection is open.",
        State::Closing => "One side has finished.",
        State::Closed => "The connection was closed.",
        State::Replied => "It was answered.",
    }
}
