//! Members of `sk_buff`, `net_device`, `net` and `sock`.

use tracer_common::{
    cpu::Receiving,
    record::{
        FLAG_BRIDGE, FLAG_BRIDGE_PORT, FLAG_HAS_NETFILTER, FLAG_HAS_PREROUTING, FLAG_LOOPBACK,
        FLAG_PHYSICAL, Head,
    },
};

use crate::{
    emit::About,
    fields::{
        CGROUP_NODE, DEV_FLAGS, DEV_IFINDEX, DEV_LINK_OPS, DEV_NAME, DEV_NET, DEV_PRIV_FLAGS,
        KERNFS_ID, NET_HOOKS_IPV4, NET_HOOKS_IPV6, NET_INUM, SKB_DATA, SKB_DEV, SKB_HEAD, SKB_LEN,
        SKB_NETWORK_HEADER, SKB_NFCT, SKB_PACKET_TYPE, SKB_PROTOCOL, SKB_SK, SKB_TAIL, SOCK_CGROUP,
        SOCK_COOKIE, SOCK_NET, SOCK_STATE,
    },
    memory::{self, Access, Pointer},
};

/// `ETH_P_IP` and `ETH_P_IPV6` as they stand in `sk_buff.protocol`, network order.
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();

/// `TCP_TIME_WAIT` and `TCP_NEW_SYN_RECV`: states whose socket is a smaller structure.
const TIME_WAIT: u8 = 6;
const NEW_SYN_RECV: u8 = 12;

/// `PKT_TYPE_MAX` of a little-endian kernel: the byte's low three bits.
const PACKET_TYPE: u8 = 7;

/// The bits of `IFF_LOOPBACK` (uapi), `IFF_EBRIDGE` and `IFF_BRIDGE_PORT` (`enum netdev_priv_flags`, the same
/// bits from 3.17 on).
const DEVICE_LOOPBACK: u32 = 3;
const DEVICE_BRIDGE: u32 = 1;
const DEVICE_BRIDGE_PORT: u32 = 9;

/// A `struct sk_buff *`.
#[derive(Clone, Copy)]
pub(crate) struct Skb<A>(pub(crate) Pointer<A>);

// SAFETY of the loads in this file: each base comes from a hook's argument or from a load of a
// pointer member through one, so that the verifier types it where the argument is typed; each offset
// is the member's own. A load through a pointer that is none reads zero (BPF_PROBE_MEM, or the helper), so
// there is no need to branch on it: every branch here would double what the verifier walks
// afterwards. Only `sk_buff.sk` must be tested: newer kernels know it as a pointer that may be null.
impl<A: Access> Skb<A> {
    #[inline(always)]
    pub(crate) fn is_ip(self) -> bool {
        // SAFETY: see above.
        let protocol: u16 = unsafe { self.0.load(SKB_PROTOCOL) };
        protocol == IPV4 || protocol == IPV6
    }

    /// Where the linear part ends.
    #[inline(always)]
    pub(crate) fn end(self) -> u64 {
        // SAFETY: see above.
        unsafe { self.head() + u64::from(self.0.load::<u32, _, _>(SKB_TAIL)) }
    }

    /// The data buffer, which clones share.
    #[inline(always)]
    pub(crate) fn head(self) -> u64 {
        // SAFETY: see above.
        unsafe { memory::number(self.0.load(SKB_HEAD)) }
    }

    /// The IP header, once the stack has set it.
    #[inline(always)]
    pub(crate) fn network_header(self) -> u64 {
        // SAFETY: see above.
        unsafe { self.head() + u64::from(self.0.load::<u16, _, _>(SKB_NETWORK_HEADER)) }
    }

    /// Where the current layer's data begins: on reception the IP header, before the stack notes it.
    #[inline(always)]
    pub(crate) fn data(self) -> u64 {
        // SAFETY: see above.
        unsafe { memory::number(self.0.load(SKB_DATA)) }
    }

    /// The bytes from that kernel address on, a header's in the linear part: the buffer's length is
    /// that of the layer whose hook this is.
    #[inline(always)]
    pub(crate) fn length_from(self, at: u64) -> u32 {
        // SAFETY: see above.
        let length: u32 = unsafe { self.0.load(SKB_LEN) };
        (u64::from(length) + self.data()).wrapping_sub(at) as u32
    }

    /// For whom the link layer says that the packet is.
    #[inline(always)]
    fn packet_type(self) -> u8 {
        if SKB_PACKET_TYPE.is_absent() {
            return 0;
        }
        // SAFETY: see above; a bit field of the byte there.
        let byte: u8 = unsafe { self.0.load(SKB_PACKET_TYPE) };
        byte & PACKET_TYPE
    }

