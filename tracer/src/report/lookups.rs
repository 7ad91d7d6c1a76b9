//! What was looked up: names of addresses, and what a flow to a name server asked and was answered.
//!
//! Answers are those that were seen being delivered to a socket. A name belongs to an address for
//! whoever looked it up: the key is the network namespace (a pod's, as a rule) and the address. A flow's
//! destination has the name that was looked up last before the flow began, however long before: a client
//! may keep an address longer than it may. That is concluded, not seen: two names with one address,
//! looked up one after the other in one namespace, are not told apart.
//!
//! Of questions the bytes are not taken. A datagram's first eight bytes, which every event has, hold a
//! message's number and kind, so that it is known when a question was sent, how often, and whether it has
//! an answer; its name is known from that. UDP only.
//!
//! What was used least recently is forgotten first.

mod exchange;
mod search;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

pub use self::{exchange::Lookup, search::Search};
use self::{
    exchange::{Exchange, MOMENT},
    search::Searches,
};
use super::recent::{Recent, Room};
use crate::{
    dns::{self, Answer},
    journey::model::{Direction, Flow, Packet, Transport, Verdict},
    source::PacketBytes,
};

/// Names of one address, the last.
const NAMES: usize = 4;

/// An address as a namespace's processes looked it up.
type Place = (u32, IpAddr);
/// A name server's client and the server, in the client's namespace.
type Ends = (u32, SocketAddr, SocketAddr);
/// When a name was found, and by which server.
type Found = (u64, String, SocketAddr);

impl Room for VecDeque<Found> {
    fn room(&self) -> usize {
        let names: usize = self.iter().map(|(_, name, _)| name.capacity()).sum();
        self.capacity() * size_of::<Found>() + names
    }
}

/// What was looked up.
#[derive(Debug, Default)]
pub struct Lookups {
    names: Recent<Place, VecDeque<Found>>,
    exchanges: Recent<Ends, Exchange>,
    searches: Searches,
}

/// How a flow's client came to its destination's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name that it looked up.
    pub name: String,
    /// The name server that knew it.
    pub server: SocketAddr,
    /// Names that the same search had tried before, which had no address.
    pub tried: Vec<String>,
    /// From the first question to that answer, in nanoseconds; `None` where a question was not seen.
    pub took: Option<u64>,
}

