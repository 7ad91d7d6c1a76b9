//! What holds for every filter: an independent reading of the language as the oracle.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, prelude::*};
use tracer_common::{
    address::{from_bytes, from_ipv4, to_bytes},
    glance::{Glance, Words},
};

use super::subjects::{BACKEND, NODE, POD, device, namespaces};
use crate::filter::{
    Filter, MAX_LENGTH, ServiceTest, Subject,
    expression::{Direction, Expression, Network, Test, Version},
};

const DEVICES: [&str; 3] = ["eth0", "cni0", "vethc"];

/// The words that a glance at the packet takes; `None` where it is none of the plain ones.
fn words(hop: &Subject) -> Option<Words> {
    let last = |address| {
        let [.., a, b, c, d] = to_bytes(address);
        u64::from(u32::from_ne_bytes([a, b, c, d]))
    };
    let plain = hop.ip_version == 4 && matches!(hop.protocol, 6 | 17);
    plain.then(|| {
        [
            last(hop.source) | last(hop.destination) << 32,
            u64::from(hop.source_port.to_be())
                | u64::from(hop.destination_port.to_be()) << 16
                | u64::from(hop.protocol) << 32,
        ]
    })
}

/// Addresses that lie near each other, of both families.
fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..4, 0u8..4).prop_map(|(a, b)| Ipv4Addr::new(10, 96, a, b).into()),
        (0u16..3, 0u16..3).prop_map(|(a, b)| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, a, b).into()),
    ]
}

fn directions() -> impl Strategy<Value = Direction> {
    prop_oneof![
        Just(Direction::Either),
        Just(Direction::Source),
        Just(Direction::Destination)
    ]
}

fn networks() -> impl Strategy<Value = Network> {
    (addresses(), 0u8..=128).prop_map(|(address, length)| {
        let bits = Version::of(address).bits();
        // Half of them hosts.
        let length = if length > 64 { bits } else { length.min(bits) };
        Network::containing(address, length).unwrap()
    })
}

fn tests() -> impl Strategy<Value = Test> {
    prop_oneof![
        4 => (directions(), networks()).prop_map(|(direction, network)| Test::Address(direction, network)),
        3 => (directions(), 0u16..6, 0u16..4).prop_map(|(direction, low, more)| Test::Port {
            direction,
            low,
            high: low + more,
        }),
        1 => prop_oneof![Just(6u8), Just(17), Just(1), Just(58), Just(47)].prop_map(Test::Protocol),
        1 => prop_oneof![Just(Version::V4), Just(Version::V6)].prop_map(Test::Version),
        1 => prop_oneof![Just("pod"), Just("host"), Just("pods")]
            .prop_map(|name| Test::Netns(name.to_owned())),
        1 => (0usize..3).prop_map(|index| Test::Device(DEVICES[index].to_owned())),
    ]
}

fn expressions(tests: impl Strategy<Value = Test> + 'static) -> impl Strategy<Value = Expression> {
    let leaf = tests.prop_map(Expression::Test);
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..5).prop_map(|parts| chain(parts, Expression::and)),
            vec(inner.clone(), 2..5).prop_map(|parts| chain(parts, Expression::or)),
            inner.prop_map(Expression::negated),
        ]
    })
}

fn chain(parts: Vec<Expression>, join: fn(Expression, Expression) -> Expression) -> Expression {
    parts.into_iter().reduce(join).unwrap()
}

/// Names of any characters that a name can have, for what is only written and read.
fn any_test() -> impl Strategy<Value = Test> {
    prop_oneof![
        4 => tests(),
        1 => "\\PC{1,12}".prop_map(Test::Netns),
        1 => "[^/\\p{C}]{1,3}".prop_filter("a device", |name| name != "." && name != "..")
            .prop_map(Test::Device),
        1 => (directions(), any::<u128>(), 0u8..=128).prop_map(|(direction, bits, length)| {
            let network = Network::containing(Ipv6Addr::from_bits(bits).into(), length).unwrap();
            Test::Address(direction, network)
        }),
        1 => (0u8..=255).prop_map(Test::Protocol),
        1 => "[^/:\\p{C}]{1,5}/[^/:\\p{C}]{1,5}(:([^/:\\p{C}]{1,5}|[1-9][0-9]{0,3}))?"
            .prop_filter_map("a Service", |text| ServiceTest::parse(&text).ok())
            .prop_map(Test::Service),
    ]
}

