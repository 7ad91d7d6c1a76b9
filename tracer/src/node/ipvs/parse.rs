//! `/proc/net/ip_vs` as text (`ip_vs_info_seq_show`).
//!
//! ```text
//! IP Virtual Server version 1.2.1 (size=4096)
//! Prot LocalAddress:Port Scheduler Flags
//!   -> RemoteAddress:Port Forward Weight ActiveConn InActConn
//! TCP  0A600051:0050 rr persistent 2700000 FFFFFFFF
//!   -> 0AF40103:1F90      Masq    1      0          1
//! TCP  [fd00:0010:0096:0000:0000:0000:0000:0081]:0050 rr
//! FWM  00000007 wlc
//! ```
//!
//! Addresses of IPv4 are hexadecimal numbers, as are ports and marks. A line that is not understood
//! is passed over, with the real servers of a virtual server that is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Forwarding, Protocol, RealServer, Service, Table, VirtualServer};

/// The longest name of a scheduler (`IP_VS_SCHEDNAME_MAXLEN`).
const NAME: usize = 16;

/// The table of that text.
pub(super) fn table(text: &str) -> Table {
    let mut servers: Vec<VirtualServer> = Vec::new();
    let mut known = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("->") => {
                if known && let (Some(server), Some(real)) = (servers.last_mut(), real(words)) {
                    server.real.push(real);
                }
            }
            Some(kind) => {
                let server = virtual_server(kind, words);
                known = server.is_some();
                servers.extend(server);
            }
            None => {}
        }
    }
    servers.into()
}

fn virtual_server<'a>(
    kind: &str,
    mut words: impl Iterator<Item = &'a str>,
) -> Option<VirtualServer> {
    let service = match kind {
        "TCP" => Service::Address(Protocol::Tcp, address(words.next()?)?),
        "UDP" => Service::Address(Protocol::Udp, address(words.next()?)?),
        "SCTP" => Service::Address(Protocol::Sctp, address(words.next()?)?),
        "FWM" => Service::Mark(u32::from_str_radix(words.next()?, 16).ok()?),
        _ => return None,
    };
    let scheduler = words.next()?.chars().take(NAME).collect();
    let flags: Vec<&str> = words.take(4).collect();
    Some(VirtualServer {
        service,
        scheduler,
        persistent: flags.contains(&"persistent"),
        one_packet: flags.contains(&"ops"),
        real: Vec::new(),
    })
}

fn real<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<RealServer> {
    Some(RealServer {
        address: address(words.next()?)?,
        forwarding: match words.next()? {
            "Masq" => Forwarding::Masquerading,
            "Local" => Forwarding::Local,
            "Tunnel" => Forwarding::Tunnel,
            "Route" => Forwarding::Route,
            _ => return None,
        },
        weight: words.next()?.parse().ok()?,
    })
}

/// `0A600051:0050`, `[fd00:0010:0096:0000:0000:0000:0000:0081]:0050`
fn address(word: &str) -> Option<SocketAddr> {
    let (address, port) = word.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip: IpAddr = match address.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into(),
        None => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?).into(),
    };
    Some(SocketAddr::new(ip, port))
}
