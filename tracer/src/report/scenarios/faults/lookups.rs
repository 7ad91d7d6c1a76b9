//! Lookups of names, answered and not.

use std::net::IpAddr;

use super::{CLIENT, SECOND, into_node};
use crate::{
    dns::Answer,
    journey::model::{Direction, Flow, Packet, State, TranslationKind, Transport},
    report::{
        listening::Listening,
        lookups::Lookups,
        scenarios::{
            Scenario,
            cast::{from_backend, original, reply},
            flows::{answered, flow, translated},
            snapshot,
        },
    },
};

const NAME_SERVER: &str = "10.244.1.2:37600 10.96.0.10:53";

/// A DNS message between the client and the name server at that time, delivered.
pub(crate) fn datagram(direction: Direction, time: u64, transport: Transport) -> Packet {
    match direction {
        Direction::Original => {
            let way = into_node(original(1, time, NAME_SERVER, transport));
            let way = way.translated(TranslationKind::Dnat, "10.244.1.2:37600 10.244.1.3:5353");
            way.delivered(22_000, "pod-b1 eth0")
        }
        Direction::Reply => {
            let ends = "10.96.0.10:53 10.244.1.2:37600";
            from_backend(reply(2, time, ends, transport), ends)
        }
    }
}

/// The flow that those belong to.
pub(crate) fn asks_for_names() -> Flow {
    let flow = flow(17, CLIENT, "10.96.0.10:53", State::Replied);
    translated(
        answered(flow, "10.244.1.3:5353", "pod-b1"),
        "10.244.1.3:5353",
    )
}

/// What a name server says about a name, so long after the flow's first packet; the address is `None`
/// where the name has none.
pub(crate) fn says(id: u16, name: &str, kind: u16, code: u8, found: bool) -> Answer {
    let address: IpAddr = "10.96.0.81".parse().unwrap();
    Answer {
        id,
        name: name.to_owned(),
        kind,
        code,
        truncated: false,
        addresses: found.then_some(address).into_iter().collect(),
    }
}

/// Questions of the flow: when each was asked after the first, how often, when the server took it,
/// and what it said when.
pub(crate) type Question = (u64, u64, Option<u64>, Option<(u64, Answer)>);

/// The flow with those lookups, and after it one of another port with these.
pub(crate) fn looked_up(questions: &[Question], later: &[Question]) -> Scenario {
    let mut flow = asks_for_names();
    flow.last = flow.first + 20 * SECOND;
    let mut other = flow.clone();
    other.client.port += 1;
    let mut lookups = Lookups::default();
    for (flow, questions) in [(&flow, questions), (&other, later)] {
        for (asked, sent, taken, answer) in questions {
            let at = |after: &u64| flow.first + after;
            let answer = answer.as_ref().map(|(time, answer)| (at(time), answer));
            let taken = taken.as_ref().map(at);
            lookups.told(flow, (at(asked), *sent), taken, answer);
        }
    }
    let packets = [
        datagram(Direction::Original, 0, Transport::Udp { begin: 0 }),
        datagram(Direction::Reply, 200_000, Transport::Udp { begin: 0 }),
    ];
    let known = (&Listening::default(), &lookups);
    let until = flow.first + 10 * SECOND;
    Scenario::seen_by(&snapshot(), &packets, &flow, until, known)
}
