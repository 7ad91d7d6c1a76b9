//! The sockets of a network namespace, as `/proc/PID/net/{tcp,tcp6,udp,udp6}` list them.
//!
//! One line a socket; addresses are hexadecimal words of the machine's order, the port is a number
//! (`tcp4_seq_show` and its like, the same from 2.6 to 6.18). The kernel lists them one page at a
//! time, so a long table is not of one moment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `TCP_LISTEN`, and what an unconnected UDP socket is in (`TCP_CLOSE`).
const LISTEN: u8 = 10;
const UNCONNECTED: u8 = 7;

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its own end; the address may be unspecified.
    pub local: SocketAddr,
    /// The other end; unspecified where there is none.
    pub remote: SocketAddr,
    /// Whether it waits for whoever comes.
    pub open: bool,
    /// The inode number of its file; never 0.
    pub inode: u64,
}

/// Reads a table; what is not a socket's line is left out, and so are sockets without a file.
pub fn parse(text: &str) -> impl Iterator<Item = Socket> {
    text.lines().skip(1).filter_map(socket)
}

fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = end(words.next()?)?;
    let remote = end(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    (inode != 0).then_some(Socket {
        local,
        remote,
        open: matches!(state, LISTEN | UNCONNECTED),
        inode,
    })
}

/// `0100007F:1F90`, `00000000000000000000000001000000:0035`.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The sockets that wait at a port for whoever comes.
pub fn waiting(sockets: &[Socket], port: u16) -> impl Iterator<Item = &Socket> {
    let sockets = sockets.iter();
    sockets.filter(move |socket| socket.open && socket.local.port() == port)
}

/// The socket with these ends: the connected one, else the one that waits at that address, else the
/// one that waits at all.
#[must_use]
pub fn find(sockets: &[Socket], local: SocketAddr, remote: SocketAddr) -> Option<&Socket> {
    let rank = |socket: &&Socket| {
        let at = socket.local.ip();
        if socket.local.port() != local.port() {
            None
        } else if socket.local == local && socket.remote == remote {
            Some(0)
        } else if !socket.open {
            None
        } else if at == local.ip() {
            Some(1)
        } else if at.is_unspecified() && (at.is_ipv6() || local.is_ipv4()) {
            // One of IPv6 may take IPv4 too; one of IPv4's own comes before it.
            Some(2 + u8::from(at.is_ipv6() != local.is_ipv6()))
        } else {
            None
        }
    };
    let ranked = sockets
        .iter()
        .filter_map(|socket| Some((rank(&socket)?, socket)));
    let mut best: Option<(u8, &Socket)> = None;
    for (rank, socket) in ranked {
        match best {
            Some((known, _)) if known < rank => {}
            // Several at one place (SO_REUSEPORT): which of them it was is not known.
            Some((known, other)) if known == rank && other.inode != socket.inode => {
                best = Some((rank, &AMBIGUOUS));
            }
            _ => best = Some((rank, socket)),
        }
    }
    best.map(|(_, socket)| socket)
        .filter(|socket| socket.inode != 0)
}

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const AMBIGUOUS: Socket = Socket {
    local: NOWHERE,
    remote: NOWHERE,
    open: false,
    inode: 0,
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0301F40A:1F90 0201F40A:DEA2 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
   2: 0301F40A:1F90 0201F40A:DEA3 06 00000000:00000000 03:00000F9F 00000000     0        0 0 3 0
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx rx tr tm retr uid timeout inode
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4713 1
   1: 0000000000000000FFFF00000301F40A:0050 0000000000000000FFFF00000201F40A:9C40 01 0:0 00:0 0 0 0 4714 1
";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lines_are_sockets() {
        if cfg!(target_endian = "big") {
            return;
        }
        let sockets: Vec<Socket> = parse(TCP).collect();
        assert_eq!(sockets.len(), 2, "one without a file is left out");
        assert_eq!(sockets[1].local, at("10.244.1.3:8080"));
        assert_eq!(sockets[1].remote, at("10.244.1.2:56994"));
        assert!(sockets[0].open && !sockets[1].open);
        let sockets: Vec<Socket> = parse(TCP6).collect();
        assert_eq!(sockets[0].local, at("[::]:8080"));
        assert_eq!(sockets[1].local, at("10.244.1.3:80"), "mapped");
    }

    #[test]
    fn the_connection_comes_before_the_socket_that_waits() {
        if cfg!(target_endian = "big") {
            return;
        }
        let sockets: Vec<Socket> = parse(TCP).chain(parse(TCP6)).collect();
        let found =
            |local, remote| find(&sockets, at(local), at(remote)).map(|socket| socket.inode);
        assert_eq!(found("10.244.1.3:8080", "10.244.1.2:56994"), Some(4712));
        assert_eq!(found("10.244.1.3:8080", "10.244.1.2:1"), Some(4711));
        assert_eq!(found("[fd00::3]:8080", "[fd00::2]:1"), Some(4713));
        assert_eq!(found("10.244.1.3:80", "10.244.1.2:40000"), Some(4714));
        assert_eq!(found("10.244.1.3:80", "10.244.1.2:40001"), None);
    }

    #[test]
    fn who_waits_at_a_port_is_found() {
        if cfg!(target_endian = "big") {
            return;
        }
        let sockets: Vec<Socket> = parse(TCP).chain(parse(TCP6)).collect();
        let inodes: Vec<u64> = waiting(&sockets, 8080).map(|socket| socket.inode).collect();
        assert_eq!(inodes, [4711, 4713], "no connection is among them");
        assert_eq!(waiting(&sockets, 80).count(), 0);
    }

    #[test]
    fn of_several_that_wait_at_one_place_none_is_it() {
        let socket = |inode| Socket {
            local: at("0.0.0.0:53"),
            remote: NOWHERE,
            open: true,
            inode,
        };
        let own = Socket {
            local: at("10.0.0.1:53"),
            ..socket(9)
        };
        let two = [socket(1), socket(2)];
        assert_eq!(find(&two, at("10.0.0.1:53"), at("10.0.0.2:1")), None);
        let three = [socket(1), own, socket(2)];
        let found = find(&three, at("10.0.0.1:53"), at("10.0.0.2:1"));
        assert_eq!(found, Some(&own));
    }

    proptest! {
        #[test]
        fn any_text_is_a_table(text in "(?s).{0,300}|([0-9A-F: \\n]{0,300})") {
            let sockets: Vec<Socket> = parse(&text).collect();
            prop_assert!(sockets.iter().all(|socket| socket.inode != 0));
        }

        #[test]
        fn what_is_written_is_read(ip: u32, port: u16, inode in 1u64..) {
            let line = format!("h\n 0: {ip:08X}:{port:04X} 00000000:0000 0A 0:0 0:0 0 0 0 {inode} 1");
            let sockets: Vec<Socket> = parse(&line).collect();
            let local = SocketAddr::new(Ipv4Addr::from(ip.to_ne_bytes()).into(), port);
            prop_assert_eq!((sockets[0].local, sockets[0].inode), (local, inode));
        }
    }
}
