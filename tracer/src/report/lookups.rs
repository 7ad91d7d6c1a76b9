//! What was looked up: names of addresses, and the answers of a flow to a name server.
//!
//! Answers are those that were seen being delivered to a socket. A name belongs to an address for
//! whoever looked it up: the key is the network namespace (a pod's, as a rule) and the address. A flow's
//! destination has the name that was looked up last before the flow began, however long before: a client
//! may keep an address longer than it may. That is concluded, not seen: two names with one address,
//! looked up one after the other in one namespace, are not told apart.
//!
//! What was used least recently is forgotten first.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use super::recent::Recent;
use crate::{
    dns::{self, Answer},
    journey::model::Flow,
    source::PacketBytes,
};

/// Names of one address, the last.
const NAMES: usize = 4;
/// Answers of one flow, the first.
const ANSWERS: usize = 16;
/// How much later than the event of their packet bytes may be, in nanoseconds.
const MOMENT: u64 = 1_000_000;
/// After so long a silence the same ports are another exchange's, in nanoseconds.
const ANOTHER: u64 = 120_000_000_000;

/// An address as a namespace's processes looked it up.
type Place = (u32, IpAddr);
/// A name server's client and the server, in the client's namespace.
type Exchange = (u32, SocketAddr, SocketAddr);

/// What was looked up.
#[derive(Debug, Default)]
pub struct Lookups {
    names: Recent<Place, VecDeque<(u64, String)>>,
    answers: Recent<Exchange, Vec<(u64, Answer)>>,
}

impl Lookups {
    /// Takes a packet's bytes, if they are a DNS answer.
    pub fn take(&mut self, bytes: &PacketBytes) {
        let Some(datagram) = dns::datagram(&bytes.bytes) else {
            return;
        };
        if datagram.source.port() != dns::PORT {
            return;
        }
        let Some(answer) = dns::answer(datagram.payload) else {
            return;
        };
        for address in &answer.addresses {
            let names = self.names.entry((bytes.netns, *address));
            if names.len() >= NAMES {
                names.pop_front();
            }
            names.push_back((bytes.time, answer.name.clone()));
        }
        let exchange = (bytes.netns, datagram.destination, datagram.source);
        let answers = self.answers.entry(exchange);
        // A client may use the same port again later.
        let last = answers.last().map(|(time, _)| *time);
        if last.is_some_and(|last| bytes.time.saturating_sub(last) > ANOTHER) {
            answers.clear();
        }
        // Delivered to several sockets at once, it is one.
        let again = |(time, last): &(u64, Answer)| {
            bytes.time.saturating_sub(*time) < MOMENT && *last == answer
        };
        if answers.len() < ANSWERS && !answers.last().is_some_and(again) {
            answers.push((bytes.time, answer));
        }
    }

    /// The name that the flow's client looked up, if its destination is an address of that.
    #[must_use]
    pub fn asked(&self, flow: &Flow) -> Option<&str> {
        let place = (flow.client_netns?.0, flow.destination.ip());
        let names = self.names.get(&place)?;
        let before = |(time, _): &&(u64, String)| *time <= flow.first;
        names.iter().rfind(before).map(|(_, name)| name.as_str())
    }

