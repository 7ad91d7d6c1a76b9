//! Records into columns.

use std::hash::Hash;

use bytes::{BufMut as _, BytesMut};
use foldhash::HashMap;
use tracer_common::{address, record};

use super::{
    super::column::{put, put_step},
    COLUMNS, Column, Ends, Fields, Model, Parts, Place, PlaceSeen, Second, bit, mark,
};
use crate::event::{self, Record};

/// Makes the content of an events chunk.
#[derive(Debug, Default)]
pub(in crate::trace) struct Encoder {
    model: Model,
    columns: [BytesMut; COLUMNS],
    /// Records since the last mark.
    run: u64,
    records: u32,
    first: Option<u64>,
    last: u64,
    skbs: HashMap<u64, u32>,
    places: HashMap<Place, u32>,
    ends: HashMap<Ends, u32>,
    conntracks: HashMap<u64, u32>,
    others: HashMap<Second, u32>,
}

impl Encoder {
    /// How many records it holds.
    pub(in crate::trace) fn records(&self) -> u32 {
        self.records
    }

    /// Bytes that it will make, before compression.
    pub(in crate::trace) fn size(&self) -> usize {
        self.columns.iter().map(BytesMut::len).sum()
    }

    /// Whether nothing is in it.
    pub(in crate::trace) fn is_empty(&self) -> bool {
        self.run == 0 && self.size() == 0
    }

    /// The first and the last time in it, of records and of the clock; `None` without any.
    pub(in crate::trace) fn times(&self) -> Option<(u64, u64)> {
        self.first.map(|first| (first, self.last))
    }

    /// Appends a record.
    pub(in crate::trace) fn record(&mut self, record: &Record) {
        self.run += 1;
        self.records += 1;
        match record {
            Record::Event(event) => self.event(event),
            Record::Conntrack(tuples) => self.tuples(tuples),
        }
    }

    /// Appends the time up to which everything was looked at.
    pub(in crate::trace) fn clock(&mut self, now: u64) {
        self.end_run();
        self.covers(now);
        let from = self.model.clock;
        let marks = self.column(Column::Marks);
        put(marks, mark::CLOCK);
        put_step(marks, from, now);
        self.model.clock = now;
    }

    /// Appends a notice, in JSON.
    pub(in crate::trace) fn notice(&mut self, json: &[u8]) {
        self.end_run();
        let marks = self.column(Column::Marks);
        put(marks, mark::NOTICE);
        put(marks, json.len() as u64);
        marks.put_slice(json);
    }

    /// Appends what function is at an address.
    pub(in crate::trace) fn location(&mut self, address: u64, text: &str) {
        self.end_run();
        let marks = self.column(Column::Marks);
        put(marks, mark::LOCATION);
        put(marks, address);
        put(marks, text.len() as u64);
        marks.put_slice(text.as_bytes());
    }

    /// The content; the encoder begins anew.
    pub(in crate::trace) fn take(&mut self) -> BytesMut {
        self.end_run();
        let done = std::mem::take(self);
        let mut content = BytesMut::with_capacity(done.size() + 4 * COLUMNS);
        for column in &done.columns {
            put(&mut content, column.len() as u64);
        }
        for column in &done.columns {
            content.put_slice(column);
        }
        content
    }

    fn column(&mut self, column: Column) -> &mut BytesMut {
        &mut self.columns[column as usize]
    }

    fn end_run(&mut self) {
        if self.run > 0 {
            let run = std::mem::take(&mut self.run);
            let marks = self.column(Column::Marks);
            put(marks, mark::RECORDS);
            put(marks, run);
        }
    }

    fn covers(&mut self, time: u64) {
        self.last = self.last.max(time);
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
    }

    fn event(&mut self, event: &event::Event) {
        let parts = Parts::of(&event.record);
        let mut mask = self.when_and_where(parts.time, parts.cpu, parts.order);
        let skb = self.skb(&parts, &mut mask);
        let place = self.place(&parts, skb, &mut mask);
        let ends = self.ends(&parts, skb, &mut mask);
        self.fields(&parts, skb, ends, &mut mask);
        self.rest(&parts, skb, place, &mut mask);
        if let Some(other) = event.other {
            mask |= bit::OTHER;
            let second = second(&other);
            let Self {
                others,
                model,
                columns,
                ..
            } = self;
            let column = &mut columns[Column::Other as usize];
            if index(others, &mut model.others, second, column) {
                put_second(column, &second);
            }
        }
        put(self.column(Column::Mask), mask);
        self.model.learn(&parts, skb, place, ends);
    }

