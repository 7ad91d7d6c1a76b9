//! Independent witnesses: conntrack's table for translations, tcpdump for completeness.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::thread;

use anyhow::{Context as _, anyhow, ensure};

use crate::lab::{Capture, Lab};

/// Source and destination.
pub type Tuple = (SocketAddr, SocketAddr);

/// A connection in a node's conntrack table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `tcp`, `udp`.
    pub protocol: String,
    /// The tuple of the first packet.
    pub original: Tuple,
    /// The tuple that its answers are expected to have.
    pub reply: Tuple,
}

impl Entry {
    /// The entries in what `conntrack -L` prints, of protocols with ports.
    #[must_use]
    pub fn parse_all(table: &str) -> Vec<Self> {
        table.lines().filter_map(Self::parse).collect()
    }

    /// `tcp 6 118 TIME_WAIT src=A dst=B sport=1 dport=2 src=B dst=A sport=2 dport=1 [ASSURED] ..`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let protocol = words.next()?.to_owned();
        let values = |key: &str| -> Vec<&str> {
            let words = line.split_ascii_whitespace();
            words.filter_map(|word| word.strip_prefix(key)).collect()
        };
        let (from, to) = (values("src="), values("dst="));
        let (source_ports, destination_ports) = (values("sport="), values("dport="));
        let tuple = |n: usize| -> Option<Tuple> {
            let end = |addresses: &[&str], ports: &[&str]| -> Option<SocketAddr> {
                let address: IpAddr = addresses.get(n)?.parse().ok()?;
                Some((address, ports.get(n)?.parse().ok()?).into())
            };
            Some((end(&from, &source_ports)?, end(&to, &destination_ports)?))
        };
        Some(Self {
            protocol,
            original: tuple(0)?,
            reply: tuple(1)?,
        })
    }
}

/// Captures on several devices of a lab.
#[derive(Debug)]
pub struct Captures(Vec<(Device, Capture)>);

/// A device: the namespace's short name, and its own.
pub type Device = (String, String);

impl Captures {
    /// Starts tcpdump on each device, without a filter: the kernel counts what comes before a filter
    /// is installed too, and the counts must agree in the end.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(lab: &Lab, devices: Vec<Device>) -> anyhow::Result<Self> {
        let captures = side_by_side(devices, |device| {
            let (netns, name) = &device;
            let capture = lab.capture(netns, name, "")?;
            Ok((device, capture))
        })?;
        Ok(Self(captures))
    }

    /// Ends them, each when it holds so many closed TCP connections, and returns what they saw.
    ///
    /// # Errors
    /// When they never come, or tcpdump fails.
    pub fn stop(
        self,
        closed: impl Fn(&Device) -> usize + Sync,
    ) -> anyhow::Result<BTreeMap<Device, Seen>> {
        let seen = side_by_side(self.0, |(device, capture)| {
            let expected = closed(&device);
            let packets = capture.stop_when(|packets| Seen::new(packets).closed() >= expected)?;
            Ok((device, Seen::new(&packets)))
        })?;
        Ok(seen.into_iter().collect())
    }
}

fn side_by_side<T: Send, R: Send>(
    values: Vec<T>,
    f: impl Fn(T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let f = &f;
    thread::scope(|scope| {
        let threads: Vec<_> = values
            .into_iter()
            .map(|value| scope.spawn(move || f(value)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow!("a capture's thread panicked"))?
            })
            .collect()
    })
}

/// The packets that passed a device.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    packets: Vec<(Tuple, String)>,
    others: Vec<String>,
}

impl Seen {
    fn new(lines: &[String]) -> Self {
        let mut seen = Self::default();
        for line in lines {
            match parse(line) {
                Some(tuple) => seen.packets.push((tuple, line.clone())),
                None => seen.others.push(line.clone()),
            }
        }
        seen
    }

    /// How many packets had that source and destination.
    #[must_use]
    pub fn count(&self, tuple: Tuple) -> usize {
        let same = self.packets.iter().filter(|(other, _)| *other == tuple);
        same.count()
    }

    /// The packets without ports, as tcpdump prints them: ICMP, ARP.
    #[must_use]
    pub fn without_ports(&self) -> &[String] {
        &self.others
    }

