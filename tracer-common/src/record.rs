//! The records of the ring buffer.
//!
//! Five fixed-size records, told apart by [`Head::kind`] and checked against their length:
//! [`Event`], [`PlainEvent`] (an event with the packet's header as it is), [`WideEvent`] (one whose packet
//! carries a second IP header), [`Conntrack`] and [`Bytes`].
//! All begin with the time and the kind. Integers are in the machine's order, addresses as in
//! [`crate::address`], ports and sequence numbers in host order.

use core::ops::{Deref, DerefMut};

use crate::address::Address;

/// An [`Event`].
pub const KIND_EVENT: u8 = 1;
/// A [`WideEvent`].
pub const KIND_WIDE_EVENT: u8 = 2;
/// A [`Conntrack`].
pub const KIND_CONNTRACK: u8 = 3;
/// A [`Bytes`].
pub const KIND_BYTES: u8 = 4;
/// A [`PlainEvent`].
pub const KIND_PLAIN_EVENT: u8 = 5;

/// What every event begins with: where and when a hook saw which buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Head {
    /// `bpf_ktime_get_ns`: nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The record's kind: [`KIND_EVENT`], [`KIND_WIDE_EVENT`] or [`KIND_PLAIN_EVENT`].
    pub kind: u8,
    /// Which hook: [`crate::hook`].
    pub hook: u8,
    /// The CPU that ran it.
    pub cpu: u16,
    /// How many records this CPU wrote or lost before this one: a gap is a loss.
    pub order: u32,
    /// The `sk_buff`'s address; 0 where the hook does not know it.
    pub skb: u64,
    /// `sk_buff._nfct`: the `nf_conn`'s address and, in the low three bits, its `ctinfo`.
    pub conntrack: u64,
    /// Drop: the caller's address. Device queue and netfilter's beginning: the cookie of the socket
    /// that the buffer belongs to, 0 where it has none; at the first hop that is the sender's.
    /// Otherwise 0.
    pub detail: u64,
    /// The device's name, NUL-padded; all zero where there is none.
    pub device_name: [u64; 2],
    /// The network namespace's inode number; 0 where it is not known.
    pub netns: u32,
    /// The device's index in that namespace; 0 where there is none.
    pub ifindex: u32,
    /// The IP packet's bytes, of the inner packet where there is one: what the buffer holds from the
    /// header on (`sk_buff.len`), whatever the hook has before it. A received packet may have
    /// padding behind it.
    pub length: u32,
    /// Drop: the `skb_drop_reason` (0 where the kernel gives none). Netfilter leave: the verdict
    /// as a signed number, [`VERDICT_ACCEPTED`] from a link.
    pub reason: u32,
    /// Netfilter: the input device's index; 0 where there is none.
    pub in_ifindex: u32,
    /// Netfilter: the output device's index; 0 where there is none.
    pub out_ifindex: u32,
    /// What is known of the packet and the device: the `FLAG_` bits.
    pub flags: u16,
    /// Netfilter: `enum nf_inet_hooks`.
    pub netfilter_hook: u8,
    /// `sk_buff.pkt_type` (`PACKET_`, uapi), for whom the link layer says it is: 0 this host, and
    /// what it does not say of. See [`PACKET_LOOPBACK`].
    pub packet_type: u8,
    /// The transport payload's bytes. Where the IP header says 0 (BIG TCP), those of the buffer. Of a
    /// [`PlainEvent`] 0: its header says it.
    pub payload: u32,
}

/// One hook saw one packet.
///
/// It gives its head's fields as its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// What does not depend on the packet's form.
    pub head: Head,
    /// The source address (of the inner packet where there is one).
    pub source: Address,
    /// The destination address.
    pub destination: Address,
    /// TCP: sequence number. UDP: the first four payload bytes of eight or more. ICMP: the echo's
    /// sequence number. A later fragment: its place in the whole packet, in bytes.
    pub sequence: u32,
    /// TCP: acknowledgement number. UDP: the next four payload bytes. ICMP: type << 8 | code. A
    /// later IPv6 fragment: the low 24 bits of its identification.
    pub acknowledgement: u32,
    /// IPv4: the identification field. IPv6: the flow label.
    pub ip_id: u32,
    /// The source port; an ICMP echo's id; 0 where there is none.
    pub source_port: u16,
    /// The destination port; an ICMP echo's id; 0 where there is none.
    pub destination_port: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// TCP flags byte (FIN 1, SYN 2, RST 4, PSH 8, ACK 16).
    pub tcp_flags: u8,
    /// IPv4 TTL or IPv6 hop limit.
    pub ttl: u8,
    /// 4 or 6.
    pub ip_version: u8,
    /// Reserved, zero.
    pub reserved: u32,
}

impl Deref for Event {
    type Target = Head;

    #[inline(always)]
    fn deref(&self) -> &Head {
        &self.head
    }
}

impl DerefMut for Event {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

/// An event whose packet is plain: IPv4 without options and not in fragments, TCP or UDP and no tunnel's, of
/// which [`PLAIN_BYTES`] are in the linear part of the buffer. What the header says it says itself; the reader
/// makes an [`Event`] of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PlainEvent {
    /// As in [`Event`].
    pub head: Head,
    /// The IP header and the first twenty bytes behind it, in the order of memory.
    pub header: [u64; PLAIN_BYTES / 8],
}

/// How many bytes of a packet a [`PlainEvent`] has: an IPv4 header without options, and a TCP header
/// without options or a UDP header with twelve bytes of payload.
pub const PLAIN_BYTES: usize = 40;

