//! The packet as the tracer sees it: the header that says whose it is, and the other one.
//!
//! - VXLAN and Geneve: the inner header is the packet's, the outer one is the other.
//! - An ICMP error: its own header is the packet's, the quoted one is the other and says to which
//!   flow it belongs.

use core::mem::MaybeUninit;

use network_types::{eth::EthHdr, geneve::GeneveHdr, udp::UdpHdr, vxlan::VxlanHdr};
use tracer_common::record::{FLAG_ENCAPSULATED, FLAG_FRAGMENT, FLAG_ICMP_ERROR, FLAG_NOT_LINEAR};

use crate::{
    header::{self, Header, ICMP, ICMPV6, UDP},
    maps::{GENEVE_PORT, VXLAN_PORT, VXLAN_PORT_LINUX},
    memory,
};

/// An IP packet's headers.
pub(crate) struct Packet {
    pub(crate) header: Header,
    /// Valid with [`FLAG_ENCAPSULATED`] or [`FLAG_ICMP_ERROR`] in `flags`.
    pub(crate) other: Header,
    pub(crate) flags: u16,
    pub(crate) vni: u32,
}

impl Packet {
    /// Reads the packet whose IP header is at kernel address `at`, into `to`; false when there is
    /// no IP header.
    #[inline(always)]
    pub(crate) fn read(at: u64, end: u64, to: &mut MaybeUninit<Self>) -> bool {
        // SAFETY: all members are integers, for which any bit pattern is a value, and every
        // member that is read later is written first by `header::read` or below.
        let packet = unsafe { to.assume_init_mut() };
        packet.vni = 0;
        if header::read(at, end, &mut packet.header) == 0 {
            return false;
        }
        packet.flags = packet.header.flags;
        if packet.flags & (FLAG_FRAGMENT | FLAG_NOT_LINEAR) != 0 {
            return true;
        }
        match packet.header.protocol {
            UDP => packet.read_inner(at, end),
            ICMP | ICMPV6 => packet.read_quoted(at, end),
            _ => {}
        }
        true
    }

    #[inline(always)]
    fn read_inner(&mut self, at: u64, end: u64) {
        let port = u32::from(self.header.destination_port);
        if port == 0 {
            return;
        }
        let geneve = port == GENEVE_PORT.load();
        if !geneve && port != VXLAN_PORT.load() && port != VXLAN_PORT_LINUX.load() {
            return;
        }
        let tunnel_at = at + u64::from(self.header.payload_at);
        let mut tunnel = MaybeUninit::<[u8; 8]>::uninit();
        if !memory::copy(&mut tunnel, tunnel_at) {
            return;
        }
        // SAFETY: the copy above filled it.
        let tunnel = unsafe { tunnel.assume_init() };
        // VXLAN: the I flag; Geneve: version 0 carrying Ethernet (0x6558).
        let mut length = VxlanHdr::LEN as u64;
        if geneve {
            if tunnel[0] >> 6 != 0 || tunnel[2] != 0x65 || tunnel[3] != 0x58 {
                return;
            }
            length = GeneveHdr::LEN as u64 + u64::from(tunnel[0] & 0x3f) * 4;
        } else if tunnel[0] & network_types::vxlan::VXLAN_I_FLAG_MASK == 0 {
            return;
        }
        let inner_at = tunnel_at + length + EthHdr::LEN as u64;
        if header::read(inner_at, end, &mut self.other) == 0 {
            return;
        }
        core::mem::swap(&mut self.header, &mut self.other);
        self.vni = u32::from_be_bytes([0, tunnel[4], tunnel[5], tunnel[6]]);
        self.flags = self.header.flags | FLAG_ENCAPSULATED;
    }

    #[inline(always)]
    fn read_quoted(&mut self, at: u64, end: u64) {
        let kind = (self.header.acknowledgement >> 8) as u8;
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem;
        // ICMPv6 errors are those below 128.
        let error = if self.header.protocol == ICMP {
            matches!(kind, 3 | 4 | 5 | 11 | 12)
        } else {
            kind < 128
        };
        if error && header::read(at + u64::from(self.header.payload_at), end, &mut self.other) != 0
        {
            self.flags |= FLAG_ICMP_ERROR;
        }
    }
}

const _: () = assert!(UdpHdr::LEN == 8 && VxlanHdr::LEN == 8 && EthHdr::LEN == 14);
