//! Filter terms and their evaluator, one code for the kernel and for the agent.
//!
//! A filter is a small program: terms in an array, each with the index to go on with when it holds
//! and when it does not. Jumps only go forward, so evaluation ends after at most [`MAX_TERMS`]
//! steps; an index past the end accepts or rejects. This is what an expression of and/or/not
//! compiles to without recursion or a stack, and what the verifier can bound.

use core::hint::black_box;

use crate::{
    address::Address,
    glance::{Glance, MAX_GLANCES},
};

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
/// The source or the destination port lies in `low..=high`, of a protocol that has ports: the port
/// fields of an ICMP echo hold its id, which is none.
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
    /// Nonzero: a packet that does not match tells that its whole flow does not (the expression
    /// tests what a translation can change only under a `not`), so its translations are kept out
    /// too ([`crate::flow::IGNORE`]).
    pub negative: u32,
    /// Nonzero: a term is about where the packet is ([`NETNS`], [`DEVICE`], [`CGROUP`]); else nothing
    /// of that is read.
    pub place: u32,
    /// How many glances are in use, where they are.
    pub glances: u32,
    /// Nonzero: a packet that none of the glances fits cannot match.
    pub glancing: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// What a packet must have at least, of the plainest kind ([`crate::glance`]).
    pub glance: [Glance; MAX_GLANCES],
}

const _: () = assert!(size_of::<Program>() == 48 * MAX_TERMS + 24 + 48 * MAX_GLANCES);

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

/// 1 when `x` is not zero. The barrier keeps the compiler from making a branch of it.
#[inline(always)]
fn nonzero(x: u64) -> u64 {
    black_box(x | x.wrapping_neg()) >> 63
}

/// 1 when the address, masked, is not the value.
#[inline(always)]
fn outside(address: &Address, term: &Term) -> u64 {
    nonzero(
        ((address[0] & term.mask[0]) ^ term.value[0])
            | ((address[1] & term.mask[1]) ^ term.value[1]),
    )
}

/// 1 when the port is not in the range.
#[inline(always)]
fn beyond(port: u16, term: &Term) -> u64 {
    let (port, low, high) = (u64::from(port), u64::from(term.low), u64::from(term.high));
    black_box(port.wrapping_sub(low) | high.wrapping_sub(port)) >> 63
}

/// 1 when the subject's protocol has no ports of the kind that filters mean: TCP's, UDP's, SCTP's.
#[inline(always)]
fn portless(subject: &Subject) -> u64 {
    let protocol = u64::from(subject.protocol);
    nonzero(protocol ^ 6) & nonzero(protocol ^ 17) & nonzero(protocol ^ 132)
}

impl Term {
    /// Whether it is about where the packet is.
    #[must_use]
    pub const fn is_of_place(&self) -> bool {
        matches!(self.kind, NETNS | DEVICE | CGROUP)
    }

    /// Whether the term holds. An unknown kind holds never.
    ///
    /// All kinds are worked out and one is picked, without a branch: the verifier walks every path
    /// through every term, and with one path there is nothing to multiply. It costs some fifty
    /// instructions, less than a mispredicted branch.
    #[must_use]
    #[inline(always)]
    pub fn holds(&self, subject: &Subject) -> bool {
        self.misses(subject, portless(subject)) == 0
    }

    /// `portless` is the subject's, which is the same for all terms.
    #[inline(always)]
    fn misses(&self, s: &Subject, portless: u64) -> u64 {
        let (source, destination) = (outside(&s.source, self), outside(&s.destination, self));
        let (from, to) = (
            beyond(s.source_port, self) | portless,
            beyond(s.destination_port, self) | portless,
        );
        let low = u64::from(self.low);
        let name = nonzero((s.device_name[0] ^ self.value[0]) | (s.device_name[1] ^ self.value[1]));
        let misses = (source & destination) << HOST_EITHER
            | source << HOST_SOURCE
            | destination << HOST_DESTINATION
            | (from & to) << PORT_EITHER
            | from << PORT_SOURCE
            | to << PORT_DESTINATION
            | nonzero(u64::from(s.protocol) ^ low) << PROTOCOL
            | nonzero(u64::from(s.ip_version) ^ low) << IP_VERSION
            | nonzero(u64::from(s.netns ^ self.number)) << NETNS
            | name << DEVICE
            | nonzero(s.cgroup ^ self.value[0]) << CGROUP
            | !KINDS;
        (misses >> (self.kind & 63)) & 1
    }
}

/// The bits of the kinds that there are.
const KINDS: u64 = (1 << (CGROUP + 1)) - 2;

