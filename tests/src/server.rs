//! What runs in the server pods: HTTP over TCP and DNS over UDP, both families.
//!
//! Small on purpose, but correct where clients look: HTTP/1.1 with keep-alive, DNS that `dig`
//! accepts. A thread for each connection: a lab has tens of clients, not thousands.

pub mod dns;
pub mod http;

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;

use anyhow::Context as _;
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

/// Serves until the process is killed: HTTP and DNS at these ports, of one address only or of all. Writes the line `ready` to stdout once all sockets listen.
///
/// # Errors
/// When a port cannot be bound.
pub fn serve(
    name: &str,
    [http_port, dns_port]: [u16; 2],
    only: Option<IpAddr>,
) -> anyhow::Result<()> {
    let mut threads = Vec::new();
    let addresses = |port| match only {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => everywhere(port).to_vec(),
    };
    for address in addresses(http_port) {
        let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
        let name = name.to_owned();
        threads.push(thread::spawn(move || http::serve(&listener, &name)));
    }
    for address in addresses(dns_port) {
        let socket = bind(address).with_context(|| format!("cannot bind {address}/udp"))?;
        threads.push(thread::spawn(move || dns::serve(&socket)));
    }
    let mut stdout = io::stdout();
    // Whoever started this may not care.
    let _ = writeln!(stdout, "ready").and_then(|()| stdout.flush());
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

fn everywhere(port: u16) -> [SocketAddr; 2] {
    [
        (Ipv4Addr::UNSPECIFIED, port).into(),
        (Ipv6Addr::UNSPECIFIED, port).into(),
    ]
}

/// One socket a family, as servers have it, so that an IPv4 peer is not shown as an IPv6 one.
fn socket(address: SocketAddr, kind: SocketType) -> io::Result<rustix::fd::OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let protocol = match kind {
        SocketType::STREAM => ipproto::TCP,
        _ => ipproto::UDP,
    };
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, kind, flags, Some(protocol))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    Ok(fd)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let fd = socket(address, SocketType::STREAM)?;
    rustix::net::listen(&fd, 128)?;
    Ok(fd.into())
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    Ok(socket(address, SocketType::DGRAM)?.into())
}
