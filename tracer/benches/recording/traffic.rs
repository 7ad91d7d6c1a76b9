//! Made-up traffic of a busy node, as the kernel side would give it.
//!
//! Connections from pods through ClusterIPs to pods of another node, both nodes in one kernel (as in
//! the lab): each packet passes two bridges, the netfilter hooks of two nodes and a wire, in 25 or 26
//! events, and is translated on the way. Each of four processors takes one packet after the other to its
//! end, of one of many connections that are open at once, so that the events of four packets are
//! mixed. Delays, lengths and the order of connections are random, from a fixed seed. One connection in a
//! hundred is dropped in the first node's `forward`.

use tracer::{
    event::{Event, Record},
    node::snapshot::{Contents, Namespace, Snapshot},
};
use tracer_common::{
    address::{self, Address},
    hook::{self, netfilter},
    record::{self, FLAG_BRIDGE, FLAG_BRIDGE_PORT, FLAG_HAS_NETFILTER, FLAG_HAS_PREROUTING},
};

const CPUS: usize = 4;
/// Connections that are open at once on a processor.
const OPEN: usize = 64;
const CLIENTS: u32 = 48;
const SERVERS: u32 = 24;
const SERVICES: u32 = 12;
/// Buffers that a processor has in use by turns.
const BUFFERS: u64 = 256;
const NODES: [u32; 2] = [4_026_531_840, 4_026_532_001];
const FIRST_POD: u32 = 4_026_533_000;
const FORWARD_DROP: u32 = 8;
/// `SKB_DROP_REASON_NETFILTER_DROP` of Linux 6.18.
const NETFILTER_DROP: u32 = 9;

const SYN: u8 = 2;
const ACK: u8 = 16;
const PUSH_ACK: u8 = 24;
const FIN_ACK: u8 = 17;
/// A connection's packets: whether it is an answer, its flags, whether it carries something.
const SCRIPT: [(bool, u8, bool); 10] = [
    (false, SYN, false),
    (true, SYN | ACK, false),
    (false, ACK, false),
    (false, PUSH_ACK, true),
    (true, ACK, false),
    (true, PUSH_ACK, true),
    (false, ACK, false),
    (false, FIN_ACK, false),
    (true, FIN_ACK, false),
    (false, ACK, false),
];

/// Where in it data begins, and where the end.
const CARRIES: usize = 3;
const ENDS: usize = 7;

/// Numbers that look random, the same each time (splitmix64).
#[derive(Clone, Copy)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.next() % u64::from(limit.max(1))).unwrap_or(0)
    }
}

/// A device and what the hooks say of it.
#[derive(Clone, Copy)]
struct Device {
    netns: u32,
    index: u32,
    name: [u64; 2],
    flags: u16,
}

impl Device {
    fn new(netns: u32, index: u32, name: &str, flags: u16) -> Self {
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let name = [word(0), word(8)];
        Self {
            netns,
            index,
            name,
            flags,
        }
    }
}

/// What a connection's packets pass.
#[derive(Clone, Copy)]
struct Connection {
    client: (Address, u16),
    service: (Address, u16),
    server: (Address, u16),
    pods: [u32; 2],
    /// Indexes of the pods' devices in their nodes.
    ports: [u32; 2],
    /// What conntrack keeps of it on each node.
    tracked: [u64; 2],
    numbers: [u32; 2],
    ip_ids: [u32; 2],
    payloads: [u32; 2],
    cookies: [u64; 2],
    next: usize,
    is_dropped: bool,
}

/// A processor and the packet that it is at.
struct Cpu {
    number: u16,
    random: Random,
    time: u64,
    order: u32,
    buffer: u64,
    open: Vec<Connection>,
    /// The packet's events that are to come, the last first.
    coming: Vec<record::Event>,
    made: u64,
    /// Connections go on instead of ending.
    lasting: bool,
}

