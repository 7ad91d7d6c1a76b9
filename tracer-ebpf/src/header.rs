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
    /// IPv4: twenty bytes and what follows; IPv6: all forty. In memory's order, as whole words: a
    /// field is a shift away, and the machine loads no single bytes.
    pub(crate) ip: [u64; IP_WORDS],
    /// The transport header's first bytes; without meaning with [`FLAG_FRAGMENT`] or
    /// [`FLAG_NOT_LINEAR`].
    pub(crate) transport: [u64; TRANSPORT_WORDS],
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

const IP_WORDS: usize = 5;
const TRANSPORT_WORDS: usize = 3;
/// The two lie behind one another, so that one read fills both.
type Both = [u64; IP_WORDS + TRANSPORT_WORDS];
const _: () = assert!(
    core::mem::offset_of!(Header, ip) == 0
        && core::mem::offset_of!(Header, transport) == size_of::<[u64; IP_WORDS]>()
        && size_of::<[u64; IP_WORDS]>() == Ipv6Hdr::LEN
        && cfg!(target_endian = "little")
);

/// The two bytes of a word from byte `at` on, which the network sends first to last.
#[inline(always)]
pub(crate) fn short(word: u64, at: u32) -> u16 {
    ((word >> (at * 8)) as u16).swap_bytes()
}

/// As [`short`], four bytes.
#[inline(always)]
pub(crate) fn long(word: u64, at: u32) -> u32 {
    ((word >> (at * 8)) as u32).swap_bytes()
}

/// One byte of a word.
#[inline(always)]
pub(crate) fn byte(word: u64, at: u32) -> u8 {
    (word >> (at * 8)) as u8
}

