//! Tests of the flow: `pod`, `service` and `dropped`.

mod properties;

use super::subjects::{BACKEND, NODE, POD, hop, through_cluster_ip};
use crate::filter::{
    CalledService, Filter, FlowView, Front, Namespaces, ResolvedFilter, ServicePort, ServiceTest,
    Sighting, Subject,
    expression::{Direction, Expression, Test},
};

const CLIENT: &str = "default/client";
const SERVER: &str = "shop/server";
/// A pod that shares the node's network.
const PROXY: &str = "kube-system/proxy";
/// A pod that has ended: where it was is not known.
const GONE: &str = "default/gone";

struct Node;

impl Namespaces for Node {
    fn inodes(&self, name: &str) -> Vec<u32> {
        super::subjects::namespaces().inodes(name)
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn pod(&self, name: &str) -> Option<Vec<u32>> {
        match name {
            CLIENT => Some(vec![POD]),
            SERVER => Some(vec![BACKEND]),
            PROXY => Some(vec![NODE]),
            GONE => Some(vec![]),
            _ => None,
        }
    }

    fn similar_pods(&self, _: &str) -> Vec<String> {
        vec![CLIENT.to_owned()]
    }

    fn service(&self, wanted: &ServiceTest) -> Option<Vec<Front>> {
        let all = SERVICES.iter().filter(|(name, ..)| *name == wanted.name);
        let asked = all.filter(|(_, port, fronts)| match &wanted.port {
            None => true,
            Some(ServicePort::Name(name)) => name == port,
            Some(ServicePort::Number(number)) => fronts.iter().any(|front| front.2 == *number),
        });
        let fronts: Vec<&[_]> = asked.map(|(.., fronts)| *fronts).collect();
        let front = |&(address, protocol, port): &(&str, u8, u16)| Front {
            address: address.parse().ok(),
            protocol,
            port,
        };
        let all = || fronts.iter().copied().flatten().map(front).collect();
        (!fronts.is_empty()).then(all)
    }

    fn similar_services(&self, _: &ServiceTest) -> Vec<String> {
        vec![WEB.to_owned()]
    }

    fn has_nameless_services(&self) -> bool {
        true
    }
}

const WEB: &str = "shop/web";
const DNS: &str = "kube-system/dns";

/// The port of a Service: the Service, its name, where it is called.
type Port = (
    &'static str,
    &'static str,
    &'static [(&'static str, u8, u16)],
);

const SERVICES: [Port; 4] = [
    (
        WEB,
        "http",
        &[("10.96.0.10", 6, 80), ("2001:db8::10", 6, 80), ("", 6, 3)],
    ),
    (WEB, "metrics", &[("10.96.0.10", 6, 9100)]),
    (DNS, "dns", &[("10.96.0.11", 17, 53), ("10.0.0.9", 17, 2)]),
    (DNS, "dns-tcp", &[("10.96.0.11", 6, 53), ("10.0.0.9", 6, 2)]),
];

fn called(index: usize) -> CalledService {
    let (name, port, fronts) = SERVICES[index];
    CalledService {
        name: name.to_owned(),
        port: port.to_owned(),
        numbers: fronts.iter().map(|front| front.2).collect(),
    }
}

