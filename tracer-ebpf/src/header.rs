//! Reading one IP header and the transport header behind it.
//!
//! Written for the verifier as much as for the machine. It walks every path, and two paths merge
//! only where what they leave on the stack looks alike: so everything a path leaves is a whole
//! word, bytes come from one helper call into one buffer, and what only a written record needs is
//! worked out later, straight into the ring's memory, which the verifier does not follow.
//! The buffer behind a short packet is readable (`skb_shared_info` lies there); what lies behind
//! the end of the linear part is not looked at.

use core::mem::MaybeUninit;

use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};
use tracer_common::{
    address::{self, Address},
    flow::FlowKey,
    record::{Event, FLAG_FRAGMENT, FLAG_NOT_LINEAR},
};

use crate::memory;

/// How many IPv6 extension headers are followed.
const EXTENSION_HEADERS: usize = 4;

pub(crate) const ICMP: u64 = 1;
pub(crate) const TCP: u64 = 6;
pub(crate) const UDP: u64 = 17;
pub(crate) const SCTP: u64 = 132;
pub(crate) const ICMPV6: u64 = 58;

/// A tuple in whole words.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Tuple {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    /// Protocol << 32 | source port << 16 | destination port.
    ends: u64,
}

impl Tuple {
    pub(crate) fn source_port(&self) -> u16 {
        (self.ends >> 16) as u16
    }

    pub(crate) fn destination_port(&self) -> u16 {
        self.ends as u16
    }

    pub(crate) fn protocol(&self) -> u64 {
        self.ends >> 32
    }

    /// The key of the flow that the tuple belongs to.
    #[inline(always)]
    pub(crate) fn key(&self) -> FlowKey {
        FlowKey::new(
            self.source,
            self.source_port(),
            self.destination,
            self.destination_port(),
            self.protocol() as u8,
        )
    }
}

/// One IP header and the transport header behind it.
#[repr(C)]
pub(crate) struct Header {
    /// IPv4: twenty bytes and what follows; IPv6: all forty.
    pub(crate) ip: [u8; Ipv6Hdr::LEN],
    /// The transport header's first bytes; without meaning with [`FLAG_FRAGMENT`] or
    /// [`FLAG_NOT_LINEAR`].
    pub(crate) transport: [u8; 24],
    pub(crate) tuple: Tuple,
    /// 4 or 6.
    pub(crate) version: u64,
    /// From the IP header to the transport header.
    pub(crate) transport_at: u64,
    /// [`FLAG_FRAGMENT`], [`FLAG_NOT_LINEAR`].
    pub(crate) flags: u64,
    /// Where the linear part ends, from the transport header on.
    linear: u64,
    /// Of a later fragment: its place in bytes << 32 | IPv6: its identification's low bits.
    fragment: u64,
}

impl Header {
    /// Whether so many bytes from the transport header on are in the linear part.
    #[inline(always)]
    pub(crate) fn has_linear(&self, bytes: u64) -> bool {
        self.linear >= bytes
    }
}

