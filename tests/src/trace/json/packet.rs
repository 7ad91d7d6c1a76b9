//! A packet's object.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{
    Direction, Kind, Stage, Verdict, present,
    rule::{RuleInfo, Step},
};

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
    #[serde(deserialize_with = "present")]
    pub pod: Option<String>,
}

/// What a hook made of a packet.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the members of the contract")]
pub struct Translation {
    pub kind: Kind,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub kind_inferred: bool,
    #[serde(deserialize_with = "present")]
    pub rule: Option<Vec<Step>>,
    #[serde(deserialize_with = "present")]
    pub rule_info: Option<RuleInfo>,
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
    pub rule: Option<Vec<Step>>,
    #[serde(deserialize_with = "present")]
    pub rule_info: Option<RuleInfo>,
    pub reason_number: u32,
    #[serde(deserialize_with = "present")]
    pub netns: Option<String>,
    #[serde(deserialize_with = "present")]
    pub function: Option<String>,
}