fn subjects() -> impl Strategy<Value = Subject> {
    let ends = (addresses(), addresses()).prop_filter("one family", |(source, destination)| {
        source.is_ipv4() == destination.is_ipv4()
    });
    let place = (prop_oneof![Just(POD), Just(NODE), Just(BACKEND)], 0usize..3);
    (ends, 0u16..8, 0u16..8, place).prop_map(
        |((source, destination), source_port, destination_port, (netns, dev))| Subject {
            source: bytes(source),
            destination: bytes(destination),
            device_name: device(DEVICES[dev]),
            cgroup: 0,
            netns,
            source_port,
            destination_port,
            protocol: 0,
            ip_version: if source.is_ipv4() { 4 } else { 6 },
        },
    )
}

fn bytes(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(ip) => from_ipv4(ip.octets()),
        IpAddr::V6(ip) => from_bytes(ip.octets()),
    }
}

/// The hops of a flow: one protocol and one IP version.
fn flows() -> impl Strategy<Value = Vec<Subject>> {
    (
        vec(subjects(), 1..6),
        prop_oneof![Just(6u8), Just(17), Just(1)],
    )
        .prop_map(|(mut hops, protocol)| {
            let version = hops[0].ip_version;
            hops.retain(|hop| hop.ip_version == version);
            for hop in &mut hops {
                hop.protocol = protocol;
            }
            hops
        })
}

/// The language read anew, without the terms: whether the test holds at the hop.
fn holds(test: &Test, hop: &Subject) -> bool {
    let ends = |direction, test: &dyn Fn(bool) -> bool| match direction {
        Direction::Either => test(true) || test(false),
        Direction::Source => test(true),
        Direction::Destination => test(false),
    };
    match test {
        Test::Address(direction, network) => ends(*direction, &|source| {
            let bytes = to_bytes(if source { hop.source } else { hop.destination });
            let ip = Ipv6Addr::from(bytes).to_canonical();
            ip.is_ipv4() == network.address().is_ipv4()
                && Network::containing(ip, network.length()) == Some(*network)
        }),
        Test::Port {
            direction,
            low,
            high,
        } => ends(*direction, &|source| {
            let port = if source {
                hop.source_port
            } else {
                hop.destination_port
            };
            [6, 17, 132].contains(&hop.protocol) && (*low..=*high).contains(&port)
        }),
        Test::Protocol(number) => hop.protocol == *number,
        Test::Version(version) => u16::from(hop.ip_version) == version.number(),
        Test::Netns(name) => namespaces()[name].contains(&hop.netns),
        Test::Device(name) => hop.device_name == device(name),
        Test::Pod(..) | Test::Service(_) | Test::Dropped => {
            unreachable!("of the flow: see the tests there")
        }
    }
}

/// Whether the expression holds at the hop, negations of what changes asked of `all` hops.
fn judged(expression: &Expression, negated: bool, hop: &Subject, all: &[Subject]) -> bool {
    match expression {
        Expression::Not(inner) => judged(inner, !negated, hop, all),
        Expression::All(parts) if negated => parts.iter().any(|part| judged(part, true, hop, all)),
        Expression::All(parts) => parts.iter().all(|part| judged(part, false, hop, all)),
        Expression::Any(parts) if negated => parts.iter().all(|part| judged(part, true, hop, all)),
        Expression::Any(parts) => parts.iter().any(|part| judged(part, false, hop, all)),
        Expression::Test(test) if negated => !all.iter().any(|hop| holds(test, hop)),
        Expression::Test(test) => holds(test, hop),
    }
}

fn filter(expression: Expression) -> Filter {
    Filter {
        expression: Some(expression),
    }
}

