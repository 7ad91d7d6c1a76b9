//! Events of plain packets: what their headers say.

use tracer_common::{
    address,
    record::{Event, Head, KIND_EVENT, PlainEvent},
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
    let whole = if length == 0 {
        plain.head.length
    } else {
        length
    };
    let mut event = Event {
        head: Head {
            kind: KIND_EVENT,
            ..plain.head
        },
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
        reserved: 0,
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

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;
    use tracer_common::record::{KIND_PLAIN_EVENT, PLAIN_BYTES};

    use super::*;

    /// As the kernel side copies it.
    fn plain(packet: &[u8]) -> PlainEvent {
        let mut header = [0; PLAIN_BYTES / 8];
        for (word, bytes) in header.iter_mut().zip(packet.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        let head = Head {
            kind: KIND_PLAIN_EVENT,
            length: packet.len().try_into().unwrap(),
            ..Head::default()
        };
        PlainEvent { head, header }
    }

    /// What the kernel side would have written of another packet of these addresses: with as many bytes in all, and
    /// of payload.
    fn expected(
        (source, destination): ([u8; 4], [u8; 4]),
        ttl: u8,
        ports: (u16, u16),
        (length, payload): (usize, usize),
    ) -> Event {
        Event {
            head: Head {
                kind: KIND_EVENT,
                length: length.try_into().unwrap(),
                payload: payload.try_into().unwrap(),
                ..Head::default()
            },
            source: address::from_ipv4(source),
            destination: address::from_ipv4(destination),
            source_port: ports.0,
            destination_port: ports.1,
            ttl,
            ip_version: 4,
            ..Event::default()
        }
    }

    proptest! {
        #[test]
        fn a_segment_is_what_its_header_says(
            source: [u8; 4], destination: [u8; 4], ttl: u8, ports: (u16, u16),
            sequence: u32, acknowledgement: u32, id: u16, flags: u8, differentiated: u8, whole: bool,
            options in 0..=10_usize,
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut packet = Vec::new();
            PacketBuilder::ipv4(source, destination, ttl)
                .tcp(ports.0, ports.1, sequence, 512)
                .ack(acknowledgement)
                .options_raw(&vec![1; options * 4])
                .unwrap()
                .write_to_vec(&mut packet, &payload)
                .unwrap();
            packet[1] = differentiated;
            packet[4..6].copy_from_slice(&id.to_be_bytes());
            packet[6] = if whole { 0x40 } else { 0 };
            packet[33] = flags;
            let found = event(&plain(&packet));
            prop_assert_eq!(found, Event {
                sequence,
                acknowledgement,
                ip_id: id.into(),
                protocol: TCP,
                tcp_flags: flags,
                ..expected((source, destination), ttl, ports, (packet.len(), payload.len()))
            });
        }

        /// Also what is too short to be told from others, with padding of the link layer's behind it.
        #[test]
        fn a_datagram_is_what_its_header_says(
            source: [u8; 4], destination: [u8; 4], ttl: u8, ports: (u16, u16), id: u16,
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut packet = Vec::new();
            PacketBuilder::ipv4(source, destination, ttl)
                .udp(ports.0, ports.1)
                .write_to_vec(&mut packet, &payload)
                .unwrap();
            packet[4..6].copy_from_slice(&id.to_be_bytes());
            packet.resize(packet.len().max(PLAIN_BYTES), 0xee);
            let found = event(&plain(&packet));
            let word = |at: usize| match payload.get(at..at + 4) {
                Some(bytes) if payload.len() >= 8 => u32::from_be_bytes(bytes.try_into().unwrap()),
                _ => 0,
            };
            prop_assert_eq!(found, Event {
                sequence: word(0),
                acknowledgement: word(4),
                ip_id: id.into(),
                protocol: 17,
                ..expected((source, destination), ttl, ports, (packet.len(), payload.len()))
            });
        }

        #[test]
        fn lengths_that_cannot_be_leave_no_payload(total in 0..40_u16, words in 5..=15_u8, udp in 0..8_u16) {
            let mut packet = [0; PLAIN_BYTES];
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&total.max(1).to_be_bytes());
            packet[9] = TCP;
            packet[32] = words << 4;
            prop_assert_eq!(event(&plain(&packet)).payload, 0);
            packet[9] = 17;
            packet[24..26].copy_from_slice(&udp.to_be_bytes());
            let found = event(&plain(&packet));
            prop_assert_eq!((found.payload, found.sequence, found.acknowledgement), (0, 0, 0));
        }
    }

    #[test]
    fn what_a_hook_knows_goes_with_it() {
        let head = Head {
            time: 1,
            kind: KIND_PLAIN_EVENT,
            hook: 2,
            cpu: 3,
            order: 4,
            skb: 5,
            conntrack: 6,
            detail: 7,
            device_name: [8, 9],
            netns: 10,
            ifindex: 11,
            length: 12,
            reason: 13,
            in_ifindex: 14,
            out_ifindex: 15,
            flags: 16,
            netfilter_hook: 17,
            packet_type: 18,
            payload: 0,
        };
        let header = [0x45, 0, 0, 0, 0];
        let expected = Head {
            kind: KIND_EVENT,
            ..head
        };
        assert_eq!(event(&PlainEvent { head, header }).head, expected);
    }

    #[test]
    fn a_length_that_the_header_cannot_say_is_the_buffers() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1, 2, 3, 4)
            .write_to_vec(&mut packet, &[0; 100])
            .unwrap();
        packet[2..4].fill(0);
        let mut seen = plain(&packet);
        seen.head.length = 90_000;
        assert_eq!(event(&seen).payload, 90_000 - 40);
    }
}
