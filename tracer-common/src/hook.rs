//! Hook ids: which BPF program wrote a record.

/// `tp_btf/net_dev_queue`: handed to a device's queueing discipline.
pub const DEVICE_QUEUE: u8 = 0;
/// `tp_btf/net_dev_start_xmit`: handed to the device's driver.
pub const DEVICE_TRANSMIT: u8 = 1;
/// `tp_btf/netif_receive_skb`: the stack takes it from a device.
pub const DEVICE_RECEIVE: u8 = 2;
/// A netfilter hook, before its first function ran.
pub const NETFILTER_ENTER: u8 = 3;
/// A netfilter hook, after its last function ran (or, from fexit, after the verdict).
pub const NETFILTER_LEAVE: u8 = 4;
/// `cgroup_skb/ingress` on the root cgroup: a socket takes the packet.
pub const SOCKET_DELIVER: u8 = 5;
/// `tp_btf/kfree_skb`: freed as dropped, with reason (5.17+) and location.
pub const DROP: u8 = 6;
/// `tp_btf/consume_skb`: freed as used up.
pub const CONSUME: u8 = 7;
/// How many hook ids there are.
pub const COUNT: usize = 8;

/// The names of the hooks, by id, as `stats`, `doctor` and the documentation show them.
pub const NAMES: [&str; COUNT] = [
    "device.queue",
    "device.transmit",
    "device.receive",
    "netfilter.enter",
    "netfilter.leave",
    "socket.deliver",
    "drop",
    "consume",
];

/// `enum nf_inet_hooks` (uapi, stable).
pub mod netfilter {
    /// `NF_INET_PRE_ROUTING`
    pub const PREROUTING: u8 = 0;
    /// `NF_INET_LOCAL_IN`
    pub const INPUT: u8 = 1;
    /// `NF_INET_FORWARD`
    pub const FORWARD: u8 = 2;
    /// `NF_INET_LOCAL_OUT`
    pub const OUTPUT: u8 = 3;
    /// `NF_INET_POST_ROUTING`
    pub const POSTROUTING: u8 = 4;
    /// How many there are.
    pub const COUNT: u8 = 5;
}
