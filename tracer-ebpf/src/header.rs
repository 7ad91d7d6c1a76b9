//! Reading one IP header and the transport header behind it.
//!
//! One read of [`FIRST_READ`] bytes serves the ordinary packet (no IP options, no IPv6 extension
//! headers); the others cost one read more for each header on the way. The buffer behind a short
//! packet is readable (`skb_shared_info` lies there), and what lies behind the linear part's end
//! is not looked at.

use core::mem::MaybeUninit;

use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};
use tracer_common::{
    address::{self, Address},
    record::{FLAG_FRAGMENT, FLAG_NOT_LINEAR},
};

use crate::memory;

/// IPv6 and TCP without options, and a little more.
const FIRST_READ: usize = 64;
/// How many IPv6 extension headers are followed.
const EXTENSION_HEADERS: usize = 4;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// What one IP header and the transport header behind it say.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) flags: u16,
    pub(crate) protocol: u8,
    pub(crate) tcp_flags: u8,
    pub(crate) ttl: u8,
    pub(crate) ip_version: u8,
    /// From the IP header to the transport's payload.
    pub(crate) payload_at: u16,
    pub(crate) payload: u32,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) ip_id: u32,
}

/// The bytes of a transport header that are looked at: TCP's twenty.
type Transport = [u8; 20];

/// Reads the headers at kernel address `at`; `end` is the end of the buffer's linear part.
/// Returns 0 when there is no IP header, else 1. Not inlined: it is called for the outer and the
/// inner header, and the verifier then walks it per call with a frame of its own.
#[inline(never)]
pub(crate) fn read(at: u64, end: u64, out: &mut Header) -> u64 {
    let mut first = MaybeUninit::<[u8; FIRST_READ]>::uninit();
    if at + Ipv4Hdr::LEN as u64 > end || !memory::copy(&mut first, at) {
        return 0;
    }
    // SAFETY: the copy above filled it.
    let first = unsafe { first.assume_init_ref() };
    match first[0] >> 4 {
        4 => read_ipv4(at, end, first, out),
        6 => read_ipv6(at, end, first, out),
        _ => 0,
    }
}

#[inline(always)]
fn read_ipv4(at: u64, end: u64, first: &[u8; FIRST_READ], out: &mut Header) -> u64 {
    // SAFETY: Ipv4Hdr is twenty bytes of alignment one, and `first` holds more.
    let ip = unsafe { &*first.as_ptr().cast::<Ipv4Hdr>() };
    let header = u32::from(ip.vihl & 0xf) * 4;
    if header < Ipv4Hdr::LEN as u32 {
        return 0;
    }
    out.source = address::from_ipv4(ip.src_addr);
    out.destination = address::from_ipv4(ip.dst_addr);
    out.protocol = ip.proto;
    out.ttl = ip.ttl;
    out.ip_version = 4;
    out.ip_id = u32::from(u16::from_be_bytes(ip.id));
    let body = u32::from(u16::from_be_bytes(ip.tot_len)).saturating_sub(header);
    let later_fragment = u16::from_be_bytes(ip.frags) & 0x1fff != 0;
    let transport = if header == Ipv4Hdr::LEN as u32 {
        transport_in(first, Ipv4Hdr::LEN)
    } else {
        transport_at(at + u64::from(header))
    };
    finish(&transport, header, body, at, end, later_fragment, out)
}

#[inline(always)]
fn read_ipv6(at: u64, end: u64, first: &[u8; FIRST_READ], out: &mut Header) -> u64 {
    // SAFETY: Ipv6Hdr is forty bytes of alignment one, and `first` holds more.
    let ip = unsafe { &*first.as_ptr().cast::<Ipv6Hdr>() };
    out.source = address::from_bytes(ip.src_addr);
    out.destination = address::from_bytes(ip.dst_addr);
    out.ttl = ip.hop_limit;
    out.ip_version = 6;
    out.ip_id = u32::from_be_bytes(ip.vcf) & 0xf_ffff;
    let mut header = Ipv6Hdr::LEN as u32;
    let mut next = ip.next_hdr;
    let mut later_fragment = false;
    for _ in 0..EXTENSION_HEADERS {
        // Hop-by-hop, routing, fragment, destination options.
        if next != 0 && next != 43 && next != 44 && next != 60 {
            break;
        }
        let mut extension = MaybeUninit::<[u8; 8]>::uninit();
        if !memory::copy(&mut extension, at + u64::from(header)) {
            return 0;
        }
        // SAFETY: the copy above filled it.
        let extension = unsafe { extension.assume_init() };
        if next == 44 {
            later_fragment = u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 != 0;
            header += 8;
        } else {
            header += (u32::from(extension[1]) + 1) * 8;
        }
        next = extension[0];
    }
    out.protocol = next;
    let transport = if header == Ipv6Hdr::LEN as u32 {
        transport_in(first, Ipv6Hdr::LEN)
    } else {
        transport_at(at + u64::from(header))
    };
    let body = (u32::from(u16::from_be_bytes(ip.payload_len)) + Ipv6Hdr::LEN as u32)
        .saturating_sub(header);
    finish(&transport, header, body, at, end, later_fragment, out)
}

