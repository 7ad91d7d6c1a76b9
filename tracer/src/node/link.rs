//! A network device, as rtnetlink describes it.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

/// A device and its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its index in its network namespace.
    pub index: u32,
    /// Its name, as the kernel has it: not safe to print as it is.
    pub name: String,
    /// What kind of device it is.
    pub kind: LinkKind,
    /// Whether it is administratively up.
    pub up: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// The bridge or bond whose port it is, by index in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
    /// veth: the other end; `None` also when its namespace is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<LinkId>,
    /// VXLAN and Geneve: the tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Prefix>,
}

/// A device of this node: an index means nothing without its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId {
    /// The network namespace's inode number.
    pub netns: u32,
    /// The device's index in it.
    pub index: u32,
}

/// The identity of an overlay network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// The network identifier (VNI).
    pub vni: u32,
    /// The UDP port it sends to.
    pub port: u16,
}

/// An address with the length of its network's prefix. Displays as `10.244.0.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network part.
    pub length: u8,
}

impl Prefix {
    /// Whether an address is in the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address, self.length) == masked(self.address, self.length)
    }
}

/// The address with only its first bits.
#[must_use]
pub fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & !host).into())
        }
        IpAddr::V6(ip) => {
            let host = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & !host).into())
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// What kind of device a link is; as text the kernel's own word (`IFLA_INFO_KIND`), and
/// `loopback` and `physical` for devices without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum LinkKind {
    /// `lo`
    Loopback,
    /// Hardware, also virtual hardware such as virtio: no kind and not loopback.
    #[default]
    Physical,
    /// One end of a pair.
    Veth,
    /// A bridge.
    Bridge,
    /// A VXLAN tunnel.
    Vxlan,
    /// Any other: `vlan`, `ipvlan`, `dummy`, `geneve`, `wireguard`, ...
    Other(String),
}

impl LinkKind {
    /// The kind's word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Loopback => "loopback",
            Self::Physical => "physical",
            Self::Veth => "veth",
            Self::Bridge => "bridge",
            Self::Vxlan => "vxlan",
            Self::Other(kind) => kind,
        }
    }
}

impl From<String> for LinkKind {
    fn from(kind: String) -> Self {
        match kind.as_str() {
            "loopback" => Self::Loopback,
            "physical" => Self::Physical,
            "veth" => Self::Veth,
            "bridge" => Self::Bridge,
            "vxlan" => Self::Vxlan,
            _ => Self::Other(kind),
        }
    }
}

impl From<LinkKind> for String {
    fn from(kind: LinkKind) -> Self {
        kind.as_str().to_owned()
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
