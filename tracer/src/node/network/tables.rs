//! The routes of all tables, as rtnetlink lists them: read where rules choose between tables.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use super::{Route, policy::address};
use crate::node::netlink::{Message, attributes, u32_at};

/// The table of the namespace's own addresses, which is of no interest.
const LOCAL: u32 = 255;
/// Bytes of `struct rtmsg`.
pub(super) const ROUTE_HEADER: usize = 12;

/// A route as it is read: its table and metric, and the index of its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) table: u32,
    metric: u32,
    to: Option<IpAddr>,
    length: u8,
    via: Option<IpAddr>,
    /// `None` where it leads to no device, or to one of several.
    pub(super) device: Option<u32>,
}

impl Raw {
    /// The route in a message of a dump; `None` for those that are of no interest.
    pub(super) fn parse(message: &Message) -> Option<Self> {
        const NEWROUTE: u16 = 24;
        const UNICAST: u8 = 1;
        const LAST_TYPE: u8 = 9;
        const CLONED: u32 = 0x200;
        const DST: u16 = 1;
        const OIF: u16 = 4;
        const GATEWAY: u16 = 5;
        const PRIORITY: u16 = 6;
        const TABLE: u16 = 15;
        let (header, rest) = message.body.split_at_checked(ROUTE_HEADER)?;
        let kind = header[7];
        // Not those that are no routes of packets: local, broadcast, anycast, multicast.
        let counts = kind == UNICAST || (6..=LAST_TYPE).contains(&kind);
        if message.kind != NEWROUTE || !counts || u32_at(header, 8)? & CLONED != 0 {
            return None;
        }
        let mut route = Self {
            table: u32::from(header[4]),
            metric: 0,
            to: None,
            length: header[1],
            via: None,
            device: None,
        };
        for attribute in attributes(rest) {
            let value = attribute.value();
            match attribute.kind() {
                DST => route.to = Some(address(value)?),
                OIF => route.device = u32_at(value, 0),
                GATEWAY => route.via = address(value),
                PRIORITY => route.metric = u32_at(value, 0)?,
                TABLE => route.table = u32_at(value, 0)?,
                _ => {}
            }
        }
        if kind != UNICAST {
            route.device = None;
        }
        (route.table != LOCAL).then_some(route)
    }
}

/// The routes by table, in the order in which they are chosen: of all that lead to an address the first.
/// `name` names devices; `any` is the address of a default route.
pub(super) fn by_table(
    mut routes: Vec<Raw>,
    any: IpAddr,
    name: impl Fn(u32) -> Option<String>,
) -> BTreeMap<u32, Vec<Route>> {
    routes.sort_by_key(|route| (Reverse(route.length), route.metric));
    let mut tables: BTreeMap<u32, Vec<Route>> = BTreeMap::new();
    for route in routes {
        tables.entry(route.table).or_default().push(Route {
            to: route.to.unwrap_or(any),
            length: route.length,
            via: route.via,
            device: route.device.and_then(&name).unwrap_or_default(),
        });
    }
    tables
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::netlink::put_attribute;

    fn message(length: u8, table: u8, kind: u8, attributes: &[(u16, &[u8])]) -> Message {
        let mut body = vec![2, length, 0, 0, table, 3, 0, kind, 0, 0, 0, 0];
        for (kind, value) in attributes {
            put_attribute(&mut body, *kind, value);
        }
        Message { kind: 24, body }
    }

    #[test]
    fn routes_are_read_with_their_tables_and_the_best_comes_first() {
        let index = |index: u32| index.to_ne_bytes();
        let messages = [
            message(0, 254, 1, &[(4, &index(2)), (5, &[192, 168, 77, 1])]),
            message(
                24,
                254,
                1,
                &[(1, &[10, 244, 2, 0]), (4, &index(3)), (6, &index(200))],
            ),
            message(
                24,
                254,
                1,
                &[(1, &[10, 244, 2, 0]), (4, &index(4)), (6, &index(100))],
            ),
            message(0, 0, 1, &[(4, &index(5)), (15, &index(1001))]),
            message(16, 254, 7, &[(1, &[10, 9, 0, 0]), (4, &index(1))]),
            message(32, 255, 2, &[(1, &[10, 0, 0, 1]), (4, &index(1))]),
        ];
        let routes = messages.iter().filter_map(Raw::parse).collect();
        let tables = by_table(routes, [0, 0, 0, 0].into(), |index| {
            Some(format!("dev{index}"))
        });
        assert_eq!(tables.keys().copied().collect::<Vec<_>>(), [254, 1001]);
        let devices: Vec<_> = tables[&254]
            .iter()
            .map(|it| (it.length, it.device.as_str()))
            .collect();
        assert_eq!(devices, [(24, "dev4"), (24, "dev3"), (16, ""), (0, "dev2")]);
        assert_eq!(tables[&254][3].via, Some([192, 168, 77, 1].into()));
        assert_eq!(tables[&1001][0].device, "dev5");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_route_or_none(kind in 20u16..30, body in prop::collection::vec(any::<u8>(), 0..120)) {
            let route = Raw::parse(&Message { kind, body });
            by_table(route.into_iter().collect(), [0, 0, 0, 0].into(), |_| None);
        }
    }
}
