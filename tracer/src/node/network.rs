//! What a network namespace does with packets besides its rules: its routes, the settings that decide
//! over them, and how full conntrack is.
//!
//! Read from `/proc` of a thread that is in the namespace, together with its devices and as often.
//! Bounded: of long lists the beginning is kept, and that they were cut.
//!
//! Limits: the main routing table only, and IPv4's of that. What is read is what
//! held then, not at some packet's time.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

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
    /// IPv4 routes of the main table.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Those of [`SETTINGS`] that could be read.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
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
    pub to: Ipv4Addr,
    /// Bits of the network part; 0 is the default route.
    pub length: u8,
    /// The gateway.
    #[serde(default)]
    pub via: Option<Ipv4Addr>,
    /// The device, as the kernel has it.
    pub device: String,
}

impl Route {
    fn leads_to(&self, address: Ipv4Addr) -> bool {
        let host = u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
        (self.to.to_bits() ^ address.to_bits()) & !host == 0
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
        network.take_routes(&text("/proc/thread-self/net/route").unwrap_or_default());
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
        let IpAddr::V4(address) = address else {
            return None;
        };
        let routes = self.routes.iter().filter(|_| !self.cut);
        routes
            .filter(|route| route.leads_to(address))
            .max_by_key(|route| route.length)
    }

    /// A setting's value.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Takes the form of `/proc/net/route`: addresses in hexadecimal, as they lie in memory.
    fn take_routes(&mut self, text: &str) {
        for line in text.lines().skip(1) {
            if self.routes.len() == ENTRIES {
                self.cut = true;
                return;
            }
            self.routes.extend(route(line));
        }
    }
}

fn is_nearly_full(count: u64, max: u64) -> bool {
    let (part, of) = NEARLY_FULL;
    max > 0 && count.saturating_mul(of) >= max.saturating_mul(part)
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
        to: address(1)?,
        length: u8::try_from(length).ok()?,
        via: address(2).filter(|_| flags & GATEWAY != 0),
        device: (*words.first()?).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(routes: &str) -> Network {
        let mut network = Network::default();
        network.take_routes(routes);
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
        let via = |address: [u8; 4]| Some(Ipv4Addr::from(address));
        assert_eq!(to("10.244.1.7"), (24, "cni0", None));
        assert_eq!(to("10.244.2.3"), (24, "flannel.1", via([10, 244, 2, 0])));
        assert_eq!(to("192.0.2.1"), (0, "eth0", via([192, 168, 77, 100])));
        assert_eq!(network.routes.len(), 3, "one rejects");
        assert_eq!(network.route_to("2001:db8::1".parse().unwrap()), None);
        assert!(read("").route_to("10.0.0.1".parse().unwrap()).is_none());
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
        }

        #[test]
        fn any_words_are_read(words in prop::collection::vec("[0-9A-F:]{0,40}", 0..14)) {
            read(&format!("head\n{}\n", words.join(" ")));
        }
    }
}
