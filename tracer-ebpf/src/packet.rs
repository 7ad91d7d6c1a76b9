//! The packet as the tracer sees it: the header that says whose it is, and the other one.
//!
//! - VXLAN and Geneve: the inner header is the packet's, the outer one is the other.
//! - An ICMP error: its own header is the packet's, the quoted one is the other and says to which
//!   flow it belongs.

use core::mem::MaybeUninit;

use network_types::{
    eth::EthHdr,
    geneve::GeneveHdr,
    ip::Ipv4Hdr,
    udp::UdpHdr,
    vxlan::{VXLAN_I_FLAG_MASK, VxlanHdr},
};
use tracer_common::record::{FLAG_ENCAPSULATED, FLAG_ICMP_ERROR, PLAIN_BYTES};

use crate::{
    header::{self, Header, ICMP, ICMPV6, Tuple, UDP, byte, long, short},
    memory,
    plain::{self, Words},
};

/// An IP packet's headers. What is cleared first lies apart: side by side, the compiler would
/// clear it by a call of `memset`, which has no other way here than byte by byte.
#[repr(C)]
pub(crate) struct Packet {
    pub(crate) vni: u64,
    pub(crate) header: Header,
    /// How far behind the address that was read at the header is: 0, or where the inner one begins.
    pub(crate) inside: u64,
    /// Valid when there is an outer header or a quoted one.
    pub(crate) other: Tuple,
    /// [`FLAG_ENCAPSULATED`] or [`FLAG_ICMP_ERROR`]; 0 for a packet with one IP header.
    pub(crate) second: u64,
}

/// UDP ports taken for Geneve and VXLAN (IANA's), and Linux's own for VXLAN, of before there was one.
const GENEVE_PORT: u16 = 6081;
const VXLAN_PORT: u16 = 4789;
const VXLAN_PORT_LINUX: u16 = 8472;

/// Whether what is sent to that UDP port is taken for a tunnel's.
#[inline(always)]
pub(crate) fn is_tunnel(port: u16) -> bool {
    // One comparison, and none after which the verifier knows the port. The product has room.
    let ports = [GENEVE_PORT, VXLAN_PORT, VXLAN_PORT_LINUX].map(|it| u64::from(it ^ port));
    ports[0] * ports[1] * ports[2] == 0
}

const ENCAPSULATED: u64 = FLAG_ENCAPSULATED as u64;
const ICMP_ERROR: u64 = FLAG_ICMP_ERROR as u64;

impl Packet {
    /// Reads the packet whose IP header is at kernel address `at`, into `to`; false when there is
    /// no IP header.
    #[inline(always)]
    pub(crate) fn read(at: u64, end: u64, to: &mut MaybeUninit<Self>) -> bool {
        // SAFETY: all members are integers, for which any bit pattern is a value, and every
        // member that is read later is written first, by `header::read` or here.
        let packet = unsafe { to.assume_init_mut() };
        if header::read(at, end, &mut packet.header) == 0 {
            return false;
        }
        packet.second = 0;
        packet.vni = 0;
        packet.inside = 0;
        let whole = match packet.header.tuple.protocol() {
            _ if packet.header.flags != 0 => true,
            UDP => packet.read_inner(at, end),
            ICMP | ICMPV6 => packet.read_quoted(at, end),
            _ => true,
        };
        let noise = packet.header.tuple.source[1];
        packet.second = memory::forget(packet.second, noise);
        packet.vni = memory::forget(packet.vni, noise);
        packet.inside = memory::forget(packet.inside, noise);
        whole
    }

    /// Its first bytes, if it is plain.
    #[inline(always)]
    pub(crate) fn plain(&self) -> Option<&Words> {
        let words = &self.header.ip;
        let ends = plain::ends(words[0], words[1], words[2]);
        let behind = PLAIN_BYTES - Ipv4Hdr::LEN;
        let whole = self.second | self.header.flags == 0;
        (whole && ends != 0 && self.header.has_linear(behind as u64)).then_some(words)
    }

    pub(crate) fn encapsulated(&self) -> bool {
        self.second == ENCAPSULATED
    }

    pub(crate) fn icmp_error(&self) -> bool {
        self.second == ICMP_ERROR
    }

    #[inline(always)]
    fn read_inner(&mut self, at: u64, end: u64) -> bool {
        let port = self.header.tuple.destination_port();
        if !is_tunnel(port) {
            return true;
        }
        let geneve = port == GENEVE_PORT;
        // Behind UDP's eight bytes.
        let tunnel = self.header.transport[1];
        let first = byte(tunnel, 0);
        // VXLAN: the I flag; Geneve: version 0 carrying Ethernet (0x6558).
        let mut length = VxlanHdr::LEN as u64;
        if geneve {
            if first >> 6 != 0 || short(tunnel, 2) != 0x6558 {
                return true;
            }
            length = GeneveHdr::LEN as u64 + u64::from(first & 0x3f) * 4;
        } else if first & VXLAN_I_FLAG_MASK == 0 {
            return true;
        }
        self.vni = u64::from(long(tunnel, 4) >> 8);
        self.other = self.header.tuple;
        self.second = ENCAPSULATED;
        let before = UdpHdr::LEN as u64 + length + EthHdr::LEN as u64;
        self.inside = self.header.transport_at + before;
        if header::read(at + self.inside, end, &mut self.header) == 0 {
            // Not IP inside (ARP over the tunnel): the tunnel's own packet.
            self.second = 0;
            self.inside = 0;
            return header::read(at, end, &mut self.header) != 0;
        }
        true
    }

    #[inline(always)]
    fn read_quoted(&mut self, at: u64, end: u64) -> bool {
        let kind = byte(self.header.transport[0], 0);
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem;
        // ICMPv6 errors are those below 128.
        let error = if self.header.tuple.protocol() == ICMP {
            matches!(kind, 3 | 4 | 5 | 11 | 12)
        } else {
            kind < 128
        };
        if !error {
            return true;
        }
        // Through the one buffer that there is room for, and back: errors are rare.
        let quoted_at = at + self.header.transport_at + UdpHdr::LEN as u64;
        if header::read(quoted_at, end, &mut self.header) != 0 {
            self.other = self.header.tuple;
            self.second = ICMP_ERROR;
        }
        header::read(at, end, &mut self.header) != 0
    }
}
