//! One row a packet.

use super::cell::Cell;
use crate::{
    event::Tuple,
    journey::model::{Stage, Transport},
    output::{origin::Origin, text::words},
    report::{DropReport, HopReport, PacketReport, RuleReport, TranslationReport, protocol_name},
};

/// What a row is of.
pub(super) struct Row<'a> {
    pub(super) packet: &'a PacketReport,
    pub(super) origin: &'a Origin,
}

impl Row<'_> {
    fn first(&self) -> Option<&HopReport> {
        self.packet.hops.first()
    }

    fn last(&self) -> Option<&HopReport> {
        self.packet.hops.last()
    }

    fn tuple(&self) -> Option<&Tuple> {
        self.first().map(|hop| &hop.tuple)
    }

    fn translations(&self) -> impl Iterator<Item = &TranslationReport> {
        self.packet.hops.iter().flat_map(|hop| &hop.translations)
    }

    fn rules(&self) -> impl Iterator<Item = &RuleReport> {
        let translating = self
            .translations()
            .filter_map(|report| report.rule.as_ref());
        let dropping = self
            .packet
            .drop
            .as_ref()
            .and_then(|drop| drop.rule.as_ref());
        translating.chain(dropping)
    }

    fn drop<'a>(&'a self, of: impl FnOnce(&'a DropReport) -> Option<&'a str>) -> Cell {
        Cell::known(self.packet.drop.as_ref().and_then(of))
    }

    /// The longest time from one hop to the next, with the later one.
    fn slowest(&self) -> Option<&HopReport> {
        let hops = self.packet.hops.iter().skip(1);
        hops.max_by_key(|hop| hop.since_previous)
    }
}

/// A column: its name, and its cell in a row.
type Column = (&'static str, fn(&Row<'_>) -> Cell);

/// The columns.
pub(super) const COLUMNS: &[Column] = &[
    ("flow", |row| Cell::number(row.packet.flow.0)),
    ("packet", |row| Cell::number(row.packet.id.0)),
    ("direction", |row| Cell::text(row.packet.direction.as_str())),
    ("protocol", |row| protocol_name(row.packet.protocol).into()),
    ("what", |row| Cell::text(&words::label(row.packet))),
    ("tcp_flags", |row| match row.packet.transport {
        Transport::Tcp { flags, .. } => Cell::number(flags),
        _ => Cell::EMPTY,
    }),
    ("tcp_seq", |row| match row.packet.transport {
        Transport::Tcp { sequence, .. } => Cell::number(sequence),
        _ => Cell::EMPTY,
    }),
    ("tcp_ack", |row| match row.packet.transport {
        Transport::Tcp {
            acknowledgement, ..
        } => Cell::number(acknowledgement),
        _ => Cell::EMPTY,
    }),
    ("source_ip", |row| {
        row.tuple()
            .map_or(Cell::EMPTY, |tuple| Cell::ip(tuple.source))
    }),
    ("source_port", |row| {
        row.tuple()
            .map_or(Cell::EMPTY, |tuple| Cell::port(tuple.source))
    }),
    ("destination_ip", |row| {
        row.tuple()
            .map_or(Cell::EMPTY, |tuple| Cell::ip(tuple.destination))
    }),
    ("destination_port", |row| {
        row.tuple()
            .map_or(Cell::EMPTY, |tuple| Cell::port(tuple.destination))
    }),
    ("length", |row| Cell::number(row.packet.length)),
    ("payload", |row| Cell::number(row.packet.payload)),
    ("verdict", |row| Cell::text(row.packet.verdict.as_str())),
    ("verdict_observed", |row| {
        Cell::truth(row.packet.verdict_observed)
    }),
    ("first", |row| {
        row.first()
            .map_or(Cell::EMPTY, |hop| Cell::text(&row.origin.date(hop.time)))
    }),
    ("first_ns", |row| {
        Cell::some(row.first().map(|hop| hop.time))
    }),
    ("duration_ns", |row| Cell::number(row.packet.duration())),
    ("hops", |row| Cell::count(row.packet.hops.len())),
    ("holes", |row| Cell::count(row.packet.holes())),
    ("from", |row| {
        Cell::known(row.first().and_then(HopReport::called))
    }),
    ("to", |row| {
        Cell::known(row.last().and_then(HopReport::called))
    }),
    ("slowest_ns", |row| {
        Cell::some(row.slowest().map(|hop| hop.since_previous))
    }),
    ("slowest_before", |row| {
        Cell::known(row.slowest().map(|hop| hop.stage.as_str()))
    }),
    ("drop_reason", |row| row.drop(|drop| drop.reason.as_deref())),
    ("drop_stage", |row| {
        row.drop(|drop| Some(Stage::as_str(drop.stage)))
    }),
    ("drop_netns", |row| row.drop(|drop| drop.netns.as_deref())),
    ("drop_pod", |row| row.drop(|drop| drop.pod.as_deref())),
    ("drop_function", |row| {
        row.drop(|drop| drop.function.as_deref())
    }),
    ("drop_rule", |row| {
        let drop = row.packet.drop.as_ref();
        Cell::dropping(drop.and_then(|drop| drop.rule.as_ref()))
    }),
    ("translations", |row| {
        Cell::translations(row.packet.protocol, row.translations())
    }),
    ("rules", |row| Cell::rules(row.translations())),
    ("service", |row| Cell::service(row.rules())),
];