/// Reads the headers at kernel address `at`; `end` is the end of the buffer's linear part.
/// Returns 0 when there is no IP header, else 1.
#[inline(never)]
pub(crate) fn read(at: u64, end: u64, out: &mut Header) -> u64 {
    // SAFETY: the two members lie behind one another and are words; see the assertion.
    let both = unsafe { &mut *core::ptr::from_mut(out).cast::<MaybeUninit<Both>>() };
    if at + Ipv4Hdr::LEN as u64 > end || !memory::words(both, at) {
        return 0;
    }
    let version = out.ip[0] >> 4 & 0xf;
    let (protocol, fragment);
    // Where the transport header is not in its place yet.
    let mut apart = false;
    if version == 4 {
        out.transport_at = (out.ip[0] & 0xf) * 4;
        protocol = u64::from(byte(out.ip[1], 1));
        fragment = u64::from(short(out.ip[0], 6) & 0x1fff) << 35;
        out.tuple.source = address::from_ipv4_word((out.ip[1] >> 32) as u32);
        out.tuple.destination = address::from_ipv4_word(out.ip[2] as u32);
        if out.transport_at == Ipv4Hdr::LEN as u64 {
            let [_, _, a, b, c] = out.ip;
            let d = out.transport[0];
            out.transport = [a >> 32 | b << 32, b >> 32 | c << 32, c >> 32 | d << 32];
        } else {
            apart = true;
        }
    } else if version == 6 {
        let [_, a, b, c, d] = out.ip;
        out.tuple.source = [a, b];
        out.tuple.destination = [c, d];
        let mut next = u64::from(byte(out.ip[0], 6));
        if is_extension(next) {
            next = skip_extensions(at, next);
            apart = true;
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
    if apart && !read_apart(out, at) {
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
        out.tuple.ends |= ports(protocol, out.transport[0]);
    }
    let noise = out.ip[1];
    out.version = memory::forget(out.version, noise);
    out.transport_at = memory::forget(out.transport_at, noise);
    out.flags = memory::forget(out.flags, noise);
    out.linear = memory::forget(out.linear, noise);
    out.fragment = memory::forget(out.fragment, noise);
    out.tuple.ends = memory::forget(out.tuple.ends, noise);
    out.tuple.source = out.tuple.source.map(|word| memory::forget(word, noise));
    out.tuple.destination = out
        .tuple
        .destination
        .map(|word| memory::forget(word, noise));
    out.transport = out.transport.map(|word| memory::forget(word, noise));
    1
}

/// Reads a transport header behind options or extension headers.
#[inline(always)]
fn read_apart(out: &mut Header, at: u64) -> bool {
    // SAFETY: words.
    let transport =
        unsafe { &mut *(&raw mut out.transport).cast::<MaybeUninit<[u64; TRANSPORT_WORDS]>>() };
    memory::words(transport, at + out.transport_at)
}

/// Source port << 16 | destination port; from the transport header's first word.
#[inline(always)]
fn ports(protocol: u64, first: u64) -> u64 {
    // Echo request and reply: the id stands for both ports, as conntrack has it.
    let (kind, id) = (byte(first, 0), u64::from(short(first, 4)));
    match protocol {
        TCP | UDP | SCTP => u64::from(long(first, 0)),
        ICMP if kind == 8 || kind == 0 => id << 16 | id,
        ICMPV6 if kind == 128 || kind == 129 => id << 16 | id,
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
        let mut extension = MaybeUninit::uninit();
        if !memory::words(&mut extension, at + offset) {
            break;
        }
        // SAFETY: it was read.
        let [extension] = unsafe { extension.assume_init() };
        let mut length = (u64::from(byte(extension, 1)) + 1) * 8;
        if next == 44 {
            length = 8;
            let place = u64::from(short(extension, 2) & 0xfff8);
            fragment = place << 48 | u64::from(long(extension, 4) & 0xff_ffff) << 24;
        }
        offset += length;
        next = u64::from(byte(extension, 0));
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
        // SAFETY: the caller's.
        unsafe {
            let mut whole;
            if self.version == 4 {
                (*to).ttl = byte(self.ip[1], 0);
                (*to).ip_id = u32::from(short(self.ip[0], 4));
                whole = u32::from(short(self.ip[0], 2));
            } else {
                (*to).ttl = byte(self.ip[0], 7);
                (*to).ip_id = long(self.ip[0], 0) & 0xf_ffff;
                whole = u32::from(short(self.ip[0], 4));
                if whole != 0 {
                    whole += Ipv6Hdr::LEN as u32;
                }
            }
            if whole == 0 {
                whole = length;
            }
            let body = whole.saturating_sub(self.transport_at as u32);
            memory::put_both(&raw mut (*to).source, self.tuple.source);
            memory::put_both(&raw mut (*to).destination, self.tuple.destination);
            (*to).source_port = self.tuple.source_port();
            (*to).destination_port = self.tuple.destination_port();
            (*to).protocol = self.tuple.protocol() as u8;
            (*to).ip_version = self.version as u8;
            (*to).tcp_flags = 0;
            // 0 but of a later fragment.
            (*to).sequence = (self.fragment >> 32) as u32;
            (*to).acknowledgement = self.fragment as u32;
            (*to).head.payload = body;
            if self.flags == 0 {
                self.describe_transport(to, body);
            }
        }
    }

    /// # Safety
    /// As [`Header::describe`].
    #[inline(always)]
    unsafe fn describe_transport(&self, to: *mut Event, body: u32) {
        let [first, second, _] = self.transport;
        // SAFETY: as above.
        unsafe {
            match self.tuple.protocol() {
                TCP if self.linear < TcpHdr::LEN as u64 => (*to).head.flags |= FLAG_NOT_LINEAR,
                TCP => {
                    (*to).sequence = long(first, 4);
                    (*to).acknowledgement = long(second, 0);
                    (*to).tcp_flags = byte(second, 5);
                    (*to).head.payload = body.saturating_sub(u32::from(byte(second, 4) >> 4) * 4);
                }
                // Packets of one UDP flow differ in nothing else that NAT leaves alone.
                UDP => {
                    // The header's own length, which fragmentation leaves alone.
                    let length = u32::from(short(first, 4));
                    (*to).head.payload = length.saturating_sub(UdpHdr::LEN as u32);
                    // Only what is payload, and is there: what lies behind changes on the way.
                    if (*to).head.payload >= 8 && self.linear >= 16 {
                        (*to).sequence = long(second, 0);
                        (*to).acknowledgement = long(second, 4);
                    }
                }
                ICMP | ICMPV6 => {
                    (*to).head.payload = body.saturating_sub(UdpHdr::LEN as u32);
                    (*to).sequence = u32::from(short(first, 6));
                    (*to).acknowledgement = u32::from(short(first, 0));
                }
                _ => {}
            }
        }
    }
}
