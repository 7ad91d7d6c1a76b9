//! The tracer's JSON lines, read strictly: every member that the contract names must be there, and
//! every word must be one that it knows. Members that are not known here are let pass, as the
//! contract asks of readers.

mod flow;
mod packet;
mod rule;

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Deserializer};

pub use flow::{
    Answer, Backend, BothWays, Client, Destination, DiagnosisInfo, Flow, FlowTranslation, Lookup,
    Process,
};
pub use packet::{Dropped, Encapsulation, Hole, Hop, Icmp, Packet, Quoted, Tcp, Translation};
pub use rule::{Candidate, EndpointOf, RuleInfo, Step};

/// The version that the contract describes.
const SCHEMA: u32 = 1;

/// One line.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Object {
    Flow(Box<Flow>),
    Packet(Box<Packet>),
    Stats(Stats),
}

/// Everything that one tracer printed.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The flows, each as it was written last.
    pub flows: Vec<Flow>,
    /// Flows as they were written before they were over.
    pub ongoing: Vec<Flow>,
    /// The packets, in order of their end.
    pub packets: Vec<Packet>,
    /// The counts, the last at the end.
    pub stats: Vec<Stats>,
}

impl Trace {
    /// Reads JSON lines.
    ///
    /// # Errors
    /// For a line that is not an object of the contract: the line and what is wrong with it.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut trace = Self::default();
        for line in lines {
            let object = object(line).with_context(|| format!("in the line {line}"))?;
            match object {
                Object::Flow(flow) => trace.flow_written(*flow),
                Object::Packet(packet) => trace.packets.push(*packet),
                Object::Stats(stats) => trace.stats.push(stats),
            }
        }
        Ok(trace)
    }

    /// A flow that is written again takes the place of what was written while it went on.
    fn flow_written(&mut self, flow: Flow) {
        let before = self.flows.iter_mut();
        let before = before.filter(|known| known.ongoing && !flow.ongoing);
        let mut before = before.filter(|known| known.id == flow.id);
        if flow.ongoing {
            self.ongoing.push(flow.clone());
        }
        match before.next() {
            Some(known) => *known = flow,
            None => self.flows.push(flow),
        }
    }

    /// The one flow that this client opened with that protocol.
    ///
    /// # Errors
    /// When there is none, or there are several.
    pub fn flow(&self, proto: &str, client: SocketAddr) -> anyhow::Result<&Flow> {
        let of_client = |flow: &&Flow| flow.proto == proto && flow.client.addr == client;
        let found: Vec<&Flow> = self.flows.iter().filter(of_client).collect();
        match found[..] {
            [flow] => Ok(flow),
            _ => anyhow::bail!(
                "{} {proto} flows of {client} instead of one: {found:#?}",
                found.len()
            ),
        }
    }

    /// The packets of a flow, in order of their first hop.
    #[must_use]
    pub fn packets_of(&self, flow: &Flow) -> Vec<&Packet> {
        let of_flow = |packet: &&Packet| packet.flow == flow.id;
        let mut packets: Vec<&Packet> = self.packets.iter().filter(of_flow).collect();
        packets.sort_by_key(|packet| packet.began());
        packets
    }

    /// The last counts.
    ///
    /// # Errors
    /// When there are none.
    pub fn totals(&self) -> anyhow::Result<&Stats> {
        self.stats.last().context("no stats at the end")
    }
}

fn object(line: &str) -> anyhow::Result<Object> {
    let object: Object = serde_json::from_str(line)?;
    let schema = match &object {
        Object::Flow(flow) => flow.schema,
        Object::Packet(packet) => packet.schema,
        Object::Stats(stats) => stats.schema,
    };
    ensure!(schema == SCHEMA, "schema {schema}");
    Ok(object)
}

/// For members that may be `null` but not absent: without it serde takes the one for the other.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the client.
    Original,
    /// To the client.
    Reply,
}

/// What a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the contract")]
pub enum Stage {
    #[serde(rename = "device.queue")]
    Queue,
    #[serde(rename = "device.transmit")]
    Transmit,
    #[serde(rename = "device.receive")]
    Receive,
    Bridge,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Socket,
    Drop,
}

/// What became of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the words of the contract")]
pub enum Kind {
    Dnat,
    Snat,
    Masquerade,
    UnDnat,
    UnSnat,
}

/// A flow's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the words of the contract")]
pub enum State {
    SynSent,
    SynReceived,
    Established,
    Closing,
    Closed,
    Refused,
    Reset,
    Unreplied,
    Replied,
}

/// A packet's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the contract")]
pub enum Verdict {
    Delivered,
    Dropped,
    Left,
    Unknown,
}

/// Counts of events.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Stats {
    pub schema: u32,
    pub seen: u64,
    pub matched: u64,
    pub emitted: u64,
    pub lost: u64,
    pub hooks: Vec<HookStats>,
    pub shed: u64,
    #[serde(deserialize_with = "present")]
    pub shedding: Option<Shedding>,
    /// Of several nodes only.
    #[serde(default)]
    pub clocks: Vec<NodeClock>,
}

/// What is let go unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Shedding {
    #[serde(deserialize_with = "present")]
    pub one_in: Option<u32>,
}

/// How a node's clock stands to the first one's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct NodeClock {
    pub node: String,
    pub ahead_ns: i64,
    pub error_ns: Option<u64>,
    pub packets: Crossings,
}

/// Packets between two nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Crossings {
    pub there: u64,
    pub back: u64,
}

/// Counts of one hook's events.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct HookStats {
    pub hook: String,
    pub seen: u64,
    pub matched: u64,
    pub emitted: u64,
    pub lost: u64,
    pub shed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: &str = r#"{"t":1,"dt":0,"stage":"device.queue","netns":"a","pod":null,"dev":"lo","dev_kind":null,
        "src":"127.0.0.1:1","dst":"[::1]:2","spent_ns":null,"translations":[],"encapsulation":null,"hole":null}"#;

    #[test]
    fn a_member_may_be_null_but_not_absent() {
        assert!(serde_json::from_str::<Hop>(HOP).is_ok());
        for member in [
            r#","dev_kind":null"#,
            r#","hole":null"#,
            r#""dt":0,"#,
            r#""pod":null,"#,
        ] {
            let without = HOP.replace(member, "");
            assert_ne!(without, HOP);
            assert!(serde_json::from_str::<Hop>(&without).is_err(), "{member}");
        }
        assert!(serde_json::from_str::<Hop>(&HOP.replace("device.queue", "queue")).is_err());
    }

    #[test]
    fn lines_are_objects_of_this_schema() {
        let stats = r#"{"type":"stats","schema":1,"seen":4,"matched":3,"emitted":2,"lost":1,"hooks":[],"shed":0,"shedding":null}"#;
        let trace = Trace::read([stats]).unwrap();
        assert_eq!(trace.totals().unwrap().lost, 1);
        for wrong in ["schema\":2", "kind\":1"] {
            assert!(Trace::read([stats.replace("schema\":1", wrong).as_str()]).is_err());
        }
        assert!(Trace::read(["server: b1"]).is_err());
        assert!(Trace::read([""]).is_err());
    }
}
