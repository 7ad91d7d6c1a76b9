//! Routes and settings, of text and of the running kernel.

use proptest::prelude::*;

use super::*;
use crate::node::testing::{in_new_netns, root, run};

/// Of a packet that is sent here.
fn route_to<'n>(network: &'n Network, address: &str) -> Option<&'n Route> {
    let destination: IpAddr = address.parse().unwrap();
    network.route_of(&Asked {
        source: destination,
        destination,
        input: None,
    })
}

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
        let route = route_to(&network, address).unwrap();
        (route.length, route.device.as_str(), route.via)
    };
    let via = |address: [u8; 4]| Some(IpAddr::from(address));
    assert_eq!(to("10.244.1.7"), (24, "cni0", None));
    assert_eq!(to("10.244.2.3"), (24, "flannel.1", via([10, 244, 2, 0])));
    assert_eq!(to("192.0.2.1"), (0, "eth0", via([192, 168, 77, 100])));
    assert_eq!(network.routes.len(), 3, "one rejects");
    assert_eq!(route_to(&network, "2001:db8::1"), None);
    assert!(route_to(&read(""), "10.0.0.1").is_none());
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
        let route = route_to(&network, address).unwrap();
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
    assert_eq!(route_to(&network, "10.0.0.1"), None);
}

#[test]
fn where_rules_choose_between_tables_they_are_asked() {
    let mut network = Network::default();
    network.take_routes(ROUTES6, route6);
    network.policy = [true, false];
    let far = "2001:db8::1";
    assert!(route_to(&network, far).is_some());
    network.policy = [false, true];
    assert_eq!(route_to(&network, far), None, "no rule is known");
    network.rules[1].push(Rule {
        table: Some(100),
        ..Rule::default()
    });
    let route = Route {
        to: IpAddr::from([0; 16]),
        length: 0,
        via: None,
        device: "wg0".to_owned(),
    };
    network.tables[1].insert(100, vec![route.clone()]);
    assert_eq!(route_to(&network, far), Some(&route));
    let text = serde_json::to_string(&network).unwrap();
    assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
}

#[test]
fn the_kernels_rules_and_tables_are_read() {
    if !root() {
        return;
    }
    in_new_netns(|| {
        let fresh = Network::read();
        assert_eq!((fresh.policy, fresh.cut), ([false; 2], false));
        let made = [
            "ip link set lo up",
            "ip addr add 10.244.1.2/32 dev lo",
            "ip link add wg0 type veth peer name eth0",
            "ip addr add 192.0.2.1/24 dev eth0",
            "ip link set eth0 up",
            "ip link set wg0 up",
            "ip route add default via 192.0.2.254",
            "ip route add default dev wg0 table 1001",
            "ip route add unreachable 10.9.0.0/16 table 1001",
            "ip rule add from 10.244.1.0/24 lookup 1001 priority 100",
            "ip rule add from 10.244.2.0/24 fwmark 0x4000/0x4000 lookup 1001 priority 200",
        ];
        for command in made {
            assert!(run(command), "{command}");
        }
        let network = Network::read();
        assert_eq!((network.policy, network.cut), ([true, false], false));
        let device = |source: &str, destination: &str| {
            let asked = Asked {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                input: None,
            };
            network.route_of(&asked).map(|route| route.device.as_str())
        };
        assert_eq!(device("10.244.1.2", "198.51.100.1"), Some("wg0"));
        assert_eq!(device("10.244.1.2", "10.9.1.1"), None);
        assert_eq!(device("10.244.2.2", "198.51.100.1"), None, "by the mark");
        assert_eq!(device("10.244.3.2", "198.51.100.1"), Some("eth0"));
        assert_eq!(device("10.244.3.2", "192.0.2.7"), Some("eth0"));
        // As the kernel says itself.
        let says = std::process::Command::new("ip")
            .args(["route", "get", "198.51.100.1", "from", "10.244.1.2"])
            .output()
            .unwrap();
        let says = String::from_utf8_lossy(&says.stdout).into_owned();
        assert!(says.contains("dev wg0 table 1001"), "{says}");
    });
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
    assert_eq!(route_to(&network, "10.0.0.1"), None);
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
}
