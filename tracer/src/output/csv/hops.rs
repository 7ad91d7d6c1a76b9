//! One row a hop.

use super::cell::Cell;
use crate::{
    journey::model::Stage,
    output::{origin::Origin, text::words},
    report::{DropReport, HopReport, PacketReport, protocol_name},
};

/// What a row is of.
pub(super) struct Row<'a> {
    /// The hop's number in its packet, from 1.
    pub(super) number: u64,
    pub(super) hop: &'a HopReport,
    pub(super) packet: &'a PacketReport,
    pub(super) origin: &'a Origin,
}

impl Row<'_> {
    /// The drop, where the hop is one.
    fn drop(&self) -> Option<&DropReport> {
        let drop = self.packet.drop.as_ref();
        drop.filter(|_| self.hop.stage == Stage::Drop)
    }
}

/// A column: its name, and its cell in a row.
type Column = (&'static str, fn(&Row<'_>) -> Cell);

/// The columns.
pub(super) const COLUMNS: &[Column] = &[
    ("flow", |row| Cell::number(row.packet.flow.0)),
    ("packet", |row| Cell::number(row.packet.id.0)),
    ("hop", |row| Cell::number(row.number)),
    ("direction", |row| Cell::text(row.packet.direction.as_str())),
    ("protocol", |row| protocol_name(row.packet.protocol).into()),
    ("what", |row| Cell::text(&words::label(row.packet))),
    ("time", |row| Cell::text(&row.origin.date(row.hop.time))),
    ("time_ns", |row| Cell::number(row.hop.time)),
    ("since_previous_ns", |row| {
        Cell::number(row.hop.since_previous)
    }),
    ("spent_ns", |row| Cell::some(row.hop.spent)),
    ("stage", |row| Cell::text(row.hop.stage.as_str())),
    ("netns", |row| Cell::known(row.hop.netns.as_deref())),
    ("pod", |row| Cell::known(row.hop.pod.as_deref())),
    ("device", |row| {
        let device = row.hop.device.as_ref();
        Cell::known(device.map(|device| device.name.as_str()))
    }),
    ("device_kind", |row| {
        let device = row.hop.device.as_ref();
        Cell::known(device.and_then(|device| device.kind.as_deref()))
    }),
    ("source_ip", |row| Cell::ip(row.hop.tuple.source)),
    ("source_port", |row| Cell::port(row.hop.tuple.source)),
    ("destination_ip", |row| Cell::ip(row.hop.tuple.destination)),
    ("destination_port", |row| {
        Cell::port(row.hop.tuple.destination)
    }),
    ("tunnel", |row| {
        let tunnel = row.hop.encapsulation.map(words::tunnel);
        Cell::known(tunnel.as_deref())
    }),
    ("hole", |row| {
        let hole = row.hop.hole.map(words::hole);
        Cell::known(hole.as_deref())
    }),
    ("translations", |row| {
        Cell::translations(row.packet.protocol, row.hop.translations.iter())
    }),
    ("rules", |row| match row.drop() {
        Some(drop) => Cell::dropping(drop.rule.as_ref()),
        None => Cell::rules(row.hop.translations.iter()),
    }),
    ("drop_reason", |row| {
        Cell::known(row.drop().and_then(|drop| drop.reason.as_deref()))
    }),
    ("verdict", |row| Cell::text(row.packet.verdict.as_str())),
];
