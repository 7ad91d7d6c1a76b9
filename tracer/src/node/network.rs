//! What a network namespace does with packets besides its rules: its routes, the settings that decide
//! over them, and how full conntrack is.
//!
//! Read from `/proc` of a thread that is in the namespace, together with its devices and as often.
//! Bounded: of long lists the beginning is kept, and that they were cut.
//!
//! Limits: the main routing table only. Where rules choose between tables (`ip rule`), that is noted, and no
//! route is told: which table a packet meets may depend on anything. What is read is what held then,
//! not at some packet's time.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_sys::protocols::NETLINK_ROUTE;
use serde::{Deserialize, Serialize};

use super::netlink::Netlink;

/// Routes that are kept.
const ENTRIES: usize = 1024;
/// Bytes that are read of a file.
const FILE: u64 = 256 * 1024;
/// Conntrack's count matters from that part of its limit on: nine tenths.
const NEARLY_FULL: (u64, u64) = (9, 10);

/// The settings that a diagnosis asks for, as `sysctl` names them.
pub const SETTINGS: [&str; 5] = [
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.rp_filter",
];

/// What a namespace does with packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Routes, of IPv4's main table and of IPv6's.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Those of [`SETTINGS`] that could be read.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Rules choose between routing tables: of IPv4, of IPv6.
    #[serde(default)]
    pub policy: [bool; 2],
    /// How many connections conntrack keeps and may keep, while it is nearly full.
    #[serde(default)]
    pub conntrack: Option<(u64, u64)>,
    /// Something was too long to be kept whole.
    #[serde(default)]
    pub cut: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The network's address.
    pub to: IpAddr,
    /// Bits of the network part; 0 is the default route.
    pub length: u8,
    /// The gateway.
    #[serde(default)]
    pub via: Option<IpAddr>,
    /// The device, as the kernel has it.
    pub device: String,
}

impl Route {
    fn leads_to(&self, address: IpAddr) -> bool {
        let length = u32::from(self.length);
        match (self.to, address) {
            (IpAddr::V4(to), IpAddr::V4(address)) => {
                let host = u32::MAX.checked_shr(length).unwrap_or(0);
                (to.to_bits() ^ address.to_bits()) & !host == 0
            }
            (IpAddr::V6(to), IpAddr::V6(address)) => {
                let host = u128::MAX.checked_shr(length).unwrap_or(0);
                (to.to_bits() ^ address.to_bits()) & !host == 0
            }
            _ => false,
        }
    }
}

impl Network {
    /// The namespace that the calling thread is in.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| {
            let mut bytes = Vec::new();
            let file = File::open(path).ok()?;
            file.take(FILE).read_to_end(&mut bytes).ok()?;
            String::from_utf8(bytes).ok()
        };
        let mut network = Self::default();
        for (path, parse) in [
            ("/proc/thread-self/net/route", route as fn(&str) -> _),
            ("/proc/thread-self/net/ipv6_route", route6),
        ] {
            network.take_routes(&text(path).unwrap_or_default(), parse);
        }
        network.policy = [AF_INET, AF_INET6].map(has_policy);
        let setting = |name: &str| {
            let value = text(&format!("/proc/sys/{}", name.replace('.', "/")))?;
            Some(value.trim().to_owned())
        };
        for name in SETTINGS {
            if let Some(value) = setting(name) {
                network.settings.insert(name.to_owned(), value);
            }
        }
        let number = |name| setting(name)?.parse().ok();
        let count = number("net.netfilter.nf_conntrack_count");
        network.conntrack = count
            .zip(number("net.netfilter.nf_conntrack_max"))
            .filter(|&(count, max)| is_nearly_full(count, max));
        network
    }

    /// The route that an address has by the main table; `None` also where that is not known.
    #[must_use]
    pub fn route_to(&self, address: IpAddr) -> Option<&Route> {
        let policy = self.policy[usize::from(address.is_ipv6())];
        let routes = self.routes.iter().filter(|_| !self.cut && !policy);
        routes
            .filter(|route| route.leads_to(address))
            .max_by_key(|route| route.length)
    }

    /// A setting's value.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    fn take_routes(&mut self, text: &str, parse: fn(&str) -> Option<Route>) {
        for route in text.lines().filter_map(parse) {
            if self.routes.len() == ENTRIES {
                self.cut = true;
                return;
            }
            self.routes.push(route);
        }
    }
}

