//! Events of plain packets: what their headers say.

use tracer_common::{
    address,
    record::{Event, KIND_EVENT, PlainEvent},
};

/// IPv4's header without options, and UDP's.
const IP_HEADER: u32 = 20;
const UDP_HEADER: u32 = 8;
/// Less payload does not tell datagrams apart: what lies behind is not the packet's.
const TELLING: u32 = 8;
const TCP: u8 = 6;

/// The event as the hooks write it of other packets: [`KIND_EVENT`].
///
/// Limit: what the kernel side promises of the packet is not looked at again. Whatever the bytes, the event says of
/// them what it would if the promise held.
#[inline]
pub(super) fn event(plain: &PlainEvent) -> Event {
    let header = &plain.header;
    let [_, second, third, _, _] = *header;
    let (protocol, length) = (byte(header, 9), short(header, 2).into());
    // 0 of what is longer than the field can say (BIG TCP).
    let whole = if length == 0 { plain.length } else { length };
    let mut event = Event {
        time: plain.time,
        kind: KIND_EVENT,
        hook: plain.hook,
        cpu: plain.cpu,
        order: plain.order,
        skb: plain.skb,
        conntrack: plain.conntrack,
        detail: plain.detail,
        device_name: plain.device_name,
        netns: plain.netns,
        ifindex: plain.ifindex,
        length: plain.length,
        reason: plain.reason,
        in_ifindex: plain.in_ifindex,
        out_ifindex: plain.out_ifindex,
        flags: plain.flags,
        netfilter_hook: plain.netfilter_hook,
        packet_type: plain.packet_type,
        payload: 0,
        source: address::from_ipv4_word((second >> 32) as u32),
        destination: address::from_ipv4_word(third as u32),
        sequence: 0,
        acknowledgement: 0,
        ip_id: short(header, 4).into(),
        source_port: short(header, 20),
        destination_port: short(header, 22),
        protocol,
        tcp_flags: 0,
        ttl: byte(header, 8),
        ip_version: 4,
        reserved2: 0,
    };
    if protocol == TCP {
        let transport = u32::from(byte(header, 32) >> 4) * 4;
        event.payload = whole.saturating_sub(IP_HEADER).saturating_sub(transport);
        event.sequence = long(header, 24);
        event.acknowledgement = long(header, 28);
        event.tcp_flags = byte(header, 33);
    } else {
        event.payload = u32::from(short(header, 24)).saturating_sub(UDP_HEADER);
        if event.payload >= TELLING {
            event.sequence = long(header, 28);
            event.acknowledgement = long(header, 32);
        }
    }
    event
}

/// The byte at that place of the header; the words are in the order of memory.
#[inline]
fn byte(header: &[u64; 5], at: usize) -> u8 {
    header[at / 8].to_ne_bytes()[at % 8]
}

/// As [`byte`], two bytes, which the network sends first to last; `at` is even.
#[inline]
fn short(header: &[u64; 5], at: usize) -> u16 {
    let bytes = header[at / 8].to_ne_bytes();
    u16::from_be_bytes([bytes[at % 8], bytes[at % 8 + 1]])
}

/// As [`short`], four bytes; `at` is a multiple of four.
#[inline]
fn long(header: &[u64; 5], at: usize) -> u32 {
    let bytes = header[at / 8].to_ne_bytes();
    let at = at % 8;
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
