//! Captures of the scenarios, read back by readers that others wrote.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use etherparse::{LaxNetSlice, LaxSlicedPacket};
use pcap_file::pcapng::{
    Block as Read, PcapNgReader,
    blocks::{
        enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
        interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
    },
};

use super::*;
use crate::report::scenarios::{self, Scenario};

const BEGIN: u64 = 1_795_302_030_000_000_000;

/// Where the scenarios were recorded, on a node with a hostile name.
fn origin() -> Origin {
    Origin {
        host: "node\u{1b}[2J1".to_owned(),
        ..Origin::of_scenarios()
    }
}

fn written(scenario: &Scenario) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sink = PcapngSink::new(&mut out, origin());
    for packet in &scenario.packets {
        sink.packet(packet).unwrap();
    }
    sink.flow(&scenario.flow).unwrap();
    sink.finish(&StatsReport::default()).unwrap();
    out
}

/// The interfaces and the packets of a capture.
type Contents = (
    Vec<InterfaceDescriptionBlock<'static>>,
    Vec<EnhancedPacketBlock<'static>>,
);

fn read(bytes: &[u8]) -> Contents {
    let mut reader = PcapNgReader::new(bytes).unwrap();
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap().into_owned() {
            Read::InterfaceDescription(interface) => interfaces.push(interface),
            Read::EnhancedPacket(packet) => packets.push(packet),
            other => panic!("{other:?}"),
        }
    }
    (interfaces, packets)
}