    /// What a name server answered in that flow.
    #[must_use]
    pub fn answered(&self, flow: &Flow) -> Vec<Answer> {
        let answers = || {
            let exchange = (
                flow.client_netns?.0,
                flow.client.into(),
                flow.destination.into(),
            );
            self.answers.get(&exchange)
        };
        // The bytes are taken a moment after the delivery that may end the flow.
        let during = flow.first..=flow.last.saturating_add(MOMENT);
        let answers = answers().into_iter().flatten();
        let answers = answers.filter(|(time, _)| during.contains(time));
        answers.map(|(_, answer)| answer.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journey::model::{NetnsId, State},
        report::{recent::KEPT, scenarios},
    };

    const SERVER: &str = "10.96.0.10:53";

    /// The packet of an answer to `web.a`, with these addresses.
    fn answer(to: &str, time: u64, name: &[u8], addresses: &[[u8; 4]]) -> PacketBytes {
        let to: SocketAddr = to.parse().unwrap();
        let IpAddr::V4(client) = to.ip() else {
            panic!("{to}")
        };
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 96, 0, 10];
        bytes.extend(client.octets());
        bytes.extend([0, 53]);
        bytes.extend(to.port().to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0, 7, 0x81, 0x80, 0, 1, 0]);
        bytes.push(u8::try_from(addresses.len()).unwrap());
        bytes.extend([0; 4]);
        bytes.extend(name);
        bytes.extend([0, 0, 1, 0, 1]);
        for address in addresses {
            bytes.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            bytes.extend(address);
        }
        PacketBytes {
            time,
            skb: 0,
            netns: 7,
            hook: 0,
            length: 0,
            bytes,
        }
    }

    fn flow(destination: &str, netns: u32, first: u64) -> Flow {
        Flow {
            client_netns: Some(NetnsId(netns)),
            first,
            last: first.saturating_add(100),
            ..scenarios::flows::flow(17, "10.244.1.2:40000", destination, State::Replied)
        }
    }

    #[test]
    fn a_destination_has_the_name_looked_up_last_before_by_the_same() {
        let mut lookups = Lookups::default();
        let client = "10.244.1.2:40000";
        lookups.take(&answer(client, 100, b"\x03old\x01a", &[[10, 96, 0, 81]]));
        lookups.take(&answer(
            client,
            200,
            b"\x03web\x01a",
            &[[10, 96, 0, 81], [10, 96, 0, 82]],
        ));
        lookups.take(&answer(client, 400, b"\x05later\x01a", &[[10, 96, 0, 81]]));
        let asked = |destination, netns, first| {
            lookups
                .asked(&flow(destination, netns, first))
                .map(str::to_owned)
        };
        assert_eq!(asked("10.96.0.81:80", 7, 300), Some("web.a".to_owned()));
        assert_eq!(asked("10.96.0.82:443", 7, 9000), Some("web.a".to_owned()));
        assert_eq!(asked("10.96.0.81:80", 7, 150), Some("old.a".to_owned()));
        assert_eq!(asked("10.96.0.81:80", 7, 50), None, "before");
        assert_eq!(asked("10.96.0.81:80", 8, 300), None, "another's");
        assert_eq!(asked("10.96.0.83:80", 7, 300), None, "another address");
    }

    #[test]
    fn a_flow_to_a_name_server_has_its_answers() {
        let mut lookups = Lookups::default();
        let client = "10.244.1.2:40000";
        lookups.take(&answer(client, 150, b"\x03web\x01a", &[]));
        lookups.take(&answer(client, 210, b"\x03web\x01b", &[[10, 96, 0, 81]]));
        lookups.take(&answer("10.244.1.2:40001", 160, b"\x05other\x01b", &[]));
        let names = |first| -> Vec<String> {
            let answers = lookups.answered(&flow(SERVER, 7, first));
            answers.into_iter().map(|answer| answer.name).collect()
        };
        assert_eq!(names(120), ["web.a", "web.b"]);
        assert!(names(100_000_000_000).is_empty());
        // Long after, the same ports are another exchange.
        lookups.take(&answer(client, ANOTHER + 1000, b"\x03web\x01c", &[]));
        let answers = lookups.answered(&flow(SERVER, 7, ANOTHER + 950));
        assert_eq!(answers.len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut lookups = Lookups::default();
        for number in 0..20_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let client = format!("10.244.1.2:{}", number % 65_536);
            let time = u64::from(number);
            lookups.take(&answer(&client, time, b"\x03web\x01a", &[[10, a, b, c]]));
            lookups.take(&answer(
                "10.244.1.2:1",
                time,
                b"\x03web\x01a",
                &[[10, 0, 0, 0]],
            ));
        }
        assert_eq!(lookups.names.len(), KEPT);
        assert_eq!(lookups.answers.len(), KEPT);
        assert!(
            lookups.asked(&flow("10.0.0.0:80", 7, u64::MAX)).is_some(),
            "used all the time"
        );
        let most = lookups.answers.values().map(Vec::len).max();
        // The same answer within a moment is one; the rest is cut.
        assert!(most.is_some_and(|most| most <= ANSWERS));
        let mut many = Lookups::default();
        for number in 0..100 {
            many.take(&answer(
                "10.244.1.2:1",
                number * 2 * MOMENT,
                b"\x03web\x01a",
                &[],
            ));
        }
        let most = many.answers.values().map(Vec::len).max();
        assert_eq!(most, Some(ANSWERS));
    }
}
