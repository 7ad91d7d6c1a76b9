//! Filter terms and their evaluator, one code for the kernel and for the agent.
//!
//! A filter is a small program: terms in an array, each with the index to go on with when it holds
//! and when it does not. Jumps only go forward, so evaluation ends after at most [`MAX_TERMS`]
//! steps; an index past the end accepts or rejects. This is what an expression of and/or/not
//! compiles to without recursion or a stack, and what the verifier can bound.

use crate::address::Address;

/// How many terms a program holds.
pub const MAX_TERMS: usize = 24;
/// Jump target: the packet matches.
pub const ACCEPT: u8 = 0xff;
/// Jump target: the packet does not match.
pub const REJECT: u8 = 0xfe;

/// The source or the destination address, masked, equals the value.
pub const HOST_EITHER: u8 = 1;
/// The source address, masked, equals the value.
pub const HOST_SOURCE: u8 = 2;
/// The destination address, masked, equals the value.
pub const HOST_DESTINATION: u8 = 3;
/// The source or the destination port lies in `low..=high`.
pub const PORT_EITHER: u8 = 4;
/// The source port lies in `low..=high`.
pub const PORT_SOURCE: u8 = 5;
/// The destination port lies in `low..=high`.
pub const PORT_DESTINATION: u8 = 6;
/// The IP protocol equals `low`.
pub const PROTOCOL: u8 = 7;
/// The IP version equals `low`.
pub const IP_VERSION: u8 = 8;
/// The network namespace's inode number equals `number`.
pub const NETNS: u8 = 9;
/// The device's name equals the sixteen bytes of `value`.
pub const DEVICE: u8 = 10;
/// The sending socket's cgroup id equals `value[0]`.
pub const CGROUP: u8 = 11;

/// One test and where to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Term {
    /// The address, name or id to compare with.
    pub value: [u64; 2],
    /// The bits of an address that count.
    pub mask: Address,
    /// [`NETNS`]: the inode number.
    pub number: u32,
    /// The lower bound, host order.
    pub low: u16,
    /// The upper bound, host order.
    pub high: u16,
    /// What is tested.
    pub kind: u8,
    /// The next term when it holds: greater than this term's index, or [`ACCEPT`]/[`REJECT`].
    pub on_true: u8,
    /// The next term when it does not hold.
    pub on_false: u8,
    /// Reserved, zero.
    pub reserved: [u8; 5],
}

const _: () = assert!(size_of::<Term>() == 48);

/// A whole filter: the value of a one-element BPF array map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Program {
    /// The terms; evaluation begins with the first.
    pub terms: [Term; MAX_TERMS],
    /// How many are in use; 0: every packet matches.
    pub count: u32,
    /// Nonzero: the expression holds a `not` over something a translation can change, so the
    /// translations of a packet that did not match must be kept out too ([`crate::flow::IGNORE`]).
    pub negative: u32,
}

const _: () = assert!(size_of::<Program>() == 48 * MAX_TERMS + 8);

/// What a term is tested against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// The device's name, NUL-padded.
    pub device_name: [u64; 2],
    /// The sending socket's cgroup id, 0 where there is none.
    pub cgroup: u64,
    /// The network namespace's inode number.
    pub netns: u32,
    /// Source port, host order.
    pub source_port: u16,
    /// Destination port, host order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6.
    pub ip_version: u8,
}

#[inline(always)]
fn within(address: &Address, term: &Term) -> bool {
    // One comparison, not two with a branch between them: cheaper, and one path for the verifier.
    ((address[0] & term.mask[0]) ^ term.value[0]) | ((address[1] & term.mask[1]) ^ term.value[1])
        == 0
}

impl Term {
    /// Whether the term holds. An unknown kind holds never.
    #[must_use]
    #[inline(always)]
    pub fn holds(&self, subject: &Subject) -> bool {
        let port = |port: u16| port >= self.low && port <= self.high;
        match self.kind {
            HOST_EITHER => within(&subject.source, self) | within(&subject.destination, self),
            HOST_SOURCE => within(&subject.source, self),
            HOST_DESTINATION => within(&subject.destination, self),
            PORT_EITHER => port(subject.source_port) | port(subject.destination_port),
            PORT_SOURCE => port(subject.source_port),
            PORT_DESTINATION => port(subject.destination_port),
            PROTOCOL => u16::from(subject.protocol) == self.low,
            IP_VERSION => u16::from(subject.ip_version) == self.low,
            NETNS => subject.netns == self.number,
            DEVICE => subject.device_name == self.value,
            CGROUP => subject.cgroup == self.value[0],
            _ => false,
        }
    }
}

impl Default for Program {
    fn default() -> Self {
        Self {
            terms: [Term::default(); MAX_TERMS],
            count: 0,
            negative: 0,
        }
    }
}

impl Program {
    /// Whether the packet matches. A program with no term matches every packet.
    #[must_use]
    #[inline(always)]
    pub fn matches(&self, subject: &Subject) -> bool {
        if self.count == 0 {
            return true;
        }
        let mut next = 0usize;
        for _ in 0..MAX_TERMS {
            if next >= MAX_TERMS {
                break;
            }
            let term = &self.terms[next];
            next = usize::from(if term.holds(subject) {
                term.on_true
            } else {
                term.on_false
            });
        }
        next == usize::from(ACCEPT)
    }
}
