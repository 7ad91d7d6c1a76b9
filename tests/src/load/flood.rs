//! A client that sends datagrams as fast as they go.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{Done, SIZE, pin};

/// How many datagrams are sent between two looks at the clock.
const ROUND: usize = 64;

/// Over how many flows the datagrams go, in turn: every port of the sender to every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// How many sockets, and so ports, send.
    pub ports: usize,
    /// To how many addresses, upwards from the server's.
    pub addresses: u32,
}

impl Spread {
    /// One flow.
    pub const ONE: Self = Self {
        ports: 1,
        addresses: 1,
    };
}

/// Sends; what arrived the server knows.
///
/// # Errors
/// When there is no way to the server, or several addresses are asked for that are not IPv4's.
pub fn flood(
    processor: usize,
    server: SocketAddr,
    time: Duration,
    spread: Spread,
) -> anyhow::Result<Done> {
    pin(processor)?;
    let targets = targets(server, spread.addresses)?;
    let sockets = sockets(server, spread.ports)?;
    if let ([socket], [target]) = (&sockets[..], &targets[..]) {
        // As most senders have it, which spares a look for the route.
        socket.connect(target)?;
        return send(time, || sent(socket.send(&[0; SIZE])));
    }
    let mut next = targets
        .iter()
        .flat_map(|target| sockets.iter().map(move |socket| (socket, target)))
        .cycle();
    send(time, || match next.next() {
        Some((socket, target)) => sent(socket.send_to(&[0; SIZE], target)),
        None => Ok(()),
    })
}

fn send(time: Duration, mut one: impl FnMut() -> io::Result<()>) -> anyhow::Result<Done> {
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < time {
        for _ in 0..ROUND {
            one().context("cannot send")?;
        }
        count += ROUND as u64;
    }
    Ok(Done::new(count, begin, &mut []))
}

/// A datagram that found no room, or whose predecessor found no server, is one that did not arrive.
fn sent(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

fn targets(server: SocketAddr, addresses: u32) -> anyhow::Result<Vec<SocketAddr>> {
    let IpAddr::V4(first) = server.ip() else {
        ensure!(addresses == 1, "several addresses are IPv4's");
        return Ok(vec![server]);
    };
    let first = u32::from(first);
    let address = |number| SocketAddr::new(Ipv4Addr::from(first + number).into(), server.port());
    Ok((0..addresses).map(address).collect())
}

fn sockets(server: SocketAddr, ports: usize) -> anyhow::Result<Vec<UdpSocket>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let sockets: io::Result<_> = (0..ports).map(|_| UdpSocket::bind(any)).collect();
    sockets.context("cannot have so many sockets")
}

#[cfg(test)]
mod tests {
    use super::targets;

    #[test]
    fn addresses_are_those_upwards() {
        let found = targets("10.250.0.255:9".parse().unwrap(), 2).unwrap();
        assert_eq!(found.last().unwrap().to_string(), "10.250.1.0:9");
        assert_eq!(targets("[fd00::1]:9".parse().unwrap(), 1).unwrap().len(), 1);
        assert!(targets("[fd00::1]:9".parse().unwrap(), 2).is_err());
    }
}