    #[inline(always)]
    pub(crate) fn conntrack(self) -> u64 {
        if SKB_NFCT.is_absent() {
            return 0;
        }
        // SAFETY: see above.
        unsafe { self.0.load(SKB_NFCT) }
    }

    #[inline(always)]
    pub(crate) fn device(self) -> Device<A::Followed> {
        // SAFETY: see above.
        Device(unsafe { self.0.follow(SKB_DEV) })
    }

    #[inline(always)]
    pub(crate) fn socket(self) -> Socket<A::Followed> {
        // SAFETY: see above.
        Socket(unsafe { self.0.follow(SKB_SK) })
    }
}

/// A `struct net_device *`, or null.
#[derive(Clone, Copy)]
pub(crate) struct Device<A>(pub(crate) Pointer<A>);

impl<A: Access> Device<A> {
    /// Whether it can be one. Sockets keep numbers where `sk_buff.dev` was (UDP's `dev_scratch`: sizes
    /// and flags), and to load through one of these is handled, as a fault, and takes a thousand times as
    /// long. Kernel addresses have the highest bit set, on all 64-bit machines; those numbers do not.
    #[inline(always)]
    pub(crate) fn is_there(self) -> bool {
        // Of a copy: what the verifier learns of a number it would walk on with.
        memory::number(self.0.address).cast_signed() < 0
    }

    #[inline(always)]
    pub(crate) fn ifindex(self) -> u32 {
        // SAFETY: see above.
        unsafe { self.0.load(DEV_IFINDEX) }
    }

    #[inline(always)]
    pub(crate) fn name(self) -> [u64; 2] {
        // SAFETY: see above; the name is a char array of sixteen, read as two words.
        unsafe { [self.0.load(DEV_NAME), self.0.load(DEV_NAME.and::<8>())] }
    }

    #[inline(always)]
    pub(crate) fn net(self) -> Net<A::Followed> {
        // SAFETY: see above.
        Net(unsafe { self.0.follow(DEV_NET) })
    }

    /// The record's flags that say what the device is.
    #[inline(always)]
    pub(crate) fn record_flags(self) -> u16 {
        // SAFETY: see above. priv_flags may be a 32-bit field of a larger word; its low half is
        // read on both.
        let (flags, private): (u32, u32) =
            unsafe { (self.0.load(DEV_FLAGS), self.0.load(DEV_PRIV_FLAGS)) };
        // Shifted into place, not tested: one path for the verifier.
        const { assert!(FLAG_LOOPBACK == 1 << 6 && FLAG_BRIDGE == 1 << 4 && FLAG_BRIDGE_PORT == 1 << 5) };
        let known = (((flags >> DEVICE_LOOPBACK) & 1) << 6
            | ((private >> DEVICE_BRIDGE) & 1) << 4
            | ((private >> DEVICE_BRIDGE_PORT) & 1) << 5) as u16;
        if DEV_LINK_OPS.is_absent() || known & FLAG_LOOPBACK != 0 {
            return known;
        }
        // SAFETY: see above.
        let kind: u64 = unsafe { self.0.load(DEV_LINK_OPS) };
        if kind == 0 {
            known | FLAG_PHYSICAL
        } else {
            known
        }
    }
}

/// A `struct net *`, or null.
#[derive(Clone, Copy)]
pub(crate) struct Net<A>(pub(crate) Pointer<A>);

impl<A: Access> Net<A> {
    #[inline(always)]
    pub(crate) fn inode(self) -> u32 {
        // SAFETY: see above.
        unsafe { self.0.load(NET_INUM) }
    }

    /// The record's flags that say where the namespace has functions, for that IP version.
    #[inline(always)]
    pub(crate) fn netfilter_flag(self, ip_version: u8) -> u16 {
        if NET_HOOKS_IPV4.is_absent() || NET_HOOKS_IPV6.is_absent() {
            return 0;
        }
        // SAFETY: see above; the first two of five pointers: prerouting and input. Whoever tracks
        // connections or translates is registered at the first.
        let (prerouting, input): (u64, u64) = unsafe {
            if ip_version == 4 {
                (
                    self.0.load(NET_HOOKS_IPV4),
                    self.0.load(NET_HOOKS_IPV4.and::<8>()),
                )
            } else {
                (
                    self.0.load(NET_HOOKS_IPV6),
                    self.0.load(NET_HOOKS_IPV6.and::<8>()),
                )
            }
        };
        // One by one: to the verifier these are pointers, which may be compared and not joined.
        let mut flags = 0;
        if prerouting != 0 {
            flags = FLAG_HAS_NETFILTER | FLAG_HAS_PREROUTING;
        }
        if input != 0 {
            flags |= FLAG_HAS_NETFILTER;
        }
        flags
    }
}

