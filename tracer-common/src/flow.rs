//! The key under which a flow is followed: a tuple with its two directions folded into one.

use crate::address::Address;

/// A tuple's addresses, ports and protocol, the smaller end first, so that both directions of an
/// exchange give the same key. All bytes are significant: it is a BPF map key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey {
    /// The smaller end's address.
    pub low: Address,
    /// The larger end's address.
    pub high: Address,
    /// The smaller end's port, host order; an ICMP echo's id; 0 where there is none.
    pub low_port: u16,
    /// The larger end's port.
    pub high_port: u16,
    /// The IP protocol number.
    pub protocol: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 40);

impl FlowKey {
    /// The key of the tuple, whichever way it points.
    #[must_use]
    #[inline(always)]
    pub const fn new(
        source: Address,
        source_port: u16,
        destination: Address,
        destination_port: u16,
        protocol: u8,
    ) -> Self {
        let swap = if source[0] != destination[0] {
            source[0] > destination[0]
        } else if source[1] != destination[1] {
            source[1] > destination[1]
        } else {
            source_port > destination_port
        };
        if swap {
            Self {
                low: destination,
                high: source,
                low_port: destination_port,
                high_port: source_port,
                protocol: protocol as u32,
            }
        } else {
            Self {
                low: source,
                high: destination,
                low_port: source_port,
                high_port: destination_port,
                protocol: protocol as u32,
            }
        }
    }
}

/// What the kernel side remembers of a followed tuple: a BPF map value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Followed {
    /// [`FOLLOW`] or [`IGNORE`].
    pub decision: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// The `nf_conn` whose tuples were last emitted for this tuple, so that they are once.
    pub conntrack: u64,
}

const _: () = assert!(size_of::<Followed>() == 16);

/// The process that made a socket: a BPF map value; the key is the socket's cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Owner {
    /// The process's name, NUL-padded.
    pub comm: [u64; 2],
    /// The id of the cgroup (v2) that it was in.
    pub cgroup: u64,
    /// Its id, as the node's own pid namespace has it.
    pub pid: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Owner>() == 32);

/// The tuple belongs to a flow that matched.
pub const FOLLOW: u32 = 1;
/// The tuple is the translation of one that did not match: a `not` must not let it in again.
pub const IGNORE: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_directions_give_one_key(a: [u64; 2], b: [u64; 2], p: u16, q: u16, protocol: u8) {
            prop_assert_eq!(FlowKey::new(a, p, b, q, protocol), FlowKey::new(b, q, a, p, protocol));
        }

        #[test]
        fn the_protocol_tells_keys_apart(a: [u64; 2], b: [u64; 2], p: u16, q: u16) {
            prop_assert_ne!(FlowKey::new(a, p, b, q, 6), FlowKey::new(a, p, b, q, 17));
        }
    }
}
