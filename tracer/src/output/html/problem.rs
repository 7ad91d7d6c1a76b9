//! A sentence on what is wrong with a flow.

use super::kept::Flow;
use crate::{journey::model::State, output::text::words, report::FlowReport};

/// What its packets say: the first drop with its rule, else how far it came.
pub(super) fn sentences(flow: &Flow) -> Vec<String> {
    let mut sentences = vec![state(&flow.report).to_owned()];
    let mut drops = flow
        .ladders
        .iter()
        .filter_map(|packet| packet.drop.as_ref());
    if let Some(drop) = drops.next() {
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
