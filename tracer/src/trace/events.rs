//! Records of a chunk as columns: what is written is what could not be predicted.
//!
//! A packet is seen a dozen times on its way, by the same hooks as the packet before it. So each
//! event is compared with what is to be expected: the place (hook, device, namespace) that followed
//! its place the last time, the tuple and the packet's fields as at its hop before, the number that
//! its CPU gives next. A mask says which expectations failed, and only those fields are written,
//! each into its own column. Encoder and decoder keep the same [`Model`] of what was seen, which
//! begins anew with each chunk, so that a chunk can be read without those before it.
//!
//! Beside the records a chunk has *marks*: notices, ticks of the clock and locations of drops, each
//! where it stood among the records. They are what makes a replay take the same decisions as the
//! live tracer.
//!
//! Limit: fields that the records reserve are kept, so a later version may use them.

mod decode;
mod encode;
#[cfg(test)]
pub(super) mod tests;

use tracer_common::{address::Address, record};

pub(super) use decode::{Decoder, Item, decode, marks};
pub(super) use encode::Encoder;

use super::column::ColumnError;

/// How many records a chunk may have: what a reader must have room for, some 13 MB.
pub(super) const MAX_RECORDS: u32 = 1 << 16;

/// The columns of a chunk, in the order in which they stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Column {
    /// Marks and numbers of records.
    Marks,
    /// Which expectations failed.
    Mask,
    Time,
    Cpu,
    Order,
    /// Indexes of `sk_buff` addresses; an index that is not yet given is followed by the address.
    Skb,
    /// As [`Column::Skb`], of [`Place`]s.
    Place,
    /// As [`Column::Skb`], of [`Ends`].
    Ends,
    /// The fields that stay with a packet.
    Packet,
    Length,
    Ttl,
    /// As [`Column::Skb`], of `nf_conn` addresses.
    Conntrack,
    Detail,
    Reason,
    /// Indexes of second headers.
    Other,
    /// Whole records of connections' tuples.
    Tuples,
}

/// How many there are.
const COLUMNS: usize = Column::Tuples as usize + 1;

/// The bits of the mask: what is not as expected and so is written.
mod bit {
    pub(super) const CPU: u64 = 1 << 0;
    pub(super) const SKB: u64 = 1 << 1;
    pub(super) const PLACE: u64 = 1 << 2;
    pub(super) const ENDS: u64 = 1 << 3;
    pub(super) const PACKET: u64 = 1 << 4;
    pub(super) const LENGTH: u64 = 1 << 5;
    pub(super) const TTL: u64 = 1 << 6;
    pub(super) const CONNTRACK: u64 = 1 << 7;
    pub(super) const DETAIL: u64 = 1 << 8;
    pub(super) const REASON: u64 = 1 << 9;
    pub(super) const ORDER: u64 = 1 << 10;
    /// The record has a second header.
    pub(super) const OTHER: u64 = 1 << 11;
    /// The record is of a connection's tuples; no other bit but `CPU` and `ORDER`.
    pub(super) const TUPLES: u64 = 1 << 12;
    /// All that have a meaning.
    pub(super) const ALL: u64 = (1 << 13) - 1;
}

/// Kinds of marks.
mod mark {
    /// So many records; the number follows.
    pub(super) const RECORDS: u64 = 0;
    /// The clock; the step since the last one follows.
    pub(super) const CLOCK: u64 = 1;
    /// A notice; its length and its JSON follow.
    pub(super) const NOTICE: u64 = 2;
    /// Where a drop happens; address, length and text follow.
    pub(super) const LOCATION: u64 = 3;
}

/// Where a hook saw a packet: the same for all packets that come there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Place {
    hook: u8,
    netfilter_hook: u8,
    flags: u16,
    netns: u32,
    ifindex: u32,
    in_ifindex: u32,
    out_ifindex: u32,
    device_name: [u64; 2],
    packet_type: u8,
    reserved: u32,
}

/// The tuple as the record has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Ends {
    source: Address,
    destination: Address,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    ip_version: u8,
}

/// What stays with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fields {
    sequence: u32,
    acknowledgement: u32,
    ip_id: u32,
    payload: u32,
    tcp_flags: u8,
}

/// A second header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Second {
    ends: Ends,
    vni: u32,
}

/// An event apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parts {
    time: u64,
    cpu: u16,
    order: u32,
    skb: u64,
    place: Place,
    ends: Ends,
    fields: Fields,
    length: u32,
    ttl: u8,
    conntrack: u64,
    detail: u64,
    reason: u32,
}

impl Parts {
    /// Every field by name, so that a new one cannot be forgotten here. The kind is not among the
    /// parts: whether there is a second header says it.
    fn of(event: &record::Event) -> Self {
        let &record::Event {
            head:
                record::Head {
                    time,
                    kind: _,
                    hook,
                    cpu,
                    order,
                    skb,
                    conntrack,
                    detail,
                    device_name,
                    netns,
                    ifindex,
                    length,
                    payload,
                    reason,
                    flags,
                    netfilter_hook,
                    packet_type,
                    in_ifindex,
                    out_ifindex,
                },
            source,
            destination,
            sequence,
            acknowledgement,
            ip_id,
            source_port,
            destination_port,
            protocol,
            tcp_flags,
            ttl,
            ip_version,
            reserved,
        } = event;
        Self {
            time,
            cpu,
            order,
            skb,
            place: Place {
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
            },
            ends: Ends {
                source,
                destination,
                source_port,
                destination_port,
                protocol,
                ip_version,
            },
            fields: Fields {
                sequence,
                acknowledgement,
                ip_id,
                payload,
                tcp_flags,
            },
            length,
            ttl,
            conntrack,
            detail,
            reason,
        }
    }

