//! Walks a packet through hooks and keeps the records that they would write.

use std::net::IpAddr;

use tracer_common::{
    address, hook,
    record::{self, Conntrack, FLAG_BRIDGE, FLAG_BRIDGE_PORT, FLAG_ICMP_ERROR},
};

use crate::event::{Endpoint, Event, Other, Record, Tuple};

/// Network namespaces.
pub(super) const CLIENT: u32 = 1;
pub(super) const SERVER: u32 = 2;
pub(super) const NODE: u32 = 3;
const CNI0: (&str, u32) = ("cni0", 5);

pub(super) fn endpoint(ip: &str, port: u16) -> Endpoint {
    let bytes = match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    Endpoint {
        address: address::from_bytes(bytes),
        port,
    }
}

pub(super) fn conntrack(
    netns: u32,
    from: Endpoint,
    to: Endpoint,
    back_from: Endpoint,
    back_to: Endpoint,
) -> Record {
    Record::Conntrack(Conntrack {
        time: 1,
        kind: record::KIND_CONNTRACK,
        protocol: 6,
        netns,
        original_source: from.address,
        original_source_port: from.port,
        original_destination: to.address,
        original_destination_port: to.port,
        reply_source: back_from.address,
        reply_source_port: back_from.port,
        reply_destination: back_to.address,
        reply_destination_port: back_to.port,
        ..Conntrack::default()
    })
}

/// A packet on its way.
#[derive(Debug)]
pub(super) struct Walk {
    packet: Event,
    time: u64,
    next_skb: u64,
    records: Vec<Record>,
}

impl Walk {
    pub(super) fn new() -> Self {
        let packet = Event {
            record: record::Event::default(),
            other: None,
        };
        Self {
            packet,
            time: 1_000_000,
            next_skb: 0xffff_8880_0000_0000,
            records: Vec::new(),
        }
    }

    pub(super) fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// A TCP segment, at an address of its own.
    pub(super) fn begin(&mut self, from: Endpoint, to: Endpoint, flags: u8, sequence: u32) {
        self.next_skb += 256;
        self.packet = Event {
            record: record::Event::default(),
            other: None,
        };
        let r = &mut self.packet.record;
        r.kind = record::KIND_EVENT;
        r.skb = self.next_skb;
        r.protocol = 6;
        r.tcp_flags = flags;
        r.sequence = sequence;
        r.ip_version = 4;
        r.ttl = 64;
        // Each packet has an id of its own, also a repeated one.
        r.ip_id = u32::try_from(self.next_skb >> 8 & 0xffff).unwrap();
        r.length = 60;
        self.retarget(from, to);
    }

    pub(super) fn begin_udp(&mut self, from: Endpoint, to: Endpoint, payload: u32) {
        self.begin(from, to, 0, payload);
        self.packet.record.protocol = 17;
    }

    /// "Port unreachable", about a packet.
    pub(super) fn begin_icmp_error(&mut self, from: Endpoint, to: Endpoint, about: Tuple) {
        self.begin(from, to, 0, 0);
        let r = &mut self.packet.record;
        r.kind = record::KIND_WIDE_EVENT;
        r.protocol = 1;
        r.acknowledgement = 3 << 8 | 3;
        r.flags = FLAG_ICMP_ERROR;
        self.packet.other = Some(Other {
            tuple: about,
            vni: 0,
        });
    }

    pub(super) fn retarget(&mut self, from: Endpoint, to: Endpoint) {
        let r = &mut self.packet.record;
        (r.source, r.source_port) = (from.address, from.port);
        (r.destination, r.destination_port) = (to.address, to.port);
    }

    /// Gives the packet a connection, with its `ctinfo`.
    pub(super) fn track(&mut self, ttl: u8) {
        self.packet.record.ttl = ttl;
    }

    pub(super) fn set_conntrack(&mut self, conntrack: u64) {
        self.packet.record.conntrack = conntrack;
    }

    pub(super) fn payload(&mut self, bytes: u32) {
        self.packet.record.payload = bytes;
        self.packet.record.length = 40 + bytes;
    }

    /// Goes on as the packet at that address, which an earlier `begin` of the walk made.
    pub(super) fn like(&mut self, skb: u64) {
        self.packet.record.skb = skb;
        self.packet.record.ip_id = u32::try_from(skb >> 8 & 0xffff).unwrap();
    }

    /// For whom the link layer says that it is.
    pub(super) fn packet_type(&mut self, packet_type: u8) {
        self.packet.record.packet_type = packet_type;
    }

    pub(super) fn mark(&mut self, flags: u16) {
        self.packet.record.flags |= flags;
    }

