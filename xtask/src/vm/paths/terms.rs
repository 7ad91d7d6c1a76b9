//! What a path is described with: what Services are made of, the ways to see netfilter, what goes
//! on beside it, what comes of it.

use std::fmt;

use tracer_tests::trace::json::State;

/// What Services are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// kube-proxy's iptables mode, on nftables.
    IptablesNft,
    /// kube-proxy's iptables mode, on the old tables.
    IptablesLegacy,
    /// kube-proxy's nftables mode.
    Nftables,
    /// kube-proxy's IPVS mode.
    Ipvs,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
        })
    }
}

/// How the tracer is told to see netfilter's hooks. Every path is seen by each of them, at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As it finds best: by `tracer run`, whose command makes the traffic.
    Best,
    /// By netfilter links: by `tracer watch` beside it.
    Link,
    /// By kprobes: by `tracer watch` beside it.
    Kprobe,
}

impl Way {
    /// All of them, the one that makes the traffic first.
    pub(crate) const ALL: &'static [Self] = &[Self::Best, Self::Link, Self::Kprobe];

    /// What it is told, and called; nothing for the best.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Best => "",
            Self::Link => "link",
            Self::Kprobe => "kprobe",
        }
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Best => "best way",
            Self::Link => "links",
            Self::Kprobe => "kprobes",
        }
    }

    /// Whether it sees the hooks of namespaces without rules.
    pub(crate) fn everywhere(self) -> bool {
        self != Self::Link
    }
}

/// What else goes on while a path is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing.
    Nothing,
    /// The devices of the path merge what they receive (GRO).
    Merging,
    /// On each device of the path somebody captures, as `tcpdump -p` does it.
    Captures,
    /// On each device of the path somebody captures, as tcpdump does it: the bridge becomes
    /// promiscuous, and gives its host a copy of whatever it forwards.
    Promiscuous,
    /// The node drops what it forwards to pod b's server.
    Forbidden,
}

impl Beside {
    /// The script's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Merging => "merging",
            Self::Captures => "captures",
            Self::Promiscuous => "promiscuous",
            Self::Forbidden => "forbidden",
        }
    }
}

/// Which protocol and what its flow comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// HTTP over TCP, answered and closed.
    Answered,
    /// A question over UDP, answered.
    Resolved,
    /// TCP, refused by an ICMP error of the node, which drops it in FORWARD.
    Rejected,
    /// TCP, dropped in FORWARD.
    Dropped,
}

impl Outcome {
    /// The flow's protocol.
    pub(crate) fn proto(self) -> &'static str {
        match self {
            Self::Resolved => "udp",
            _ => "tcp",
        }
    }

    /// The flow's state.
    pub(crate) fn state(self) -> State {
        match self {
            Self::Answered => State::Closed,
            Self::Resolved => State::Replied,
            Self::Rejected => State::Refused,
            Self::Dropped => State::SynSent,
        }
    }

    /// The command's exit status.
    pub(crate) fn status(self) -> i32 {
        match self {
            Self::Answered | Self::Resolved => 0,
            // curl's words for "could not connect" and "timed out".
            Self::Rejected => 7,
            Self::Dropped => 28,
        }
    }
}
