//! A packet's object.

use serde::Serialize;

use super::{SCHEMA, rule::RuleMembers, shown};
use crate::{
    event::{Endpoint, Tuple},
    journey::model::{Encapsulation, Hole, Transport},
    report::{DropReport, HopReport, PacketReport, TranslationReport, protocol_name},
};

#[derive(Serialize)]
pub(super) struct PacketObject<'a> {
    r#type: &'static str,
    schema: u32,
    flow: u64,
    direction: &'static str,
    tcp: Option<TcpObject>,
    len: u32,
    verdict: &'static str,
    hops: Vec<HopObject<'a>>,
    drop: Option<DropObject<'a>>,
    id: u64,
    proto: String,
    protocol: u8,
    icmp: Option<IcmpObject>,
    payload: u32,
    verdict_observed: bool,
    holes: usize,
    hops_cut: u32,
}

#[derive(Serialize)]
struct TcpObject {
    flags: String,
    seq: u32,
    ack: u32,
}

#[derive(Serialize)]
struct IcmpObject {
    r#type: u8,
    code: u8,
    seq: u16,
    quoted: Option<TupleObject>,
}

#[derive(Serialize)]
struct TupleObject {
    proto: String,
    #[serde(serialize_with = "shown")]
    src: Endpoint,
    #[serde(serialize_with = "shown")]
    dst: Endpoint,
}

#[derive(Serialize)]
struct HopObject<'a> {
    t: u64,
    dt: u64,
    stage: &'static str,
    netns: Option<&'a str>,
    dev: Option<&'a str>,
    dev_kind: Option<&'a str>,
    #[serde(serialize_with = "shown")]
    src: Endpoint,
    #[serde(serialize_with = "shown")]
    dst: Endpoint,
    spent_ns: Option<u64>,
    translations: Vec<TranslationObject<'a>>,
    encapsulation: Option<EncapsulationObject>,
    hole: Option<HoleObject>,
    pod: Option<&'a str>,
}

#[derive(Serialize)]
struct TranslationObject<'a> {
    kind: &'static str,
    #[serde(serialize_with = "shown")]
    from: Endpoint,
    #[serde(serialize_with = "shown")]
    to: Endpoint,
    kind_inferred: bool,
    #[serde(flatten)]
    rule: RuleMembers<'a>,
}

#[derive(Serialize)]
struct EncapsulationObject {
    vni: u32,
    #[serde(serialize_with = "shown")]
    src: Endpoint,
    #[serde(serialize_with = "shown")]
    dst: Endpoint,
}

#[derive(Serialize)]
struct HoleObject {
    kind: &'static str,
    stage: Option<&'static str>,
}

#[derive(Serialize)]
struct DropObject<'a> {
    reason: Option<&'a str>,
    at: &'static str,
    #[serde(flatten)]
    rule: RuleMembers<'a>,
    reason_number: u32,
    netns: Option<&'a str>,
    function: Option<&'a str>,
    pod: Option<&'a str>,
}

impl<'a> PacketObject<'a> {
    pub(super) fn new(packet: &'a PacketReport) -> Self {
        Self {
            r#type: "packet",
            schema: SCHEMA,
            flow: packet.flow.0,
            direction: packet.direction.as_str(),
            tcp: TcpObject::new(packet.transport),
            len: packet.length,
            verdict: packet.verdict.as_str(),
            hops: packet.hops.iter().map(HopObject::new).collect(),
            drop: packet.drop.as_ref().map(DropObject::new),
            id: packet.id.0,
            proto: protocol_name(packet.protocol).into_owned(),
            protocol: packet.protocol,
            icmp: IcmpObject::new(packet.transport),
            payload: packet.payload,
            verdict_observed: packet.verdict_observed,
            holes: packet.holes(),
            hops_cut: packet.hops_cut,
        }
    }
}

impl TcpObject {
    fn new(transport: Transport) -> Option<Self> {
        let Transport::Tcp {
            flags,
            sequence,
            acknowledgement,
        } = transport
        else {
            return None;
        };
        let letters = "FSRPAUEC".chars().enumerate();
        Some(Self {
            flags: letters
                .filter(|(bit, _)| flags & (1 << bit) != 0)
                .map(|(_, letter)| letter)
                .collect(),
            seq: sequence,
            ack: acknowledgement,
        })
    }
}

impl IcmpObject {
    fn new(transport: Transport) -> Option<Self> {
        let Transport::Icmp {
            kind,
            code,
            sequence,
            quoted,
        } = transport
        else {
            return None;
        };
        Some(Self {
            r#type: kind,
            code,
            seq: sequence,
            quoted: quoted.map(|tuple: Tuple| TupleObject {
                proto: protocol_name(tuple.protocol).into_owned(),
                src: tuple.source,
                dst: tuple.destination,
            }),
        })
    }
}

impl<'a> HopObject<'a> {
    fn new(hop: &'a HopReport) -> Self {
        let device = hop.device.as_ref();
        Self {
            t: hop.time,
            dt: hop.since_previous,
            stage: hop.stage.as_str(),
            netns: hop.netns.as_deref(),
            dev: device.map(|device| device.name.as_str()),
            dev_kind: device.and_then(|device| device.kind.as_deref()),
            src: hop.tuple.source,
            dst: hop.tuple.destination,
            spent_ns: hop.spent,
            translations: hop
                .translations
                .iter()
                .map(TranslationObject::new)
                .collect(),
            encapsulation: hop.encapsulation.map(EncapsulationObject::new),
            hole: hop.hole.map(HoleObject::new),
            pod: hop.pod.as_deref(),
        }
    }
}

impl<'a> TranslationObject<'a> {
    fn new(report: &'a TranslationReport) -> Self {
        let &TranslationReport {
            kind,
            from,
            to,
            ref rule,
        } = report;
        Self {
            kind: kind.as_str(),
            from,
            to,
            kind_inferred: kind.inferred(),
            rule: RuleMembers::new(rule.as_ref()),
        }
    }
}

impl EncapsulationObject {
    fn new(Encapsulation { vni, outer }: Encapsulation) -> Self {
        Self {
            vni,
            src: outer.source,
            dst: outer.destination,
        }
    }
}

impl HoleObject {
    fn new(hole: Hole) -> Self {
        let (kind, stage) = match hole {
            Hole::Missing(stage) => ("missing", Some(stage.as_str())),
            Hole::Beginning => ("beginning", None),
            Hole::NetfilterUnobserved => ("netfilter-unobserved", None),
        };
        Self { kind, stage }
    }
}

impl<'a> DropObject<'a> {
    fn new(drop: &'a DropReport) -> Self {
        Self {
            reason: drop.reason.as_deref(),
            at: drop.stage.as_str(),
            rule: RuleMembers::new(drop.rule.as_ref()),
            reason_number: drop.reason_number,
            netns: drop.netns.as_deref(),
            function: drop.function.as_deref(),
            pod: drop.pod.as_deref(),
        }
    }
}
