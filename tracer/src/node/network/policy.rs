//! Which routing table a packet meets (`ip rule`), and by which route it then goes.
//!
//! Rules are asked in the order of their priorities; the first that holds and whose table has a route decides. What
//! a rule asks for may not be known here: a mark, a socket's device, ports. Then both ways are followed, and a
//! route is told only where they lead to the same.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{Prefix, Route};
use crate::node::netlink::{attributes, u32_at};

/// Rules that are kept.
pub(super) const RULES: usize = 256;
/// Bytes of `struct fib_rule_hdr`.
pub(super) const RULE_HEADER: usize = 12;
/// The device that what is sent here comes in by, to rules.
const LOOPBACK: &str = "lo";

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Those with smaller numbers are asked first.
    pub priority: u32,
    /// The packet's source.
    #[serde(default)]
    pub from: Option<Prefix>,
    /// Its destination.
    #[serde(default)]
    pub to: Option<Prefix>,
    /// The device that it came in by.
    #[serde(default)]
    pub input: Option<String>,
    /// It asks for something that is not known of a packet here.
    #[serde(default)]
    pub unclear: bool,
    /// It holds where its conditions do not.
    #[serde(default)]
    pub inverted: bool,
    /// The table that it leads to; `None` where it does something else.
    #[serde(default)]
    pub table: Option<u32>,
}

/// A packet that is to be routed.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its source, before that is rewritten on its way out.
    pub source: IpAddr,
    /// Its destination, as rewritten on its way in.
    pub destination: IpAddr,
    /// The device that it came in by; `None` where it is sent here.
    pub input: Option<String>,
}

impl Rule {
    /// The rule in the body of an `RTM_NEWRULE`.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        const DST: u16 = 1;
        const SRC: u16 = 2;
        const IIFNAME: u16 = 3;
        const PRIORITY: u16 = 6;
        const FLOW: u16 = 11;
        const SUPPRESS_PREFIXLEN: u16 = 14;
        const TABLE: u16 = 15;
        const FWMASK: u16 = 16;
        const PAD: u16 = 18;
        const PROTOCOL: u16 = 21;
        const TO_TABLE: u8 = 1;
        const INVERT: u32 = 2;
        let (header, rest) = body.split_at_checked(RULE_HEADER)?;
        let mut rule = Self {
            inverted: u32_at(header, 8)? & INVERT != 0,
            // The type of service.
            unclear: header[3] != 0,
            ..Self::default()
        };
        let mut table = u32::from(header[4]);
        for attribute in attributes(rest) {
            let value = attribute.value();
            match attribute.kind() {
                DST => rule.to = Some(prefix(value, header[1])?),
                SRC => rule.from = Some(prefix(value, header[2])?),
                IIFNAME => rule.input = Some(text(value)),
                PRIORITY => rule.priority = u32_at(value, 0)?,
                TABLE => table = u32_at(value, 0)?,
                // All ones: no route of the table is passed over.
                SUPPRESS_PREFIXLEN if u32_at(value, 0) == Some(u32::MAX) => {}
                // What is said with any rule, and what decides nothing.
                PAD | PROTOCOL | FLOW => {}
                // A mask alone asks for no mark, but then there is none.
                FWMASK => rule.unclear = true,
                _ => rule.unclear = true,
            }
        }
        rule.table = (header[7] == TO_TABLE).then_some(table);
        Some(rule)
    }

    /// Whether it is one of those that every namespace has, which ask the local, main and default table
    /// whatever the packet (priorities 0, 32766, 32767).
    pub(super) fn is_usual(&self) -> bool {
        let unconditional = Self {
            priority: self.priority,
            table: self.table,
            ..Self::default()
        };
        *self == unconditional && [0, 32_766, 32_767].contains(&self.priority)
    }

    /// Whether it holds for the packet; `None` where that is not known.
    fn holds(&self, asked: &Asked) -> Option<bool> {
        let within = |prefix: &Option<Prefix>, address| {
            prefix
                .as_ref()
                .is_none_or(|prefix| prefix.contains(address))
        };
        let input = asked.input.as_deref().unwrap_or(LOOPBACK);
        let known = within(&self.from, asked.source)
            && within(&self.to, asked.destination)
            && self.input.as_ref().is_none_or(|name| name == input);
        match (known, self.unclear) {
            (false, _) => Some(self.inverted),
            (true, false) => Some(!self.inverted),
            (true, true) => None,
        }
    }
}

