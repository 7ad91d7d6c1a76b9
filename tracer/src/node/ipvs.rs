//! A namespace's virtual servers: what IPVS does with a packet, as its table says.
//!
//! Read from `/proc/net/ip_vs`. Netlink's `IPVS` family says no more that matters here, but is
//! asked once for each virtual server, only by who has `CAP_NET_ADMIN`, and merely looking for a
//! family of that name would have the kernel load the module. The file is there when the module
//! is, and reading it is one question. Its format is that of Linux 2.6.28 (IPv6) to 7.3.
//!
//! Limits: reading is not atomic, so an entry that moves while the file is read may be missing until
//! the next look. The numbers of connections are not kept: they change with each one. How long
//! affinity lasts is not told, since the file has it in the kernel's ticks.

mod evaluate;
mod parse;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{
    rules::path::Source,
    services::{self, Frontend, Refusal},
};

/// The calling thread's namespace's table.
const TABLE: &str = "/proc/thread-self/net/ip_vs";
/// What is read of it: some hundred thousand servers.
const MOST: u64 = 32 << 20;

/// A namespace's virtual servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<VirtualServer>", into = "Vec<VirtualServer>")]
pub struct Table {
    /// In order, each once.
    servers: Vec<VirtualServer>,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualServer {
    /// Which packets are its.
    pub service: Service,
    /// What chooses among its real servers: `rr`, `lc`, `sh`, ... Text from the kernel's modules.
    pub scheduler: String,
    /// A client goes to the real server that it was given before (session affinity).
    #[serde(default)]
    pub persistent: bool,
    /// Each packet is scheduled for itself. IPv6's are not told.
    #[serde(default)]
    pub one_packet: bool,
    /// Its real servers, in order of address.
    #[serde(default)]
    pub real: Vec<RealServer>,
}

/// Which packets are a virtual server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Those of a protocol to an address; port 0 stands for every port.
    Address(Protocol, SocketAddr),
    /// Those with this mark.
    Mark(u32),
}

/// A protocol that IPVS balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A server that a virtual one sends packets to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RealServer {
    /// Its address; port 0: the port stays.
    pub address: SocketAddr,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// Its share; 0: it gets no new connections.
    pub weight: i32,
}

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// By translation of the destination, as kube-proxy has it.
    Masquerading,
    /// It is this machine: by translation where address or port differ.
    Local,
    /// In a tunnel, untranslated.
    Tunnel,
    /// To its link layer address, untranslated.
    Route,
}

impl Table {
    /// The table of `/proc/net/ip_vs`'s text. Lines that are not understood are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        parse::table(text)
    }

    /// What the calling thread's namespace has; nothing where IPVS is not in the kernel.
    ///
    /// # Errors
    /// When the kernel does not let it be read.
    pub fn of_this_netns() -> io::Result<Self> {
        let file = match File::open(TABLE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file?,
        };
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text)?;
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// The virtual servers, in order.
    #[must_use]
    pub fn servers(&self) -> &[VirtualServer] {
        &self.servers
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The virtual server that is called at an address by a packet of the IP protocol number.
    #[must_use]
    pub fn called_at(&self, protocol: u8, called: SocketAddr) -> Option<&VirtualServer> {
        let protocol = Protocol::from_number(protocol)?;
        let any_port = SocketAddr::new(called.ip(), 0);
        [called, any_port].into_iter().find_map(|address| {
            let service = Service::Address(protocol, address);
            let at = self.servers.binary_search_by_key(&service, |it| it.service);
            self.servers.get(at.ok()?)
        })
    }

    /// The Services that the table makes, in its order; those of marks are none that can be called.
    /// `own` says whether an address is one of the node's, which serve NodePorts; all others are
    /// taken for ClusterIPs. How long affinity lasts is not known.
    #[must_use]
    pub fn services(&self, own: impl Fn(IpAddr) -> bool) -> Vec<services::Service> {
        let services = self.servers.iter().filter_map(|server| {
            let Service::Address(protocol, address) = server.service else {
                return None;
            };
            Some(server.service(protocol, address, own(address.ip())))
        });
        services.collect()
    }
}

impl From<Vec<VirtualServer>> for Table {
    fn from(mut servers: Vec<VirtualServer>) -> Self {
        for server in &mut servers {
            server.real.sort_unstable();
            server.real.dedup_by_key(|real| real.address);
        }
        // An entry that was read twice: the later is the newer.
        servers.reverse();
        servers.sort_by_key(|server| server.service);
        servers.dedup_by_key(|server| server.service);
        Self { servers }
    }
}

impl From<Table> for Vec<VirtualServer> {
    fn from(table: Table) -> Self {
        table.servers
    }
}

impl VirtualServer {
    fn service(&self, protocol: Protocol, address: SocketAddr, own: bool) -> services::Service {
        let frontend = if own {
            Frontend::NodePort(Some(address.ip()), address.port())
        } else {
            Frontend::ClusterIp(address)
        };
        let endpoints = self.real.iter().map(|real| services::Endpoint {
            address: real.address,
            local: None,
        });
        let refused = self.real.is_empty().then_some(Refusal::NoEndpoints);
        services::Service {
            name: None,
            protocol: protocol.number(),
            frontends: vec![frontend],
            endpoints: endpoints.collect(),
            local_endpoints: None,
            affinity: None,
            external_policy: None,
            internal_policy: None,
            refusals: refused
                .map(|refusal| (frontend, refusal))
                .into_iter()
                .collect(),
            source: Source::Ipvs,
        }
    }
}

impl Protocol {
    /// Its IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// That of an IP protocol number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl fmt::Display for Forwarding {
    /// As `ipvsadm -L` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Masquerading => "Masq",
            Self::Local => "Local",
            Self::Tunnel => "Tunnel",
            Self::Route => "Route",
        })
    }
}

/// `TCP 10.96.0.81:80`, `FWM 7`: as `ipvsadm -Ln` has it.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(protocol, address) => write!(f, "{protocol} {address}"),
            Self::Mark(mark) => write!(f, "FWM {mark}"),
        }
    }
}

/// `TCP 10.96.0.81:80 rr persistent`.
impl fmt::Display for VirtualServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.service, self.scheduler)?;
        if self.one_packet {
            f.write_str(" ops")?;
        }
        if self.persistent {
            f.write_str(" persistent")?;
        }
        Ok(())
    }
}

/// `-> 10.244.1.3:8080 Masq weight 1`.
impl fmt::Display for RealServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, forwarding, weight) = (self.address, self.forwarding, self.weight);
        write!(f, "-> {address} {forwarding} weight {weight}")
    }
}
