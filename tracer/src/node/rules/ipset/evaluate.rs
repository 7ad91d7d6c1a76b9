//! Whether a packet is in a set, as the kernel decides it (`net/netfilter/ipset`, Linux 6.18).
//!
//! Of the elements that have the packet the one with the longest prefix decides, of the first address
//! before the second (`mtype_test_cidrs`); with `nomatch` it says no.

use std::{cmp::Reverse, net::IpAddr};

use super::{Dimension, Element, Part, Set, Sets};
use crate::node::{
    link::masked,
    rules::{
        decision::{Decision, Undecided},
        subject::{Family, Subject},
    },
};

/// How deep sets in sets are followed; the kernel has no list in a list.
const DEPTH: u8 = 2;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

impl Sets {
    /// Whether the named set has the packet by these dimensions, each `src` or `dst`.
    #[must_use]
    pub fn has(&self, name: &str, dimensions: &[&str], subject: &Subject) -> Decision {
        self.decide(name, dimensions, subject, DEPTH)
    }

    fn decide(&self, name: &str, ends: &[&str], subject: &Subject, depth: u8) -> Decision {
        let Some(set) = self.named(name).filter(|_| depth > 0) else {
            return super::unknown(name);
        };
        if set.dimensions.is_empty() {
            let why = format!("the set {name} is of a type that is not understood");
            return Decision::Unknown(Undecided(why.into()));
        }
        if let [Dimension::Set] = set.dimensions[..] {
            let members = set
                .elements
                .iter()
                .filter_map(|element| match &element.parts[..] {
                    [Part::Set(name)] => Some(name),
                    _ => None,
                });
            return members.fold(Decision::No, |found, member| {
                found.or(|| self.decide(member, ends, subject, depth - 1))
            });
        }
        // `ip_set_test`: too few directions, or packets of another family, are not in it.
        let family = match set.family() {
            Some(family) => family == subject.family(),
            None => true,
        };
        if ends.len() < set.dimensions.len() || !family {
            return Decision::No;
        }
        set.decide(ends, subject)
    }
}

impl Set {
    /// The family of its addresses; `None` where it has none.
    fn family(&self) -> Option<Family> {
        self.dimensions
            .contains(&Dimension::Address)
            .then(|| match self.option("family") {
                Some("inet6") => Family::V6,
                _ => Family::V4,
            })
    }

    fn option(&self, name: &str) -> Option<&str> {
        let at = self.options.iter().position(|word| &**word == name)?;
        self.options.get(at + 1).map(|word| &**word)
    }

    fn decide(&self, ends: &[&str], subject: &Subject) -> Decision {
        let mut best: Option<(Vec<Reverse<u8>>, bool)> = None;
        let mut unknown = None;
        for element in self.candidates(ends, subject) {
            match self.element(element, ends, subject) {
                Decision::No => {}
                Decision::Unknown(why) => unknown = Some(why),
                Decision::Yes => {
                    let found = (element.lengths(), !element.nomatch);
                    if best.as_ref().is_none_or(|best| found.0 < best.0) {
                        best = Some(found);
                    }
                }
            }
        }
        match (best, unknown) {
            // Another element may decide, if it is one of the kind that can say no.
            (Some((_, true)), Some(why)) if self.has_exceptions() => Decision::Unknown(why),
            (Some((_, is)), None) | (Some((_, is @ true)), _) => is.into(),
            (_, Some(why)) => Decision::Unknown(why),
            (None, None) => Decision::No,
        }
    }

    fn has_exceptions(&self) -> bool {
        self.elements.iter().any(|element| element.nomatch)
    }

    /// The elements that may have the packet, by the first address.
    fn candidates(&self, ends: &[&str], subject: &Subject) -> impl Iterator<Item = &Element> {
        let first = ends.first().map(|end| address(end, subject));
        let address = first.map(|first| self.masked(first));
        let lengths = self.index.lengths.iter();
        let by_net = lengths
            .filter_map(move |&length| self.index.by_net.get(&(masked(address?, length), length)));
        let all = by_net.flatten().chain(&self.index.rest);
        all.filter_map(|&at| self.elements.get(usize::try_from(at).ok()?))
    }

    /// The address as the set compares it: some compare only its first bits.
    fn masked(&self, address: IpAddr) -> IpAddr {
        match self.option("netmask").and_then(|mask| mask.parse().ok()) {
            Some(length) => masked(address, length),
            None => address,
        }
    }

    fn element(&self, element: &Element, ends: &[&str], subject: &Subject) -> Decision {
        if element.parts.is_empty() || self.options.iter().any(|word| &**word == "bitmask") {
            return Decision::unknown("an element of the set is not understood");
        }
        let parts = element.parts.iter().zip(ends);
        parts.fold(Decision::Yes, |found, (part, end)| {
            found.and(|| self.part(element, part, (end, subject)))
        })
    }

    fn part(&self, element: &Element, part: &Part, (end, subject): (&str, &Subject)) -> Decision {
        match part {
            Part::Net(network, length) => {
                let address = self.masked(address(end, subject));
                (masked(address, *length) == *network).into()
            }
            Part::Port(protocol, wanted) => port(*protocol, *wanted, end, subject),
            Part::Mac => Decision::unknown("its hardware address is not known"),
            Part::Mark(wanted) => {
                let mask = self.option("markmask").and_then(|mask| {
                    let digits = mask.strip_prefix("0x")?;
                    u32::from_str_radix(digits, 16).ok()
                });
                let mask = mask.unwrap_or(u32::MAX);
                subject.mark.equals(*wanted, mask, "its mark is not known")
            }
            Part::Device { name, port } => {
                let why = "the device is not known";
                let device = match (end, port) {
                    ("src", false) => &subject.input,
                    (_, false) => &subject.output,
                    ("src", true) => &subject.bridge_input,
                    (_, true) => &subject.bridge_output,
                };
                let wildcard = element.options.iter().any(|word| &**word == "wildcard");
                device.decide(why, |device| {
                    device == &**name || (wildcard && device.starts_with(&**name))
                })
            }
            Part::Set(_) => Decision::unknown("an element of the set is not understood"),
        }
    }
}

impl Element {
    /// The lengths of its prefixes, to be compared: the longest comes first.
    fn lengths(&self) -> Vec<Reverse<u8>> {
        let lengths = self.parts.iter().filter_map(|part| match part {
            Part::Net(_, length) => Some(Reverse(*length)),
            _ => None,
        });
        lengths.collect()
    }
}

fn address(end: &str, subject: &Subject) -> IpAddr {
    if end == "src" {
        subject.source
    } else {
        subject.destination
    }
}

/// `ip_set_get_ip4_port`, and for sets of ports alone `ip_set_get_ip_port`, which knows TCP and UDP.
fn port(protocol: Option<u8>, wanted: u16, end: &str, subject: &Subject) -> Decision {
    let has_ports = [TCP, UDP, SCTP, UDPLITE, ICMP, ICMP6].contains(&subject.protocol);
    match protocol {
        Some(protocol) if protocol != subject.protocol => return Decision::No,
        Some(_) if !has_ports => return (wanted == 0).into(),
        None if ![TCP, UDP].contains(&subject.protocol) => return Decision::No,
        _ => {}
    }
    if subject.fragment == Some(true) {
        return Decision::No;
    }
    let port = match (subject.protocol, end) {
        (ICMP | ICMP6, _) => subject
            .icmp
            .map(|(kind, code)| u16::from_be_bytes([kind, code])),
        (_, "src") => subject.source_port,
        _ => subject.destination_port,
    };
    Decision::of(port, "its ports are not known", |port| port == wanted)
}
