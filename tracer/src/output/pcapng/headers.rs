//! A packet's headers, rebuilt from what was observed of them.
//!
//! Observed: addresses, ports, protocol, lengths, TCP's flags and numbers, ICMP's type, code, echo
//! id and sequence, the tunnel's outer ends and network identifier. Made up: everything else (TTL 64,
//! IP id 0, no IP options, TCP options of the right length but without content, window 0, checksums
//! of 0 but for IPv4's own). Payload is left out, and all lengths say how long it was.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};

use super::kept;
use crate::{
    event::{Endpoint, Tuple},
    journey::model::{Encapsulation, Transport},
    report::{HopReport, PacketReport},
};

/// Headers, and how long the packet was that they begin.
pub(super) struct Rebuilt {
    pub(super) bytes: Vec<u8>,
    pub(super) length: u32,
    /// Whether they are made of bytes that were kept.
    pub(super) kept: bool,
}

const TTL: u8 = 64;
const IPV4: u32 = 20;
const IPV6: u32 = 40;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;
/// The UDP port of Geneve; what else is recognised as a tunnel is VXLAN.
const GENEVE: u16 = 6081;
/// What tunnels carry in front of the inner packet: their own header and an Ethernet header.
const TUNNEL: u32 = 8 + 14;

/// The packet as it came to the hop.
pub(super) fn rebuild(packet: &PacketReport, hop: &HopReport) -> Rebuilt {
    let kept = kept::bytes_at(packet, hop);
    let is_kept = kept.is_some();
    let (inner, length) = kept.unwrap_or_else(|| headers(packet, &hop.tuple));
    let (bytes, length) = match hop.encapsulation {
        Some(tunnel) => wrap(&tunnel, &inner, length),
        None => (inner, length),
    };
    Rebuilt {
        bytes,
        length,
        kept: is_kept,
    }
}

/// The packet's own headers, and how long it was.
fn headers(packet: &PacketReport, tuple: &Tuple) -> (Vec<u8>, u32) {
    let ip = ip_length(tuple);
    let transport = transport(packet, tuple, ip);
    let length = whole(packet, ip + length_of(&transport));
    let mut bytes = network(tuple, length - ip);
    bytes.extend_from_slice(&transport);
    (bytes, length)
}

/// How long the packet was, with headers of that length. The payload's length is that of the packet's
/// own headers; the packet's length can count padding behind it.
fn whole(packet: &PacketReport, headers: u32) -> u32 {
    let length = packet.length.max(headers);
    match packet.transport {
        Transport::Tcp { .. } | Transport::Udp { .. } => {
            length.min(headers.saturating_add(packet.payload))
        }
        Transport::Icmp { .. } | Transport::Other => length,
    }
}

/// The tunnel's headers around a packet.
fn wrap(tunnel: &Encapsulation, inner: &[u8], length: u32) -> (Vec<u8>, u32) {
    let Tuple {
        source,
        destination,
        ..
    } = tunnel.outer;
    let carried = length.saturating_add(TUNNEL);
    let datagram = udp(
        source.port,
        destination.port,
        carried,
        is_ipv6(&tunnel.outer),
    );
    let mut bytes = network(&tunnel.outer, carried.saturating_add(8));
    bytes.extend_from_slice(&datagram);
    let [_, a, b, c] = tunnel.vni.to_be_bytes();
    if destination.port == GENEVE {
        // Version 0, no options; what is carried is an Ethernet frame.
        bytes.extend_from_slice(&[0, 0, 0x65, 0x58, a, b, c, 0]);
    } else {
        bytes.extend_from_slice(&[8, 0, 0, 0, a, b, c, 0]);
    }
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    let kind: [u8; 2] = match inner.first() {
        Some(first) if first >> 4 == 6 => [0x86, 0xdd],
        _ => [8, 0],
    };
    bytes.extend_from_slice(&kind);
    bytes.extend_from_slice(inner);
    let whole = carried.saturating_add(8);
    (bytes, whole.saturating_add(ip_length(&tunnel.outer)))
}

fn is_ipv6(tuple: &Tuple) -> bool {
    tuple.source.ip().is_ipv6() || tuple.destination.ip().is_ipv6()
}

fn ip_length(tuple: &Tuple) -> u32 {
    if is_ipv6(tuple) { IPV6 } else { IPV4 }
}

