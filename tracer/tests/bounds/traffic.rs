//! Traffic that is made to fill memory.

use tracer::{
    event::{Event, Record},
    source::{Batch, ListeningSocket, Notice, PacketBytes, SocketProcess},
};
use tracer_common::{
    hook,
    record::{self, FLAG_BRIDGE_PORT},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// What comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Traffic {
    /// Every packet is of another flow.
    Distinct,
    /// A few hundred packets that never end, each time at another place and with another tuple.
    Endless,
    /// Connections that nobody answers, each of two SYNs with a long way.
    Unanswered,
    /// Every flow loses packets at several places, each after a long way.
    Dropped,
    /// Segments with long ways that are merged into one buffer.
    Merged,
    /// DNS answers with long names and many addresses, and flows to these; ports with many sockets.
    Names,
    /// Nothing but holes: each event is what cannot come there.
    Holes,
    /// Every packet is in another namespace, and dropped there.
    Namespaces,
    /// Copies of copies, of which some are dropped and none arrives.
    Copies,
    /// Delivered at once, all at one time.
    Moment,
    /// Some of each.
    Mixed,
}

fn low(number: u64) -> u32 {
    u32::try_from(number & 0xffff_ffff).unwrap_or(0)
}

/// A packet of a flow, both known by numbers.
fn packet(number: u64, flow: u64, time: u64) -> record::Event {
    record::Event {
        head: record::Head {
            kind: record::KIND_EVENT,
            hook: hook::DEVICE_QUEUE,
            time,
            skb: 0xffff_8881_0000_0000 + number * 256,
            length: 100,
            payload: 72,
            netns: 1,
            ifindex: 1,
            ..record::Head::default()
        },
        source: [0, 0xffff_0000_0000 | (flow & 0xffff_ffff)],
        destination: [0, 0xffff_0a01_0000],
        source_port: 1,
        destination_port: 2,
        sequence: low(number),
        ip_id: low(number) & 0xffff,
        ip_version: 4,
        protocol: UDP,
        ..record::Event::default()
    }
}

fn segment(number: u64, flow: u64, time: u64, flags: u8) -> record::Event {
    record::Event {
        protocol: TCP,
        tcp_flags: flags,
        ..packet(number, flow, time)
    }
}

/// The same packet at its nth place: queued, sent, received, in one namespace after the other.
fn at(mut event: record::Event, nth: u64) -> record::Event {
    event.hook = match nth % 3 {
        0 => hook::DEVICE_QUEUE,
        1 => hook::DEVICE_TRANSMIT,
        _ => hook::DEVICE_RECEIVE,
    };
    event.netns = 1 + low(nth / 3) % 40;
    event.ifindex = 1 + low(nth);
    event.device_name = [nth, nth];
    event
}

fn endless(n: u64) -> record::Event {
    let mut event = packet(n % 400, n, n * 1_000);
    event = at(event, n / 400);
    event.netns = low(n);
    event.ifindex = event.netns;
    event
}

fn unanswered(n: u64) -> record::Event {
    // Sixty hops of a SYN, and sixty of it once more.
    const HOPS: u64 = 60;
    let number = n / HOPS;
    at(segment(number, number / 2, n * 1_000, SYN), n % HOPS)
}

fn dropped(n: u64) -> record::Event {
    const HOPS: u64 = 30;
    let (number, nth) = (n / HOPS, n % HOPS);
    let mut event = at(segment(number, number / 4, n * 1_000, SYN), nth);
    if nth == HOPS - 1 {
        event.hook = hook::DROP;
        event.reason = 60 + low(number % 4);
    }
    event
}

fn merged(n: u64) -> record::Event {
    // Of each round: sixty segments at twelve places, and the buffer that they become.
    const SEGMENTS: u64 = 60;
    const PLACES: u64 = 12;
    let (round, of) = (n / (SEGMENTS * PLACES), n % (SEGMENTS * PLACES));
    let first = round * SEGMENTS;
    let (nth, number) = (of / SEGMENTS, of % SEGMENTS);
    let mut event = at(segment(first + number, round / 8, n * 100, ACK), nth);
    (event.payload, event.length) = (1000, 1040);
    event.sequence = low(number * 1000);
    event.ip_id = 0;
    if nth == PLACES - 1 {
        // Received, more and more of it at the first one's address.
        event = at(segment(first, round / 8, n * 100, ACK), nth);
        event.sequence = 0;
        event.ip_id = 0;
        event.payload = 1000 * (1 + low(number));
        event.length = event.payload + 40;
    }
    event
}

fn holes(n: u64) -> record::Event {
    let mut event = packet(n % 3_000, n % 3_000, n * 1_000);
    event.hook = if (n / 3_000).is_multiple_of(2) {
        hook::NETFILTER_LEAVE
    } else {
        hook::SOCKET_DELIVER
    };
    event.netfilter_hook = 2;
    event
}