/// An event whose packet carries a second IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct WideEvent {
    /// The event.
    pub event: Event,
    /// The other header's source: with [`FLAG_ENCAPSULATED`] the outer packet's, with
    /// [`FLAG_ICMP_ERROR`] that of the packet which the error quotes.
    pub other_source: Address,
    /// The other header's destination.
    pub other_destination: Address,
    /// The other header's source port.
    pub other_source_port: u16,
    /// The other header's destination port.
    pub other_destination_port: u16,
    /// The other header's IP protocol.
    pub other_protocol: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
    /// VXLAN or Geneve network identifier; 0 with an ICMP error.
    pub vni: u32,
    /// Reserved, zero.
    pub reserved2: u32,
}

/// The two tuples of a connection that conntrack tracks, once per followed tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Conntrack {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// [`KIND_CONNTRACK`].
    pub kind: u8,
    /// The IP protocol number.
    pub protocol: u8,
    /// The CPU that ran it.
    pub cpu: u16,
    /// How many records this CPU wrote or lost before this one.
    pub order: u32,
    /// The `nf_conn`'s address.
    pub conntrack: u64,
    /// `nf_conn.status` (`IPS_` bits, uapi).
    pub status: u32,
    /// The network namespace's inode number.
    pub netns: u32,
    /// Original direction: source address.
    pub original_source: Address,
    /// Original direction: destination address.
    pub original_destination: Address,
    /// Reply direction: source address.
    pub reply_source: Address,
    /// Reply direction: destination address.
    pub reply_destination: Address,
    /// Original direction: source port, or an ICMP echo's id.
    pub original_source_port: u16,
    /// Original direction: destination port; for ICMP 0.
    pub original_destination_port: u16,
    /// Reply direction: source port, or an ICMP echo's id.
    pub reply_source_port: u16,
    /// Reply direction: destination port; for ICMP 0.
    pub reply_destination_port: u16,
}

/// How many bytes of a packet a record can have: a DNS answer of 512 bytes behind the largest of the
/// usual headers.
pub const MAX_BYTES: usize = 640;

/// A packet's first bytes, from its IP header on. Where a socket takes the packet, it follows the
/// packet's event on the same CPU; where one sends it ([`crate::hook::DEVICE_QUEUE`]), it comes before
/// the event of the device's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Bytes {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// [`KIND_BYTES`].
    pub kind: u8,
    /// The hook, see [`crate::hook`].
    pub hook: u8,
    /// The CPU that ran it.
    pub cpu: u16,
    /// How many records this CPU wrote or lost before this one.
    pub order: u32,
    /// The `sk_buff`'s address, as in the event.
    pub skb: u64,
    /// The network namespace's inode number.
    pub netns: u32,
    /// The packet's length from its IP header on.
    pub length: u32,
    /// How many of `bytes` are the packet's; the others mean nothing.
    pub taken: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// The bytes.
    pub bytes: [u8; MAX_BYTES],
}

/// Of which packets bytes are taken, and how many: the value of a one-element BPF array map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Capture {
    /// The most bytes of a packet, up to [`MAX_BYTES`]; less than an IP header (20): none.
    pub length: u32,
    /// The most bytes of UDP packets from port 53, where that is more.
    pub answers: u32,
}

const _: () = assert!(size_of::<Bytes>() == 40 + MAX_BYTES);
const _: () = assert!(size_of::<Capture>() == 8);
const _: () = assert!(size_of::<Event>() == 144);
const _: () = assert!(size_of::<PlainEvent>() == 128);
const _: () = assert!(size_of::<Head>() == 88);
const _: () = assert!(size_of::<WideEvent>() == 192);
const _: () = assert!(size_of::<Conntrack>() == 104);
const _: () = assert!(
    align_of::<Event>() == 8
        && align_of::<PlainEvent>() == 8
        && align_of::<WideEvent>() == 8
        && align_of::<Conntrack>() == 8
);

/// A later fragment: no transport header, ports are 0.
pub const FLAG_FRAGMENT: u16 = 1 << 0;
/// VXLAN or Geneve: the event's tuple is the inner one, the other header the outer.
pub const FLAG_ENCAPSULATED: u16 = 1 << 1;
/// An ICMP error: the other header is the packet it quotes.
pub const FLAG_ICMP_ERROR: u16 = 1 << 2;
/// The transport header is not, or not whole, in the linear part of the buffer: nothing is known of
/// it, or ports only.
pub const FLAG_NOT_LINEAR: u16 = 1 << 3;
/// The device is a bridge.
pub const FLAG_BRIDGE: u16 = 1 << 4;
/// The device is a port of a bridge.
pub const FLAG_BRIDGE_PORT: u16 = 1 << 5;
/// The device is a loopback device.
pub const FLAG_LOOPBACK: u16 = 1 << 6;
/// The namespace has functions at prerouting or input for this family. The other hooks say nothing of
/// rules: SELinux is there in every namespace.
pub const FLAG_HAS_NETFILTER: u16 = 1 << 7;
/// The device has no link kind of its own: hardware (or a virtual machine's), which leads out.
pub const FLAG_PHYSICAL: u16 = 1 << 8;
/// The namespace has functions at prerouting for this family.
pub const FLAG_HAS_PREROUTING: u16 = 1 << 9;

/// [`Head::packet_type`]: the copy that the sender's own host gets of what it sends to many
/// (`dev_loopback_xmit`).
pub const PACKET_LOOPBACK: u8 = 5;

/// The packet went on: `NF_ACCEPT` as `nf_hook_slow` returns it.
pub const VERDICT_ACCEPTED: u32 = 1;
