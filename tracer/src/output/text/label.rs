//! What a packet is, in the words that people use.

use super::glyphs;
use crate::{
    journey::model::Transport,
    report::{PacketReport, protocol_name},
};

/// TCP's flags in the order in which they are spoken.
const FLAGS: [(u8, &str); 8] = [
    (2, "SYN"),
    (1, "FIN"),
    (4, "RST"),
    (8, "PSH"),
    (32, "URG"),
    (16, "ACK"),
    (64, "ECE"),
    (128, "CWR"),
];

/// `SYN-ACK`, `PSH-ACK 74 bytes`, `UDP 33 bytes`, `ICMP echo request id 7 seq 1`.
pub(super) fn of(packet: &PacketReport) -> String {
    let protocol = protocol_name(packet.protocol).to_uppercase();
    let bytes = match packet.payload {
        1 => "1 byte".to_owned(),
        payload => format!("{payload} bytes"),
    };
    match packet.transport {
        Transport::Tcp { flags, .. } if packet.payload == 0 => tcp_flags(flags),
        Transport::Tcp { flags, .. } => format!("{} {bytes}", tcp_flags(flags)),
        Transport::Udp { .. } => format!("UDP {bytes}"),
        Transport::Icmp { .. } => icmp(packet),
        Transport::Other if matches!(packet.protocol, 1 | 6 | 17 | 58 | 132) => {
            format!("{protocol} fragment {} bytes", packet.length)
        }
        Transport::Other if protocol.starts_with(|first: char| first.is_ascii_digit()) => {
            format!("IP protocol {protocol}, {} bytes", packet.length)
        }
        Transport::Other => format!("{protocol} {} bytes", packet.length),
    }
}

fn tcp_flags(flags: u8) -> String {
    let set = FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
    let names: Vec<&str> = set.map(|(_, name)| *name).collect();
    if names.is_empty() {
        "TCP without flags".to_owned()
    } else {
        names.join("-")
    }
}

fn icmp(packet: &PacketReport) -> String {
    let Transport::Icmp {
        kind,
        code,
        sequence,
        quoted,
    } = packet.transport
    else {
        return String::new();
    };
    let v6 = packet.protocol == 58;
    let family = if v6 { "ICMPv6" } else { "ICMP" };
    let name = if v6 {
        icmp6_name(kind, code)
    } else {
        icmp4_name(kind, code)
    };
    let name = name.map_or_else(|| format!("type {kind} code {code}"), str::to_owned);
    let mut label = format!("{family} {name}");
    if name.starts_with("echo") {
        let id = packet.hops.first().map_or(0, |hop| hop.tuple.source.port);
        label.push_str(&format!(" id {id} seq {sequence}"));
    }
    if let Some(quoted) = quoted {
        let (protocol, tuple) = (protocol_name(quoted.protocol), glyphs::tuple(&quoted));
        label.push_str(&format!(" for {protocol} {tuple}"));
    }
    label
}

const fn icmp4_name(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (0, _) => "echo reply",
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "fragmentation needed",
        (3, 9) => "network prohibited",
        (3, 10) => "host prohibited",
        (3, 13) => "administratively prohibited",
        (3, _) => "destination unreachable",
        (5, _) => "redirect",
        (8, _) => "echo request",
        (11, 0) => "TTL exceeded",
        (11, _) => "reassembly time exceeded",
        (12, _) => "parameter problem",
        _ => return None,
    })
}

const fn icmp6_name(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (1, 0) => "no route",
        (1, 1) => "administratively prohibited",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, _) => "destination unreachable",
        (2, _) => "packet too big",
        (3, 0) => "hop limit exceeded",
        (3, _) => "reassembly time exceeded",
        (4, _) => "parameter problem",
        (128, _) => "echo request",
        (129, _) => "echo reply",
        (133, _) => "router solicitation",
        (134, _) => "router advertisement",
        (135, _) => "neighbour solicitation",
        (136, _) => "neighbour advertisement",
        (137, _) => "redirect",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scenarios;

    fn label(protocol: u8, payload: u32, transport: Transport) -> String {
        let mut packet = scenarios::echo().packets.remove(0);
        (packet.protocol, packet.payload) = (protocol, payload);
        packet.transport = transport;
        of(&packet)
    }

    #[test]
    fn tcp_is_its_flags() {
        let tcp = |flags, payload| {
            let transport = Transport::Tcp {
                flags,
                sequence: 1,
                acknowledgement: 1,
            };
            label(6, payload, transport)
        };
        assert_eq!(tcp(2, 0), "SYN");
        assert_eq!(tcp(18, 0), "SYN-ACK");
        assert_eq!(tcp(194, 0), "SYN-ECE-CWR");
        assert_eq!(tcp(24, 74), "PSH-ACK 74 bytes");
        assert_eq!(tcp(25, 1), "FIN-PSH-ACK 1 byte");
        assert_eq!(tcp(20, 0), "RST-ACK");
        assert_eq!(tcp(0, 0), "TCP without flags");
    }

    #[test]
    fn icmp_is_its_message() {
        let icmp = |protocol, kind, code| {
            let transport = Transport::Icmp {
                kind,
                code,
                sequence: 3,
                quoted: None,
            };
            label(protocol, 0, transport)
        };
        assert_eq!(icmp(1, 0, 0), "ICMP echo reply id 77 seq 3");
        assert_eq!(icmp(1, 3, 4), "ICMP fragmentation needed");
        assert_eq!(icmp(1, 200, 7), "ICMP type 200 code 7");
        assert_eq!(icmp(58, 128, 0), "ICMPv6 echo request id 77 seq 3");
        assert_eq!(icmp(58, 2, 0), "ICMPv6 packet too big");
        assert_eq!(icmp(58, 8, 0), "ICMPv6 type 8 code 0");
    }

    #[test]
    fn others_are_their_protocol() {
        assert_eq!(label(17, 33, Transport::Udp { begin: 0 }), "UDP 33 bytes");
        assert_eq!(label(17, 0, Transport::Other), "UDP fragment 60 bytes");
        assert_eq!(label(47, 0, Transport::Other), "GRE 60 bytes");
        assert_eq!(label(200, 0, Transport::Other), "IP protocol 200, 60 bytes");
    }
}
