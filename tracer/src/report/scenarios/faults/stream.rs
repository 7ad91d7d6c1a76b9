//! Connections that hang or are slow: by the size of their segments, or for want of the first answer.

use super::{AFTER, ASKED, SECOND, called, into_node, shown, syn};
use crate::{
    journey::model::{Direction, Packet, Stage, State, TranslationKind, Transport, Verdict},
    report::scenarios::{
        Scenario,
        cast::{ACK, PSH, SYN, from_backend, original, reply, tcp, to_backend},
        flows::{answered, translated},
    },
};

/// A connection whose large segments are dropped, so often, over so long.
pub(crate) fn too_large(times: u64, over: u64, reason: u32) -> Scenario {
    let mut packets = vec![
        to_backend(syn(1, 0, ASKED), AFTER),
        from_backend(
            reply(
                2,
                100_000,
                "10.244.1.3:8080 10.244.1.2:37600",
                tcp(SYN | ACK),
            ),
            "10.96.0.81:80 10.244.1.2:37600",
        ),
    ];
    packets.extend((0..times).map(|n| {
        let start = 200_000 + n * over / times.saturating_sub(1).max(1);
        into_node(original(3 + n, start, ASKED, tcp(PSH | ACK)).payload(1448))
            .translated(TranslationKind::Dnat, AFTER)
            .hop(15_400, Stage::Bridge, "node1 cni0")
            .dropped(19_400, reason, 0xffff_ffff_81d0_0321)
    }));
    let flow = called("10.96.0.81:80", State::Established);
    let flow = translated(
        answered(flow, "10.244.1.3:8080", "pod-b1"),
        "10.244.1.3:8080",
    );
    shown(&packets, flow, over + SECOND)
}

/// A TCP segment of the connection, sent at that time, which ends so.
pub(crate) fn segment(
    direction: Direction,
    time: u64,
    sequence: u32,
    payload: u32,
    verdict: Verdict,
) -> Packet {
    let transport = Transport::Tcp {
        flags: PSH | ACK,
        sequence,
        acknowledgement: 1,
    };
    let way = match direction {
        Direction::Original => into_node(original(time, time, ASKED, transport)),
        Direction::Reply => reply(time, time, "10.244.1.3:8080 10.244.1.2:37600", transport)
            .sent(0, 400, "pod-b1 eth0")
            .received(1_000, "node1 veth6f55fdd3")
            .sent(2_000, 400, "node1 eth0"),
    };
    way.payload(payload).ended(verdict, true)
}

/// One without data that acknowledges up to there.
pub(crate) fn acknowledgement(direction: Direction, time: u64, number: u32) -> Packet {
    let mut packet = segment(direction, time, 1, 0, Verdict::Delivered);
    packet.transport = Transport::Tcp {
        flags: ACK,
        sequence: 1,
        acknowledgement: number,
    };
    packet
}

/// A connection on which the server's segment of that size leaves the node so often, and is not
/// acknowledged; `before` says that one of that size was.
pub(crate) fn swallowed(payload: u32, times: u64, before: bool) -> Scenario {
    let (asked, told) = (ASKED, "10.244.1.3:8080 10.244.1.2:37600");
    let mut packets = vec![
        to_backend(syn(1, 0, asked), AFTER),
        from_backend(reply(2, 100_000, told, tcp(SYN | ACK)), told),
    ];
    if before {
        packets.push(segment(
            Direction::Reply,
            150_000,
            1,
            payload,
            Verdict::Delivered,
        ));
    }
    let sent = (0..times).map(|nth| {
        let time = 200_000 + nth * SECOND / 2;
        segment(Direction::Reply, time, 10_000, payload, Verdict::Left)
    });
    packets.extend(sent);
    let flow = called("10.96.0.81:80", State::Established);
    let flow = answered(flow, "10.244.1.3:8080", "pod-b1");
    shown(&packets, translated(flow, "10.244.1.3:8080"), 10 * SECOND)
}

/// A connection that needed a second SYN, the answer to which came so much later.
pub(crate) fn slow(after: u64) -> Scenario {
    let lost = into_node(syn(1, 0, ASKED)).hop(16_000, Stage::DeviceQueue, "node1 cni0");
    let packets = [
        to_backend(syn(2, after, ASKED), AFTER),
        from_backend(
            reply(
                3,
                after + 100_000,
                "10.244.1.3:8080 10.244.1.2:37600",
                tcp(SYN | ACK),
            ),
            "10.96.0.81:80 10.244.1.2:37600",
        ),
        lost.ended(Verdict::Unknown, false),
    ];
    let flow = called("10.96.0.81:80", State::Closed);
    let flow = translated(
        answered(flow, "10.244.1.3:8080", "pod-b1"),
        "10.244.1.3:8080",
    );
    shown(&packets, flow, after + SECOND)
}
