//! Columns into records.
//!
//! Hostile input: every index is checked against its table, every column against its end, and what
//! is made is bounded by [`MAX_RECORDS`]. It is made entry by entry, since a chunk of nothing but marks has far
//! more of them than room would be for all.

use bytes::{Buf as _, Bytes};
use tracer_common::{
    address::{self, Address},
    hook, record,
};

use super::{
    super::column::{ColumnError, take, take_as, take_bytes, take_step, take_step_u32},
    COLUMNS, Column, Ends, Fields, MAX_RECORDS, Model, PacketSeen, Parts, Place, PlaceSeen, Second,
    bit, entry, mark,
};
use crate::event::{Endpoint, Event, Other, Record, Tuple};

/// One entry of a chunk, as it stood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::trace) enum Item {
    /// Records.
    Records(Vec<Record>),
    /// The clock.
    Clock(u64),
    /// A notice, in JSON.
    Notice(Bytes),
    /// What function is at an address.
    Location(u64, String),
}

/// Takes a chunk's content apart and gives its entries in order.
///
/// # Errors
/// The content is not what an encoder makes; what came before the error has been given.
pub(in crate::trace) fn decode(
    content: Bytes,
    mut give: impl FnMut(Item),
) -> Result<(), ColumnError> {
    let mut decoder = Decoder::new(content)?;
    while let Some(item) = decoder.next()? {
        give(item);
    }
    Ok(())
}

/// Gives what stands among a chunk's records, and not the records.
///
/// # Errors
/// As [`decode`], as far as that is looked at.
pub(in crate::trace) fn marks(
    content: Bytes,
    mut give: impl FnMut(Item),
) -> Result<(), ColumnError> {
    let mut decoder = Decoder::new(content)?;
    while !decoder.columns[Column::Marks as usize].is_empty() {
        let marks = decoder.column(Column::Marks);
        if marks.first() == Some(&RECORDS) {
            take(marks)?;
            take(marks)?;
        } else {
            give(decoder.item()?);
        }
    }
    Ok(())
}

/// The mark of records, which has one byte.
const RECORDS: u8 = 0;
const _: () = assert!(mark::RECORDS == RECORDS as u64);
/// How many records are given at once: more than the live tracer takes.
const AT_ONCE: u32 = 4096;
/// No function's name is longer (`KSYM_NAME_LEN`), nor its place in it.
const MAX_FUNCTION: usize = 1024;

/// A chunk that is being taken apart.
#[derive(Debug)]
pub(in crate::trace) struct Decoder {
    model: Model,
    columns: [Bytes; COLUMNS],
    /// How many more records there may be.
    left: u32,
    /// Of those at which it stands, how many were not given yet.
    pending: u32,
}