/// Reads the headers at kernel address `at`; `end` is the end of the buffer's linear part.
/// Returns 0 when there is no IP header, else 1.
#[inline(never)]
pub(crate) fn read(at: u64, end: u64, out: &mut Header) -> u64 {
    if at + Ipv4Hdr::LEN as u64 > end || !memory::fill(&mut out.ip, at) {
        return 0;
    }
    let version = u64::from(out.ip[0] >> 4);
    let (protocol, fragment);
    if version == 4 {
        // SAFETY: Ipv4Hdr is twenty bytes of alignment one.
        let ip = unsafe { &*out.ip.as_ptr().cast::<Ipv4Hdr>() };
        out.transport_at = u64::from(ip.vihl & 0xf) * 4;
        protocol = u64::from(ip.proto);
        fragment = u64::from(u16::from_be_bytes(ip.frags) & 0x1fff) << 35;
        out.tuple.source = address::from_ipv4(ip.src_addr);
        out.tuple.destination = address::from_ipv4(ip.dst_addr);
    } else if version == 6 {
        // SAFETY: Ipv6Hdr is forty bytes of alignment one.
        let ip = unsafe { &*out.ip.as_ptr().cast::<Ipv6Hdr>() };
        out.tuple.source = address::from_bytes(ip.src_addr);
        out.tuple.destination = address::from_bytes(ip.dst_addr);
        let mut next = u64::from(ip.next_hdr);
        if is_extension(next) {
            next = skip_extensions(at, next);
        } else {
            next |= (Ipv6Hdr::LEN as u64) << 8;
        }
        protocol = next & 0xff;
        out.transport_at = (next >> 8) & 0xffff;
        fragment = (next >> 48) << 32 | (next >> 24) & 0xff_ffff;
    } else {
        return 0;
    }
    out.version = version;
    out.fragment = 0;
    out.tuple.ends = protocol << 32;
    // Also where it says nothing: the verifier then finds the same on every path.
    if !memory::fill(&mut out.transport, at + out.transport_at) {
        return 0;
    }
    out.linear = end.wrapping_sub(at + out.transport_at);
    out.flags = 0;
    if fragment >> 32 != 0 {
        out.fragment = fragment;
        out.flags = u64::from(FLAG_FRAGMENT);
    } else if at + out.transport_at + UdpHdr::LEN as u64 > end {
        out.flags = u64::from(FLAG_NOT_LINEAR);
    } else {
        out.tuple.ends |= ports(protocol, &out.transport);
    }
    let noise = u64::from_ne_bytes([
        out.ip[8], out.ip[9], out.ip[10], out.ip[11], out.ip[12], out.ip[13], out.ip[14],
        out.ip[15],
    ]);
    out.version = memory::forget(out.version, noise);
    out.transport_at = memory::forget(out.transport_at, noise);
    out.flags = memory::forget(out.flags, noise);
    out.linear = memory::forget(out.linear, noise);
    out.fragment = memory::forget(out.fragment, noise);
    out.tuple.ends = memory::forget(out.tuple.ends, noise);
    out.tuple.source[0] = memory::forget(out.tuple.source[0], noise);
    out.tuple.destination[0] = memory::forget(out.tuple.destination[0], noise);
    1
}

/// Source port << 16 | destination port.
#[inline(always)]
fn ports(protocol: u64, t: &[u8; 24]) -> u64 {
    let both = u64::from(u32::from_be_bytes([t[0], t[1], t[2], t[3]]));
    // Echo request and reply: the id stands for both ports, as conntrack has it.
    let id = u64::from(u16::from_be_bytes([t[4], t[5]]));
    match protocol {
        TCP | UDP | SCTP => both,
        ICMP if t[0] == 8 || t[0] == 0 => id << 16 | id,
        ICMPV6 if t[0] == 128 || t[0] == 129 => id << 16 | id,
        _ => 0,
    }
}

/// Hop-by-hop, routing, fragment, destination options.
#[inline(always)]
fn is_extension(next: u64) -> bool {
    matches!(next, 0 | 43 | 44 | 60)
}

/// Follows IPv6 extension headers: the transport protocol, its offset << 8, and of a fragment the
/// low bits of its identification << 24 and its place in bytes << 48.
#[inline(never)]
fn skip_extensions(at: u64, first: u64) -> u64 {
    let mut next = first;
    let mut offset = Ipv6Hdr::LEN as u64;
    let mut fragment = 0;
    for _ in 0..EXTENSION_HEADERS {
        if !is_extension(next) {
            break;
        }
        let mut extension = MaybeUninit::<[u8; 8]>::uninit();
        if !memory::copy(&mut extension, at + offset) {
            break;
        }
        // SAFETY: the copy above filled it.
        let extension = unsafe { extension.assume_init() };
        let mut length = (u64::from(extension[1]) + 1) * 8;
        if next == 44 {
            length = 8;
            let place = u64::from(u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8);
            let [.., a, b, c] = extension;
            fragment = place << 48 | u64::from(u32::from_be_bytes([0, a, b, c])) << 24;
        }
        offset += length;
        next = u64::from(extension[0]);
    }
    next | ((offset & 0xffff) << 8) | fragment
}