/// Gives events without end, in the order of their times.
pub(crate) struct Traffic(Vec<Cpu>);

impl Traffic {
    pub(crate) fn new() -> Self {
        Self((0..CPUS).map(Cpu::new).collect())
    }

    /// Of connections that go on and on: none ends, none begins, none is dropped.
    pub(crate) fn lasting() -> Self {
        let mut traffic = Self::new();
        for cpu in &mut traffic.0 {
            cpu.lasting = true;
            for connection in &mut cpu.open {
                connection.is_dropped = false;
            }
        }
        traffic
    }
}

impl Iterator for Traffic {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        for cpu in &mut self.0 {
            if cpu.coming.is_empty() {
                cpu.take_packet();
            }
        }
        let time = |cpu: &&mut Cpu| cpu.coming.last().map_or(u64::MAX, |event| event.time);
        let record = self.0.iter_mut().min_by_key(time)?.coming.pop()?;
        Some(Record::Event(Event {
            record,
            other: None,
        }))
    }
}

impl Cpu {
    fn new(number: usize) -> Self {
        let mut cpu = Self {
            number: u16::try_from(number).unwrap_or(0),
            random: Random(number as u64 + 1),
            time: 1_000_000_000 + number as u64 * 777,
            order: 0,
            buffer: 0,
            open: Vec::new(),
            coming: Vec::new(),
            made: 0,
            lasting: false,
        };
        cpu.open = (0..OPEN).map(|_| cpu.connection()).collect();
        cpu
    }

    fn connection(&mut self) -> Connection {
        self.made += 1;
        let random = &mut self.random;
        let (client, server) = (random.below(CLIENTS), random.below(SERVERS));
        let service = server % SERVICES;
        let last = |number: u32| u8::try_from(number % 250 + 2).unwrap_or(2);
        let port = 32_768 + (self.made * CPUS as u64 + u64::from(self.number)) % 28_000;
        let tracked =
            |random: &mut Random| 0xffff_8881_2000_0000 | (u64::from(random.below(1 << 16)) * 320);
        Connection {
            client: (
                address::from_ipv4([10, 244, 1, last(client)]),
                u16::try_from(port).unwrap_or(32_768),
            ),
            service: (address::from_ipv4([10, 96, 0, last(service)]), 80),
            server: (address::from_ipv4([10, 244, 2, last(server)]), 8080),
            pods: [FIRST_POD + client, FIRST_POD + CLIENTS + server],
            ports: [10 + client, 10 + server],
            tracked: [tracked(random), tracked(random)],
            numbers: [random.below(u32::MAX), random.below(u32::MAX)],
            ip_ids: [random.below(60_000), 0],
            payloads: [60 + random.below(60), 100 + random.below(1_200)],
            cookies: [self.made * 8 + 1, self.made * 8 + 2],
            next: 0,
            is_dropped: random.below(100) == 0,
        }
    }

    /// Makes the events of the next packet of some connection.
    fn take_packet(&mut self) {
        let at = self.random.below(u32::try_from(OPEN).unwrap_or(1)) as usize;
        let mut connection = self.open[at];
        let mut event = self.packet(&mut connection);
        let over = connection.next == SCRIPT.len() || connection.is_dropped;
        let (is_reply, ..) = SCRIPT[connection.next - 1];
        if self.lasting && connection.next == ENDS {
            connection.next = CARRIES;
        }
        let mut steps = Steps {
            cpu: self,
            event: &mut event,
            events: Vec::with_capacity(26),
        };
        if is_reply {
            steps.reply(&connection);
        } else {
            steps.request(&connection);
        }
        let mut events = steps.events;
        events.reverse();
        self.coming = events;
        self.open[at] = if over { self.connection() } else { connection };
        // Then it does something else for a while.
        self.time += u64::from(self.random.below(20_000));
    }

