//! Any expression over any flow, judged as the language says, read anew.

use proptest::{collection::vec, prelude::*};

use super::*;

fn pods() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        Just(None),
        Just(Some(CLIENT)),
        Just(Some(SERVER)),
        Just(Some(PROXY))
    ]
}

fn services() -> impl Strategy<Value = ServiceTest> {
    let texts = [
        WEB,
        DNS,
        "shop/web:http",
        "shop/web:3",
        "shop/web:metrics",
        "kube-system/dns:53",
        "kube-system/dns:dns-tcp",
    ];
    (0..texts.len()).prop_map(move |index| ServiceTest::parse(texts[index]).unwrap())
}

fn tests() -> impl Strategy<Value = Test> {
    let directions = prop_oneof![
        Just(Direction::Either),
        Just(Direction::Source),
        Just(Direction::Destination)
    ];
    let names = prop_oneof![Just(CLIENT), Just(SERVER), Just(PROXY), Just(GONE)];
    prop_oneof![
        4 => (directions, names).prop_map(|(direction, name)| Test::Pod(direction, name.to_owned())),
        1 => Just(Test::Dropped),
        3 => services().prop_map(Test::Service),
        1 => Just(Test::Protocol(6)),
        2 => prop_oneof![Just("pod"), Just("host")].prop_map(|name| Test::Netns(name.to_owned())),
        2 => (0u16..4).prop_map(|port| Test::Port { direction: Direction::Either, low: port, high: port }),
    ]
}

fn expressions() -> impl Strategy<Value = Expression> {
    tests()
        .prop_map(Expression::Test)
        .prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 2..4)
                    .prop_map(|parts| parts.into_iter().reduce(Expression::and).unwrap()),
                vec(inner.clone(), 2..4)
                    .prop_map(|parts| parts.into_iter().reduce(Expression::or).unwrap()),
                inner.prop_map(Expression::negated),
            ]
        })
}

/// Where a pod's flow is seen at least once.
fn place_of(pod: &str) -> u32 {
    Node.pod(pod).unwrap()[0]
}

prop_compose! {
    fn flows()(
        mut hops in vec((0u16..4, 0u16..4, prop_oneof![Just(POD), Just(NODE), Just(BACKEND)], any::<bool>()), 1..5),
        client in pods(),
        backend in pods(),
        service in prop_oneof![Just(None), (0..SERVICES.len()).prop_map(Some)],
        tcp: bool,
    ) -> (Vec<Sighting>, Option<&'static str>, Option<&'static str>, Option<usize>) {
        for pod in [client, backend].into_iter().flatten() {
            hops.push((1, 2, place_of(pod), false));
        }
        let protocol = if tcp { 6 } else { 17 };
        let sighting = |(from, to, netns, reply): (u16, u16, u32, bool)| Sighting {
            subject: Subject {
                protocol,
                ..hop(("10.0.0.1", from), ("10.0.0.2", to), netns, "eth0")
            },
            reply,
        };
        let mut hops: Vec<Sighting> = hops.into_iter().map(sighting).collect();
        let fronts = |index: &usize| {
            let mut fronts = SERVICES[*index].2.iter();
            fronts.rfind(|front| front.1 == protocol && !front.0.contains(':'))
        };
        let service = service.filter(|index| fronts(index).is_some());
        if let Some(&(address, _, port)) = service.as_ref().and_then(fronts) {
            // It is called there, or the answer comes from there.
            let at = if address.is_empty() { "10.0.0.3" } else { address };
            let (client, front) = (("10.0.0.1", 1), (at, port));
            let reply = hops[0].reply;
            let (from, to) = if reply { (front, client) } else { (client, front) };
            hops.push(Sighting { subject: Subject { protocol, ..hop(from, to, NODE, "eth0") }, reply });
        }
        (hops, client, backend, service)
    }
}

/// The language read anew.
fn holds(test: &Test, hop: &Sighting, flow: &FlowView<'_>) -> bool {
    match test {
        Test::Pod(direction, name) => {
            let sender = if hop.reply {
                flow.backend_pod
            } else {
                flow.client_pod
            };
            let receiver = if hop.reply {
                flow.client_pod
            } else {
                flow.backend_pod
            };
            let (sends, receives) = (sender == Some(name), receiver == Some(name));
            match direction {
                Direction::Either => sends || receives,
                Direction::Source => sends,
                Direction::Destination => receives,
            }
        }
        Test::Dropped => flow.dropped,
        Test::Service(wanted) => flow.service.is_some_and(|called| {
            let named = [
                called.name.clone(),
                format!("{}:{}", called.name, called.port),
            ];
            let numbers = called
                .numbers
                .iter()
                .map(|number| format!("{}:{number}", called.name));
            named
                .into_iter()
                .chain(numbers)
                .any(|name| name == wanted.to_string())
        }),
        Test::Protocol(number) => hop.subject.protocol == *number,
        Test::Netns(name) => Node.inodes(name).contains(&hop.subject.netns),
        Test::Port { low, .. } => {
            let ports = [hop.subject.source_port, hop.subject.destination_port];
            ports.contains(low)
        }
        _ => unreachable!(),
    }
}

fn judged(expression: &Expression, negated: bool, hop: &Sighting, flow: &FlowView<'_>) -> bool {
    match expression {
        Expression::Not(inner) => judged(inner, !negated, hop, flow),
        Expression::All(parts) if !negated => {
            parts.iter().all(|part| judged(part, false, hop, flow))
        }
        Expression::Any(parts) if negated => parts.iter().all(|part| judged(part, true, hop, flow)),
        Expression::All(parts) | Expression::Any(parts) => {
            parts.iter().any(|part| judged(part, negated, hop, flow))
        }
        Expression::Test(test) if negated => !flow.hops.iter().any(|hop| holds(test, hop, flow)),
        Expression::Test(test) => holds(test, hop, flow),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_flow_is_judged_as_the_language_says_and_the_kernel_finds_it(
        expression in expressions(),
        (hops, client_pod, backend_pod, service) in flows(),
        dropped: bool,
    ) {
        let service = service.map(called);
        let service = service.as_ref();
        let flow = FlowView { hops: &hops, client_pod, backend_pod, service, dropped };
        let expected = hops.iter().any(|hop| judged(&expression, false, hop, &flow));
        let filter = Filter { expression: Some(expression) }.resolve(&Node).unwrap();
        prop_assert_eq!(filter.matches(&flow), expected);
        let compiled = filter.compile();
        let found = |hop: &Sighting| compiled.program.matches(&hop.subject);
        prop_assert!(!expected || hops.iter().any(found));
        if compiled.exact {
            prop_assert_eq!(hops.iter().any(found), expected);
        }
        if compiled.program.negative != 0 && expected {
            prop_assert!(hops.iter().all(found));
        }
        // What is written is read as the same.
        let text = filter.filter().to_string();
        let read = Filter::parse(&text);
        prop_assert_eq!(read.as_ref(), Ok(filter.filter()));
    }
}