/// The IP header of a packet with so much behind it. What the length has no room for was merged, and
/// has the greatest.
fn network(tuple: &Tuple, behind: u32) -> Vec<u8> {
    let protocol = IpNumber(tuple.protocol);
    let ends = [tuple.source.ip(), tuple.destination.ip()];
    if let [IpAddr::V4(source), IpAddr::V4(destination)] = ends {
        let mut header = Ipv4Header {
            time_to_live: TTL,
            protocol,
            source: source.octets(),
            destination: destination.octets(),
            total_len: short(behind.saturating_add(IPV4)),
            ..Ipv4Header::default()
        };
        header.header_checksum = header.calc_header_checksum();
        return header.to_bytes().to_vec();
    }
    let [source, destination] = [tuple.source, tuple.destination].map(octets);
    let header = Ipv6Header {
        hop_limit: TTL,
        next_header: protocol,
        source,
        destination,
        payload_length: short(behind),
        ..Ipv6Header::default()
    };
    header.to_bytes().to_vec()
}

fn octets(endpoint: Endpoint) -> [u8; 16] {
    match endpoint.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
    .octets()
}

/// The transport header of a packet at a hop, after an IP header of that length.
fn transport(packet: &PacketReport, tuple: &Tuple, ip: u32) -> Vec<u8> {
    let (source, destination) = (tuple.source.port, tuple.destination.port);
    match packet.transport {
        Transport::Tcp {
            flags,
            sequence,
            acknowledgement,
        } => {
            let mut header = TcpHeader::new(source, destination, sequence, 0);
            header.acknowledgment_number = acknowledgement;
            set_flags(&mut header, flags);
            // What the lengths leave to the header is options.
            let room = packet
                .length
                .saturating_sub(ip.saturating_add(packet.payload));
            let options = room.saturating_sub(20).min(40) & !3;
            let zeros = [0; 40];
            let options = usize::try_from(options).unwrap_or(0);
            // Never more than the forty bytes that there may be.
            let _ = header.set_options_raw(&zeros[..options]);
            header.to_bytes().to_vec()
        }
        Transport::Udp { .. } => udp(source, destination, packet.payload, is_ipv6(tuple)),
        Transport::Icmp {
            kind,
            code,
            sequence,
            quoted,
        } => icmp(tuple, [kind, code], sequence, quoted),
        Transport::Other if tuple.protocol == SCTP && source != 0 => ports(source, destination, 12),
        Transport::Other => Vec::new(),
    }
}

fn set_flags(header: &mut TcpHeader, flags: u8) {
    let is_set = |bit: u8| flags & (1 << bit) != 0;
    header.fin = is_set(0);
    header.syn = is_set(1);
    header.rst = is_set(2);
    header.psh = is_set(3);
    header.ack = is_set(4);
    header.urg = is_set(5);
    header.ece = is_set(6);
    header.cwr = is_set(7);
}

/// A UDP header. No checksum is 0, which IPv6 does not allow.
fn udp(source_port: u16, destination_port: u16, payload: u32, ipv6: bool) -> Vec<u8> {
    let header = UdpHeader {
        source_port,
        destination_port,
        length: short(payload.saturating_add(8)),
        checksum: if ipv6 { u16::MAX } else { 0 },
    };
    header.to_bytes().to_vec()
}

fn icmp(tuple: &Tuple, [kind, code]: [u8; 2], sequence: u16, quoted: Option<Tuple>) -> Vec<u8> {
    let echo = matches!((tuple.protocol, kind), (ICMP, 0 | 8) | (ICMP6, 128 | 129));
    let mut bytes = vec![kind, code, 0, 0];
    if echo {
        bytes.extend_from_slice(&tuple.source.port.to_be_bytes());
        bytes.extend_from_slice(&sequence.to_be_bytes());
    } else {
        bytes.extend_from_slice(&[0; 4]);
    }
    if let Some(quoted) = quoted {
        let (source, destination) = (quoted.source.port, quoted.destination.port);
        let behind = match quoted.protocol {
            TCP => ports(source, destination, 20),
            UDP => udp(source, destination, 0, is_ipv6(&quoted)),
            _ => ports(source, destination, 8),
        };
        bytes.extend_from_slice(&network(&quoted, length_of(&behind)));
        // As much as an error quotes at least.
        bytes.extend_from_slice(&behind[..8]);
    }
    bytes
}

/// Two ports, and zeros up to that length.
fn ports(source: u16, destination: u16, length: usize) -> Vec<u8> {
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.resize(length, 0);
    bytes
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn short(length: u32) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}