/// The route of a packet; `None` where there is none, where it leads to no device, and where that
/// depends on what is not known.
pub(super) fn route<'a>(
    rules: &[Rule],
    tables: &'a BTreeMap<u32, Vec<Route>>,
    asked: &Asked,
) -> Option<&'a Route> {
    let in_table = |table: u32| {
        let routes = tables.get(&table)?;
        routes
            .iter()
            .find(|route| route.leads_to(asked.destination))
    };
    let mut rules: Vec<&Rule> = rules.iter().collect();
    // Of equal priorities the first is asked first.
    rules.sort_by_key(|rule| rule.priority);
    // From the last rule on: what happens from there.
    let mut from_there = Some(None);
    for rule in rules.into_iter().rev() {
        let holds = rule.holds(asked);
        if holds == Some(false) {
            continue;
        }
        let here = match rule.table {
            Some(table) => in_table(table).map_or(from_there, |route| Some(Some(route))),
            None => None,
        };
        from_there = match holds {
            Some(_) => here,
            None => here.filter(|_| here == from_there),
        };
    }
    from_there
        .flatten()
        .filter(|route| !route.device.is_empty())
}

/// An address of as many bits as a prefix has.
pub(super) fn prefix(bytes: &[u8], length: u8) -> Option<Prefix> {
    let address = address(bytes)?;
    Some(Prefix { address, length })
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::netlink::put_attribute;

    fn message(lengths: [u8; 2], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![2, lengths[0], lengths[1], 0, 254, 0, 0, 1, 0, 0, 0, 0];
        for (kind, value) in attributes {
            put_attribute(&mut bytes, *kind, value);
        }
        bytes
    }

    fn number(value: u32) -> [u8; 4] {
        value.to_ne_bytes()
    }

    #[test]
    fn the_rules_that_are_always_there_are_known() {
        for usual in [0, 32_766, 32_767] {
            let all_ones = number(u32::MAX);
            let attributes = [(6, &number(usual)[..]), (14, &all_ones), (21, &[2])];
            assert!(
                Rule::parse(&message([0, 0], &attributes))
                    .unwrap()
                    .is_usual()
            );
        }
        let unusual = [
            message([0, 0], &[(6, &number(1000))]),
            message([0, 32], &[(6, &number(32_766)), (2, &[10, 0, 0, 1])]),
            message(
                [0, 0],
                &[(6, &number(0)), (10, &number(1)), (16, &number(1))],
            ),
            message([0, 0], &[(6, &number(0)), (14, &number(0))]),
        ];
        for rule in unusual {
            assert!(!Rule::parse(&rule).unwrap().is_usual(), "{rule:?}");
        }
        assert_eq!(Rule::parse(&[2, 0]), None);
        assert_eq!(Rule::parse(&message([0, 32], &[(2, &[1, 2])])), None);
    }

    #[test]
    fn what_a_rule_asks_for_is_read() {
        let rule = Rule::parse(&message(
            [0, 24],
            &[
                (6, &number(100)),
                (2, &[10, 244, 1, 0]),
                (3, b"cni0\0"),
                (15, &number(1001)),
            ],
        ));
        let expected = Rule {
            priority: 100,
            from: prefix(&[10, 244, 1, 0], 24),
            input: Some("cni0".to_owned()),
            table: Some(1001),
            ..Rule::default()
        };
        assert_eq!(rule, Some(expected));
        let marked = [(10, &number(0x200)[..]), (16, &number(0xf00))];
        assert!(Rule::parse(&message([0, 0], &marked)).unwrap().unclear);
    }

    fn to(address: [u8; 4], length: u8, device: &str) -> Route {
        Route {
            to: address.into(),
            length,
            via: None,
            device: device.to_owned(),
        }
    }

    fn tables() -> BTreeMap<u32, Vec<Route>> {
        BTreeMap::from([
            (
                254,
                vec![
                    to([10, 244, 2, 0], 24, "flannel.1"),
                    to([0, 0, 0, 0], 0, "eth0"),
                ],
            ),
            (100, vec![to([0, 0, 0, 0], 0, "wg0")]),
            (101, vec![to([192, 0, 2, 0], 24, "")]),
            (102, vec![to([0, 0, 0, 0], 0, "eth0")]),
        ])
    }

    fn usual() -> Vec<Rule> {
        let rule = |priority, table| Rule {
            priority,
            table: Some(table),
            ..Rule::default()
        };
        vec![rule(0, 255), rule(32_766, 254), rule(32_767, 253)]
    }

    fn device(
        rule: Rule,
        source: [u8; 4],
        destination: [u8; 4],
        input: Option<&str>,
    ) -> Option<String> {
        let mut rules = usual();
        rules.push(rule);
        let asked = Asked {
            source: source.into(),
            destination: destination.into(),
            input: input.map(str::to_owned),
        };
        route(&rules, &tables(), &asked).map(|route| route.device.clone())
    }

    #[test]
    fn the_first_rule_that_holds_and_has_a_route_decides() {
        let rule = |table| Rule {
            priority: 100,
            from: prefix(&[10, 244, 1, 0], 24),
            table: Some(table),
            ..Rule::default()
        };
        let (pod, other, far) = ([10, 244, 1, 2], [10, 9, 9, 9], [198, 51, 100, 1]);
        assert_eq!(device(rule(100), pod, far, None).as_deref(), Some("wg0"));
        assert_eq!(device(rule(100), other, far, None).as_deref(), Some("eth0"));
        // No route there: the next table.
        assert_eq!(
            device(rule(101), pod, [10, 244, 2, 3], None).as_deref(),
            Some("flannel.1")
        );
        // A route to no device.
        assert_eq!(device(rule(101), pod, [192, 0, 2, 1], None), None);
        assert_eq!(device(rule(7), pod, far, None).as_deref(), Some("eth0"));
        let mut inverted = rule(100);
        inverted.inverted = true;
        assert_eq!(
            device(inverted.clone(), pod, far, None).as_deref(),
            Some("eth0")
        );
        assert_eq!(device(inverted, other, far, None).as_deref(), Some("wg0"));
    }

    #[test]
    fn the_device_that_a_packet_came_in_by_is_asked_for() {
        let rule = Rule {
            priority: 100,
            input: Some("cni0".to_owned()),
            table: Some(100),
            ..Rule::default()
        };
        let far = [198, 51, 100, 1];
        let by = |input| device(rule.clone(), [10, 244, 1, 2], far, input);
        assert_eq!(by(Some("cni0")).as_deref(), Some("wg0"));
        assert_eq!(by(Some("eth0")).as_deref(), Some("eth0"));
        assert_eq!(by(None).as_deref(), Some("eth0"));
    }

    #[test]
    fn what_depends_on_what_is_not_known_is_not_told() {
        let rule = |table| Rule {
            priority: 100,
            unclear: true,
            table,
            ..Rule::default()
        };
        let (pod, far) = ([10, 244, 1, 2], [198, 51, 100, 1]);
        assert_eq!(device(rule(Some(100)), pod, far, None), None);
        assert_eq!(device(rule(None), pod, far, None), None, "it may refuse");
        assert_eq!(
            device(rule(Some(101)), pod, far, None).as_deref(),
            Some("eth0"),
            "no route there"
        );
        // Another route to the same.
        assert_eq!(
            device(rule(Some(102)), pod, far, None).as_deref(),
            Some("eth0")
        );
        let elsewhere = Rule {
            from: prefix(&[10, 9, 0, 0], 16),
            ..rule(Some(100))
        };
        assert_eq!(device(elsewhere, pod, far, None).as_deref(), Some("eth0"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_rule_or_none(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(rule) = Rule::parse(&bytes) {
                let asked = Asked {
                    source: [10, 0, 0, 1].into(),
                    destination: [10, 0, 0, 2].into(),
                    input: None,
                };
                route(&[rule], &tables(), &asked);
            }
        }
    }
}