    /// The packet, and the connection after it.
    fn packet(&mut self, connection: &mut Connection) -> record::Event {
        let (is_reply, tcp_flags, carries) = SCRIPT[connection.next];
        let side = usize::from(is_reply);
        let payload = if carries {
            connection.payloads[side]
        } else {
            0
        };
        self.buffer = (self.buffer + 37) % BUFFERS;
        let (from, to) = if is_reply {
            (connection.server, connection.client)
        } else {
            (connection.client, connection.service)
        };
        let event = record::Event {
            head: record::Head {
                kind: record::KIND_EVENT,
                cpu: self.number,
                skb: 0xffff_8881_0000_0000 | (u64::from(self.number) << 24) | (self.buffer << 8),
                length: 52 + payload,
                payload,
                detail: connection.cookies[side],
                ..record::Head::default()
            },
            source: from.0,
            destination: to.0,
            source_port: from.1,
            destination_port: to.1,
            sequence: connection.numbers[side],
            acknowledgement: if tcp_flags == SYN {
                0
            } else {
                connection.numbers[1 - side]
            },
            ip_id: connection.ip_ids[side] & 0xffff,
            protocol: 6,
            tcp_flags,
            ttl: 64,
            ip_version: 4,
            ..record::Event::default()
        };
        let counts = tcp_flags & 3 != 0;
        connection.numbers[side] =
            connection.numbers[side].wrapping_add(payload + u32::from(counts));
        connection.ip_ids[side] += 1;
        connection.next += 1;
        event
    }
}

/// A packet on its way.
struct Steps<'a> {
    cpu: &'a mut Cpu,
    event: &'a mut record::Event,
    events: Vec<record::Event>,
}