    fn event(&self, kind: u8) -> record::Event {
        record::Event {
            head: record::Head {
                time: self.time,
                kind,
                hook: self.place.hook,
                cpu: self.cpu,
                order: self.order,
                skb: self.skb,
                conntrack: self.conntrack,
                detail: self.detail,
                device_name: self.place.device_name,
                netns: self.place.netns,
                ifindex: self.place.ifindex,
                length: self.length,
                payload: self.fields.payload,
                reason: self.reason,
                flags: self.place.flags,
                netfilter_hook: self.place.netfilter_hook,
                packet_type: self.place.packet_type,
                in_ifindex: self.place.in_ifindex,
                out_ifindex: self.place.out_ifindex,
            },
            source: self.ends.source,
            destination: self.ends.destination,
            sequence: self.fields.sequence,
            acknowledgement: self.fields.acknowledgement,
            ip_id: self.fields.ip_id,
            source_port: self.ends.source_port,
            destination_port: self.ends.destination_port,
            protocol: self.ends.protocol,
            tcp_flags: self.fields.tcp_flags,
            ttl: self.ttl,
            ip_version: self.ends.ip_version,
            reserved: self.place.reserved,
        }
    }
}

/// What was seen of a place.
#[derive(Clone, Copy, Debug, Default)]
struct PlaceSeen {
    /// The place that a packet came to after this one.
    next: u32,
    /// What the length was there, less that of the hop before.
    length_step: u32,
    reason: u32,
    /// Whether there was a conntrack entry.
    tracked: bool,
}

/// What was seen of a packet: its last hop.
#[derive(Clone, Copy, Debug, Default)]
struct PacketSeen {
    place: u32,
    ends: u32,
    fields: Fields,
    length: u32,
    ttl: u8,
    /// The last entry that was not zero.
    conntrack: u64,
}

/// What was seen of a CPU.
#[derive(Clone, Copy, Debug, Default)]
struct CpuSeen {
    order: u32,
    skb: u32,
}

/// What encoder and decoder both know when the next record comes.
#[derive(Debug, Default)]
struct Model {
    time: u64,
    cpu: u16,
    clock: u64,
    /// By number.
    cpus: Vec<CpuSeen>,
    places: Vec<Place>,
    places_seen: Vec<PlaceSeen>,
    ends: Vec<Ends>,
    /// The fields of the last packet with these ends.
    ends_fields: Vec<Fields>,
    skbs: Vec<u64>,
    skbs_seen: Vec<PacketSeen>,
    conntracks: Vec<u64>,
    others: Vec<Second>,
}

/// What is expected of an event, given its CPU, `sk_buff` and place.
#[derive(Clone, Copy, Debug)]
struct Expected {
    length: u32,
    ttl: u8,
    conntrack: u64,
    reason: u32,
}

impl Model {
    fn cpu(&self, cpu: u16) -> CpuSeen {
        at(&self.cpus, u32::from(cpu)).unwrap_or_default()
    }

    fn cpu_mut(&mut self, cpu: u16) -> &mut CpuSeen {
        let at = usize::from(cpu);
        if at >= self.cpus.len() {
            self.cpus.resize(at + 1, CpuSeen::default());
        }
        &mut self.cpus[at]
    }

    fn packet(&self, skb: u32) -> PacketSeen {
        at(&self.skbs_seen, skb).unwrap_or_default()
    }

    fn next_place(&self, packet: &PacketSeen) -> u32 {
        at(&self.places_seen, packet.place).map_or(0, |seen| seen.next)
    }

    fn expected(&self, packet: &PacketSeen, place: u32) -> Expected {
        let seen = at(&self.places_seen, place).unwrap_or_default();
        Expected {
            length: packet.length.wrapping_add(seen.length_step),
            ttl: packet.ttl,
            conntrack: if seen.tracked { packet.conntrack } else { 0 },
            reason: seen.reason,
        }
    }

    /// After an event, on both sides alike.
    fn learn(&mut self, parts: &Parts, skb: u32, place: u32, ends: u32) {
        self.time = parts.time;
        self.cpu = parts.cpu;
        *self.cpu_mut(parts.cpu) = CpuSeen {
            order: parts.order,
            skb,
        };
        let before = self.packet(skb);
        if let Some(seen) = self.places_seen.get_mut(before.place as usize) {
            seen.next = place;
        }
        if let Some(seen) = self.places_seen.get_mut(place as usize) {
            seen.length_step = parts.length.wrapping_sub(before.length);
            seen.reason = parts.reason;
            seen.tracked = parts.conntrack != 0;
        }
        if let Some(fields) = self.ends_fields.get_mut(ends as usize) {
            *fields = parts.fields;
        }
        if let Some(seen) = self.skbs_seen.get_mut(skb as usize) {
            *seen = PacketSeen {
                place,
                ends,
                fields: parts.fields,
                length: parts.length,
                ttl: parts.ttl,
                conntrack: if parts.conntrack == 0 {
                    before.conntrack
                } else {
                    parts.conntrack
                },
            };
        }
    }

    /// After a record of a connection's tuples.
    fn learn_tuples(&mut self, tuples: &record::Conntrack) {
        self.time = tuples.time;
        self.cpu = tuples.cpu;
        self.cpu_mut(tuples.cpu).order = tuples.order;
    }
}

fn at<T: Copy>(table: &[T], index: u32) -> Option<T> {
    table.get(index as usize).copied()
}

fn entry<T: Copy>(table: &[T], index: u32) -> Result<T, ColumnError> {
    at(table, index).ok_or(ColumnError::Entry)
}
