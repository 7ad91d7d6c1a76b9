//! One row a flow.

use super::cell::Cell;
use crate::{
    output::origin::Origin,
    report::{Diagnosis, FlowReport, Party, TranslationReport, protocol_name},
};

/// What a row is of.
pub(super) struct Row<'a> {
    pub(super) flow: &'a FlowReport,
    pub(super) origin: &'a Origin,
}

impl Row<'_> {
    fn backend<T>(&self, of: impl FnOnce(&Party) -> T) -> Option<T> {
        self.flow.backend.as_ref().map(of)
    }

    fn translations(&self) -> impl Iterator<Item = &TranslationReport> {
        let placed = self.flow.translations.iter();
        placed.map(|placed| &placed.translation)
    }
}

/// The name of the process at a party's socket.
fn comm(party: Option<&Party>) -> Cell {
    let process = party.and_then(|party| party.process.as_ref());
    Cell::known(process.map(|process| process.comm.as_str()))
}

/// That process's id.
fn pid(party: Option<&Party>) -> Cell {
    let process = party.and_then(|party| party.process.as_ref());
    Cell::some(process.map(|process| process.pid))
}

/// A column: its name, and its cell in a row.
type Column = (&'static str, fn(&Row<'_>) -> Cell);

/// The columns.
pub(super) const COLUMNS: &[Column] = &[
    ("flow", |row| Cell::number(row.flow.id.0)),
    ("protocol", |row| protocol_name(row.flow.protocol).into()),
    ("client_ip", |row| Cell::ip(row.flow.client.endpoint)),
    ("client_port", |row| Cell::port(row.flow.client.endpoint)),
    ("client_netns", |row| {
        Cell::known(row.flow.client.netns.as_deref())
    }),
    ("client_pod", |row| {
        Cell::known(row.flow.client.pod.as_deref())
    }),
    ("destination_ip", |row| Cell::ip(row.flow.destination)),
    ("destination_port", |row| Cell::port(row.flow.destination)),
    ("service", |row| {
        let service = row.flow.service.as_ref().map(ToString::to_string);
        Cell::known(service.as_deref())
    }),
    ("backend_ip", |row| {
        row.backend(|party| Cell::ip(party.endpoint))
            .unwrap_or(Cell::EMPTY)
    }),
    ("backend_port", |row| {
        row.backend(|party| Cell::port(party.endpoint))
            .unwrap_or(Cell::EMPTY)
    }),
    ("backend_netns", |row| {
        row.backend(|party| Cell::known(party.netns.as_deref()))
            .unwrap_or(Cell::EMPTY)
    }),
    ("backend_pod", |row| {
        row.backend(|party| Cell::known(party.pod.as_deref()))
            .unwrap_or(Cell::EMPTY)
    }),
    ("state", |row| Cell::text(row.flow.state.as_str())),
    ("packets_original", |row| Cell::number(row.flow.packets[0])),
    ("packets_reply", |row| Cell::number(row.flow.packets[1])),
    ("bytes_original", |row| Cell::number(row.flow.bytes[0])),
    ("bytes_reply", |row| Cell::number(row.flow.bytes[1])),
    ("drops", |row| Cell::number(row.flow.drops)),
    ("holes", |row| Cell::number(row.flow.holes)),
    ("affected_by_loss", |row| {
        Cell::truth(row.flow.affected_by_loss)
    }),
    ("first", |row| Cell::text(&row.origin.date(row.flow.first))),
    ("last", |row| Cell::text(&row.origin.date(row.flow.last))),
    ("first_ns", |row| Cell::number(row.flow.first)),
    ("duration_ns", |row| Cell::number(row.flow.duration())),
    ("translations", |row| {
        Cell::translations(row.flow.protocol, row.translations())
    }),
    ("rules", |row| Cell::rules(row.translations())),
    ("client_process", |row| comm(Some(&row.flow.client))),
    ("client_pid", |row| pid(Some(&row.flow.client))),
    ("backend_process", |row| comm(row.flow.backend.as_ref())),
    ("backend_pid", |row| pid(row.flow.backend.as_ref())),
    ("asked", |row| {
        let asked = row.flow.asked.as_ref();
        Cell::known(asked.map(|asked| asked.name.as_str()))
    }),
    ("diagnosis", |row| {
        let diagnosis = row.flow.diagnosis.as_ref();
        Cell::known(diagnosis.map(Diagnosis::sentence).as_deref())
    }),
    ("sampled", |row| Cell::truth(row.flow.sampled)),
];