    fn tuples(&mut self, tuples: &record::Conntrack) {
        let mask = bit::TUPLES | self.when_and_where(tuples.time, tuples.cpu, tuples.order);
        put(self.column(Column::Mask), mask);
        put_tuples(self.column(Column::Tuples), tuples);
        self.model.learn_tuples(tuples);
    }

    fn when_and_where(&mut self, time: u64, cpu: u16, order: u32) -> u64 {
        self.covers(time);
        let mut mask = 0;
        let from = self.model.time;
        put_step(self.column(Column::Time), from, time);
        if cpu != self.model.cpu {
            mask |= bit::CPU;
            put(self.column(Column::Cpu), u64::from(cpu));
        }
        let expected = self.model.cpu(cpu).order.wrapping_add(1);
        if order != expected {
            mask |= bit::ORDER;
            put_step(
                self.column(Column::Order),
                u64::from(expected),
                u64::from(order),
            );
        }
        mask
    }

    fn skb(&mut self, parts: &Parts, mask: &mut u64) -> u32 {
        let expected = self.model.cpu(parts.cpu).skb;
        if super::at(&self.model.skbs, expected) == Some(parts.skb) {
            return expected;
        }
        *mask |= bit::SKB;
        let Self {
            skbs,
            model,
            columns,
            ..
        } = self;
        let column = &mut columns[Column::Skb as usize];
        if index(skbs, &mut model.skbs, parts.skb, column) {
            model.skbs_seen.push(super::PacketSeen::default());
            put_pointer(column, parts.skb);
        }
        skbs[&parts.skb]
    }

    fn place(&mut self, parts: &Parts, skb: u32, mask: &mut u64) -> u32 {
        let expected = self.model.next_place(&self.model.packet(skb));
        if super::at(&self.model.places, expected) == Some(parts.place) {
            return expected;
        }
        *mask |= bit::PLACE;
        let Self {
            places,
            model,
            columns,
            ..
        } = self;
        let column = &mut columns[Column::Place as usize];
        if index(places, &mut model.places, parts.place, column) {
            model.places_seen.push(PlaceSeen::default());
            put_place(column, &parts.place);
        }
        places[&parts.place]
    }

    fn ends(&mut self, parts: &Parts, skb: u32, mask: &mut u64) -> u32 {
        let expected = self.model.packet(skb).ends;
        if super::at(&self.model.ends, expected) == Some(parts.ends) {
            return expected;
        }
        *mask |= bit::ENDS;
        let Self {
            ends,
            model,
            columns,
            ..
        } = self;
        let column = &mut columns[Column::Ends as usize];
        if index(ends, &mut model.ends, parts.ends, column) {
            model.ends_fields.push(Fields::default());
            put_ends(column, &parts.ends);
        }
        ends[&parts.ends]
    }

    fn fields(&mut self, parts: &Parts, skb: u32, ends: u32, mask: &mut u64) {
        if self.model.packet(skb).fields == parts.fields {
            return;
        }
        *mask |= bit::PACKET;
        let before = super::at(&self.model.ends_fields, ends).unwrap_or_default();
        let column = self.column(Column::Packet);
        let fields = &parts.fields;
        for (from, to) in [
            (before.sequence, fields.sequence),
            (before.acknowledgement, fields.acknowledgement),
            (before.ip_id, fields.ip_id),
            (before.payload, fields.payload),
        ] {
            put_step(column, u64::from(from), u64::from(to));
        }
        column.put_u8(fields.tcp_flags);
    }

