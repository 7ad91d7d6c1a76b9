//! What an expression takes from a packet.

use std::net::IpAddr;

use super::{
    super::subject::{AddressKind, DeviceName, Family as Version, Hook, Subject, Surroundings},
    field::Field,
    json::Json,
    kind::{ADDRESS_KINDS, Kind, VERSION_4, VERSION_6, device, v4},
    model::{BinaryOperator, Expression, by_name},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Protocols whose header begins with the two ports, by their names in nft.
const WITH_PORTS: [(&str, u8); 5] = [
    ("tcp", TCP),
    ("udp", UDP),
    ("dccp", 33),
    ("sctp", 132),
    ("udplite", 136),
];

/// A packet and where it is.
#[derive(Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) subject: &'a Subject,
    pub(super) around: &'a dyn Surroundings,
}

impl Packet<'_> {
    /// What an expression gives for this packet.
    pub(super) fn field(self, expression: &Expression) -> Field {
        match expression {
            Expression::Payload { protocol, field } => self.payload(protocol, field),
            Expression::Meta(key) => self.meta(key),
            Expression::Ct { key, direction, .. } => self.connection(key, direction.as_deref()),
            Expression::Fib { result, flags } => self.route(result, flags.as_ref()),
            Expression::Numgen {
                modulus, offset, ..
            } => generated(*modulus, offset.unwrap_or(0), "a number is generated"),
            Expression::Binary(operator, operands) => self.operation(*operator, operands),
            Expression::Unknown(json) => self.hashed(json),
            constant => Field::maybe(
                Kind::Number.value(constant),
                "an expression is not understood",
            ),
        }
    }

    /// The values of a key, one for each part of a concatenation.
    pub(super) fn key(self, expression: &Expression) -> Vec<Field> {
        match expression {
            Expression::Concat(parts) => parts.iter().map(|part| self.field(part)).collect(),
            one => vec![self.field(one)],
        }
    }

    /// A number made of a part of the packet, if it is that.
    fn hashed(self, json: &Json) -> Field {
        let Some((name @ ("jhash" | "symhash"), body)) = json.single() else {
            return Field::Unknown("an expression is not understood");
        };
        let of = body.get("expr").map(super::read::value);
        let of = of.map_or_else(Vec::new, |of| self.key(&of));
        if name == "jhash" && of.contains(&Field::Absent) {
            return Field::Absent;
        }
        let number = |name: &str| body.get(name).and_then(Json::as_number);
        let offset = number("offset").unwrap_or(0);
        number("mod").map_or(Field::Unknown("a hash is not known"), |modulus| {
            generated(modulus, offset, "a hash chooses")
        })
    }

    fn operation(self, operator: BinaryOperator, operands: &[Expression]) -> Field {
        let Some((first, rest)) = operands.split_first() else {
            return Field::Unknown("an operation without operands");
        };
        let kind = Kind::of(first).unwrap_or(Kind::Number);
        let mut field = self.field(first);
        for operand in rest {
            let constant = kind.value(operand).or_else(|| self.field(operand).get());
            let Some(constant) = constant else {
                return Field::Unknown("an operation with values that are not known");
            };
            field = field.operate(operator, constant);
        }
        field
    }

    /// A field of a header. nft checks before each that the packet has such a header; the listing
    /// does not show that.
    fn payload(self, protocol: &str, field: &str) -> Field {
        let subject = self.subject;
        let addresses = (subject.source, subject.destination);
        match (protocol, addresses) {
            ("ip", (IpAddr::V4(source), IpAddr::V4(destination))) => match field {
                "saddr" => Field::exactly(v4(source)),
                "daddr" => Field::exactly(v4(destination)),
                "protocol" => Field::exactly(subject.protocol),
                "version" => Field::exactly(4u8),
                "length" => Field::maybe(subject.length, "the packet's length is not known"),
                _ => Field::Unknown("a field of the IP header is not known"),
            },
            ("ip6", (IpAddr::V6(source), IpAddr::V6(destination))) => match field {
                "saddr" => Field::exactly(u128::from(source)),
                "daddr" => Field::exactly(u128::from(destination)),
                // As long as there are no extension headers between.
                "nexthdr" => Field::exactly(subject.protocol),
                "version" => Field::exactly(6u8),
                _ => Field::Unknown("a field of the IPv6 header is not known"),
            },
            ("ip" | "ip6", _) => Field::Absent,
            ("ether" | "vlan" | "arp", _) => Field::Unknown("the frame is not known"),
            _ => self.transport(protocol, field),
        }
    }

    fn transport(self, protocol: &str, field: &str) -> Field {
        let subject = self.subject;
        if subject.fragment == Some(true) {
            return Field::Absent;
        }
        let has = match protocol {
            "th" => true,
            "icmp" => subject.protocol == ICMP,
            "icmpv6" => subject.protocol == ICMPV6,
            other => match by_name(&WITH_PORTS, other) {
                Some(number) => subject.protocol == number,
                None => return Field::Unknown("a header is not known"),
            },
        };
        if !has {
            return Field::Absent;
        }
        let port = |port: Option<u16>| match port {
            None if !WITH_PORTS
                .iter()
                .any(|(_, number)| *number == subject.protocol) =>
            {
                Field::Between(0, u16::MAX.into(), "the protocol has no ports")
            }
            port => Field::maybe(port, "the port is not known"),
        };
        let icmp = subject.icmp;
        match field {
            "sport" => port(subject.source_port),
            "dport" => port(subject.destination_port),
            "flags" if protocol == "tcp" => {
                Field::maybe(subject.tcp_flags, "the TCP flags are not known")
            }
            "type" => Field::maybe(icmp.map(|(kind, _)| kind), "the ICMP type is not known"),
            "code" => Field::maybe(icmp.map(|(_, code)| code), "the ICMP code is not known"),
            _ => Field::Unknown("a field of the transport header is not known"),
        }
    }

    fn meta(self, key: &str) -> Field {
        let subject = self.subject;
        let v4 = subject.family() == Version::V4;
        match key {
            "l4proto" => Field::exactly(subject.protocol),
            "nfproto" => Field::exactly(if v4 { VERSION_4 } else { VERSION_6 }),
            "protocol" => Field::exactly(if v4 { 0x0800u16 } else { 0x86dd }),
            "mark" => Field::bits(subject.mark, "the packet's mark is not known"),
            "length" => Field::maybe(subject.length, "the packet's length is not known"),
            "iif" | "iifname" => device_field(&subject.input),
            "oif" | "oifname" => device_field(&subject.output),
            "skuid" | "skgid" | "cgroup" if subject.hook != Hook::Output => {
                Field::Unknown("the packet's socket is not known")
            }
            "random" => Field::Between(0, u32::MAX.into(), "a number is random"),
            _ => Field::Unknown("something of the packet is not known"),
        }
    }

    fn connection(self, key: &str, direction: Option<&str>) -> Field {
        let connection = &self.subject.connection;
        let of_original = direction == Some("original");
        match key {
            "state" => Field::states(connection.states),
            "status" => Field::bits(connection.status, "the connection's status is not known"),
            "mark" => Field::bits(connection.mark, "the connection's mark is not known"),
            "protocol" => Field::exactly(self.subject.protocol),
            "l3proto" => self.meta("nfproto"),
            "direction" => Field::maybe(
                connection.original.map(|original| u8::from(!original)),
                "the direction is not known",
            ),
            _ if of_original => {
                let end = match key {
                    "ip saddr" | "ip6 saddr" | "saddr" | "proto-src" => connection.original_source,
                    "ip daddr" | "ip6 daddr" | "daddr" | "proto-dst" => {
                        connection.original_destination
                    }
                    _ => None,
                };
                let why = "the connection's addresses are not known";
                match (key.starts_with("proto"), end) {
                    (true, end) => Field::maybe(end.map(|(_, port)| port), why),
                    (false, Some((IpAddr::V4(ip), _))) => Field::exactly(v4(ip)),
                    (false, Some((IpAddr::V6(ip), _))) => Field::exactly(u128::from(ip)),
                    (false, None) => Field::Unknown(why),
                }
            }
            _ => Field::Unknown("something of the connection is not known"),
        }
    }

    /// What the routing tables say of one of the addresses.
    fn route(self, result: &str, flags: Option<&Json>) -> Field {
        let has = |flag: &str| match flags {
            Some(Json::Array(flags)) => flags.iter().any(|known| known.as_text() == Some(flag)),
            Some(Json::Text(known)) => **known == *flag,
            _ => false,
        };
        let address = match (has("saddr"), has("daddr")) {
            (true, false) => self.subject.source,
            (false, true) => self.subject.destination,
            _ => return Field::Unknown("the routes are not known"),
        };
        let why = "the kind of the address is not known";
        if result != "type" {
            return Field::Unknown("the routes are not known");
        }
        let kind = match self.around.address_kind(address) {
            Some(AddressKind::Local) => "local",
            Some(AddressKind::Broadcast) => "broadcast",
            Some(AddressKind::Multicast) => "multicast",
            Some(AddressKind::Unicast) => "unicast",
            Some(AddressKind::Unspecified) => "unspec",
            None => return Field::Unknown(why),
        };
        // With a device, an address of another one is not local.
        if kind == "local" && (has("iif") || has("oif")) {
            return Field::Unknown("the device of the address is not known");
        }
        Field::maybe(by_name(&ADDRESS_KINDS, kind), why)
    }
}

fn device_field(name: &DeviceName) -> Field {
    match name {
        DeviceName::Unknown => Field::Unknown("the device is not known"),
        DeviceName::Absent => Field::exactly(0u8),
        DeviceName::Is(name) => Field::maybe(device(name), "the device's name is too long"),
    }
}

/// A number that is chosen for each packet.
fn generated(modulus: u64, offset: u64, why: &'static str) -> Field {
    let last = u128::from(offset) + u128::from(modulus.saturating_sub(1));
    Field::Between(offset.into(), last, why)
}
