//! Where a port is listened on that refused somebody.
//!
//! Asked for on demand only: when a packet found no socket, its port in that namespace is to be looked
//! up by whoever can ([`Listening::take_wanted`]), and what is found comes back as a notice, so that
//! recordings have it. That is a moment later: an answer counts for refusals of about its own time.
//!
//! Bounded: a port is asked for a few times a second at most, few answers of each are kept, and what
//! was used least recently is forgotten.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use super::recent::{Recent, Room};
use crate::{
    journey::model::{NetnsId, Packet, Process, Stage},
    node::reasons::DropReasons,
};

/// Between two questions about one port, in nanoseconds.
const AGAIN: u64 = 300_000_000;
/// How far from a refusal an answer may be, in nanoseconds.
const ABOUT: u64 = 5_000_000_000;
/// Answers that are kept of a port, and ports that wait to be asked for.
const ANSWERS: usize = 4;
const WANTED: usize = 256;
/// Sockets that are kept of one answer.
const SOCKETS: usize = 32;
/// Functions that look for a packet's socket; kernels before 5.17 give no reason.
const FINDERS: [&str; 4] = [
    "tcp_v4_rcv+",
    "tcp_v6_rcv+",
    "__udp4_lib_rcv+",
    "__udp6_lib_rcv+",
];

/// A port in a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// The namespace.
    pub netns: NetnsId,
    /// The IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// A socket that waits for whoever comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address that it is bound to.
    pub local: SocketAddr,
    /// The process that holds it; `None` where that is none or several.
    pub process: Option<Process>,
}

impl Listener {
    /// Whether it may take what is sent to that address. One of IPv6's may take IPv4 too.
    pub(super) fn serves(&self, address: IpAddr) -> bool {
        let own = self.local.ip();
        own == address || own.is_unspecified() && (own.is_ipv6() || address.is_ipv4())
    }
}

/// When, and what was found then.
type Found = (u64, Vec<Listener>);

impl Room for VecDeque<Found> {
    fn room(&self) -> usize {
        let name = |it: &Listener| it.process.as_ref().map_or(0, |it| it.comm.capacity());
        let sockets = |it: &Vec<Listener>| {
            it.capacity() * size_of::<Listener>() + it.iter().map(name).sum::<usize>()
        };
        let answers: usize = self.iter().map(|(_, it)| sockets(it)).sum();
        self.capacity() * size_of::<Found>() + answers
    }
}

/// Ports that refused somebody.
#[derive(Debug, Default)]
pub struct Listening {
    found: Recent<Port, VecDeque<Found>>,
    asked: Recent<Port, u64>,
    wanted: Vec<Port>,
}

/// Whether a drop for that reason, by that function, is of a packet that no socket wants.
pub(super) fn is_unwanted(reason: Option<&str>, function: Option<&str>) -> bool {
    match reason {
        Some(reason) => reason == "NO_SOCKET",
        None => function.is_some_and(|name| FINDERS.iter().any(|known| name.starts_with(known))),
    }
}

/// The port that the packet did not find a socket at.
fn refused(
    packet: &Packet,
    reasons: &DropReasons,
    function_at: &dyn Fn(u64) -> Option<String>,
) -> Option<(Port, u64)> {
    let dropped = packet.dropped?;
    let hop = packet.hops.last()?;
    let at_socket = matches!(
        dropped.stage,
        Stage::DeviceReceive | Stage::Input | Stage::Socket | Stage::Drop
    );
    let port = hop.tuple.destination.port;
    if !at_socket || !matches!(packet.protocol, 6 | 17) || port == 0 {
        return None;
    }
    let reason = reasons.name(dropped.reason);
    let function = match reason {
        Some(_) => None,
        None => function_at(dropped.location),
    };
    is_unwanted(reason.as_deref(), function.as_deref()).then_some(())?;
    let port = Port {
        netns: dropped.netns,
        protocol: packet.protocol,
        port,
    };
    Some((port, hop.time))
}

impl Listening {
    /// Takes note of a packet that is over.
    pub fn packet(
        &mut self,
        packet: &Packet,
        reasons: &DropReasons,
        function_at: &dyn Fn(u64) -> Option<String>,
    ) {
        let Some((port, time)) = refused(packet, reasons, function_at) else {
            return;
        };
        let last = self.asked.get(&port);
        let lately = last.is_some_and(|last| time.saturating_sub(*last) < AGAIN);
        if !lately && self.wanted.len() < WANTED {
            self.asked.write(port, |asked| *asked = time);
            self.wanted.push(port);
        }
    }