fn is_nearly_full(count: u64, max: u64) -> bool {
    let (part, of) = NEARLY_FULL;
    max > 0 && count.saturating_mul(of) >= max.saturating_mul(part)
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Whether there are rules beside those that every namespace has, which ask the local, main and default
/// table whatever the packet (priorities 0, 32766, 32767). A kernel that has no such rules refuses.
fn has_policy(family: u8) -> bool {
    const GETRULE: u16 = 34;
    const NEWRULE: u16 = 32;
    let mut header = [0; RULE_HEADER];
    header[0] = family;
    let netlink = Netlink::open(NETLINK_ROUTE);
    let rules = netlink.and_then(|netlink| netlink.dump(GETRULE, &header));
    let rules = rules.unwrap_or_default();
    let mut rules = rules.iter().filter(|rule| rule.kind == NEWRULE);
    rules.any(|rule| !is_usual(&rule.body))
}

/// Bytes of `struct fib_rule_hdr`.
const RULE_HEADER: usize = 12;

/// Whether a rule is one of those that are always there: by its priority, without conditions.
fn is_usual(rule: &[u8]) -> bool {
    const PRIORITY: u16 = 6;
    let Some((header, attributes)) = rule.split_at_checked(RULE_HEADER) else {
        return false;
    };
    let mut priority = 0;
    for (kind, value) in attributes_of(attributes) {
        if kind == PRIORITY
            && let Ok(value) = value.try_into()
        {
            priority = u32::from_ne_bytes(value);
        }
    }
    // The lengths of source and destination, and the type of service.
    header[1..4] == [0; 3] && [0, 32_766, 32_767].contains(&priority)
}

/// Attributes, as far as they are whole.
fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// `eth0 0002F40A 00000000 0003 0 0 0 00FFFFFF 0 0 0`: device, network, gateway, flags, .., mask.
fn route(line: &str) -> Option<Route> {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    const REJECT: u32 = 0x200;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |at: usize| {
        let number = u32::from_str_radix(words.get(at)?, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    let flags = u32::from_str_radix(words.get(3)?, 16).ok()?;
    let length = address(7)?.to_bits().leading_ones();
    (flags & UP != 0 && flags & REJECT == 0).then_some(())?;
    Some(Route {
        to: address(1)?.into(),
        length: u8::try_from(length).ok()?,
        via: address(2)
            .filter(|_| flags & GATEWAY != 0)
            .map(IpAddr::from),
        device: (*words.first()?).to_owned(),
    })
}

/// Of `/proc/net/ipv6_route`: network, length, source, its length, gateway, metric, two counts, flags, device.
/// That lists all tables; addresses of the host itself are left out.
fn route6(line: &str) -> Option<Route> {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    const REJECT: u32 = 0x200;
    const CACHE: u32 = 0x0100_0000;
    const LOCAL: u32 = 0x8000_0000;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |at: usize| {
        let word = words.get(at).filter(|word| word.len() == 32)?;
        Some(Ipv6Addr::from(u128::from_str_radix(word, 16).ok()?))
    };
    let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
    let length = u8::from_str_radix(words.get(1)?, 16).ok()?;
    let usable = flags & UP != 0 && flags & (REJECT | CACHE | LOCAL) == 0 && length <= 128;
    usable.then_some(())?;
    Some(Route {
        to: address(0)?.into(),
        length,
        via: address(4)
            .filter(|_| flags & GATEWAY != 0)
            .map(IpAddr::from),
        device: (*words.get(9)?).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(routes: &str) -> Network {
        let mut network = Network::default();
        network.take_routes(routes, route);
        network
    }

    #[cfg(target_endian = "little")]
    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t644DA8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
cni0\t0001F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
flannel.1\t0002F40A\t0002F40A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0
*\t0003F40A\t00000000\t0201\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_longest_prefix_is_the_route() {
        let network = read(ROUTES);
        let to = |address: &str| {
            let route = network.route_to(address.parse().unwrap()).unwrap();
            (route.length, route.device.as_str(), route.via)
        };
        let via = |address: [u8; 4]| Some(IpAddr::from(address));
        assert_eq!(to("10.244.1.7"), (24, "cni0", None));
        assert_eq!(to("10.244.2.3"), (24, "flannel.1", via([10, 244, 2, 0])));
        assert_eq!(to("192.0.2.1"), (0, "eth0", via([192, 168, 77, 100])));
        assert_eq!(network.routes.len(), 3, "one rejects");
        assert_eq!(network.route_to("2001:db8::1".parse().unwrap()), None);
        assert!(read("").route_to("10.0.0.1".parse().unwrap()).is_none());
    }

    const ROUTES6: &str = "\
fd000010024400010000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     cni0
fd000010024400020000000000000000 40 00000000000000000000000000000000 00 fd000192016800770000000000000012 00000400 00000001 00000000 00000003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000192016800770000000000000100 00000400 00000001 00000000 00000003     eth0
fd000010024400010000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000003 00000000 80200001     cni0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";

    #[test]
    fn routes_of_ipv6_are_read() {
        let mut network = Network::default();
        network.take_routes(ROUTES6, route6);
        let to = |address: &str| {
            let route = network.route_to(address.parse().unwrap()).unwrap();
            (route.length, route.device.as_str(), route.via.is_some())
        };
        assert_eq!(to("fd00:10:244:1::7"), (64, "cni0", false));
        assert_eq!(to("fd00:10:244:2::7"), (64, "eth0", true));
        assert_eq!(to("2001:db8::1"), (0, "eth0", true));
        assert_eq!(
            network.routes.len(),
            3,
            "one is the host's own, one rejects"
        );
        assert_eq!(network.route_to("10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn where_rules_choose_between_tables_no_route_is_told() {
        let mut network = Network::default();
        network.take_routes(ROUTES6, route6);
        network.policy = [true, false];
        assert!(network.route_to("2001:db8::1".parse().unwrap()).is_some());
        network.policy = [false, true];
        assert_eq!(network.route_to("2001:db8::1".parse().unwrap()), None);
        let rule = |lengths: [u8; 2], priority: u32| {
            let mut bytes = vec![2, lengths[0], lengths[1], 0, 254, 0, 0, 1, 0, 0, 0, 0];
            bytes.extend([5u16.to_ne_bytes(), 15u16.to_ne_bytes()].concat());
            bytes.extend([9, 0, 0, 0]);
            bytes.extend([8u16.to_ne_bytes(), 6u16.to_ne_bytes()].concat());
            bytes.extend(priority.to_ne_bytes());
            bytes
        };
        for usual in [0, 32_766, 32_767] {
            assert!(is_usual(&rule([0, 0], usual)));
        }
        assert!(!is_usual(&rule([0, 0], 1000)) && !is_usual(&rule([32, 0], 32_766)));
        assert!(!is_usual(&[2, 0]));
    }

    #[test]
    fn this_namespaces_rules_are_asked_for() {
        // A namespace that nothing was done to has the usual ones only, and the kernel says so.
        let netlink = Netlink::open(NETLINK_ROUTE).unwrap();
        let mut header = [0; RULE_HEADER];
        header[0] = AF_INET;
        let rules = netlink.dump(34, &header).unwrap();
        assert!(rules.iter().any(|rule| is_usual(&rule.body)), "{rules:?}");
    }

    #[test]
    fn settings_of_this_machine_are_read() {
        assert!(Network::read().setting("net.ipv4.ip_forward").is_some());
    }

    #[test]
    fn long_lists_are_cut_and_then_say_nothing_of_routes() {
        let line = "eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
        let network = read(&format!("head\n{}", line.repeat(ENTRIES + 5)));
        assert!(network.cut && network.routes.len() == ENTRIES);
        assert_eq!(network.route_to(IpAddr::from([10, 0, 0, 1])), None);
    }

    #[test]
    fn conntrack_is_nearly_full_from_nine_tenths_on() {
        assert!(is_nearly_full(9, 10) && is_nearly_full(11, 10));
        assert!(!is_nearly_full(8, 10) && !is_nearly_full(0, 0));
    }

    proptest! {
        #[test]
        fn any_text_is_read(routes in ".{0,200}") {
            read(&format!("head\n{routes}"));
            Network::default().take_routes(&routes, route6);
        }

        #[test]
        fn any_words_are_read(words in prop::collection::vec("[0-9A-F:]{0,40}", 0..14)) {
            read(&format!("head\n{}\n", words.join(" ")));
            Network::default().take_routes(&words.join(" "), route6);
        }

        #[test]
        fn any_bytes_are_a_rule(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = is_usual(&bytes);
            prop_assert!(attributes_of(&bytes).count() <= bytes.len());
        }
    }
}