    fn rest(&mut self, parts: &Parts, skb: u32, place: u32, mask: &mut u64) {
        let expected = self.model.expected(&self.model.packet(skb), place);
        if parts.length != expected.length {
            *mask |= bit::LENGTH;
            put_step(
                self.column(Column::Length),
                u64::from(expected.length),
                u64::from(parts.length),
            );
        }
        if parts.ttl != expected.ttl {
            *mask |= bit::TTL;
            self.column(Column::Ttl).put_u8(parts.ttl);
        }
        if parts.conntrack != expected.conntrack {
            *mask |= bit::CONNTRACK;
            let Self {
                conntracks,
                model,
                columns,
                ..
            } = self;
            let column = &mut columns[Column::Conntrack as usize];
            if index(conntracks, &mut model.conntracks, parts.conntrack, column) {
                put_pointer(column, parts.conntrack);
            }
        }
        if parts.detail != 0 {
            *mask |= bit::DETAIL;
            put_pointer(self.column(Column::Detail), parts.detail);
        }
        if parts.reason != expected.reason {
            *mask |= bit::REASON;
            put(self.column(Column::Reason), u64::from(parts.reason));
        }
    }
}

/// Writes an entry's index; whether it is new, so that the entry itself must follow.
fn index<T: Copy + Eq + Hash>(
    known: &mut HashMap<T, u32>,
    table: &mut Vec<T>,
    value: T,
    column: &mut BytesMut,
) -> bool {
    // A chunk has far fewer records than this number can count.
    let new = u32::try_from(table.len()).unwrap_or(u32::MAX);
    let index = *known.entry(value).or_insert(new);
    put(column, u64::from(index));
    let is_new = index == new;
    if is_new {
        table.push(value);
    }
    is_new
}

/// Pointers: nearly random, so not worth shortening.
fn put_pointer(column: &mut BytesMut, address: u64) {
    column.put_u64_le(address);
}

fn put_place(column: &mut BytesMut, place: &Place) {
    let Place {
        hook,
        netfilter_hook,
        flags,
        netns,
        ifindex,
        in_ifindex,
        out_ifindex,
        device_name,
        packet_type,
        reserved,
    } = *place;
    for small in [hook, netfilter_hook, packet_type] {
        column.put_u8(small);
    }
    column.put_u16_le(flags);
    for number in [netns, ifindex, in_ifindex, out_ifindex, reserved] {
        column.put_u32_le(number);
    }
    for word in device_name {
        column.put_slice(&word.to_ne_bytes());
    }
}

fn put_ends(column: &mut BytesMut, ends: &Ends) {
    let Ends {
        source,
        destination,
        source_port,
        destination_port,
        protocol,
        ip_version,
    } = *ends;
    column.put_slice(&address::to_bytes(source));
    column.put_slice(&address::to_bytes(destination));
    column.put_u16_le(source_port);
    column.put_u16_le(destination_port);
    column.put_u8(protocol);
    column.put_u8(ip_version);
}

fn second(other: &event::Other) -> Second {
    Second {
        ends: Ends {
            source: other.tuple.source.address,
            destination: other.tuple.destination.address,
            source_port: other.tuple.source.port,
            destination_port: other.tuple.destination.port,
            protocol: other.tuple.protocol,
            ip_version: 0,
        },
        vni: other.vni,
    }
}

fn put_second(column: &mut BytesMut, second: &Second) {
    put_ends(column, &second.ends);
    column.put_u32_le(second.vni);
}

fn put_tuples(column: &mut BytesMut, tuples: &record::Conntrack) {
    let record::Conntrack {
        time: _,
        kind: _,
        protocol,
        cpu: _,
        order: _,
        conntrack,
        status,
        netns,
        original_source,
        original_destination,
        reply_source,
        reply_destination,
        original_source_port,
        original_destination_port,
        reply_source_port,
        reply_destination_port,
    } = *tuples;
    column.put_u8(protocol);
    column.put_u64_le(conntrack);
    column.put_u32_le(status);
    column.put_u32_le(netns);
    for address in [
        original_source,
        original_destination,
        reply_source,
        reply_destination,
    ] {
        column.put_slice(&address::to_bytes(address));
    }
    for port in [
        original_source_port,
        original_destination_port,
        reply_source_port,
        reply_destination_port,
    ] {
        column.put_u16_le(port);
    }
}