    /// Ports to be looked up; each once.
    pub fn take_wanted(&mut self) -> Vec<Port> {
        std::mem::take(&mut self.wanted)
    }

    /// Takes what was found at that time.
    pub fn found(&mut self, port: Port, time: u64, mut listeners: Vec<Listener>) {
        listeners.truncate(SOCKETS);
        self.found.write(port, |found| {
            if found.len() >= ANSWERS {
                found.pop_front();
            }
            found.push_back((time, listeners));
        });
    }

    /// Who listened at a port about that time; nobody where that is not known.
    #[must_use]
    pub fn at(&self, port: Port, time: u64) -> &[Listener] {
        let found = self.found.get(&port).into_iter().flatten();
        let near = found.min_by_key(|(when, _)| when.abs_diff(time));
        match near {
            Some((when, listeners)) if when.abs_diff(time) <= ABOUT => listeners,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::{recent::KEPT, scenarios};

    const PORT: Port = Port {
        netns: NetnsId(7),
        protocol: 6,
        port: 80,
    };

    fn listener(local: &str) -> Listener {
        Listener {
            local: local.parse().unwrap(),
            process: None,
        }
    }

    #[test]
    fn the_answer_of_about_that_time_counts() {
        let mut listening = Listening::default();
        listening.found(PORT, 1_000, vec![listener("127.0.0.1:80")]);
        listening.found(PORT, 9_000, Vec::new());
        assert_eq!(listening.at(PORT, 2_000).len(), 1);
        assert!(listening.at(PORT, 8_000).is_empty());
        assert!(listening.at(PORT, ABOUT + 9_001).is_empty());
        let other = Port { port: 81, ..PORT };
        assert!(listening.at(other, 1_000).is_empty());
        for time in 0..100 {
            listening.found(PORT, time, Vec::new());
        }
        assert_eq!(listening.found.get(&PORT).map(VecDeque::len), Some(ANSWERS));
    }

    #[test]
    fn who_takes_what() {
        let serves = |local, address: &str| listener(local).serves(address.parse().unwrap());
        assert!(serves("0.0.0.0:1", "10.0.0.1") && serves("[::]:1", "10.0.0.1"));
        assert!(serves("[::]:1", "fd00::1") && serves("10.0.0.1:1", "10.0.0.1"));
        assert!(!serves("127.0.0.1:1", "10.0.0.1") && !serves("0.0.0.0:1", "fd00::1"));
    }

    #[test]
    fn a_port_is_asked_for_when_a_packet_finds_no_socket() {
        let reasons = DropReasons::new(
            BTreeMap::from([(3, "NO_SOCKET".to_owned()), (9, "OTHER".to_owned())]),
            BTreeMap::new(),
        );
        let named = |_: u64| Some("tcp_v4_rcv+0x321".to_owned());
        let other = |_: u64| Some("nf_hook_slow+0xa6".to_owned());
        let asked = |packet: &Packet, function_at: &dyn Fn(u64) -> Option<String>| {
            let mut listening = Listening::default();
            listening.packet(packet, &reasons, function_at);
            listening.packet(packet, &reasons, function_at);
            listening.take_wanted()
        };
        let packet = |reason| scenarios::faults::unwanted(reason, 0);
        let port = Port {
            netns: scenarios::netns("pod-b1"),
            protocol: 6,
            port: 9,
        };
        assert_eq!(asked(&packet(3), &other), [port], "once");
        assert_eq!(asked(&packet(0), &named), [port], "no reason");
        assert!(asked(&packet(9), &named).is_empty());
        assert!(asked(&packet(0), &other).is_empty());
        let mut listening = Listening::default();
        listening.packet(&packet(3), &reasons, &other);
        let later = scenarios::faults::unwanted(3, AGAIN);
        listening.packet(&later, &reasons, &other);
        assert_eq!(listening.take_wanted(), [port, port]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut listening = Listening::default();
        for number in 0..10_000 {
            let port = Port {
                netns: NetnsId(number),
                ..PORT
            };
            listening.found(port, 0, Vec::new());
        }
        assert!((1..=KEPT).contains(&listening.found.len()));
    }
}