impl Lookups {
    /// What takes no more bytes of memory than that, about.
    #[must_use]
    pub fn within(bytes: usize) -> Self {
        Self {
            names: Recent::within(bytes / 4),
            exchanges: Recent::within(bytes / 2),
            searches: Searches::within(bytes / 4),
        }
    }

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
        let ends = (bytes.netns, datagram.destination, datagram.source);
        self.answered(ends, bytes.time, &answer);
    }

    /// An answer came.
    fn answered(&mut self, (netns, client, server): Ends, time: u64, answer: &Answer) {
        let ends = (netns, client, server);
        if !self.exchanges.write(ends, |it| it.answer(time, answer)) {
            return;
        }
        self.searches.take(netns, time, (client, server), answer);
        for address in &answer.addresses {
            self.names.write((netns, *address), |names| {
                if names.len() >= NAMES {
                    names.pop_front();
                }
                names.push_back((time, answer.name.clone(), server));
            });
        }
    }

    /// A question that was asked so often from that time on, and what came of it.
    #[cfg(test)]
    pub(crate) fn told(
        &mut self,
        flow: &Flow,
        (asked, sent): (u64, u64),
        taken: Option<u64>,
        answer: Option<(u64, &Answer)>,
    ) {
        let netns = flow.client_netns.unwrap().0;
        let ends = (netns, flow.client.into(), flow.destination.into());
        let id = answer.map_or(0xffff, |(_, answer)| answer.id);
        self.exchanges.write(ends, |exchange| {
            for nth in 0..sent {
                exchange.question(id, asked + nth, taken);
            }
        });
        if let Some((time, answer)) = answer {
            let header = dns::Header {
                id,
                response: true,
                truncated: false,
                code: answer.code,
            };
            let exchange = |it: &mut Exchange| it.response(header, time - 1_000, time);
            self.exchanges.write(ends, exchange);
            self.answered(ends, time, answer);
        }
    }

    /// Takes note of a packet that is over, if it is a DNS question or an answer.
    pub fn packet(&mut self, packet: &Packet) {
        let Transport::Udp { begin } = packet.transport else {
            return;
        };
        let (Some(first), Some(last)) = (packet.hops.first(), packet.hops.last()) else {
            return;
        };
        let (hop, client, server) = match packet.direction {
            Direction::Original => (first, first.tuple.source, first.tuple.destination),
            Direction::Reply => (last, last.tuple.destination, last.tuple.source),
        };
        if server.port != dns::PORT {
            return;
        }
        let Some(header) = dns::header(begin) else {
            return;
        };
        let ends = (hop.netns.0, client.into(), server.into());
        match packet.direction {
            Direction::Original if !header.response => {
                let taken = (packet.verdict == Verdict::Delivered).then_some(last.time);
                let question = |it: &mut Exchange| it.question(header.id, first.time, taken);
                self.exchanges.write(ends, question);
            }
            // What is not known to be dropped may have come.
            Direction::Reply if header.response && packet.dropped.is_none() => {
                let response = |it: &mut Exchange| it.response(header, first.time, last.time);
                self.exchanges.write(ends, response);
            }
            _ => {}
        }
    }

    /// How the flow's client looked its destination up, if that is an address of a name.
    #[must_use]
    pub fn asked(&self, flow: &Flow) -> Option<Asked> {
        let netns = flow.client_netns?.0;
        let names = self.names.get(&(netns, flow.destination.ip()))?;
        let before = |(time, ..): &&Found| *time <= flow.first;
        let (time, name, server) = names.iter().rfind(before)?;
        let mut tried: Vec<String> = Vec::new();
        let mut began = self.began(netns, name, *time);
        for told in self.searches.tried(netns, name, *time) {
            if !tried.contains(&told.name) {
                tried.push(told.name.clone());
            }
            let (client, server) = told.by;
            let asked = self.asked_at((netns, client, server), &told.name, told.time);
            began = began.zip(asked).map(|(a, b)| a.min(b));
        }
        Some(Asked {
            name: name.clone(),
            server: *server,
            tried,
            took: began.map(|began| time.saturating_sub(began)),
        })
    }

    /// When the question was sent first that the name's answer of that time is to.
    fn began(&self, netns: u32, name: &str, time: u64) -> Option<u64> {
        let (client, server) = self.searches.by(netns, name, time)?;
        self.asked_at((netns, client, server), name, time)
    }

    fn asked_at(&self, ends: Ends, name: &str, time: u64) -> Option<u64> {
        let mut lookups = self.exchanges.get(&ends)?.lookups().iter();
        let lookup = lookups.rfind(|lookup| {
            let answer = lookup.answer.as_ref();
            answer.is_some_and(|answer| answer.name == name) && lookup.time() <= time
        })?;
        lookup.asked
    }

    /// What the flow asked a name server, in the order of the questions.
    #[must_use]
    pub fn of(&self, flow: &Flow) -> Vec<Lookup> {
        let exchange = || {
            let netns = flow.client_netns?.0;
            let ends = (netns, flow.client.into(), flow.destination.into());
            self.exchanges.get(&ends)
        };
        // The bytes are taken a moment after the delivery that may end the flow.
        let during = flow.first..=flow.last.saturating_add(MOMENT);
        let lookups = exchange().into_iter().flat_map(Exchange::lookups);
        let mut lookups: Vec<Lookup> = lookups
            .filter(|lookup| during.contains(&lookup.time()))
            .cloned()
            .collect();
        lookups.sort_by_key(Lookup::time);
        lookups
    }

    /// What came of the search to which the flow's lookup belongs; `None` where it has no answer about
    /// addresses, or where answers of that time had to make room.
    #[must_use]
    pub fn search(&self, flow: &Flow, lookup: &Lookup) -> Option<Search> {
        let answer = lookup.answer.as_ref().filter(|it| it.is_of_addresses())?;
        let netns = flow.client_netns?.0;
        let time = lookup.noted?;
        let known = self.searches.knows(netns, time);
        known.then(|| self.searches.of(netns, &answer.name, time))
    }

    /// Whether a name server gave a good answer about the lookup's name later, or may have: where answers
    /// of that time had to make room, nobody knows.
    #[must_use]
    pub fn was_answered_later(&self, flow: &Flow, lookup: &Lookup) -> bool {
        let known = || {
            let name = &lookup.answer.as_ref()?.name;
            let netns = flow.client_netns?.0;
            let time = lookup.noted?;
            let known = self.searches.knows(netns, time);
            Some(!known || self.searches.was_answered_later(netns, name, time))
        };
        known().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journey::model::{NetnsId, State},
        report::{lookups::exchange::ANOTHER, recent::KEPT, scenarios},
    };

    const SERVER: &str = "10.96.0.10:53";

    /// The packet of an answer to `web.a`, with these addresses.
    fn answer(to: &str, time: u64, name: &[u8], addresses: &[[u8; 4]]) -> PacketBytes {
        let code = if addresses.is_empty() { 3 } else { 0 };
        let to: SocketAddr = to.parse().unwrap();
        let IpAddr::V4(client) = to.ip() else {
            panic!("{to}")
        };
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 96, 0, 10];
        bytes.extend(client.octets());
        bytes.extend([0, 53]);
        bytes.extend(to.port().to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0, 7, 0x81, 0x80 | code, 0, 1, 0]);
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
                .map(|asked| asked.name)
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
            let answers = lookups.of(&flow(SERVER, 7, first)).into_iter();
            answers.filter_map(|it| Some(it.answer?.name)).collect()
        };
        assert_eq!(names(120), ["web.a", "web.b"]);
        assert!(names(100_000_000_000).is_empty());
        // Long after, the same ports are another exchange.
        lookups.take(&answer(client, ANOTHER + 1000, b"\x03web\x01c", &[]));
        let answers = lookups.of(&flow(SERVER, 7, ANOTHER + 950));
        assert_eq!(answers.len(), 1);
    }

    /// A packet between the client and the name server, with that message's number and flags.
    fn packet(direction: Direction, time: u64, header: u32) -> Packet {
        let begin = u64::from(header) << 32 | 1 << 16;
        scenarios::faults::datagram(direction, time, Transport::Udp { begin })
    }

    #[test]
    fn a_question_that_is_not_answered_is_known() {
        let mut lookups = Lookups::default();
        lookups.packet(&packet(Direction::Original, 0, 0x0007_0100));
        lookups.packet(&packet(Direction::Original, 50, 0x0008_0100));
        lookups.packet(&packet(Direction::Original, 500, 0x0008_0100));
        lookups.packet(&packet(Direction::Reply, 900, 0x0007_8180));
        let flow = scenarios::faults::asks_for_names();
        let found = lookups.of(&flow);
        let told: Vec<_> = found
            .iter()
            .map(|it| (it.sent, it.took().is_some()))
            .collect();
        assert_eq!(told, [(1, true), (2, false)]);
        assert!(found.iter().all(|lookup| lookup.taken.is_some()));
    }

    #[test]
    fn a_search_takes_from_its_first_question_on() {
        let mut lookups = Lookups::default();
        lookups.take(&answer("10.244.1.2:40000", 100, b"\x03web\x01a\x01b", &[]));
        lookups.take(&answer(
            "10.244.1.2:40001",
            300,
            b"\x03web\x01b",
            &[[10, 96, 0, 81]],
        ));
        let asked = lookups.asked(&flow("10.96.0.81:80", 7, 400)).unwrap();
        assert_eq!((asked.name.as_str(), asked.took), ("web.b", None));
        assert_eq!(asked.tried, ["web.a.b"]);
        assert_eq!(asked.server, SERVER.parse().unwrap());
        for (port, sent) in [(40000, 40), (40001, 200)] {
            let client = SocketAddr::from(([10, 244, 1, 2], port));
            let ends = (7, client, SERVER.parse().unwrap());
            let question = |it: &mut Exchange| it.question(7, sent, None);
            lookups.exchanges.write(ends, question);
        }
        let asked = lookups.asked(&flow("10.96.0.81:80", 7, 400)).unwrap();
        assert_eq!(asked.took, Some(260));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut lookups = Lookups::within(64 << 20);
        for number in 0..20_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let client = format!("10.244.1.2:{}", number % 65_536);
            let time = u64::from(number) * 2 * MOMENT;
            lookups.take(&answer(&client, time, b"\x03web\x01a", &[[10, a, b, c]]));
            lookups.take(&answer(
                "10.244.1.2:1",
                time,
                b"\x03web\x01a",
                &[[10, 0, 0, 0]],
            ));
        }
        assert_eq!(lookups.names.len(), KEPT);
        assert_eq!(lookups.exchanges.len(), KEPT);
        assert!(
            lookups.asked(&flow("10.0.0.0:80", 7, u64::MAX)).is_some(),
            "used all the time"
        );
    }
}