impl Header {
    /// Writes what tells this packet from others into a record; `length` is the buffer's from this
    /// header on, which counts where the header says 0: BIG TCP, a jumbo payload.
    ///
    /// # Safety
    /// `to` must be memory of an event's size.
    #[inline(always)]
    pub(crate) unsafe fn describe(&self, to: *mut Event, length: u32) {
        // SAFETY: the caller's; header types are bytes of alignment one.
        unsafe {
            let mut whole;
            if self.version == 4 {
                let ip = &*self.ip.as_ptr().cast::<Ipv4Hdr>();
                (*to).ttl = ip.ttl;
                (*to).ip_id = u32::from(u16::from_be_bytes(ip.id));
                whole = u32::from(u16::from_be_bytes(ip.tot_len));
            } else {
                let ip = &*self.ip.as_ptr().cast::<Ipv6Hdr>();
                (*to).ttl = ip.hop_limit;
                (*to).ip_id = u32::from_be_bytes(ip.vcf) & 0xf_ffff;
                whole = u32::from(u16::from_be_bytes(ip.payload_len));
                if whole != 0 {
                    whole += Ipv6Hdr::LEN as u32;
                }
            }
            if whole == 0 {
                whole = length;
            }
            let body = whole.saturating_sub(self.transport_at as u32);
            (*to).length = length;
            (*to).source = self.tuple.source;
            (*to).destination = self.tuple.destination;
            (*to).source_port = self.tuple.source_port();
            (*to).destination_port = self.tuple.destination_port();
            (*to).protocol = self.tuple.protocol() as u8;
            (*to).ip_version = self.version as u8;
            (*to).tcp_flags = 0;
            // 0 but of a later fragment.
            (*to).sequence = (self.fragment >> 32) as u32;
            (*to).acknowledgement = self.fragment as u32;
            (*to).payload = body;
            if self.flags == 0 {
                self.describe_transport(to, body);
            }
        }
    }

    /// # Safety
    /// As [`Header::describe`].
    #[inline(always)]
    unsafe fn describe_transport(&self, to: *mut Event, body: u32) {
        let t = &self.transport;
        // SAFETY: as above.
        unsafe {
            match self.tuple.protocol() {
                TCP if self.linear < TcpHdr::LEN as u64 => (*to).flags |= FLAG_NOT_LINEAR,
                TCP => {
                    let tcp = &*t.as_ptr().cast::<TcpHdr>();
                    (*to).sequence = u32::from_be_bytes(tcp.seq);
                    (*to).acknowledgement = u32::from_be_bytes(tcp.ack_seq);
                    (*to).tcp_flags = t[13];
                    (*to).payload = body.saturating_sub(u32::from(t[12] >> 4) * 4);
                }
                // Packets of one UDP flow differ in nothing else that NAT leaves alone.
                UDP => {
                    // The header's own length, which fragmentation leaves alone.
                    let length = u32::from(u16::from_be_bytes([t[4], t[5]]));
                    (*to).payload = length.saturating_sub(UdpHdr::LEN as u32);
                    // Only what is payload, and is there: what lies behind changes on the way.
                    if (*to).payload >= 8 && self.linear >= 16 {
                        (*to).sequence = u32::from_be_bytes([t[8], t[9], t[10], t[11]]);
                        (*to).acknowledgement = u32::from_be_bytes([t[12], t[13], t[14], t[15]]);
                    }
                }
                ICMP | ICMPV6 => {
                    (*to).payload = body.saturating_sub(UdpHdr::LEN as u32);
                    (*to).sequence = u32::from(u16::from_be_bytes([t[6], t[7]]));
                    (*to).acknowledgement = (u32::from(t[0]) << 8) | u32::from(t[1]);
                }
                _ => {}
            }
        }
    }
}