fn namespaces(n: u64) -> record::Event {
    let mut event = packet(n, n, n * 1_000);
    event.netns = low(n);
    event.hook = hook::DROP;
    event.reason = 77;
    event
}

fn copies(n: u64) -> record::Event {
    let mut event = packet(n % 100, n % 100, n * 1_000);
    event.skb = 0xffff_8881_0000_0000 + n * 256;
    event.flags = FLAG_BRIDGE_PORT;
    event.hook = match n / 100 % 3 {
        0 => hook::DEVICE_RECEIVE,
        1 => hook::DEVICE_QUEUE,
        _ => hook::DROP,
    };
    event.reason = 77;
    event
}

fn moment(n: u64) -> record::Event {
    let mut event = packet(n / 2, n / 2 % 5_000, 1_000);
    if n % 2 == 1 {
        event.hook = hook::SOCKET_DELIVER;
    }
    event
}

/// A flow to an address that was looked up.
fn named(n: u64) -> record::Event {
    let mut event = packet(n, n, n * 100_000);
    event.netns = 1 + low(n % 500);
    event.destination = [0, 0xffff_0a00_0000 | (n % 0xff_ffff)];
    event
}

impl Traffic {
    fn event(self, n: u64) -> record::Event {
        match self {
            Self::Distinct => packet(n, n, n * 1_000),
            Self::Endless => endless(n),
            Self::Unanswered => unanswered(n),
            Self::Dropped => dropped(n),
            Self::Merged => merged(n),
            Self::Names => named(n),
            Self::Holes => holes(n),
            Self::Namespaces => namespaces(n),
            Self::Copies => copies(n),
            Self::Moment => moment(n),
            Self::Mixed => Self::mixed(n),
        }
    }

    fn mixed(n: u64) -> record::Event {
        // Each kind has addresses of its own.
        let (kind, nth) = (n % 4, n / 4);
        let mut event = match kind {
            0 => packet(nth, nth, n * 1_000),
            1 => unanswered(nth),
            2 => dropped(nth),
            _ => namespaces(nth),
        };
        event.time = n * 1_000;
        event.skb += kind << 40;
        event.source[1] ^= kind << 30;
        event
    }

    fn notices(self, n: u64) -> Vec<Notice> {
        match self {
            Self::Names => (0..200).flat_map(|more| names(n + more)).collect(),
            _ => vec![Notice::Bytes(bytes(n))],
        }
    }

    /// So many events, so many in a batch.
    pub(crate) fn batches(self, events: u64, batch: u64) -> impl Iterator<Item = Batch> {
        (0..events / batch).map(move |number| Batch {
            notices: self.notices(number * batch),
            records: (number * batch..(number + 1) * batch)
                .map(|n| {
                    let (record, other) = (self.event(n), None);
                    Record::Event(Event { record, other })
                })
                .collect(),
        })
    }
}

/// A datagram of somebody's DNS server.
fn datagram(number: u64, netns: u32, payload: &[u8]) -> PacketBytes {
    let mut bytes = vec![0x45, 0, 2, 88, 0, 0, 0x40, 0, 64, 17, 0, 0];
    bytes.extend([10, 0, 0, 1]);
    bytes.extend(low(number).to_be_bytes());
    bytes.extend([0, 53, 0x80, 0, 2, 68, 0, 0]);
    bytes.extend(payload);
    PacketBytes {
        time: number * 100_000,
        skb: number,
        netns,
        hook: hook::SOCKET_DELIVER,
        length: 600,
        bytes,
    }
}

/// A packet's first bytes, of a name's length.
fn bytes(number: u64) -> PacketBytes {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(572, 7);
    datagram(number, 1, &payload)
}

/// An answer with a name as long as one can be, and as it is longest when written, and twenty addresses; a
/// port with many sockets.
fn names(number: u64) -> [Notice; 2] {
    let mut payload = low(number & 0xffff).to_be_bytes()[2..].to_vec();
    payload.extend([0x81, 0x80, 0, 1, 0, 20, 0, 0, 0, 0]);
    for _ in 0..3 {
        payload.push(63);
        payload.extend([0xee; 55]);
        payload.extend(number.to_be_bytes());
    }
    payload.extend([0, 0, 1, 0, 1]);
    for address in 0..20 {
        payload.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10]);
        payload.extend(&low((number * 20 + address) % 0xff_ffff).to_be_bytes()[1..]);
    }
    let netns = 1 + low(number % 500);
    let process = SocketProcess {
        pid: 1,
        comm: "x".repeat(15),
        cgroup: 1,
    };
    let local = ([10, 0, 0, 1], 80).into();
    let socket = ListeningSocket {
        local,
        process: Some(process),
    };
    [
        Notice::Bytes(datagram(number, netns, &payload)),
        Notice::Listeners {
            netns: low(number),
            protocol: TCP,
            port: 80,
            time: number,
            sockets: vec![socket; 100],
        },
    ]
}
