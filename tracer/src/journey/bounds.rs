//! What the engine is given: how much it may keep, how long it waits, what this kernel's drop
//! reasons mean; and what it had to let go.

/// How much is kept at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Packets under way.
    pub packets: usize,
    /// Hops of one packet.
    pub hops: usize,
    /// Flows.
    pub flows: usize,
    /// Bytes of memory for packets: those under way, with their hops, and those that are over and were
    /// not given out yet.
    pub packet_room: usize,
    /// Bytes of memory for flows, with the names and places that they were seen with.
    pub flow_room: usize,
    /// Bytes of memory for packets' first bytes.
    pub byte_room: usize,
}

/// The least room with which the engine is of any use: some hundred packets of flows under way.
const LEAST: usize = 1 << 18;

impl Limits {
    /// Those of an engine that has so many bytes of memory in all.
    #[must_use]
    pub fn within(bytes: usize) -> Self {
        let part = |parts: usize| (bytes / 16 * parts).max(LEAST);
        Self {
            packets: 1 << 12,
            hops: 256,
            flows: 1 << 14,
            packet_room: part(5),
            flow_room: part(8),
            byte_room: part(1),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::within(72 << 20)
    }
}

/// How long things are waited for, in nanoseconds of the events' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From a socket taking a packet to the packet being over: within it the protocol may drop it,
    /// when it comes to it. What comes while a process works on a TCP socket waits that long
    /// (`sk_backlog`), and under emulation everything takes longer.
    pub delivered: u64,
    /// From a packet's last event to giving it up. A packet may wait that long for ARP.
    pub packet: u64,
    /// From a closed flow's last event to giving it out.
    pub closed: u64,
    /// The same where an ICMP error refused a TCP connection, not less than [`Self::closed`]. The client may
    /// send its SYN again: an error that comes while a process works on the socket does not end the connection
    /// (`tcp_v4_err` and `tcp_v6_err` keep it in `sk_err_soft`), and the next SYN comes after one second
    /// (`TCP_TIMEOUT_INIT`), the one after that in another two.
    pub refused: u64,
    /// From another flow's last event to giving it out.
    pub silent: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            delivered: 20_000_000,
            packet: 4_000_000_000,
            closed: 1_000_000_000,
            refused: 2_500_000_000,
            silent: 120_000_000_000,
        }
    }
}

/// Which of this kernel's drop reasons mean something to a journey's end. Numbers differ by kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// What is freed with these after a socket took it was not dropped: a closing socket empties
    /// its queue.
    pub after_delivery: Vec<u32>,
    /// What is freed with these was not for who freed it: a flooding bridge's copies.
    pub bystander: Vec<u32>,
}

impl Reasons {
    /// Those of a kernel, by the names of its `enum skb_drop_reason`.
    #[must_use]
    pub fn by_name(number: impl Fn(&str) -> Option<u32>) -> Self {
        let numbers = |names: &[&str]| names.iter().filter_map(|name| number(name)).collect();
        Self {
            // A raw socket takes a copy, and no other socket wants the packet.
            after_delivery: numbers(&["QUEUE_PURGE", "SOCKET_CLOSE", "NO_SOCKET"]),
            bystander: numbers(&["OTHERHOST"]),
        }
    }
}

/// What was let go because of [`Limits`], and what could not be placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// Packets given out before they were over.
    pub packets: u64,
    /// Flows given out before they were over.
    pub flows: u64,
}
