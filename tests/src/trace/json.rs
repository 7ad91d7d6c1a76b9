//! The tracer's JSON lines, read strictly: every member that the contract names must be there, and
//! every word must be one that it knows. Members that are not known here are let pass, as the
//! contract asks of readers.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Deserializer};

/// The version that the contract describes.
const SCHEMA: u32 = 1;

/// One line.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Object {
    Flow(Flow),
    Packet(Packet),
    Stats(Stats),
}

/// Everything that one tracer printed.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The flows.
    pub flows: Vec<Flow>,
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
                Object::Flow(flow) => trace.flows.push(flow),
                Object::Packet(packet) => trace.packets.push(packet),
                Object::Stats(stats) => trace.stats.push(stats),
            }
        }
        Ok(trace)
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

/// A flow.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Flow {
    pub schema: u32,
    pub id: u64,
    pub proto: String,
    pub client: Client,
    pub destination: Destination,
    #[serde(deserialize_with = "present")]
    pub backend: Option<Backend>,
    pub translations: Vec<FlowTranslation>,
    pub state: State,
    pub packets: BothWays,
    pub drops: u64,
    pub holes: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    #[serde(deserialize_with = "present")]
    pub diagnosis: Option<String>,
    pub protocol: u8,
    pub bytes: BothWays,
    pub affected_by_loss: bool,
}

/// Who began.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Client {
    pub addr: SocketAddr,
    #[serde(deserialize_with = "present")]
    pub netns: Option<String>,
    #[serde(deserialize_with = "present")]
    pub pod: Option<String>,
    #[serde(deserialize_with = "present")]
    pub process: Option<Process>,
}

/// A process.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Process {
    pub pid: u32,
    pub comm: String,
}

/// Whom the client called.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Destination {
    pub addr: SocketAddr,
    #[serde(deserialize_with = "present")]
    pub service: Option<String>,
}

/// Who got the packets.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Backend {
    pub addr: SocketAddr,
    #[serde(deserialize_with = "present")]
    pub netns: Option<String>,
    #[serde(deserialize_with = "present")]
    pub pod: Option<String>,
}

/// How the original direction is rewritten.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct FlowTranslation {
    pub kind: Kind,
    #[serde(deserialize_with = "present")]
    pub stage: Option<Stage>,
    #[serde(deserialize_with = "present")]
    pub netns: Option<String>,
    pub from: SocketAddr,
    pub to: SocketAddr,
    #[serde(deserialize_with = "present")]
    pub rule: Option<Vec<String>>,
    pub kind_inferred: bool,
}

/// A number for each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct BothWays {
    pub original: u64,
    pub reply: u64,
}

/// A packet's journey.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Packet {
    pub schema: u32,
    pub flow: u64,
    pub direction: Direction,
    #[serde(deserialize_with = "present")]
    pub tcp: Option<Tcp>,
    pub len: u64,
    pub verdict: Verdict,
    pub hops: Vec<Hop>,
    #[serde(deserialize_with = "present")]
    pub drop: Option<Dropped>,
    pub id: u64,
    pub proto: String,
    pub protocol: u8,
    #[serde(deserialize_with = "present")]
    pub icmp: Option<Icmp>,
    pub payload: u32,
    pub verdict_observed: bool,
    pub holes: u64,
    pub hops_cut: u64,
}

impl Packet {
    /// When it was first seen.
    #[must_use]
    pub fn began(&self) -> u64 {
        self.hops.first().map_or(0, |hop| hop.t)
    }

    /// Whether it is TCP with that flag, a letter of the contract.
    #[must_use]
    pub fn has_flag(&self, flag: char) -> bool {
        self.tcp
            .as_ref()
            .is_some_and(|tcp| tcp.flags.contains(flag))
    }
}

/// What TCP's header says.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Tcp {
    pub flags: String,
    pub seq: u32,
    pub ack: u32,
}

/// What an ICMP header says.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Icmp {
    pub r#type: u8,
    pub code: u8,
    pub seq: u16,
    #[serde(deserialize_with = "present")]
    pub quoted: Option<Quoted>,
}

/// The packet that an ICMP error is about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Quoted {
    pub proto: String,
    pub src: SocketAddr,
    pub dst: SocketAddr,
}

/// A hop.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Hop {
    pub t: u64,
    pub dt: u64,
    pub stage: Stage,
    #[serde(deserialize_with = "present")]
    pub netns: Option<String>,
    #[serde(deserialize_with = "present")]
    pub dev: Option<String>,
    #[serde(deserialize_with = "present")]
    pub dev_kind: Option<String>,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    #[serde(deserialize_with = "present")]
    pub spent_ns: Option<u64>,
    pub translations: Vec<Translation>,
    #[serde(deserialize_with = "present")]
    pub encapsulation: Option<Encapsulation>,
    #[serde(deserialize_with = "present")]
    pub hole: Option<Hole>,
}

/// What a hook made of a packet.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Translation {
    pub kind: Kind,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub kind_inferred: bool,
}

/// The tunnel around a packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Encapsulation {
    pub vni: u32,
    pub src: SocketAddr,
    pub dst: SocketAddr,
}

/// What should be before a hop and is not.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Hole {
    pub kind: String,
    #[serde(deserialize_with = "present")]
    pub stage: Option<Stage>,
}

/// A drop.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Dropped {
    #[serde(deserialize_with = "present")]
    pub reason: Option<String>,
    pub at: Stage,
    #[serde(deserialize_with = "present")]
    pub rule: Option<String>,
    pub reason_number: u32,
    #[serde(deserialize_with = "present")]
    pub netns: Option<String>,
    #[serde(deserialize_with = "present")]
    pub function: Option<String>,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: &str = r#"{"t":1,"dt":0,"stage":"device.queue","netns":"a","dev":"lo","dev_kind":null,
        "src":"127.0.0.1:1","dst":"[::1]:2","spent_ns":null,"translations":[],"encapsulation":null,"hole":null}"#;

    #[test]
    fn a_member_may_be_null_but_not_absent() {
        assert!(serde_json::from_str::<Hop>(HOP).is_ok());
        for member in [r#","dev_kind":null"#, r#","hole":null"#, r#""dt":0,"#] {
            let without = HOP.replace(member, "");
            assert_ne!(without, HOP);
            assert!(serde_json::from_str::<Hop>(&without).is_err(), "{member}");
        }
        assert!(serde_json::from_str::<Hop>(&HOP.replace("device.queue", "queue")).is_err());
    }

    #[test]
    fn lines_are_objects_of_this_schema() {
        let stats =
            r#"{"type":"stats","schema":1,"seen":4,"matched":3,"emitted":2,"lost":1,"hooks":[]}"#;
        let trace = Trace::read([stats]).unwrap();
        assert_eq!(trace.totals().unwrap().lost, 1);
        for wrong in ["schema\":2", "kind\":1"] {
            assert!(Trace::read([stats.replace("schema\":1", wrong).as_str()]).is_err());
        }
        assert!(Trace::read(["server: b1"]).is_err());
        assert!(Trace::read([""]).is_err());
    }
}
