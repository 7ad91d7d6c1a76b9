//! What is given away of a flow: its filter, its JSON, its journey as a page.

use super::{App, Effect, Selected, keymap::Action};
use crate::{
    output::{Sink as _, json::JsonSink},
    report::{FlowReport, protocol_name},
    tui::model::Model,
};

impl App {
    /// Of the flow that is looked at, else of the selected one.
    pub(super) fn of_flow(&mut self, action: Action, model: &Model) -> Option<Effect> {
        let of_journey = self.journey.as_ref().map(|journey| journey.row.report.id);
        let id = of_journey.or_else(|| match self.list.current(model) {
            Some(Selected::Flow(id)) => Some(*id),
            _ => None,
        });
        let row = id.and_then(|id| model.row(id));
        let Some(report) = row.map(|row| &row.report) else {
            self.say("no flow is selected", true);
            return None;
        };
        match action {
            Action::CopyFilter => Some(Effect::Copy(filter_of(report))),
            Action::CopyJson => Some(Effect::Copy(json_of(report))),
            _ => Some(Effect::Export(report.id)),
        }
    }
}

/// A filter that the flow matches, and hardly another one.
fn filter_of(report: &FlowReport) -> String {
    let protocol = protocol_name(report.protocol);
    let protocol = if protocol.starts_with(|first: char| first.is_ascii_digit()) {
        format!("proto {protocol}")
    } else {
        protocol.into_owned()
    };
    let mut text = protocol;
    for end in [report.client.endpoint, report.destination] {
        text.push_str(&format!(" and host {}", end.ip()));
        if matches!(report.protocol, 6 | 17 | 132) && end.port != 0 {
            text.push_str(&format!(" and port {}", end.port));
        }
    }
    text
}

fn json_of(report: &FlowReport) -> String {
    let mut json = Vec::new();
    // Writing to memory cannot fail.
    let _ = JsonSink::new(&mut json).flow(report);
    String::from_utf8_lossy(&json).trim_end().to_owned()
}