impl Default for Program {
    fn default() -> Self {
        Self {
            terms: [Term::default(); MAX_TERMS],
            count: 0,
            negative: 0,
            place: 0,
            glances: 0,
            glancing: 0,
            reserved: 0,
            glance: [Glance::default(); MAX_GLANCES],
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
        let portless = portless(subject);
        let mut next = 0usize;
        for _ in 0..MAX_TERMS {
            if next >= MAX_TERMS {
                break;
            }
            let term = &self.terms[next];
            next = usize::from(if term.misses(subject, portless) == 0 {
                term.on_true
            } else {
                term.on_false
            });
        }
        next == usize::from(ACCEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{from_ipv4, prefix_mask};
    use proptest::prelude::*;

    const SUBJECT: Subject = Subject {
        source: from_ipv4([10, 244, 0, 2]),
        destination: from_ipv4([10, 96, 0, 10]),
        device_name: [u64::from_ne_bytes(*b"eth0\0\0\0\0"), 0],
        cgroup: 7,
        netns: 4_026_532_000,
        source_port: 40_000,
        destination_port: 80,
        protocol: 6,
        ip_version: 4,
    };

    fn address(kind: u8, bytes: [u8; 4], length: u32) -> Term {
        Term {
            kind,
            value: from_ipv4(bytes),
            mask: prefix_mask(96 + length),
            ..Term::default()
        }
    }

    fn port(kind: u8, low: u16, high: u16) -> Term {
        Term {
            kind,
            low,
            high,
            ..Term::default()
        }
    }

    fn program(terms: &[Term]) -> Program {
        let mut program = Program {
            count: u32::try_from(terms.len()).unwrap(),
            ..Program::default()
        };
        program.terms[..terms.len()].copy_from_slice(terms);
        program
    }

    #[test]
    fn addresses_are_compared_under_their_mask_and_direction() {
        let cases = [
            (HOST_EITHER, [10, 96, 0, 10], 32, true),
            (HOST_EITHER, [10, 244, 0, 0], 24, true),
            (HOST_EITHER, [10, 96, 0, 11], 32, false),
            (HOST_SOURCE, [10, 96, 0, 10], 32, false),
            (HOST_SOURCE, [10, 244, 0, 0], 16, true),
            (HOST_DESTINATION, [10, 96, 0, 0], 12, true),
            (HOST_DESTINATION, [10, 244, 0, 2], 32, false),
        ];
        for (kind, bytes, length, expected) in cases {
            assert_eq!(
                address(kind, bytes, length).holds(&SUBJECT),
                expected,
                "kind {kind}, {bytes:?}/{length}"
            );
        }
    }

    #[test]
    fn ports_lie_in_an_inclusive_range() {
        let cases = [
            (PORT_EITHER, 80, 80, true),
            (PORT_EITHER, 40_000, 50_000, true),
            (PORT_EITHER, 81, 39_999, false),
            (PORT_SOURCE, 80, 80, false),
            (PORT_DESTINATION, 1, 80, true),
            (PORT_DESTINATION, 40_000, 40_000, false),
        ];
        for (kind, low, high, expected) in cases {
            assert_eq!(
                port(kind, low, high).holds(&SUBJECT),
                expected,
                "kind {kind}, {low}-{high}"
            );
        }
    }

    #[test]
    fn the_id_of_an_echo_is_no_port() {
        let all = port(PORT_EITHER, 0, u16::MAX);
        for (protocol, expected) in [(6, true), (17, true), (132, true), (1, false), (58, false)] {
            let subject = Subject {
                protocol,
                ..SUBJECT
            };
            assert_eq!(all.holds(&subject), expected, "protocol {protocol}");
        }
    }

    #[test]
    fn the_other_kinds_compare_for_equality() {
        let holds = |term: Term| term.holds(&SUBJECT);
        let of = |kind| Term {
            kind,
            ..Term::default()
        };
        assert!(holds(port(PROTOCOL, 6, 0)) && !holds(port(PROTOCOL, 17, 0)));
        assert!(holds(port(IP_VERSION, 4, 0)) && !holds(port(IP_VERSION, 6, 0)));
        assert!(holds(Term {
            number: 4_026_532_000,
            ..of(NETNS)
        }));
        assert!(!holds(of(NETNS)) && !holds(of(DEVICE)) && !holds(of(CGROUP)));
        assert!(holds(Term {
            value: SUBJECT.device_name,
            ..of(DEVICE)
        }));
        assert!(holds(Term {
            value: [7, 0],
            ..of(CGROUP)
        }));
    }

    #[test]
    fn a_program_without_terms_matches_everything() {
        assert!(Program::default().matches(&SUBJECT));
    }

    #[test]
    fn a_program_follows_its_jumps() {
        let tcp = |on_true, on_false| Term {
            kind: PROTOCOL,
            low: 6,
            on_true,
            on_false,
            ..Term::default()
        };
        let from_backend = |on_true, on_false| Term {
            on_true,
            on_false,
            ..address(HOST_SOURCE, [10, 244, 0, 3], 32)
        };
        let and = program(&[tcp(1, REJECT), from_backend(ACCEPT, REJECT)]);
        let or = program(&[from_backend(ACCEPT, 1), tcp(ACCEPT, REJECT)]);
        let not = program(&[from_backend(REJECT, ACCEPT)]);
        assert!(!and.matches(&SUBJECT));
        assert!(or.matches(&SUBJECT));
        assert!(not.matches(&SUBJECT));
    }

    proptest! {
        #[test]
        fn any_program_ends(kinds: [u8; MAX_TERMS], yes: [u8; MAX_TERMS], no: [u8; MAX_TERMS]) {
            let mut program = Program { count: 24, ..Program::default() };
            for (index, term) in program.terms.iter_mut().enumerate() {
                (term.kind, term.on_true, term.on_false) = (kinds[index] % 13, yes[index], no[index]);
            }
            let _ = program.matches(&SUBJECT);
        }
    }
}