#[inline(always)]
fn transport_in(first: &[u8; FIRST_READ], offset: usize) -> Transport {
    let mut transport = [0; 20];
    transport.copy_from_slice(&first[offset..offset + 20]);
    transport
}

#[inline(always)]
fn transport_at(at: u64) -> Transport {
    let mut transport = MaybeUninit::<Transport>::uninit();
    if memory::copy(&mut transport, at) {
        // SAFETY: the copy above filled it.
        unsafe { transport.assume_init() }
    } else {
        [0; 20]
    }
}

/// Takes ports and what tells packets apart from the transport header.
#[inline(always)]
fn finish(
    t: &Transport,
    header: u32,
    body: u32,
    at: u64,
    end: u64,
    later_fragment: bool,
    out: &mut Header,
) -> u64 {
    out.source_port = 0;
    out.destination_port = 0;
    out.tcp_flags = 0;
    out.sequence = 0;
    out.acknowledgement = 0;
    out.payload = body;
    out.payload_at = header as u16;
    out.flags = 0;
    if later_fragment {
        out.flags = FLAG_FRAGMENT;
        return 1;
    }
    let transport = match out.protocol {
        TCP => TcpHdr::LEN as u32,
        ICMP | ICMPV6 | UDP => UdpHdr::LEN as u32,
        _ => return 1,
    };
    if at + u64::from(header) + u64::from(transport) > end {
        out.flags = FLAG_NOT_LINEAR;
        return 1;
    }
    match out.protocol {
        TCP => {
            // SAFETY: TcpHdr is twenty bytes of alignment one.
            let tcp = unsafe { &*t.as_ptr().cast::<TcpHdr>() };
            out.source_port = u16::from_be_bytes(tcp.source);
            out.destination_port = u16::from_be_bytes(tcp.dest);
            out.sequence = u32::from_be_bytes(tcp.seq);
            out.acknowledgement = u32::from_be_bytes(tcp.ack_seq);
            out.tcp_flags = t[13];
            let data_offset = u32::from(t[12] >> 4) * 4;
            out.payload = body.saturating_sub(data_offset);
            out.payload_at = (header + data_offset) as u16;
        }
        UDP => {
            // SAFETY: UdpHdr is eight bytes of alignment one.
            let udp = unsafe { &*t.as_ptr().cast::<UdpHdr>() };
            out.source_port = u16::from_be_bytes(udp.src);
            out.destination_port = u16::from_be_bytes(udp.dst);
            out.payload = body.saturating_sub(UdpHdr::LEN as u32);
            out.payload_at = (header + UdpHdr::LEN as u32) as u16;
            // Packets of one UDP flow differ in nothing else that NAT leaves alone.
            if out.payload >= 8 && at + u64::from(header) + 16 <= end {
                out.sequence = u32::from_be_bytes([t[8], t[9], t[10], t[11]]);
                out.acknowledgement = u32::from_be_bytes([t[12], t[13], t[14], t[15]]);
            }
        }
        _ => {
            let (kind, code) = (t[0], t[1]);
            out.acknowledgement = (u32::from(kind) << 8) | u32::from(code);
            out.payload = body.saturating_sub(8);
            out.payload_at = (header + 8) as u16;
            let echo = match out.protocol {
                ICMP => kind == 8 || kind == 0,
                _ => kind == 128 || kind == 129,
            };
            if echo {
                let id = u16::from_be_bytes([t[4], t[5]]);
                out.source_port = id;
                out.destination_port = id;
                out.sequence = u32::from(u16::from_be_bytes([t[6], t[7]]));
            }
        }
    }
    1
}