fn name(interface: &InterfaceDescriptionBlock<'_>) -> String {
    let texts = interface.options.iter().filter_map(|option| match option {
        InterfaceDescriptionOption::IfName(name)
        | InterfaceDescriptionOption::IfDescription(name) => Some(name.as_ref()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(": ")
}

fn comment<'a>(packet: &'a EnhancedPacketBlock<'_>) -> &'a str {
    let mut options = packet.options.iter();
    let comment = options.find_map(|option| match option {
        EnhancedPacketOption::Comment(text) => Some(text.as_ref()),
        _ => None,
    });
    comment.unwrap()
}

#[test]
fn each_scenario_is_a_capture() {
    for (scenario, contents) in scenarios::all() {
        let (interfaces, packets) = read(&written(&contents));
        let mut text = String::new();
        for interface in &interfaces {
            writeln!(text, "interface {}", name(interface)).unwrap();
            assert!(
                interface
                    .options
                    .contains(&InterfaceDescriptionOption::IfTsResol(9))
            );
        }
        for packet in &packets {
            let since = packet.timestamp - Duration::from_nanos(BEGIN);
            let (at, length) = (packet.interface_id, packet.original_len);
            let bytes: String = packet
                .data
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let comment = comment(packet);
            writeln!(
                text,
                "{since:?} on {at}, {length} bytes: {bytes}\n  {comment}"
            )
            .unwrap();
        }
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n'),
            "{text:?}"
        );
        insta::assert_snapshot!(scenario, text);
    }
}

#[test]
fn what_was_observed_stands_in_the_headers() {
    for (name, scenario) in scenarios::all() {
        let (_, packets) = read(&written(&scenario));
        let mut packets = packets.iter();
        // One scenario has two packets under way at once, whose hops are in order of time.
        let mut hops: Vec<_> = scenario
            .packets
            .iter()
            .flat_map(|packet| packet.hops.iter().map(move |hop| (packet, hop)))
            .collect();
        hops.sort_by_key(|(_, hop)| hop.time);
        for (report, hop) in hops {
            let packet = packets.next().unwrap();
            assert_eq!(
                packet.timestamp.as_nanos(),
                u128::from(origin().realtime(hop.time))
            );
            let mut bytes: &[u8] = &packet.data;
            // The scenarios' lengths are those of TCP.
            let length = match hop.tuple.protocol {
                17 => 28 + report.payload,
                _ => report.length,
            };
            let outer = hop.encapsulation.map(|tunnel| tunnel.outer);
            if let Some(outer) = outer {
                let header = if outer.source.ip().is_ipv4() { 20 } else { 40 };
                assert_eq!(ends(bytes), (outer.source.ip(), outer.destination.ip()));
                bytes = &bytes[header + 8 + 8 + 14..];
                assert_eq!(packet.original_len, length + 50, "{name}");
            } else {
                assert_eq!(packet.original_len, length, "{name}");
            }
            let (source, destination) = ends(bytes);
            assert_eq!(source, hop.tuple.source.ip(), "{name}");
            assert_eq!(destination, hop.tuple.destination.ip(), "{name}");
            if hop.tuple.protocol == 6 || hop.tuple.protocol == 17 {
                let header = if source.is_ipv4() { 20 } else { 40 };
                let port =
                    |at: usize| u16::from_be_bytes([bytes[header + at], bytes[header + at + 1]]);
                assert_eq!(
                    (port(0), port(2)),
                    (hop.tuple.source.port, hop.tuple.destination.port)
                );
            }
            if hop.tuple.protocol == 6 && source.is_ipv4() {
                // Lengths leave exactly the payload behind the headers.
                let total = u16::from_be_bytes([bytes[2], bytes[3]]);
                let headers = 20 + u32::from(bytes[32] >> 4) * 4;
                assert_eq!(u32::from(total) - headers, report.payload, "{name}");
            }
        }
        assert!(packets.next().is_none());
    }
}

/// The addresses of a packet that is cut off.
fn ends(bytes: &[u8]) -> (IpAddr, IpAddr) {
    let sliced = LaxSlicedPacket::from_ip(bytes).unwrap();
    match sliced.net.unwrap() {
        LaxNetSlice::Ipv4(slice) => (
            slice.header().source_addr().into(),
            slice.header().destination_addr().into(),
        ),
        LaxNetSlice::Ipv6(slice) => (
            slice.header().source_addr().into(),
            slice.header().destination_addr().into(),
        ),
        LaxNetSlice::Arp(_) => panic!("ARP"),
    }
}

#[test]
fn packets_wait_for_those_before_them_and_not_without_bound() {
    let scenario = scenarios::refused();
    let mut out = Vec::new();
    let mut sink = PcapngSink::new(&mut out, origin());
    sink.buffer = 10_000;
    let mut packet = scenario.packets[0].clone();
    for number in 0..500_u64 {
        for hop in &mut packet.hops {
            // Each begins before the one before it ends.
            hop.time += 1_000 * (number % 7);
        }
        sink.packet(&packet).unwrap();
        assert!(sink.waiting_bytes <= 10_000);
        let blocks = sink.waiting.values();
        let waiting: usize = blocks.map(|block| block.capacity() + BESIDE).sum();
        assert_eq!(sink.waiting_bytes, waiting);
    }
    sink.finish(&StatsReport::default()).unwrap();
    let (_, packets) = read(&out);
    assert_eq!(packets.len(), 500 * packet.hops.len());
    assert!(packets.is_sorted_by_key(|packet| packet.timestamp));
}

#[test]
fn any_lengths_and_ports_make_a_capture() {
    let mut scenario = scenarios::vxlan();
    let lengths = [0, 1, 20, 39, 40, 61, 65_535, 65_536, 500_000, u32::MAX];
    let mut packets = Vec::new();
    for length in lengths {
        for payload in lengths {
            for protocol in [0, 1, 6, 17, 58, 132, 255] {
                let mut packet = scenario.packets[0].clone();
                (packet.length, packet.payload, packet.protocol) = (length, payload, protocol);
                for hop in &mut packet.hops {
                    hop.tuple.protocol = protocol;
                }
                packets.push(packet);
            }
        }
    }
    let hops: usize = packets.iter().map(|packet| packet.hops.len()).sum();
    scenario.packets = packets;
    let (_, packets) = read(&written(&scenario));
    assert_eq!(packets.len(), hops);
    assert!(
        packets
            .iter()
            .all(|packet| packet.data.len() <= packet.original_len as usize)
    );
}

/// A request in a TCP segment, as its sender's socket had it.
fn request() -> Vec<u8> {
    let payload = b"GET / HTTP/1.1\r\n\r\n";
    let mut tcp = etherparse::TcpHeader::new(37_500, 80, 1_000, 64_000);
    tcp.set_options_raw(&[1, 1, 1, 0]).unwrap();
    let length = u16::try_from(tcp.header_len() + payload.len()).unwrap();
    let (from, to) = ([10, 244, 1, 2], [10, 96, 0, 81]);
    let ip = etherparse::Ipv4Header::new(length, 63, etherparse::IpNumber::TCP, from, to).unwrap();
    [&ip.to_bytes()[..], &tcp.to_bytes(), payload].concat()
}

/// A scenario with those bytes kept of each packet, which carry so much payload.
fn with_bytes(name: &str, bytes: &[u8], payload: u32) -> Scenario {
    let (_, mut scenario) = scenarios::all()
        .into_iter()
        .find(|(it, _)| *it == name)
        .unwrap();
    for packet in &mut scenario.packets {
        packet.bytes = Some(bytes.into());
        packet.payload = payload;
    }
    scenario
}

#[test]
fn kept_bytes_stand_at_every_hop_with_its_addresses() {
    let payload = b"GET / HTTP/1.1\r\n\r\n";
    let (name, _) = scenarios::all()[0];
    let scenario = with_bytes(name, &request(), 18);
    let (_, packets) = read(&written(&scenario));
    let hops = scenario.packets.iter().flat_map(|packet| &packet.hops);
    let (mut hops, mut kept): (Vec<_>, usize) = (hops.collect(), 0);
    hops.sort_by_key(|hop| hop.time);
    for (packet, hop) in packets.iter().zip(hops) {
        if !comment(packet).contains("bytes kept") || hop.encapsulation.is_some() {
            continue;
        }
        kept += 1;
        let sliced = etherparse::SlicedPacket::from_ip(&packet.data).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
            panic!("{:?}", sliced.net)
        };
        let Some(etherparse::TransportSlice::Tcp(tcp)) = sliced.transport else {
            panic!("{:?}", sliced.transport)
        };
        let header = ip.header();
        assert_eq!(
            IpAddr::V4(header.destination_addr()),
            hop.tuple.destination.ip()
        );
        assert_eq!(tcp.destination_port(), hop.tuple.destination.port);
        assert_eq!(tcp.payload(), payload);
        assert_eq!(
            header.header_checksum(),
            header.to_header().calc_header_checksum()
        );
        let right = tcp
            .calc_checksum_ipv4(header.source(), header.destination())
            .unwrap();
        assert_eq!(tcp.checksum(), right);
    }
    assert!(kept > 5, "{kept}");
}

proptest::proptest! {
    #[test]
    fn any_kept_bytes_make_a_capture(
        begin in 0_u8..=255,
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
        cut in 0_usize..60,
        payload: u32,
    ) {
        for (name, _) in scenarios::all() {
            let mut hostile = bytes.clone();
            hostile.insert(0, begin);
            read(&written(&with_bytes(name, &hostile, payload)));
            read(&written(&with_bytes(name, &request()[..cut.min(request().len())], payload)));
        }
    }
}