fn resolved(text: &str) -> ResolvedFilter {
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{error}"));
    filter
        .resolve(&Node)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The documentation's connection: the second half of its hops is the answer's.
fn sightings() -> Vec<Sighting> {
    let hops = through_cluster_ip();
    let half = hops.len() / 2;
    let sighting = |(at, subject)| Sighting {
        subject,
        reply: at >= half,
    };
    hops.into_iter().enumerate().map(sighting).collect()
}

#[track_caller]
fn judges(text: &str, flow: &FlowView<'_>, expected: bool) {
    let filter = resolved(text);
    assert_eq!(filter.matches(flow), expected, "{text}");
    let found = |hop: &Sighting| filter.compile().program.matches(&hop.subject);
    assert!(
        !expected || flow.hops.iter().any(found),
        "{text}: the kernel misses it"
    );
}

#[test]
fn a_pod_is_an_end_of_the_flow_whatever_the_hop() {
    let hops = sightings();
    let flow = FlowView {
        hops: &hops,
        client_pod: Some(CLIENT),
        backend_pod: Some(SERVER),
        service: None,
        dropped: false,
    };
    for text in [
        "pod client",
        "pod default/client",
        "pod shop/server",
        "pod client and port 8080",
        "pod shop/server and host 10.96.0.10",
        "pod client and pod shop/server",
        "src pod client and dst port 80",
        "dst pod shop/server and dst port 8080",
        "src pod shop/server and dst pod client",
        "tcp pod client",
        "pod client or default/gone",
        "not pod default/gone",
        "not dropped",
        "pod client and not port 22",
        "(pod default/gone or port 80) and not pod kube-system/proxy",
    ] {
        judges(text, &flow, true);
    }
    for text in [
        "pod kube-system/proxy",
        "pod default/gone",
        "udp pod client",
        "src pod client and src port 80",
        "dst pod client and dst port 8080",
        "src pod client and dst pod client",
        "not pod client",
        "not src pod shop/server",
        "pod client and not port 8080",
        "pod client and dropped",
    ] {
        judges(text, &flow, false);
    }
    judges(
        "dropped",
        &FlowView {
            dropped: true,
            ..flow
        },
        true,
    );
    judges(
        "not dropped",
        &FlowView {
            dropped: true,
            ..flow
        },
        false,
    );
    // Before an answer is seen, the server has sent nothing.
    let half = FlowView {
        hops: &hops[..6],
        ..flow
    };
    judges("src pod shop/server", &half, false);
    judges("not src pod shop/server", &half, true);
}

#[test]
fn the_kernel_is_asked_for_the_pods_namespace_and_what_holds_everywhere() {
    let listing = |text: &str| resolved(text).compile().to_string();
    let here = format!(" 0  netns {POD} ? accept : reject\n");
    assert_eq!(listing("pod client"), format!("1 terms\n{here}"));
    assert_eq!(
        listing("pod client and port 8080"),
        format!("1 terms\n{here}")
    );
    assert_eq!(
        listing("src pod client and dropped"),
        format!("1 terms\n{here}")
    );
    let two = listing("pod client and tcp and not port 22");
    assert!(
        two.starts_with("3 terms\n") && two.contains("tcp") && two.contains("port 22"),
        "{two}"
    );
    for everything in [
        "dropped",
        "not pod client",
        "pod default/gone",
        "pod client or dropped",
    ] {
        assert_eq!(listing(everything), "0 terms\n", "{everything}");
    }
    assert_eq!(listing("dropped and tcp").lines().count(), 2);
    assert!(resolved("pod client").asks_for_pods() && !resolved("dropped").asks_for_pods());
    assert!(resolved("not dropped").needs_all_hops() && !resolved("dropped").needs_all_hops());
}

#[test]
fn a_service_is_what_the_client_called() {
    let hops = sightings();
    let web = called(0);
    let flow = FlowView {
        hops: &hops,
        client_pod: Some(CLIENT),
        service: Some(&web),
        ..FlowView::default()
    };
    for text in [
        "service shop/web",
        "service shop/web:http",
        "service shop/web:80",
        "service shop/web:3",
        "tcp service shop/web and port 8080",
        "service shop/web and host 10.244.0.3",
        "service shop/web and pod client",
        "service kube-system/dns or shop/web",
        "not service kube-system/dns and service shop/web",
        "service shop/web and not port 22",
    ] {
        judges(text, &flow, true);
    }
    for text in [
        "service shop/web:metrics",
        "service shop/web:9100",
        "service kube-system/dns",
        "not service shop/web",
        "udp service shop/web",
        "service shop/web and not port 8080",
    ] {
        judges(text, &flow, false);
    }
    judges(
        "not service shop/web",
        &FlowView {
            service: None,
            ..flow
        },
        true,
    );
}

#[test]
fn the_kernel_is_asked_for_where_a_service_is_called() {
    let listing = |text: &str| resolved(text).compile();
    let metrics = listing("service shop/web:metrics and port 8080 and tcp");
    assert_eq!(
        metrics.to_string(),
        "3 terms
 0  host 10.96.0.10 ? 1 : reject
 1  tcp ? 2 : reject
 2  port 9100 ? accept : reject
"
    );
    assert!(!metrics.exact && metrics.program.negative == 0);
    // A NodePort is called at any address: 10.96.0.10:3 as well.
    let web = listing("service shop/web:http");
    let (v4, v6) = (("10.244.0.2", 9), ("2001:db8::2", 9));
    let accepts = |from, to, protocol| {
        let subject = Subject {
            protocol,
            ..hop(from, to, POD, "eth0")
        };
        web.program.matches(&subject)
    };
    assert!(accepts(v4, ("10.96.0.10", 80), 6) && accepts(("10.96.0.10", 80), v4, 6));
    assert!(accepts(v6, ("2001:db8::10", 80), 6) && accepts(v4, ("192.0.2.1", 3), 6));
    assert!(!accepts(v4, ("10.96.0.10", 81), 6) && !accepts(v4, ("10.96.0.10", 80), 17));
    assert!(!accepts(v4, ("10.96.0.11", 80), 6) && !accepts(v4, ("192.0.2.1", 80), 6));
    // Both protocols are asked for at both addresses.
    assert_eq!(listing("service kube-system/dns").program.count, 6);
    assert_eq!(listing("not service shop/web").program.count, 0);
    assert!(Filter::parse("not service a/b").unwrap().names_services());
    assert!(!Filter::parse("not pod a/b").unwrap().names_services());
}

#[test]
fn a_service_that_is_not_there_is_answered_with_one_that_is() {
    let error = Filter::parse("service wbe:http").unwrap().resolve(&Node);
    assert_eq!(
        error.unwrap_err().to_string(),
        "no Service in this node's rules is called `default/wbe:http`; similar: `shop/web`; IPVS keeps \
         no names of Services: name the address, as in `host 10.96.0.10`; `tracer names` lists those of \
         this node"
    );
}

#[test]
fn a_pod_that_is_not_there_is_answered_with_one_that_is() {
    let error = Filter::parse("pod cleint")
        .unwrap()
        .resolve(&Node)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no pod on this node is called `default/cleint`; similar: `default/client`; `tracer names` \
         lists those of this node"
    );
}