    /// How many TCP connections are closed: a FIN each way, and an acknowledgement last.
    #[must_use]
    pub fn closed(&self) -> usize {
        let mut connections: BTreeMap<Tuple, (usize, bool)> = BTreeMap::new();
        for ((source, destination), line) in &self.packets {
            let key = (*source.min(destination), *source.max(destination));
            let (fins, acknowledged) = connections.entry(key).or_default();
            *fins += usize::from(line.contains("Flags [F"));
            *acknowledged = line.contains("Flags [.]");
        }
        let closed = connections.values();
        closed.filter(|(fins, last)| *fins >= 2 && *last).count()
    }
}

/// `12:00:00.000000 IP 10.0.0.1.80 > 10.0.0.2.1024: Flags [S], ...`; `IP6` alike.
fn parse(line: &str) -> Option<Tuple> {
    let (_, rest) = line.split_once(" IP")?;
    let (_, rest) = rest.split_once(' ')?;
    let (source, rest) = rest.split_once(" > ")?;
    let (destination, _) = rest.split_once(": ")?;
    Some((endpoint(source)?, endpoint(destination)?))
}

fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once('.')?;
    Some((address.parse::<IpAddr>().ok()?, port.parse().ok()?).into())
}

/// tcpdump on `device` saw as many packets of that tuple as the tracer.
///
/// # Errors
/// When it did not.
pub fn agrees(seen: &Seen, place: &Device, tuple: Tuple, traced: u64) -> anyhow::Result<()> {
    let count = seen.count(tuple) as u64;
    let (source, destination) = tuple;
    ensure!(
        count == traced,
        "tcpdump saw {count} packets {source} -> {destination} on {place:?}, the tracer {traced}"
    );
    Ok(())
}

/// The node's entry whose first packet had that tuple.
///
/// # Errors
/// When there is not exactly one.
pub fn entry<'a>(
    entries: &'a [Entry],
    protocol: &str,
    original: Tuple,
) -> anyhow::Result<&'a Entry> {
    let same = |entry: &&Entry| entry.protocol == protocol && entry.original == original;
    let mut found = entries.iter().filter(same);
    let entry = found
        .next()
        .with_context(|| format!("conntrack has no {protocol} entry for {original:?}"))?;
    ensure!(
        found.next().is_none(),
        "conntrack has several entries for {original:?}"
    );
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conntracks_lines_are_read() {
        let line = "tcp      6 117 TIME_WAIT src=10.244.1.2 dst=10.96.0.81 sport=20001 dport=80 \
                    src=10.244.1.3 dst=10.244.1.2 sport=8080 dport=20001 [ASSURED] mark=0 use=1";
        let end = |text: &str| text.parse::<SocketAddr>().unwrap();
        let entry = Entry {
            protocol: "tcp".to_owned(),
            original: (end("10.244.1.2:20001"), end("10.96.0.81:80")),
            reply: (end("10.244.1.3:8080"), end("10.244.1.2:20001")),
        };
        assert_eq!(Entry::parse_all(line), [entry]);
        assert_eq!(
            Entry::parse_all("icmp 1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=1"),
            []
        );
    }

    #[test]
    fn tcpdumps_lines_are_read() {
        let lines = [
            "12:00:00.000001 IP 10.0.0.1.1024 > 10.0.0.2.80: Flags [F.], seq 1",
            "12:00:00.000002 IP 10.0.0.2.80 > 10.0.0.1.1024: Flags [F.], seq 1",
            "12:00:00.000003 IP 10.0.0.1.1024 > 10.0.0.2.80: Flags [.], ack 2",
            "12:00:00.000004 IP6 fd00::1.1024 > fd00::2.53: 1+ A? web. (20)",
            "12:00:00.000005 IP 10.0.0.2 > 10.0.0.1: ICMP 10.0.0.2 tcp port 80 unreachable, length 68",
        ]
        .map(str::to_owned);
        let seen = Seen::new(&lines);
        let end = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(seen.count((end("10.0.0.1:1024"), end("10.0.0.2:80"))), 2);
        assert_eq!(seen.count((end("[fd00::1]:1024"), end("[fd00::2]:53"))), 1);
        assert_eq!(seen.closed(), 1);
        assert_eq!(Seen::new(&lines[..2]).closed(), 0);
        assert_eq!(seen.without_ports().len(), 1);
    }
}