/// A `struct sock *`, or null.
#[derive(Clone, Copy)]
pub(crate) struct Socket<A>(pub(crate) Pointer<A>);

impl<A: Access> Socket<A> {
    /// The id of the cgroup (v2) that the socket belongs to; 0 where there is none.
    #[inline(always)]
    pub(crate) fn cgroup(self) -> u64 {
        if self.0.address == 0
            || SOCK_CGROUP.is_absent()
            || CGROUP_NODE.is_absent()
            || KERNFS_ID.is_absent()
        {
            return 0;
        }
        // SAFETY: see above. A request or time-wait socket is smaller than a sock: its state is
        // in the part that all have, and the rest is read of full sockets only.
        unsafe {
            let state: u8 = self.0.load(SOCK_STATE);
            if state == TIME_WAIT || state == NEW_SYN_RECV {
                return 0;
            }
            let cgroup = self.0.follow(SOCK_CGROUP);
            cgroup.follow(CGROUP_NODE).load(KERNFS_ID)
        }
    }

    /// The number that tells the socket from all others, where something asked for it; 0 otherwise.
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        if self.0.address == 0 || SOCK_COOKIE.is_absent() {
            return 0;
        }
        // SAFETY: see above; the member is in the part that all sockets have. A request or time-wait
        // socket has that of the connection's.
        unsafe { self.0.load(SOCK_COOKIE) }
    }

    /// The inode number of the socket's network namespace; 0 where there is no socket.
    #[inline(always)]
    fn netns(self) -> u32 {
        if self.0.address == 0 {
            return 0;
        }
        // SAFETY: see above.
        Net(unsafe { self.0.follow(SOCK_NET) }).inode()
    }
}

/// A buffer where a hook saw it.
#[derive(Clone, Copy)]
pub(crate) struct Place<A: Access> {
    pub(crate) skb: Skb<A>,
    pub(crate) device: Device<A::Followed>,
}

impl<A: Access> Place<A> {
    /// At the buffer's own device.
    #[inline(always)]
    pub(crate) fn of(skb: Skb<A>) -> Self {
        Self {
            skb,
            device: skb.device(),
        }
    }

    /// The socket that the buffer belongs to. Read anew each time: a pointer that was compared with null
    /// is one of two things to the verifier from there on, which would walk on with both.
    #[inline(always)]
    pub(crate) fn socket(&self) -> Socket<A::Followed> {
        self.skb.socket()
    }

    /// That the packet is being taken from a device here, for the socket's hook.
    #[inline(always)]
    pub(crate) fn receiving(&self) -> Receiving {
        Receiving {
            skb: self.skb.0.address,
            head: self.skb.head(),
            netns: self.netns(),
            ifindex: self.device.ifindex(),
            device_name: self.device.name(),
        }
    }

    /// The network namespace's inode number: the device's; without a device, the socket's.
    #[inline(always)]
    pub(crate) fn netns(&self) -> u32 {
        let mut inode = 0;
        if self.device.is_there() {
            inode = self.device.net().inode();
        }
        if inode == 0 {
            inode = self.socket().netns();
        }
        inode
    }
}

/// A buffer at its place, whose headers were read at that address.
pub(crate) struct Located<A: Access> {
    pub(crate) place: Place<A>,
    pub(crate) at: u64,
}

impl<A: Access> About for Located<A> {
    #[inline(always)]
    fn length_from(&self, inside: u64) -> u32 {
        // From one address for all: newer kernels know it as a pointer, and walk on once for each.
        self.place
            .skb
            .length_from(self.at)
            .wrapping_sub(inside as u32)
    }

    #[inline(always)]
    fn describe(&self, to: *mut Head, ip_version: u8) {
        let (place, skb) = (&self.place, self.place.skb);
        // SAFETY: the trait's caller gives a reserved record.
        unsafe {
            (*to).skb = skb.0.address;
            (*to).conntrack = skb.conntrack();
            (*to).packet_type = skb.packet_type();
            memory::put_both(&raw mut (*to).device_name, [0; 2]);
            (*to).ifindex = 0;
            let mut netns = 0;
            if place.device.is_there() {
                let net = place.device.net();
                memory::put_both(&raw mut (*to).device_name, place.device.name());
                (*to).ifindex = place.device.ifindex();
                netns = net.inode();
                (*to).flags |= place.device.record_flags() | net.netfilter_flag(ip_version);
            }
            if netns == 0 {
                netns = place.socket().netns();
            }
            (*to).netns = netns;
        }
    }
}