impl Steps<'_> {
    /// From the client's pod to the server's, translated on the first node.
    fn request(&mut self, connection: &Connection) {
        let (first, second) = (Node::new(0, connection), Node::new(1, connection));
        self.send(&first.in_pod);
        self.out_of_pod(&first, connection.tracked[0] | 2, |event| {
            (event.destination, event.destination_port) = connection.server;
        });
        if connection.is_dropped {
            self.enter(&first.uplink, netfilter::FORWARD, (FORWARD_DROP, 2));
            self.event.reason = NETFILTER_DROP;
            self.event.detail = 0xffff_ffff_8112_3456;
            return self.see(hook::DROP, &first.uplink, 2_000);
        }
        self.forward(&first);
        self.towards_pod(&second, connection.tracked[1] | 2);
    }

    /// Back, and turned back on the client's node.
    fn reply(&mut self, connection: &Connection) {
        let (first, second) = (Node::new(1, connection), Node::new(0, connection));
        self.send(&first.in_pod);
        self.out_of_pod(&first, connection.tracked[1] | 3, |_| {});
        self.forward(&first);
        self.event.conntrack = connection.tracked[0] | 3;
        self.towards_pod(&second, connection.tracked[0] | 3);
    }

    fn send(&mut self, device: &Device) {
        self.see(hook::DEVICE_QUEUE, device, 0);
        self.event.detail = 0;
        self.see(hook::DEVICE_TRANSMIT, device, 300);
    }

    /// Out of a pod into its node, up to behind the routing.
    fn out_of_pod(
        &mut self,
        node: &Node,
        tracked: u64,
        translate: impl FnOnce(&mut record::Event),
    ) {
        self.see(hook::DEVICE_RECEIVE, &node.port, 1_500);
        self.hook(
            &node.bridge,
            netfilter::PREROUTING,
            (node.bridge.index, 0),
            |event| {
                event.conntrack = tracked;
                translate(event);
            },
        );
        self.see(hook::DEVICE_RECEIVE, &node.bridge, 400);
        self.event.ttl -= 1;
    }

    fn forward(&mut self, node: &Node) {
        let (inside, outside) = (node.bridge.index, node.uplink.index);
        self.hook(&node.uplink, netfilter::FORWARD, (inside, outside), |_| {});
        self.hook(&node.uplink, netfilter::POSTROUTING, (0, outside), |_| {});
        self.send(&node.uplink);
        self.event.conntrack = 0;
    }

    /// In from the wire, over the bridge into a pod.
    fn towards_pod(&mut self, node: &Node, tracked: u64) {
        let (inside, outside) = (node.bridge.index, node.uplink.index);
        self.see(hook::DEVICE_RECEIVE, &node.uplink, 2_000);
        self.hook(&node.uplink, netfilter::PREROUTING, (outside, 0), |event| {
            event.conntrack = tracked;
        });
        self.event.ttl -= 1;
        self.hook(&node.bridge, netfilter::FORWARD, (outside, inside), |_| {});
        self.hook(&node.bridge, netfilter::POSTROUTING, (0, inside), |_| {});
        self.send(&node.bridge);
        self.send(&node.port);
        self.event.conntrack = 0;
        self.see(hook::DEVICE_RECEIVE, &node.in_pod, 1_200);
        self.see(hook::SOCKET_DELIVER, &node.in_pod, 1_000);
    }

    fn hook(
        &mut self,
        device: &Device,
        number: u8,
        devices: (u32, u32),
        inside: impl FnOnce(&mut record::Event),
    ) {
        self.enter(device, number, devices);
        inside(self.event);
        self.event.reason = record::VERDICT_ACCEPTED;
        self.see(hook::NETFILTER_LEAVE, device, 1_400);
        self.event.reason = 0;
        self.event.netfilter_hook = 0;
        (self.event.in_ifindex, self.event.out_ifindex) = (0, 0);
    }

    fn enter(&mut self, device: &Device, number: u8, devices: (u32, u32)) {
        self.event.netfilter_hook = number;
        (self.event.in_ifindex, self.event.out_ifindex) = devices;
        self.see(hook::NETFILTER_ENTER, device, 500);
    }

    /// An event of the packet as it is now, some time later.
    fn see(&mut self, hook: u8, device: &Device, later: u32) {
        let cpu = &mut *self.cpu;
        cpu.time += u64::from(later / 2 + cpu.random.below(later) + 20);
        let mut event = *self.event;
        event.time = cpu.time;
        event.order = cpu.order;
        event.hook = hook;
        event.netns = device.netns;
        event.ifindex = device.index;
        event.device_name = device.name;
        event.flags = device.flags;
        cpu.order = cpu.order.wrapping_add(1);
        self.events.push(event);
    }
}

/// The devices of a node that a connection's packets pass.
struct Node {
    in_pod: Device,
    port: Device,
    bridge: Device,
    uplink: Device,
}

impl Node {
    fn new(side: usize, connection: &Connection) -> Self {
        let (netns, rules) = (NODES[side], FLAG_HAS_NETFILTER | FLAG_HAS_PREROUTING);
        let port = connection.ports[side];
        Self {
            in_pod: Device::new(connection.pods[side], 2, "eth0", 0),
            port: Device::new(
                netns,
                port,
                &format!("veth{port}"),
                FLAG_BRIDGE_PORT | rules,
            ),
            bridge: Device::new(netns, 5, "cni0", FLAG_BRIDGE | rules),
            uplink: Device::new(netns, 2, "eth0", rules),
        }
    }
}

/// What the node knows of it.
pub(crate) fn node() -> Snapshot {
    let named = |inode: u32, name: String| Namespace {
        inode,
        names: vec![name],
        ..Namespace::default()
    };
    let nodes = NODES.into_iter().zip(["host", "node2"]);
    let pods = (0..CLIENTS + SERVERS).map(|pod| named(FIRST_POD + pod, format!("cni-{pod:08x}")));
    let namespaces = nodes.map(|(inode, name)| named(inode, name.to_owned()));
    Snapshot::from(Contents {
        namespaces: namespaces.chain(pods).collect(),
        ..Contents::default()
    })
}