impl Decoder {
    /// Begins a chunk's content.
    ///
    /// # Errors
    /// It has not the columns that it should have.
    pub(in crate::trace) fn new(mut content: Bytes) -> Result<Self, ColumnError> {
        let mut lengths = [0_usize; COLUMNS];
        for length in &mut lengths {
            *length = take_as::<u32>(&mut content)? as usize;
        }
        let mut columns = [const { Bytes::new() }; COLUMNS];
        for (column, length) in columns.iter_mut().zip(lengths) {
            *column = take_bytes(&mut content, length).map_err(|_| ColumnError::Layout)?;
        }
        if !content.is_empty() {
            return Err(ColumnError::Layout);
        }
        Ok(Self {
            model: Model::default(),
            columns,
            left: MAX_RECORDS,
            pending: 0,
        })
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// The content is not what an encoder makes.
    pub(in crate::trace) fn next(&mut self) -> Result<Option<Item>, ColumnError> {
        if self.pending == 0 && self.columns[Column::Marks as usize].is_empty() {
            let is_empty = self.columns.iter().all(Bytes::is_empty);
            return if is_empty {
                Ok(None)
            } else {
                Err(ColumnError::Layout)
            };
        }
        self.item().map(Some)
    }

    fn column(&mut self, column: Column) -> &mut Bytes {
        &mut self.columns[column as usize]
    }

    fn records(&mut self) -> Result<Item, ColumnError> {
        let count = self.pending.min(AT_ONCE);
        self.pending -= count;
        let mut records = Vec::with_capacity(count as usize);
        for _ in 0..count {
            records.push(self.record()?);
        }
        Ok(Item::Records(records))
    }

    fn item(&mut self) -> Result<Item, ColumnError> {
        if self.pending > 0 {
            return self.records();
        }
        let from = self.model.clock;
        let marks = self.column(Column::Marks);
        match take(marks)? {
            mark::RECORDS => {
                let count = take_as::<u32>(marks)?;
                // Checked before room is made for them.
                self.left = self.left.checked_sub(count).ok_or(ColumnError::Large)?;
                self.pending = count;
                self.records()
            }
            mark::CLOCK => {
                let now = take_step(marks, from)?;
                self.model.clock = now;
                Ok(Item::Clock(now))
            }
            mark::NOTICE => {
                let length = take_as::<u32>(marks)? as usize;
                take_bytes(marks, length).map(Item::Notice)
            }
            mark::LOCATION => {
                let address = take(marks)?;
                let length = take_as::<u32>(marks)? as usize;
                if length > MAX_FUNCTION {
                    return Err(ColumnError::Large);
                }
                let text = take_bytes(marks, length)?;
                let text = String::from_utf8_lossy(&text).into_owned();
                Ok(Item::Location(address, text))
            }
            _ => Err(ColumnError::Entry),
        }
    }

    fn record(&mut self) -> Result<Record, ColumnError> {
        let mask = take(self.column(Column::Mask))?;
        if mask & !bit::ALL != 0 {
            return Err(ColumnError::Entry);
        }
        let from = self.model.time;
        let time = take_step(self.column(Column::Time), from)?;
        let cpu = if mask & bit::CPU == 0 {
            self.model.cpu
        } else {
            take_as(self.column(Column::Cpu))?
        };
        let mut order = self.model.cpu(cpu).order.wrapping_add(1);
        if mask & bit::ORDER != 0 {
            order = take_step_u32(self.column(Column::Order), order)?;
        }
        if mask & bit::TUPLES == 0 {
            self.event(mask, time, cpu, order).map(Record::Event)
        } else {
            self.tuples(time, cpu, order).map(Record::Conntrack)
        }
    }

    fn event(&mut self, mask: u64, time: u64, cpu: u16, order: u32) -> Result<Event, ColumnError> {
        let skb = self.skb(mask, cpu)?;
        let place = self.place(mask, skb)?;
        let ends = self.ends(mask, skb)?;
        let fields = self.fields(mask, skb, ends)?;
        let mut parts = Parts {
            time,
            cpu,
            order,
            skb: entry(&self.model.skbs, skb)?,
            place: entry(&self.model.places, place)?,
            ends: entry(&self.model.ends, ends)?,
            fields,
            ..Parts::default()
        };
        self.rest(mask, skb, place, &mut parts)?;
        let other = if mask & bit::OTHER == 0 {
            None
        } else {
            Some(self.other()?)
        };
        self.model.learn(&parts, skb, place, ends);
        let kind = match other {
            None => record::KIND_EVENT,
            Some(_) => record::KIND_WIDE_EVENT,
        };
        Ok(Event {
            record: parts.event(kind),
            other,
        })
    }

    fn skb(&mut self, mask: u64, cpu: u16) -> Result<u32, ColumnError> {
        if mask & bit::SKB == 0 {
            return Ok(self.model.cpu(cpu).skb);
        }
        let Self { model, columns, .. } = self;
        let (column, table) = (&mut columns[Column::Skb as usize], &mut model.skbs);
        let index = index(column, table, take_u64)?;
        model.skbs_seen.resize(table.len(), PacketSeen::default());
        Ok(index)
    }

    fn place(&mut self, mask: u64, skb: u32) -> Result<u32, ColumnError> {
        if mask & bit::PLACE == 0 {
            return Ok(self.model.next_place(&self.model.packet(skb)));
        }
        let Self { model, columns, .. } = self;
        let (column, table) = (&mut columns[Column::Place as usize], &mut model.places);
        let index = index(column, table, take_place)?;
        model.places_seen.resize(table.len(), PlaceSeen::default());
        Ok(index)
    }

    fn ends(&mut self, mask: u64, skb: u32) -> Result<u32, ColumnError> {
        if mask & bit::ENDS == 0 {
            return Ok(self.model.packet(skb).ends);
        }
        let Self { model, columns, .. } = self;
        let (column, table) = (&mut columns[Column::Ends as usize], &mut model.ends);
        let index = index(column, table, take_ends)?;
        model.ends_fields.resize(table.len(), Fields::default());
        Ok(index)
    }

    fn fields(&mut self, mask: u64, skb: u32, ends: u32) -> Result<Fields, ColumnError> {
        if mask & bit::PACKET == 0 {
            return Ok(self.model.packet(skb).fields);
        }
        let before = super::at(&self.model.ends_fields, ends).unwrap_or_default();
        let column = self.column(Column::Packet);
        Ok(Fields {
            sequence: take_step_u32(column, before.sequence)?,
            acknowledgement: take_step_u32(column, before.acknowledgement)?,
            ip_id: take_step_u32(column, before.ip_id)?,
            payload: take_step_u32(column, before.payload)?,
            tcp_flags: take_u8(column)?,
        })
    }

    fn rest(
        &mut self,
        mask: u64,
        skb: u32,
        place: u32,
        parts: &mut Parts,
    ) -> Result<(), ColumnError> {
        let expected = self.model.expected(&self.model.packet(skb), place);
        parts.length = expected.length;
        parts.ttl = expected.ttl;
        parts.conntrack = expected.conntrack;
        parts.reason = expected.reason;
        if mask & bit::LENGTH != 0 {
            parts.length = take_step_u32(self.column(Column::Length), expected.length)?;
        }
        if mask & bit::TTL != 0 {
            parts.ttl = take_u8(self.column(Column::Ttl))?;
        }
        if mask & bit::CONNTRACK != 0 {
            let Self { model, columns, .. } = self;
            let column = &mut columns[Column::Conntrack as usize];
            let table = &mut model.conntracks;
            let index = index(column, table, take_u64)?;
            parts.conntrack = entry(table, index)?;
        }
        if mask & bit::DETAIL != 0 {
            parts.detail = take_u64(self.column(Column::Detail))?;
        }
        if mask & bit::REASON != 0 {
            parts.reason = take_as(self.column(Column::Reason))?;
        }
        Ok(())
    }

    fn other(&mut self) -> Result<Other, ColumnError> {
        let Self { model, columns, .. } = self;
        let (column, table) = (&mut columns[Column::Other as usize], &mut model.others);
        let index = index(column, table, |column| {
            let ends = take_ends(column)?;
            let vni = take_u32(column)?;
            Ok(Second { ends, vni })
        })?;
        let Second { ends, vni } = entry(table, index)?;
        let end = |address, port| Endpoint { address, port };
        Ok(Other {
            tuple: Tuple {
                source: end(ends.source, ends.source_port),
                destination: end(ends.destination, ends.destination_port),
                protocol: ends.protocol,
            },
            vni,
        })
    }

    fn tuples(
        &mut self,
        time: u64,
        cpu: u16,
        order: u32,
    ) -> Result<record::Conntrack, ColumnError> {
        let column = self.column(Column::Tuples);
        let tuples = record::Conntrack {
            time,
            kind: record::KIND_CONNTRACK,
            protocol: take_u8(column)?,
            cpu,
            order,
            conntrack: take_u64(column)?,
            status: take_u32(column)?,
            netns: take_u32(column)?,
            original_source: take_address(column)?,
            original_destination: take_address(column)?,
            reply_source: take_address(column)?,
            reply_destination: take_address(column)?,
            original_source_port: take_u16(column)?,
            original_destination_port: take_u16(column)?,
            reply_source_port: take_u16(column)?,
            reply_destination_port: take_u16(column)?,
        };
        self.model.learn_tuples(&tuples);
        Ok(tuples)
    }
}

/// An entry's index; a new entry follows it.
fn index<T>(
    column: &mut Bytes,
    table: &mut Vec<T>,
    new: impl FnOnce(&mut Bytes) -> Result<T, ColumnError>,
) -> Result<u32, ColumnError> {
    let index: u32 = take_as(column)?;
    let at = index as usize;
    if at > table.len() {
        return Err(ColumnError::Entry);
    }
    if at == table.len() {
        table.push(new(column)?);
    }
    Ok(index)
}

fn take_place(column: &mut Bytes) -> Result<Place, ColumnError> {
    let (hook, netfilter_hook, packet_type) =
        (take_u8(column)?, take_u8(column)?, take_u8(column)?);
    if usize::from(hook) >= hook::COUNT {
        return Err(ColumnError::Entry);
    }
    Ok(Place {
        hook,
        netfilter_hook,
        packet_type,
        flags: take_u16(column)?,
        netns: take_u32(column)?,
        ifindex: take_u32(column)?,
        in_ifindex: take_u32(column)?,
        out_ifindex: take_u32(column)?,
        reserved: take_u32(column)?,
        device_name: [take_word(column)?, take_word(column)?],
    })
}

fn take_ends(column: &mut Bytes) -> Result<Ends, ColumnError> {
    Ok(Ends {
        source: take_address(column)?,
        destination: take_address(column)?,
        source_port: take_u16(column)?,
        destination_port: take_u16(column)?,
        protocol: take_u8(column)?,
        ip_version: take_u8(column)?,
    })
}

fn take_address(column: &mut Bytes) -> Result<Address, ColumnError> {
    let mut bytes = [0; 16];
    column
        .try_copy_to_slice(&mut bytes)
        .map_err(|_| ColumnError::Short)?;
    Ok(address::from_bytes(bytes))
}

/// Text in a machine word, as the kernel side has it.
fn take_word(column: &mut Bytes) -> Result<u64, ColumnError> {
    column.try_get_u64_ne().map_err(|_| ColumnError::Short)
}

fn take_u8(column: &mut Bytes) -> Result<u8, ColumnError> {
    column.try_get_u8().map_err(|_| ColumnError::Short)
}

fn take_u16(column: &mut Bytes) -> Result<u16, ColumnError> {
    column.try_get_u16_le().map_err(|_| ColumnError::Short)
}

fn take_u32(column: &mut Bytes) -> Result<u32, ColumnError> {
    column.try_get_u32_le().map_err(|_| ColumnError::Short)
}

fn take_u64(column: &mut Bytes) -> Result<u64, ColumnError> {
    column.try_get_u64_le().map_err(|_| ColumnError::Short)
}