/// Filters that are often too large for a program.
fn large() -> impl Strategy<Value = Expression> {
    vec(expressions(tests()), 2..30).prop_flat_map(|parts| {
        prop_oneof![
            Just(chain(parts.clone(), Expression::or)),
            Just(chain(parts, Expression::and)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_written_is_read_as_the_same(expression in expressions(any_test())) {
        let filter = filter(expression);
        let text = filter.to_string();
        prop_assume!(text.len() <= MAX_LENGTH);
        prop_assert_eq!(Filter::parse(&text).map_err(|e| e.to_string()), Ok(filter));
    }

    #[test]
    fn a_flow_is_judged_as_the_language_says(expression in expressions(tests()), hops in flows()) {
        let expected = hops.iter().any(|hop| judged(&expression, false, hop, &hops));
        let resolved = filter(expression).resolve(&namespaces()).unwrap();
        prop_assert_eq!(resolved.matches_flow(&hops), expected);
    }

    #[test]
    fn the_program_judges_one_hop_as_the_language_does(
        expression in expressions(tests()),
        hops in flows(),
    ) {
        let resolved = filter(expression.clone()).resolve(&namespaces()).unwrap();
        let compiled = resolved.compile();
        for hop in &hops {
            let expected = judged(&expression, false, hop, &[*hop]);
            prop_assert_eq!(resolved.matches_hop(hop), expected);
            if compiled.relaxed {
                prop_assert!(compiled.program.matches(hop) || !expected);
            } else {
                prop_assert_eq!(compiled.program.matches(hop), expected);
            }
        }
    }

    #[test]
    fn the_program_misses_no_flow_and_says_when_it_finds_no_other(
        expression in prop_oneof![expressions(tests()), large()],
        hops in flows(),
    ) {
        let resolved = filter(expression).resolve(&namespaces()).unwrap();
        let compiled = resolved.compile();
        let matches = resolved.matches_flow(&hops);
        let found = hops.iter().any(|hop| compiled.program.matches(hop));
        prop_assert!(found || !matches);
        if compiled.exact {
            prop_assert_eq!(found, matches);
        }
        // Where the kernel ignores a flow by one miss, no hop of a flow that matches is one.
        if compiled.program.negative != 0 && matches {
            prop_assert!(hops.iter().all(|hop| compiled.program.matches(hop)));
        }
    }

    #[test]
    fn no_packet_that_matches_fails_at_the_first_glance(
        expression in prop_oneof![expressions(tests()), large()],
        hops in flows(),
    ) {
        let program = filter(expression).resolve(&namespaces()).unwrap().compile().program;
        let glances = &program.glance[..usize::try_from(program.glances).unwrap()];
        for hop in hops.iter().filter(|hop| program.matches(hop)) {
            if let Some(words) = words(hop) && program.glancing != 0 {
                let fits = |glance: &Glance| {
                    glance.fits(words) && glance.fits_place(|| hop.netns, || hop.cgroup)
                };
                prop_assert!(glances.iter().any(fits), "{:?} {:?}", hop, glances);
            }
        }
    }

    #[test]
    fn programs_are_well_formed(expression in large()) {
        let compiled = filter(expression).resolve(&namespaces()).unwrap().compile();
        let program = compiled.program;
        let count = usize::try_from(program.count).unwrap();
        prop_assert!(count <= program.terms.len());
        for (index, term) in program.terms.iter().enumerate().take(count) {
            for target in [term.on_true, term.on_false].map(usize::from) {
                prop_assert!(target >= 0xfe || (target > index && target < count));
            }
        }
        prop_assert_eq!(compiled.to_string().lines().count(), count + 1);
    }

    #[test]
    fn any_text_is_a_filter_or_an_error_with_a_place(text in "\\PC{0,80}|[ -~]{0,200}|(?s).{0,60}") {
        if let Err(error) = Filter::parse(&text) {
            prop_assert!(text.get(error.span()).is_some());
            let rendered = error.to_string();
            prop_assert!(!rendered.chars().any(|c| c.is_control() && c != '\n'));
        }
    }

    #[test]
    fn any_words_of_the_language_are_a_filter_or_an_error(
        words in vec(prop_oneof![
            Just("tcp"), Just("ip6"), Just("src"), Just("dst"), Just("host"), Just("net"),
            Just("port"), Just("portrange"), Just("proto"), Just("netns"), Just("dev"), Just("and"),
            Just("pod"), Just("service"), Just("dropped"), Just("a/b"), Just("a/b:c"),
            Just("or"), Just("not"), Just("("), Just(")"), Just("!"), Just("&&"), Just("80"),
            Just("1-2"), Just("10.0.0.1"), Just("::1"), Just("10.96/16"), Just("\"x y\""), Just("web"),
        ], 0..24)
    ) {
        let text = words.join(" ");
        match Filter::parse(&text) {
            Ok(filter) => prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter)),
            Err(error) => prop_assert!(text.get(error.span()).is_some()),
        }
    }

    #[test]
    fn any_bytes_are_no_panic(bytes in vec(any::<u8>(), 0..5000)) {
        let _ = Filter::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| error.to_string());
    }
}