    /// Puts a VXLAN tunnel around the packet.
    pub(super) fn encapsulate(&mut self) {
        let (source, destination) = (
            endpoint("192.168.0.1", 40000),
            endpoint("192.168.0.2", 8472),
        );
        self.packet.record.flags |= record::FLAG_ENCAPSULATED;
        self.packet.other = Some(Other {
            tuple: Tuple {
                source,
                destination,
                protocol: 17,
            },
            vni: 1,
        });
    }

    pub(super) fn at(&mut self, skb: u64) {
        self.packet.record.skb = skb;
    }

    pub(super) fn skb(&self) -> u64 {
        self.packet.record.skb
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, nanoseconds: u64) {
        self.time += nanoseconds;
    }

    fn note(&mut self, hook: u8, netns: u32, (name, ifindex): (&str, u32), flags: u16) {
        self.time += 1000;
        let mut event = self.packet;
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let r = &mut event.record;
        r.time = self.time;
        r.hook = hook;
        r.netns = netns;
        r.ifindex = ifindex;
        r.device_name = address::from_bytes(bytes);
        r.flags |= flags;
        self.records.push(Record::Event(event));
    }

    pub(super) fn device(&mut self, hook: u8, netns: u32, name: &str, ifindex: u32, flags: u16) {
        self.note(hook, netns, (name, ifindex), flags);
    }

    pub(super) fn socket(&mut self, netns: u32) {
        self.note(hook::SOCKET_DELIVER, netns, ("eth0", 2), 0);
    }

    pub(super) fn drop(&mut self, reason: u32, location: u64) {
        self.note(hook::DROP, 0, ("", 0), 0);
        if let Some(Record::Event(event)) = self.records.last_mut() {
            event.record.reason = reason;
            event.record.detail = location;
        }
    }

    /// A drop where the device is known.
    pub(super) fn drop_at(&mut self, (netns, name, ifindex): (u32, &str, u32), reason: u32) {
        self.note(hook::DROP, netns, (name, ifindex), 0);
        if let Some(Record::Event(event)) = self.records.last_mut() {
            event.record.reason = reason;
        }
    }

    pub(super) fn consume(&mut self) {
        self.note(hook::CONSUME, 0, ("", 0), 0);
    }

    fn netfilter(&mut self, kind: u8, number: u8) {
        self.netfilter_at(kind, number, CNI0, FLAG_BRIDGE);
    }

    fn netfilter_at(&mut self, kind: u8, number: u8, device: (&str, u32), flags: u16) {
        self.note(kind, NODE, device, flags);
        if let Some(Record::Event(event)) = self.records.last_mut() {
            event.record.netfilter_hook = number;
        }
    }

    /// Enters a hook of the node with another device than the bridge.
    pub(super) fn enter_at(&mut self, number: u8, device: (&str, u32), flags: u16) {
        self.netfilter_at(hook::NETFILTER_ENTER, number, device, flags);
    }

    pub(super) fn enter(&mut self, number: u8) {
        self.netfilter(hook::NETFILTER_ENTER, number);
    }

    pub(super) fn leave(&mut self, number: u8) {
        self.netfilter(hook::NETFILTER_LEAVE, number);
    }

    pub(super) fn hook(&mut self, number: u8) {
        self.enter(number);
        self.leave(number);
    }

    /// Out of a pod, into the bridge's port on the node.
    pub(super) fn pod_to_bridge(&mut self, pod: u32, veth: &str, ifindex: u32) {
        self.device(hook::DEVICE_QUEUE, pod, "eth0", 2, 0);
        self.device(hook::DEVICE_TRANSMIT, pod, "eth0", 2, 0);
        self.device(hook::DEVICE_RECEIVE, NODE, veth, ifindex, FLAG_BRIDGE_PORT);
    }

    /// Through the hooks after prerouting, and into a pod.
    pub(super) fn bridge_to_pod(&mut self, pod: u32, veth: &str, ifindex: u32) {
        self.hook(hook::netfilter::FORWARD);
        self.hook(hook::netfilter::POSTROUTING);
        self.port_to_pod(pod, veth, ifindex);
    }

    /// Out of a port of the bridge, and to a socket in the pod.
    pub(super) fn port_to_pod(&mut self, pod: u32, veth: &str, ifindex: u32) {
        self.device(hook::DEVICE_QUEUE, NODE, veth, ifindex, FLAG_BRIDGE_PORT);
        self.device(hook::DEVICE_TRANSMIT, NODE, veth, ifindex, FLAG_BRIDGE_PORT);
        self.device(hook::DEVICE_RECEIVE, pod, "eth0", 2, 0);
        self.socket(pod);
    }
}
