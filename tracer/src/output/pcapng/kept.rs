//! A packet at a hop, made of the bytes that were kept of it somewhere on its way.
//!
//! What lies behind the headers is the same at all hops. Of the headers, addresses, ports, an echo's id and
//! lengths are made those of the hop, and checksums right; where not the whole packet was kept, there is
//! nothing to make a checksum of, and it is 0. The rest (TTL, IP id, TCP's options and window) is as it
//! was where the bytes were taken.

use std::net::IpAddr;

use crate::{
    event::Tuple,
    journey::model::Transport,
    report::{HopReport, PacketReport},
};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// The packet's bytes as it came to the hop, without the tunnel around it, and how long it was; `None` where
/// there are none, or they are not of such a packet.
pub(super) fn bytes_at(packet: &PacketReport, hop: &HopReport) -> Option<(Vec<u8>, u32)> {
    let mut bytes = packet.bytes.as_deref()?.to_vec();
    let tuple = &hop.tuple;
    let ip = addresses(&mut bytes, tuple)?;
    let transport = bytes.get_mut(ip..)?;
    let (own, checksum) = ports(transport, packet, tuple)?;
    let headers = ip + own;
    let payload = match packet.transport {
        Transport::Tcp { .. } | Transport::Udp { .. } => packet.payload,
        _ => packet.length.saturating_sub(u32::try_from(headers).ok()?),
    };
    let length = u32::try_from(headers).ok()?.saturating_add(payload);
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    lengths(&mut bytes, ip, tuple.protocol, length);
    let whole = u32::try_from(bytes.len()) == Ok(length);
    let value = whole.then(|| transport_checksum(&bytes, ip, checksum, tuple));
    // UDP over IPv6 must have one.
    let none = u16::from(tuple.protocol == UDP && ip == 40).wrapping_neg();
    set(&mut bytes, ip + checksum, value.unwrap_or(none));
    Some((bytes, length))
}

/// Makes the addresses those of the tuple; gives the IP header's length.
fn addresses(bytes: &mut [u8], tuple: &Tuple) -> Option<usize> {
    let ends = (tuple.source.ip(), tuple.destination.ip());
    let (ip, protocol) = match (bytes.first()? >> 4, ends) {
        (4, (IpAddr::V4(source), IpAddr::V4(destination))) => {
            bytes.get_mut(12..16)?.copy_from_slice(&source.octets());
            bytes
                .get_mut(16..20)?
                .copy_from_slice(&destination.octets());
            (usize::from(bytes[0] & 15) * 4, bytes[9])
        }
        (6, (IpAddr::V6(source), IpAddr::V6(destination))) => {
            bytes.get_mut(8..24)?.copy_from_slice(&source.octets());
            bytes
                .get_mut(24..40)?
                .copy_from_slice(&destination.octets());
            (40, bytes[6])
        }
        _ => return None,
    };
    (protocol == tuple.protocol && ip >= 20).then_some(ip)
}

/// Makes the ports, or an echo's id, those of the tuple; gives the transport header's length and where in it
/// the checksum is.
fn ports(transport: &mut [u8], packet: &PacketReport, tuple: &Tuple) -> Option<(usize, usize)> {
    let (own, checksum) = match tuple.protocol {
        TCP => (usize::from(*transport.get(12)? >> 4) * 4, 16),
        UDP => (8, 6),
        ICMP | ICMP6 => (8, 2),
        _ => return None,
    };
    let header = transport.get_mut(..own.max(8))?;
    match packet.transport {
        Transport::Tcp { .. } | Transport::Udp { .. } => {
            header[..2].copy_from_slice(&tuple.source.port.to_be_bytes());
            header[2..4].copy_from_slice(&tuple.destination.port.to_be_bytes());
        }
        Transport::Icmp { quoted: None, .. } if tuple.source.port != 0 => {
            header[4..6].copy_from_slice(&tuple.source.port.to_be_bytes());
        }
        // What an error quotes is translated with it.
        Transport::Icmp { .. } | Transport::Other => return None,
    }
    (own >= 8).then_some((own, checksum))
}

/// Makes the lengths in the headers right, and IPv4's checksum. What has no room there was merged, and has
/// the greatest.
fn lengths(bytes: &mut [u8], ip: usize, protocol: u8, length: u32) {
    let short = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
    let behind = length.saturating_sub(u32::try_from(ip).unwrap_or(0));
    if bytes[0] >> 4 == 4 {
        set(bytes, 2, short(length));
        set(bytes, 10, 0);
        let checksum = !folded(sum(&bytes[..ip.min(bytes.len())]));
        set(bytes, 10, checksum);
    } else {
        set(bytes, 4, short(behind));
    }
    if protocol == UDP {
        set(bytes, ip + 4, short(behind));
    }
}

fn transport_checksum(bytes: &[u8], ip: usize, at: usize, tuple: &Tuple) -> u16 {
    let transport = bytes.get(ip..).unwrap_or_default();
    let mut total = sum(transport) - sum(transport.get(at..at + 2).unwrap_or_default());
    if tuple.protocol != ICMP {
        let ends = if ip == 40 { 8..40 } else { 12..20 };
        let length = u32::try_from(transport.len()).unwrap_or(0);
        total += sum(&bytes[ends]) + length + u32::from(tuple.protocol);
    }
    match (!folded(total), tuple.protocol) {
        (0, UDP) => u16::MAX,
        (value, _) => value,
    }
}

/// Of a packet's words; far fewer than would overflow.
fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

fn folded(mut sum: u32) -> u16 {
    while let (high @ 1.., low) = (sum >> 16, sum & 0xffff) {
        sum = high + low;
    }
    u16::try_from(sum).unwrap_or(0)
}

fn set(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
